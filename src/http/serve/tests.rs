//! Connections as their peers see them.

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::routing::{get, post};
use futures::stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::http::extract::read_body;

const SOON: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(60);
const IMPATIENT: Limits = Limits { head: SOON, part: SOON, connections: 100 };
const LATE: &str = "GET /late HTTP/1.1\r\nHost: localhost\r\n\r\n";
const HALF: &str = "GET /late HTTP/1.1\r\nHost: localhost\r\n";
const PROBE: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const OWNER: u32 = 0o600;

type Serving = (JoinHandle<io::Result<()>>, CancellationToken);

fn serve(bound: Bound, limits: Limits) -> Serving {
    let late = async || {
        tokio::time::sleep(SOON * 3).await;
        "at last"
    };
    let never = async || std::future::pending::<&str>().await;
    let read = async |request: Request| read_body(request, &(), 1024).await.map(|_| "read");
    let public = async |incoming: PublicRequest| match incoming.acquire_permit().await {
        Ok(_work) => std::future::pending().await,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    let endless = async || {
        Body::from_stream(stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from(vec![0; 65_536]))))
    };
    let router = Router::new()
        .route("/late", get(late))
        .route("/never", get(never))
        .route("/read", post(read))
        .route("/endless", get(endless))
        .route("/aws/never", get(public))
        .route("/healthz", get(async || "well"));
    let stop = CancellationToken::new();
    (tokio::spawn(bound.serve_within(limits, Api::of(router), stop.clone())), stop)
}

async fn tcp(limits: Limits) -> (SocketAddr, Serving) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (listener.local_addr().unwrap(), serve(Bound::Tcp(listener), limits))
}

