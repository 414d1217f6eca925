//! The daemons on one database, and the lease of what only one of them may do at a time.
//!
//! On a file there is one daemon, which a lock keeps for it. On a server there is any number: each says every two seconds
//! that it lives, and one of them holds the lease of the work in the background. Where it dies, another has the lease
//! within the [`LEASE`](super::worker::LEASE) and two beats.

use std::fmt;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::error::{During as _, StoreError};
use super::lock::DatabaseLock;
use super::place::ServerPlace;
use super::postgres::workers::{Beat, beat, leave};
use super::sql::postgres::session::Session;
use super::worker::{BACKGROUND, Worker};

/// The interval at which a worker says that it lives, and asks for the lease.
const BEAT: Duration = Duration::from_secs(2);
/// The time after which a holder stops what it does, should it not get through to the server: the rest of the lease is for
/// what it has under way.
const KEPT_FOR: Duration = Duration::from_secs(7);

/// The lease, as a worker has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// Another worker has it, or nobody.
    Elsewhere,
    /// This worker has it until then, unless it hears otherwise; for ever where no time is given.
    Held {
        /// The time at which to stop.
        until: Option<Instant>,
    },
}

impl Lease {
    /// Reports whether this worker has it.
    pub fn is_held(self) -> bool {
        match self {
            Self::Elsewhere => false,
            Self::Held { until } => until.is_none_or(|until| Instant::now() < until),
        }
    }
}

/// The part that this process has in a database; clones share it.
#[derive(Clone)]
pub struct Membership {
    worker: Arc<Worker>,
    lease: watch::Receiver<Lease>,
    kept: Arc<Mutex<Option<Kept>>>,
}

/// The thing that keeps the part, until it is given back.
enum Kept {
    File(#[expect(dead_code, reason = "dropping it unlocks the file")] DatabaseLock),
    Server { leaving: mpsc::Sender<()>, thread: JoinHandle<()> },
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lease = *self.lease.borrow();
        f.debug_struct("Membership")
            .field("worker", &self.worker)
            .field("lease", &lease)
            .finish_non_exhaustive()
    }
}

impl Membership {
    /// Makes that of the only worker of a file.
    pub fn alone(worker: Worker, lock: DatabaseLock) -> Self {
        let (_, lease) = watch::channel(Lease::Held { until: None });
        let worker = Worker { leases: vec![BACKGROUND.to_owned()], ..worker };
        Self { worker: Arc::new(worker), lease, kept: Arc::new(Mutex::new(Some(Kept::File(lock)))) }
    }

    /// Joins the workers of a server, whose schema is there; blocks until the server has answered.
    pub fn join(server: &ServerPlace, worker: Worker) -> Result<Self, StoreError> {
        let (told, lease) = watch::channel(Lease::Elsewhere);
        let (leaving, is_leaving) = mpsc::channel();
        let worker = Arc::new(worker);
        let (place, me) = (server.clone(), Arc::clone(&worker));
        let (joined, has_joined) = mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name("store-worker".into())
            .spawn(move || match open(&place, &me, &told) {
                Ok(session) => {
                    drop(joined.send(Ok(())));
                    beat_until_left(&session, &me, &told, &is_leaving);
                }
                Err(error) => drop(joined.send(Err(error))),
            })
            .map_err(|source| StoreError::Thread { source })?;
        has_joined.recv().unwrap_or(Err(StoreError::Closed))?;
        let kept = Arc::new(Mutex::new(Some(Kept::Server { leaving, thread })));
        Ok(Self { worker, lease, kept })
    }

    /// Returns this worker, as it described itself.
    pub fn worker(&self) -> &Worker {
        &self.worker
    }

    /// Returns the lease, which changes.
    pub fn lease(&self) -> watch::Receiver<Lease> {
        self.lease.clone()
    }

    /// Gives back what is held, so that another need not wait for it; blocks until the server knows.
    pub fn leave(&self) {
        let kept = self.kept.lock().ok().and_then(|mut kept| kept.take());
        if let Some(Kept::Server { leaving, thread }) = kept {
            drop(leaving);
            if thread.join().is_err() {
                tracing::error!("the thread that keeps the lease panicked");
            }
        }
    }
}

fn open(
    place: &ServerPlace,
    worker: &Worker,
    told: &watch::Sender<Lease>,
) -> Result<Session, StoreError> {
    let session = place.connect()?;
    let asked = Instant::now();
    tell(told, asked, beat(&session, worker).during("join the workers of the database")?);
    Ok(session)
}

fn beat_until_left(
    session: &Session,
    worker: &Worker,
    told: &watch::Sender<Lease>,
    leaving: &mpsc::Receiver<()>,
) {
    while leaving.recv_timeout(BEAT) == Err(mpsc::RecvTimeoutError::Timeout) {
        let asked = Instant::now();
        match session.reconnect_if_lost().and_then(|()| beat(session, worker)) {
            Ok(found) => tell(told, asked, found),
            // A lease that is held runs out by itself.
            Err(error) => {
                tracing::debug!(%error, "the database server does not hear that this worker lives");
            }
        }
    }
    if let Err(error) = leave(session, worker) {
        tracing::debug!(%error, "the database server does not hear that this worker leaves");
    }
}

fn tell(told: &watch::Sender<Lease>, asked: Instant, found: Beat) {
    told.send_replace(match found {
        Beat::Holds => Lease::Held { until: Some(asked + KEPT_FOR) },
        Beat::Lives => Lease::Elsewhere,
    });
}
