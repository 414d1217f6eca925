//! Listeners on an address or on a socket in the file system. Slow peers are disconnected after a while, and the number
//! of connections is bounded (`admission.rs`): whoever reaches the address could otherwise hold every descriptor.
//!
//! HTTP/1 alone is spoken: a connection has one request at a time, so that a bound on connections bounds everything.

use std::convert::Infallible;
use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixSocket, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;
use tower_http::timeout::RequestBodyTimeout;

use super::admission::{
    ConnectionSlot, ConnectionSlots, NextStep, OpenRequest, RequestClass, WorkPermit,
};
use super::browser::Hosts;
use super::public_request::PublicRequest;
use super::write_timeout::WriteTimeout;
use super::{Api, Problem};
use crate::settings::Listen;

/// The most connections that may wait to be accepted.
const BACKLOG: u32 = 1_024;
/// The most bytes of a connection that are read ahead, head included.
const BUFFER: usize = 64 * 1_024;
/// The time after which a listener that failed is asked again.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The listener's limits.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// The time that a request's head may take, from when one could begin; so an idle connection lives as long. Longer
    /// than the minute for which proxies keep theirs, so that it is not closed as the next request is on its way.
    head: Duration,
    /// The time that the next part of a body may take, and for which nothing of an answer may be taken.
    part: Duration,
    /// The most connections at once.
    connections: usize,
}

impl Limits {
    const fn of(connections: usize) -> Self {
        Self { head: Duration::from_secs(75), part: Duration::from_secs(30), connections }
    }
}

/// A listener that is already bound: from here on nothing about the address can fail.
#[derive(Debug)]
pub enum Bound {
    /// A listener on an address.
    Tcp(TcpListener),
    /// A listener on a socket, with its path.
    Unix(UnixListener, PathBuf),
}

impl Bound {
    /// Binds a listener. A socket is for those whom `socket_mode` lets in, from its first moment.
    pub async fn to(listen: &Listen, socket_mode: u32) -> io::Result<Self> {
        match listen {
            Listen::Tcp(address) => Ok(Self::Tcp(TcpListener::bind(address).await?)),
            Listen::Unix(path) => {
                // A socket left behind by a process that was killed would refuse us for ever.
                if is_socket(path) && UnixStream::connect(path).await.is_err() {
                    tokio::fs::remove_file(path).await?;
                }
                let socket = UnixSocket::new_stream()?;
                socket.bind(path)?;
                // Nobody can connect before it listens, whatever the umask has made of its mode.
                tokio::fs::set_permissions(path, Permissions::from_mode(socket_mode)).await?;
                Ok(Self::Unix(socket.listen(BACKLOG)?, path.clone()))
            }
        }
    }

    /// Returns the address for people.
    pub fn address(&self) -> String {
        match self {
            Self::Tcp(listener) => listener.local_addr().map_or_else(
                |_| "an unknown address".into(),
                |address| format!("http://{address}"),
            ),
            Self::Unix(_, path) => format!("unix:{}", path.display()),
        }
    }

    /// Returns the address as a setting: with the port that was taken where any free one was asked for.
    pub fn listens_on(&self) -> io::Result<Listen> {
        Ok(match self {
            Self::Tcp(listener) => Listen::Tcp(listener.local_addr()?),
            Self::Unix(_, path) => Listen::Unix(path.clone()),
        })
    }

    /// Serves this many connections until told to stop. Requests under way are answered first; new ones are told that
    /// the daemon stops for as long as that takes.
    pub async fn serve(
        self,
        api: Api,
        connections: usize,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        self.serve_within(Limits::of(connections), api, shutdown).await
    }

    async fn serve_within(
        self,
        limits: Limits,
        api: Api,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => accept(listener, limits, api, shutdown).await,
            Self::Unix(listener, path) => {
                accept(listener, limits, api, shutdown).await;
                tokio::fs::remove_file(path).await.ok();
            }
        }
        Ok(())
    }
}

/// A source of connections.
trait Listening {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// The host names by which it may be addressed where there is no token.
    const HOSTS: Hosts;

    async fn next(&self) -> io::Result<(Self::Stream, Option<SocketAddr>)>;
}

impl Listening for TcpListener {
    type Stream = TcpStream;
    const HOSTS: Hosts = Hosts::Loopback;

    async fn next(&self) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        self.accept().await.map(|(stream, peer)| (stream, Some(peer)))
    }
}

impl Listening for UnixListener {
    type Stream = UnixStream;
    const HOSTS: Hosts = Hosts::Any;