/// Sends text and reads until the connection is closed.
async fn say(mut stream: impl AsyncRead + AsyncWrite + Unpin, words: &str) -> String {
    stream.write_all(words.as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    // A connection that is reset is closed too.
    timeout(PATIENCE, stream.read_to_end(&mut heard)).await.expect("it is closed").ok();
    String::from_utf8_lossy(&heard).into_owned()
}

/// Connects, sends text and keeps the connection open.
async fn come(address: SocketAddr, words: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(words.as_bytes()).await.unwrap();
    stream
}

/// Reads what comes next; nothing where the connection is closed.
async fn hear(stream: &mut TcpStream) -> String {
    let mut heard = vec![0; 4_096];
    let count = timeout(PATIENCE, stream.read(&mut heard)).await.expect("an answer").unwrap_or(0);
    String::from_utf8_lossy(&heard[..count]).into_owned()
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(timeout(SOON, stream.read(&mut [0; 1])).await, Ok(Ok(0) | Err(_)))
}

#[tokio::test]
async fn what_is_left_half_said_is_let_go_and_a_late_answer_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("marketd.sock");
    let unix = Bound::to(&Listen::Unix(path.clone()), OWNER).await.unwrap();
    let ((on_unix, stop_unix), (address, (on_tcp, stop_tcp))) =
        (serve(unix, IMPATIENT), tcp(IMPATIENT).await);
    for (words, answer) in [
        ("", ""),
        ("P", ""),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""),
        ("GET / HTTP/1.1\r\nHost: a\r\n", ""),
        (
            "POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\nContent-Length: 9\r\n\r\nhalf",
            "408 Request",
        ),
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
async fn a_second_protocol_is_not_spoken() {
    let (address, _serving) = tcp(Limits { head: PATIENCE * 10, ..IMPATIENT }).await;
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let heard = say(TcpStream::connect(address).await.unwrap(), preface).await;
    assert!(heard.is_empty() || heard.starts_with("HTTP/1.1 400"), "{heard:?}");
}

#[tokio::test]
async fn whoever_is_idle_the_longest_gives_way_to_whoever_comes() {
    let limits = Limits { head: PATIENCE * 10, part: PATIENCE, connections: 16 };
    let (address, _serving) = tcp(limits).await;
    let mut idle = Vec::new();
    for at in 0..16 {
        let mut stream =
            come(address, [PROBE, HALF, ""][at % 3].trim_end_matches("Connection: close\r\n\r\n"))
                .await;
        if at % 3 == 0 {
            stream.write_all(b"\r\n").await.unwrap();
            assert!(hear(&mut stream).await.contains("well"));
        }
        idle.push(stream);
        // Each is known to be there before the next.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let begun = std::time::Instant::now();
    for _ in 0..4 {
        let heard = say(TcpStream::connect(address).await.unwrap(), PROBE).await;
        assert!(heard.contains("well"), "{heard:?}");
    }
    assert!(hear(&mut come(address, LATE).await).await.contains("at last"));
    assert!(begun.elapsed() < PATIENCE / 4, "nobody waits for others to go: {:?}", begun.elapsed());
    assert!(is_closed(&mut idle[0]).await, "the one that was idle the longest");
    assert!(!is_closed(&mut idle[15]).await, "not the one that came last");
}

#[tokio::test]
async fn what_is_worked_on_stays_and_each_kind_has_places_of_its_own() {
    let limits = Limits { head: PATIENCE * 10, part: PATIENCE, connections: 16 };
    let (address, _serving) = tcp(limits).await;
    let never = "GET /never HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let door = "GET /aws/never HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut working = Vec::new();
    for _ in 0..8 {
        working.push(come(address, never).await);
    }
    // Eight are worked on, two wait, and there is no waiting for more.
    tokio::time::sleep(SOON).await;
    let waiting = [come(address, never).await, come(address, never).await];
    tokio::time::sleep(SOON).await;
    let refused = hear(&mut come(address, never).await).await;
    assert!(refused.contains("503") && refused.contains("problem:busy"), "{refused}");
    assert!(refused.to_ascii_lowercase().contains("retry-after"), "{refused}");
    // AWS and buyers have places left, as many as theirs are.
    for _ in 0..4 {
        working.push(come(address, door).await);
    }
    tokio::time::sleep(SOON).await;
    assert!(hear(&mut come(address, door).await).await.contains("503"));
    // Whoever holds the rest gives way.
    let mut silent = Vec::new();
    for _ in 0..30 {
        silent.push(come(address, HALF).await);
    }
    for _ in 0..10 {
        let heard = say(TcpStream::connect(address).await.unwrap(), PROBE).await;
        assert!(heard.contains("well"), "{heard:?}");
    }
    for stream in &mut working {
        assert!(!is_closed(stream).await, "nobody with work under way was closed");
    }
    drop(waiting);
}

#[tokio::test]
async fn a_call_waits_for_a_place_and_has_it_when_another_is_done() {
    let limits = Limits { head: PATIENCE * 10, part: PATIENCE, connections: 16 };
    let (address, _serving) = tcp(limits).await;
    let mut calls = Vec::new();
    for _ in 0..10 {
        calls.push(come(address, LATE).await);
    }
    for call in &mut calls {
        assert!(hear(call).await.contains("at last"));
    }
}

#[tokio::test]
async fn whoever_does_not_read_the_answer_is_let_go() {
    let (address, _serving) = tcp(Limits { head: PATIENCE * 10, ..IMPATIENT }).await;
    let mut stream = come(address, "GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    tokio::time::sleep(SOON * 5).await;
    let read = async {
        let mut buffer = vec![0; 1 << 20];
        while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    };
    timeout(PATIENCE, read).await.expect("the connection was closed");
}

#[tokio::test]
async fn a_stop_answers_what_is_under_way_and_waits_for_nobody_else() {
    let limits = Limits { head: PATIENCE * 10, ..IMPATIENT };
    let (address, (serving, stop)) = tcp(limits).await;
    let mut idle = come(address, LATE).await;
    assert!(hear(&mut idle).await.contains("at last"));
    let silent = TcpStream::connect(address).await.unwrap();
    let half = come(address, HALF).await;
    let mut asking = come(address, LATE).await;
    tokio::time::sleep(SOON).await;
    stop.cancel();
    let mut heard = String::new();
    asking.read_to_string(&mut heard).await.unwrap();
    assert!(heard.contains("at last"), "{heard}");
    timeout(PATIENCE, serving).await.expect("it ends").unwrap().unwrap();
    drop((idle, silent, half));
}

#[tokio::test]
async fn while_it_stops_new_work_is_refused_and_probes_are_answered() {
    let limits = Limits { head: PATIENCE * 10, part: PATIENCE, connections: 100 };
    let (address, (serving, stop)) = tcp(limits).await;
    let mut open = come(address, HALF).await;
    let mut asking = come(address, LATE).await;
    tokio::time::sleep(SOON).await;
    stop.cancel();
    open.write_all(b"\r\n").await.unwrap();
    let newcomer = say(TcpStream::connect(address).await.unwrap(), LATE);
    let probe = say(TcpStream::connect(address).await.unwrap(), PROBE);
    let (newcomer, probe, open) = tokio::join!(newcomer, probe, hear(&mut open));
    for refused in [newcomer, open] {
        assert!(refused.contains("503") && refused.contains("problem:stopping"), "{refused}");
        assert!(refused.contains("connection: close"), "{refused}");
    }
    assert!(probe.contains("well"), "{probe}");
    assert!(hear(&mut asking).await.contains("at last"));
    timeout(PATIENCE, serving).await.expect("it ends").unwrap().unwrap();
}

#[tokio::test]
async fn a_dead_socket_is_replaced_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("marketd.sock");
    let listen = Listen::Unix(path.clone());
    drop(UnixListener::bind(&path).unwrap());
    let bound = Bound::to(&listen, OWNER).await.unwrap();
    assert!(Bound::to(&listen, OWNER).await.is_err(), "a socket that answers is somebody's");
    drop(bound);

    tokio::fs::remove_file(&path).await.unwrap();
    tokio::fs::write(&path, "books").await.unwrap();
    assert!(Bound::to(&listen, OWNER).await.is_err());
    assert_eq!(tokio::fs::read_to_string(&path).await.unwrap(), "books");
}

#[tokio::test]
async fn a_socket_lets_in_whom_it_is_told_to() {
    for mode in [0o600, 0o660] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("marketd.sock");
        let _bound = Bound::to(&Listen::Unix(path.clone()), mode).await.unwrap();
        let held = path.metadata().unwrap().permissions().mode();
        assert_eq!(held & 0o777, mode, "{held:o}");
    }
}
