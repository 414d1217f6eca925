//! Listening, on an address or on a socket in the file system. What a peer leaves half said is let go after a while, and
//! how many may be connected at once is bounded: whoever reaches the address could otherwise hold every descriptor.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::response::Response;
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;
use tower_http::timeout::RequestBodyTimeout;

use crate::settings::Listen;

/// Where AWS and its buyers come in.
const DOORS: &str = "/aws/";

/// How patient the listener is.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// How long a request's head may take, from when one could begin; so an idle connection lives as long. Longer than
    /// the minute for which proxies keep theirs, so that it is not closed as the next request is on its way.
    head: Duration,
    /// How long the next part of a body may take.
    body: Duration,
    /// How many connections there may be; others wait until one is closed.
    connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        // Half of the descriptors that a process usually has.
        let connections = 512;
        Self { head: Duration::from_secs(75), body: Duration::from_secs(30), connections }
    }
}

/// A listener that is bound already: from here on nothing about the address can fail.
#[derive(Debug)]
pub enum Bound {
    /// On an address.
    Tcp(TcpListener),
    /// On a socket, with its path.
    Unix(UnixListener, PathBuf),
}

impl Bound {
    /// Binds.
    pub async fn to(listen: &Listen) -> io::Result<Self> {
        match listen {
            Listen::Tcp(address) => Ok(Self::Tcp(TcpListener::bind(address).await?)),
            Listen::Unix(path) => {
                // A socket left behind by a process that was killed would refuse us for ever.
                if is_socket(path) && tokio::net::UnixStream::connect(path).await.is_err() {
                    tokio::fs::remove_file(path).await?;
                }
                Ok(Self::Unix(UnixListener::bind(path)?, path.clone()))
            }
        }
    }

    /// Where it listens, for people.
    pub fn address(&self) -> String {
        match self {
            Self::Tcp(listener) => listener.local_addr().map_or_else(
                |_| "an unknown address".into(),
                |address| format!("http://{address}"),
            ),
            Self::Unix(_, path) => format!("unix:{}", path.display()),
        }
    }

    /// The same as a setting: with the port that was taken where any free one was asked for.
    pub fn listens_on(&self) -> io::Result<Listen> {
        Ok(match self {
            Self::Tcp(listener) => Listen::Tcp(listener.local_addr()?),
            Self::Unix(_, path) => Listen::Unix(path.clone()),
        })
    }

    /// Serves until told to stop; requests under way are answered.
    pub async fn serve(self, router: Router, shutdown: CancellationToken) -> io::Result<()> {
        self.serve_within(Limits::default(), router, shutdown).await
    }

    async fn serve_within(
        self,
        limits: Limits,
        router: Router,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => accept(listener, Some, limits, router, shutdown).await,
            Self::Unix(listener, path) => {
                accept(listener, |_| None, limits, router, shutdown).await;
                tokio::fs::remove_file(path).await.ok();
            }
        }
        Ok(())
    }
}