    async fn next(&self) -> io::Result<(UnixStream, Option<SocketAddr>)> {
        self.accept().await.map(|(stream, _)| (stream, None))
    }
}

/// Accepts connections until told to stop and no request is under way any more.
async fn accept<L: Listening>(listener: L, limits: Limits, api: Api, shutdown: CancellationToken) {
    let slots = ConnectionSlots::new(limits.connections, shutdown.clone());
    let api = Arc::new(api);
    let connections = TaskTracker::new();
    let finished = async {
        shutdown.cancelled().await;
        slots.drained().await;
    };
    tokio::pin!(finished);
    loop {
        let next = async {
            let (stream, peer) = next(&listener, &slots).await;
            (stream, peer, slots.acquire().await)
        };
        let (stream, peer, slot) = tokio::select! {
            biased;
            () = &mut finished => break,
            next = next => next,
        };
        let context = ConnectionContext {
            api: Arc::clone(&api),
            slot,
            peer,
            hosts: L::HOSTS,
            part: limits.part,
        };
        connections.spawn(connection(WriteTimeout::new(stream, limits.part), limits.head, context));
    }
    drop(listener);
    slots.close_all();
    connections.close();
    connections.wait().await;
}

/// Accepts the next connection. Where the system has no descriptor left, an idle connection is closed for it.
async fn next<L: Listening>(
    listener: &L,
    slots: &ConnectionSlots,
) -> (L::Stream, Option<SocketAddr>) {
    loop {
        match listener.next().await {
            Ok(next) => return next,
            // Whoever went away while they waited is nobody's concern.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "no connection could be accepted");
                slots.evict_idle();
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// The context in which a connection's requests are answered.
struct ConnectionContext {
    api: Arc<Api>,
    slot: ConnectionSlot,
    peer: Option<SocketAddr>,
    hosts: Hosts,
    part: Duration,
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    head: Duration,
    context: ConnectionContext,
) {
    let slot = context.slot.clone();
    let context = Arc::new(context);
    let service = service_fn(move |request| {
        let context = Arc::clone(&context);
        async move { Ok::<_, Infallible>(answer(&context, request).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(BUFFER);
    let served = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    let mut finishing = false;
    loop {
        match slot.next_step() {
            NextStep::Close => return,
            NextStep::Finish if !finishing => {
                finishing = true;
                served.as_mut().graceful_shutdown();
            }
            NextStep::Finish | NextStep::Continue => {}
        }
        tokio::select! {
            biased;
            // A peer that goes away is nobody's concern.
            _ = &mut served => return,
            () = slot.next_step_changed() => {}
        }
    }
}

async fn answer(
    context: &ConnectionContext,
    mut request: hyper::Request<Incoming>,
) -> Response<AnswerBody> {
    context.api.strip_prefix(&mut request);
    let class = RequestClass::of(request.uri().path());
    let open = context.slot.begin_request(class);
    let mut permit = None;
    let admitted = match class {
        RequestClass::Api => match context.api.admit(context.hosts, &request) {
            Ok(()) => context
                .slot
                .acquire_permit(class)
                .await
                .map(|begun| permit = Some(begun))
                .map_err(Problem::from),
            Err(foreign) => Err(foreign),
        },
        RequestClass::Public => {
            request.extensions_mut().insert(PublicRequest::new(context.slot.clone(), context.peer));
            Ok(())
        }
        RequestClass::Probe => {
            context.api.introduce(context.hosts, &mut request);
            Ok(())
        }
    };
    let mut response = match admitted {
        Ok(()) => {
            // Around the router, not a layer of it: there it would cost each request another future.
            let router = RequestBodyTimeout::new(context.api.router(), context.part);
            let answered: Result<Response, Infallible> = router.oneshot(request).await;
            answered.unwrap_or_else(|never| match never {})
        }
        Err(problem) => problem.into_response(),
    };
    // What is there whole needs only to be sent; a file that is written meanwhile is work.
    if response.body().size_hint().exact().is_some() {
        permit = None;
    }
    if context.slot.all().stopping.is_cancelled() {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response.map(|body| AnswerBody { body, _permit: permit, _open: open })
}

/// A response's body, with the permit that it holds until it is sent.
struct AnswerBody {
    body: Body,
    _permit: Option<WorkPermit>,
    _open: OpenRequest,
}

impl hyper::body::Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Reports whether a path is a socket. Nothing else may be removed: a mistyped path must not cost anybody a file.
fn is_socket(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_socket())
}

#[cfg(test)]
mod tests;
