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
use super::sql::Patience;
use super::sql::postgres::session::Session;
use super::worker::{BACKGROUND, HeldLease, Worker};

/// The interval at which a worker says that it lives, and asks for the lease.
const BEAT: Duration = Duration::from_secs(2);
/// The interval at which it tries again where the server did not hear it.
const BEAT_AGAIN: Duration = Duration::from_millis(500);
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
        /// The number that it has among those that held it.
        epoch: i64,
    },
}

impl Lease {
    /// Reports whether this worker has it.
    pub fn is_held(self) -> bool {
        match self {
            Self::Elsewhere => false,
            Self::Held { until, .. } => until.is_none_or(|until| Instant::now() < until),
        }
    }
}

/// The part that this process has in a database; clones share it.
#[derive(Clone)]
pub struct Membership {
    worker: Arc<Worker>,
    lease: watch::Receiver<Lease>,
    workers: watch::Receiver<u32>,
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
        let (_, lease) = watch::channel(Lease::Held { until: None, epoch: 0 });
        let (_, workers) = watch::channel(1);
        let worker = Arc::new(Worker { leases: vec![BACKGROUND.to_owned()], ..worker });
        Self { worker, lease, workers, kept: Arc::new(Mutex::new(Some(Kept::File(lock)))) }
    }

    /// Joins the workers of a server, whose schema is there; blocks until the server has answered.
    pub fn join(server: &ServerPlace, worker: Worker) -> Result<Self, StoreError> {
        let (lease_told, lease) = watch::channel(Lease::Elsewhere);
        let (workers_told, workers) = watch::channel(1);
        let told = Told { lease: lease_told, workers: workers_told };
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
        Ok(Self { worker, lease, workers, kept })
    }

    /// Returns this worker, as it described itself.
    pub fn worker(&self) -> &Worker {
        &self.worker
    }

    /// Returns the lease, which changes.
    pub fn lease(&self) -> watch::Receiver<Lease> {
        self.lease.clone()
    }

    /// Returns the lease as this worker has taken it, where others could take it too.
    pub fn taken(&self, lease: Lease) -> Option<HeldLease> {
        match lease {
            Lease::Held { until: Some(_), epoch } => {
                Some(HeldLease { owner: self.worker.id.clone(), epoch })
            }
            Lease::Held { until: None, .. } | Lease::Elsewhere => None,
        }
    }

    /// Returns the number of workers that live, this one among them, which changes.
    pub fn workers(&self) -> watch::Receiver<u32> {
        self.workers.clone()
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

/// Whoever follows what a worker hears.
struct Told {
    lease: watch::Sender<Lease>,
    workers: watch::Sender<u32>,
}

impl Told {
    fn tell(&self, asked: Instant, Beat { epoch, workers }: Beat) {
        self.lease.send_replace(match epoch {
            Some(epoch) => Lease::Held { until: Some(asked + KEPT_FOR), epoch },
            None => Lease::Elsewhere,
        });
        self.workers.send_if_modified(|held| std::mem::replace(held, workers) != workers);
    }
}

fn open(place: &ServerPlace, worker: &Worker, told: &Told) -> Result<Session, StoreError> {
    let session = place.connect_with(Patience::BEAT)?;
    let asked = Instant::now();
    told.tell(asked, beat(&session, worker).during("join the workers of the database")?);
    Ok(session)
}

fn beat_until_left(session: &Session, worker: &Worker, told: &Told, leaving: &mpsc::Receiver<()>) {
    let mut pause = BEAT;
    while leaving.recv_timeout(pause) == Err(mpsc::RecvTimeoutError::Timeout) {
        let said = session.reconnect_if_lost().and_then(|()| {
            let asked = Instant::now();
            Ok((asked, beat(session, worker)?))
        });
        pause = if said.is_ok() { BEAT } else { BEAT_AGAIN };
        match said {
            Ok((asked, found)) => told.tell(asked, found),
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

#[cfg(test)]
mod tests {
    use super::super::place::Place;
    use super::*;
    use crate::store::Address;
    use crate::store::slow_wire::SlowWire;
    use crate::store::test_database::{on_server, place_on_server};

    #[tokio::test(flavor = "multi_thread")]
    async fn workers_know_how_many_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let Some(place) = place_on_server(&folder.path().join("marketd.db")) else { return };
        let of_workers = Place::Server(place.clone());
        drop(tokio::task::block_in_place(|| of_workers.open_writer()).unwrap());
        let join = || Membership::join(&place, Worker::this(jiff::Timestamp::UNIX_EPOCH));
        let first = join().unwrap();
        let mut of_first = first.workers();
        assert_eq!(*of_first.borrow(), 1);
        let second = join().unwrap();
        assert_eq!(*second.workers().borrow(), 2);
        of_first.wait_for(|workers| *workers == 2).await.unwrap();
        second.leave();
        of_first.wait_for(|workers| *workers == 1).await.unwrap();
        first.leave();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_holder_keeps_the_lease_where_its_connection_falls_silent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("marketd.db");
        let (Some(place), Some((url, schema))) = (place_on_server(&path), on_server(&path)) else {
            return;
        };
        drop(tokio::task::block_in_place(|| Place::Server(place).open_writer()).unwrap());
        let wire = SlowWire::to(&url, Duration::ZERO);
        let address: Address = format!("{}?sslmode=disable", wire.url()).parse().unwrap();
        let place = ServerPlace::new(address.in_schema(&schema), 1);
        let membership = tokio::task::block_in_place(|| {
            Membership::join(&place, Worker::this(jiff::Timestamp::UNIX_EPOCH)).unwrap()
        });
        let until = |lease: &Lease| match lease {
            Lease::Held { until, .. } => until.unwrap(),
            Lease::Elsewhere => panic!("it is nobody else's"),
        };
        let mut lease = membership.lease();
        wire.freeze();
        let before = until(&lease.borrow_and_update());
        let is_kept = |lease: &Lease| until(lease) > before;
        let kept = tokio::time::timeout(KEPT_FOR * 2, lease.wait_for(is_kept)).await;
        kept.expect("it says again that it lives").unwrap();
        assert!(Instant::now() < before, "it was never in doubt");
        tokio::task::block_in_place(|| membership.leave());
    }
}