/// Accepts until told to stop, and waits for those who are connected then.
async fn accept<L: Listener>(
    mut listener: L,
    peer: fn(L::Addr) -> Option<SocketAddr>,
    limits: Limits,
    router: Router,
    shutdown: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(limits.connections));
    let connections = TaskTracker::new();
    loop {
        let accepted = async {
            // The semaphore is never closed.
            let place = Arc::clone(&room).acquire_owned().await.ok();
            let (stream, address) = listener.accept().await;
            (place, stream, address)
        };
        let (place, stream, address) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accepted => accepted,
        };
        // A token of its own: all connections looking at one would wait for each other.
        let stop = shutdown.child_token();
        let served = connection(stream, peer(address), limits, router.clone(), stop);
        connections.spawn(async move {
            served.await;
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Option<SocketAddr>,
    limits: Limits,
    router: Router,
    shutdown: CancellationToken,
) {
    let heard = Arc::new(AtomicBool::new(false));
    let hear = Arc::clone(&heard);
    // Around the router, not a layer of it: there it would cost each request another future.
    let router = RequestBodyTimeout::new(router, limits.body);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        hear.store(true, Ordering::Relaxed);
        // Who knocks is asked for at the doors, where everybody may.
        if let Some(peer) = peer.filter(|_| request.uri().path().starts_with(DOORS)) {
            request.extensions_mut().insert(ConnectInfo(peer));
        }
        let answer = router.clone().oneshot(request);
        async move {
            let answer: Result<Response, Infallible> = answer.await;
            answer
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head);
    // A peer that is gone without a word does not answer a ping.
    let http2 = &mut builder.http2();
    http2.timer(TokioTimer::new()).keep_alive_interval(limits.head).keep_alive_timeout(limits.head);
    let served = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    // Until the first bytes say which protocol it is, no protocol's time limit counts.
    let silence = tokio::time::sleep(limits.head);
    tokio::pin!(silence);
    let (mut begun, mut stopping) = (false, false);
    loop {
        tokio::select! {
            // A peer that goes away is nobody's concern.
            _ = &mut served => return,
            () = &mut silence, if !begun => {
                begun = heard.load(Ordering::Relaxed);
                if !begun {
                    return;
                }
            }
            () = shutdown.cancelled(), if !stopping => {
                stopping = true;
                served.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Only a socket may be cleared away: a mistyped path must not cost anybody a file.
fn is_socket(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use axum::extract::Request;
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpStream, UnixStream};
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::*;
    use crate::http::extract::read_body;

    const SOON: Duration = Duration::from_millis(200);
    const PATIENCE: Duration = Duration::from_secs(60);
    const IMPATIENT: Limits = Limits { head: SOON, body: SOON, connections: 100 };
    const LATE: &str = "GET /late HTTP/1.1\r\nHost: a\r\n\r\n";

    type Serving = (JoinHandle<io::Result<()>>, CancellationToken);

    fn serve(bound: Bound, limits: Limits) -> Serving {
        let late = async || {
            tokio::time::sleep(SOON * 3).await;
            "at last"
        };
        let read = async |request: Request| read_body(request, &(), 1024).await.map(|_| "read");
        let router = Router::new().route("/late", get(late)).route("/read", post(read));
        let stop = CancellationToken::new();
        (tokio::spawn(bound.serve_within(limits, router, stop.clone())), stop)
    }

    async fn tcp(limits: Limits) -> (std::net::SocketAddr, Serving) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        (listener.local_addr().unwrap(), serve(Bound::Tcp(listener), limits))
    }

    /// Says something and reads until the connection is closed.
    async fn say(mut stream: impl AsyncRead + AsyncWrite + Unpin, words: &str) -> String {
        stream.write_all(words.as_bytes()).await.unwrap();
        let mut heard = Vec::new();
        // A connection that is reset is closed too.
        timeout(PATIENCE, stream.read_to_end(&mut heard)).await.expect("it is closed").ok();
        String::from_utf8_lossy(&heard).into_owned()
    }

    #[tokio::test]
    async fn what_is_left_half_said_is_let_go_and_a_late_answer_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("marketd.sock");
        let unix = Bound::to(&Listen::Unix(path.clone())).await.unwrap();
        let ((on_unix, stop_unix), (address, (on_tcp, stop_tcp))) =
            (serve(unix, IMPATIENT), tcp(IMPATIENT).await);
        for (words, answer) in [
            ("", ""),
            ("P", ""),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""),
            ("GET / HTTP/1.1\r\nHost: a\r\n", ""),
            ("POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf", "408 Request"),
            // Who waits for an answer may be silent, and the next request is still heard.
            (LATE, "at last"),
        ] {
            let heard = [
                say(TcpStream::connect(address).await.unwrap(), words).await,
                say(UnixStream::connect(&path).await.unwrap(), words).await,
            ];
            for heard in heard {
                assert!(heard.contains(answer), "{words:?}: {heard:?}");
                assert!(heard.contains("200 OK") == words.contains("late"), "{words:?}: {heard:?}");
            }
        }
        let twice = say(TcpStream::connect(address).await.unwrap(), &LATE.repeat(2)).await;
        assert_eq!(twice.matches("at last").count(), 2);
        stop_unix.cancel();
        stop_tcp.cancel();
        on_unix.await.unwrap().unwrap();
        on_tcp.await.unwrap().unwrap();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn there_is_room_for_so_many_and_the_next_waits() {
        let limits = Limits { head: PATIENCE, body: PATIENCE, connections: 2 };
        let (address, _serving) = tcp(limits).await;
        let mut inside = Vec::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(LATE.as_bytes()).await.unwrap();
            assert!(stream.read(&mut [0; 512]).await.unwrap() > 0);
            inside.push(stream);
        }
        let next = tokio::spawn(say(
            TcpStream::connect(address).await.unwrap(),
            "GET /late HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        ));
        tokio::time::sleep(SOON * 6).await;
        assert!(!next.is_finished(), "it has no place");
        inside.pop();
        assert!(next.await.unwrap().contains("at last"));
    }

    #[tokio::test]
    async fn a_stop_answers_what_is_under_way_and_waits_for_nobody_else() {
        let limits = Limits { head: PATIENCE * 10, ..IMPATIENT };
        let (address, (serving, stop)) = tcp(limits).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(LATE.as_bytes()).await.unwrap();
        assert!(idle.read(&mut [0; 512]).await.unwrap() > 0);
        let silent = TcpStream::connect(address).await.unwrap();
        let mut asking = TcpStream::connect(address).await.unwrap();
        asking.write_all(LATE.as_bytes()).await.unwrap();
        tokio::time::sleep(SOON).await;
        stop.cancel();
        let mut heard = String::new();
        asking.read_to_string(&mut heard).await.unwrap();
        assert!(heard.contains("at last"), "{heard}");
        timeout(PATIENCE, serving).await.expect("it ends").unwrap().unwrap();
        drop((idle, silent));
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("marketd.sock");
        let listen = Listen::Unix(path.clone());
        drop(UnixListener::bind(&path).unwrap());
        let bound = Bound::to(&listen).await.unwrap();
        assert!(Bound::to(&listen).await.is_err(), "a socket that answers is somebody's");
        drop(bound);

        tokio::fs::remove_file(&path).await.unwrap();
        tokio::fs::write(&path, "books").await.unwrap();
        assert!(Bound::to(&listen).await.is_err());
        assert_eq!(tokio::fs::read_to_string(&path).await.unwrap(), "books");
    }
}
