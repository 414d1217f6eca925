//! A wire between a daemon and its server that takes its time, and that can be cut.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// What is lost of the next `COMMIT`, together with its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The `COMMIT` itself: the server never has it.
    Commit,
    /// The answer to it: the server has done it.
    Answer,
    /// Whatever was to come either way, from the `COMMIT` on; the connection is not: as when a machine is gone.
    Everything,
    /// Whatever was to come after it; the connection is not: as when a process hangs that has done it.
    Rest,
}

/// The wire: it listens on loopback, and each byte arrives so much later, whichever way it goes.
pub(crate) struct SlowWire {
    user: String,
    port: u16,
    name: String,
    ways: Arc<Ways>,
}

struct Ways {
    server: SocketAddr,
    /// Microseconds each way.
    delay: AtomicU64,
    /// Set while nobody is let through.
    is_down: AtomicBool,
    /// Set while every byte travels by itself.
    crumbles: AtomicBool,
    loses: Mutex<Option<Loss>>,
    open: Mutex<Vec<TcpStream>>,
    /// Set for each connection that carries nothing more.
    frozen: Mutex<Vec<Arc<AtomicBool>>>,
}

/// The state of a connection.
#[derive(Clone, Default)]
struct Connected {
    is_lost: Arc<AtomicBool>,
    is_frozen: Arc<AtomicBool>,
}

impl SlowWire {
    /// Lays a wire to the server on loopback that an address names, as `postgres://user@127.0.0.1:5432/name`.
    pub(crate) fn to(url: &str, delay: Duration) -> Self {
        let (user, port, name) = parts(url);
        let (user, name) = (user.to_owned(), name.to_owned());
        let server = (Ipv4Addr::LOCALHOST, port).into();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let ways = Arc::new(Ways {
            server,
            delay: AtomicU64::new(micros(delay)),
            is_down: AtomicBool::new(false),
            crumbles: AtomicBool::new(false),
            loses: Mutex::default(),
            open: Mutex::default(),
            frozen: Mutex::default(),
        });
        let laid = Arc::clone(&ways);
        thread::spawn(move || {
            for client in listener.incoming() {
                drop(client.and_then(|client| laid.connect(client)));
            }
        });
        Self { user, port, name, ways }
    }

    /// Returns the server's address by this wire.
    pub(crate) fn url(&self) -> String {
        format!("{}:{}/{}", self.user, self.port, self.name)
    }

    /// Has every byte take so long from now on.
    pub(crate) fn delay(&self, delay: Duration) {
        self.ways.delay.store(micros(delay), Ordering::Relaxed);
    }

    /// Has every byte travel by itself from now on.
    pub(crate) fn crumble(&self) {
        self.ways.crumbles.store(true, Ordering::Relaxed);
    }

    /// Loses the next `COMMIT` that goes through, or the answer to it. Only of what is not encrypted.
    pub(crate) fn lose(&self, loss: Loss) {
        *self.ways.loses.lock().unwrap_or_else(PoisonError::into_inner) = Some(loss);
    }

    /// Lets nobody through from now on, or everybody again.
    pub(crate) fn be_down(&self, is_down: bool) {
        self.ways.is_down.store(is_down, Ordering::Relaxed);
        self.cut();
    }

    /// Has every connection that is open carry nothing more and stay open, as those of processes that hang; those that are
    /// made later are as ever.
    pub(crate) fn freeze(&self) {
        for frozen in &*self.ways.frozen.lock().unwrap_or_else(PoisonError::into_inner) {
            frozen.store(true, Ordering::SeqCst);
        }
    }

    /// Cuts every connection.
    pub(crate) fn cut(&self) {
        let mut open = self.ways.open.lock().unwrap_or_else(PoisonError::into_inner);
        for connection in open.drain(..) {
            drop(connection.shutdown(Shutdown::Both));
        }
    }
}

impl Ways {
    fn connect(self: &Arc<Self>, client: TcpStream) -> std::io::Result<()> {
        if self.is_down.load(Ordering::Relaxed) {
            return Ok(());
        }
        let server = TcpStream::connect(self.server)?;
        for end in [&client, &server] {
            end.set_nodelay(true)?;
            let kept = end.try_clone()?;
            self.open.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
        }
        let state = Connected::default();
        let frozen = Arc::clone(&state.is_frozen);
        self.frozen.lock().unwrap_or_else(PoisonError::into_inner).push(frozen);
        self.carry(client.try_clone()?, server.try_clone()?, state.clone(), true);
        self.carry(server, client, state, false);
        Ok(())
    }

    fn hand_on(&self, to: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
        /// Long enough for the other end to read what is there.
        const APART: Duration = Duration::from_micros(100);
        if !self.crumbles.load(Ordering::Relaxed) {
            return to.write_all(bytes);
        }
        for byte in bytes {
            to.write_all(&[*byte])?;
            thread::sleep(APART);
        }
        Ok(())
    }

    /// Carries bytes one way: one thread takes them, another hands them on when they are due.
    fn carry(
        self: &Arc<Self>,
        mut from: TcpStream,
        mut to: TcpStream,
        Connected { is_lost, is_frozen }: Connected,
        asks: bool,
    ) {
        let (taken, under_way) = mpsc::channel::<(Instant, Vec<u8>)>();
        let ways = Arc::clone(self);
        thread::spawn(move || {
            let mut bytes = vec![0; 65_536];
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                if is_frozen.load(Ordering::SeqCst) {
                    continue;
                }
                if asks && bytes[..count].windows(7).any(|it| it == b"COMMIT\0") {
                    match ways.loses.lock().unwrap_or_else(PoisonError::into_inner).take() {
                        Some(Loss::Commit) => break,
                        Some(Loss::Everything) => {
                            // Both ends stay open until the wire is cut.
                            while let Ok(1..) = from.read(&mut bytes) {}
                            break;
                        }
                        Some(Loss::Answer) => is_lost.store(true, Ordering::SeqCst),
                        Some(Loss::Rest) => is_frozen.store(true, Ordering::SeqCst),
                        None => {}
                    }
                }
                // Whatever the server says to it says that it is done.
                if !asks && is_lost.load(Ordering::SeqCst) {
                    break;
                }
                let delay = Duration::from_micros(ways.delay.load(Ordering::Relaxed));
                if taken.send((Instant::now() + delay, bytes[..count].to_vec())).is_err() {
                    return;
                }
            }
        });
        let ways = Arc::clone(self);
        thread::spawn(move || {
            while let Ok((due, bytes)) = under_way.recv() {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                if ways.hand_on(&mut to, &bytes).is_err() {
                    break;
                }
            }
            drop(to.shutdown(Shutdown::Both));
        });
    }
}

/// Divides an address at its port.
fn parts(url: &str) -> (&str, u16, &str) {
    let (user, rest) = url.rsplit_once(':').unwrap();
    let (port, name) = rest.split_once('/').unwrap();
    (user, port.parse().unwrap(), name)
}

fn micros(delay: Duration) -> u64 {
    delay.as_micros().try_into().unwrap_or(u64::MAX)
}
