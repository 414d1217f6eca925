//! Who is connected, who has work under way, and who gives way to others.
//!
//! Whoever reaches the address can hold a connection and say nothing, or say it byte by byte. So a connection by itself is
//! no claim: if all are taken, the one that has been of no use for the longest time is closed for the next who comes.
//! What is being worked on is never closed; there is less of it than there may be connections, each kind with a share of
//! its own. So somebody can always give way, and whoever asks how the daemon is always comes in.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::body_budget::Bodies;

/// How long a call of the API waits for a place before it is told to come back.
const PATIENCE: Duration = Duration::from_secs(5);
/// For how long a probe is not closed for others.
const PROBE: Duration = Duration::from_secs(5);
/// How soon a newcomer looks again for somebody who can give way.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How often it is logged that connections are closed for others, or that there is no place.
const SAID_EVERY: Duration = Duration::from_secs(60);
/// Marks a connection with work under way.
const BUSY: u64 = u64::MAX;

/// Whom a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    /// Whoever watches the daemon.
    Probe,
    /// AWS, or a buyer whom it sends.
    Door,
    /// The seller's own.
    Api,
}

impl Whom {
    /// Whom a path is for. What is not known is the API's, which is the best guarded.
    pub(super) fn of(path: &str) -> Self {
        match path {
            "/healthz" | "/readyz" | "/metrics" => Self::Probe,
            path if path.starts_with("/aws/") => Self::Door,
            _ => Self::Api,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Door => "aws",
            Self::Api => "api",
        }
    }
}

/// Why a request is not worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoPlace {
    /// As many are worked on as may be.
    #[error("too many requests are under way: try again in a moment")]
    Busy,
    /// The daemon stops.
    #[error("marketd is stopping: try again when it is back")]
    Stopping,
}

/// What a connection is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    GoOn,
    /// Answer what is under way and close.
    Finish,
    /// Close.
    Leave,
}

/// The connections of a listener.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    began: Instant,
    connections: Mutex<HashMap<u64, Arc<Connected>>>,
    next: AtomicU64,
    /// A connection was closed, or has nothing under way any more.
    freed: Notify,
    /// Requests that have not been answered yet.
    under_way: AtomicUsize,
    api: Arc<Semaphore>,
    doors: Arc<Semaphore>,
    /// Calls of the API that wait for a place.
    waiting: Semaphore,
    /// What strangers are sending.
    pub(super) bodies: Bodies,
    pub(super) stopping: CancellationToken,
    over: AtomicBool,
    said: Said,
}

#[derive(Debug)]
struct Connected {
    /// Since when it could be closed for others, in milliseconds.
    useless_since: AtomicU64,
    leaves: AtomicBool,
    /// There is a word for it.
    told: Notify,
}

/// A connection's place, given back when dropped; clones are of the same connection.
#[derive(Clone, Debug)]
pub(super) struct Place(Arc<Held>);

#[derive(Debug)]
struct Held {
    id: u64,
    connected: Arc<Connected>,
    places: Arc<Places>,
}

impl Places {
    /// Places for so many connections, until the daemon stops.
    pub(super) fn new(most: usize, stopping: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            most,
            began: Instant::now(),
            connections: Mutex::default(),
            next: AtomicU64::new(0),
            freed: Notify::new(),
            under_way: AtomicUsize::new(0),
            api: Arc::new(Semaphore::new(most / 2)),
            doors: Arc::new(Semaphore::new(doors(most))),
            waiting: Semaphore::new(most / 8),
            bodies: Bodies::default(),
            stopping,
            over: AtomicBool::new(false),
            said: Said::default(),
        })
    }

    /// A place for a connection, for which another is closed if there is none left.
    pub(super) async fn take(self: &Arc<Self>) -> Place {
        loop {
            let freed = self.freed.notified();
            {
                let mut connections = self.connections();
                if connections.len() < self.most {
                    let id = self.next.fetch_add(1, Ordering::Relaxed);
                    let connected = Arc::new(Connected {
                        useless_since: AtomicU64::new(self.now()),
                        leaves: AtomicBool::new(false),
                        told: Notify::new(),
                    });
                    connections.insert(id, Arc::clone(&connected));
                    gauge(connections.len());
                    return Place(Arc::new(Held { id, connected, places: Arc::clone(self) }));
                }
                self.close_one(&connections);
            }
            timeout(LOOK_AGAIN, freed).await.ok();
        }
    }

    /// Closes the connection that has been of no use for the longest time.
    pub(super) fn close_idle(&self) {
        self.close_one(&self.connections());
    }

    fn close_one(&self, connections: &HashMap<u64, Arc<Connected>>) {
        let now = self.now();
        let staying = connections.values().filter(|it| !it.leaves.load(Ordering::Relaxed));
        let useless = staying.map(|it| (it.useless_since.load(Ordering::Relaxed), it));
        let longest = useless.filter(|(since, _)| *since <= now).min_by_key(|(since, _)| *since);
        let Some((_, longest)) = longest else { return };
        longest.leaves.store(true, Ordering::Relaxed);
        longest.told.notify_one();
        metrics::counter!("marketd_http_connections_closed_total").increment(1);
        if let Some(count) = self.said.count(Whom::Probe, self.began) {
            tracing::warn!(
                http.connections = self.most,
                count,
                "all connections are taken: those that are idle the longest are closed for others"
            );
        }
    }

    /// Waits until nothing is under way.
    pub(super) async fn are_quiet(&self) {
        loop {
            let freed = self.freed.notified();
            if self.under_way.load(Ordering::Acquire) == 0 {
                return;
            }
            freed.await;
        }
    }

    /// Has every connection closed.
    pub(super) fn close(&self) {
        self.over.store(true, Ordering::Relaxed);
        for connected in self.connections().values() {
            connected.told.notify_one();
        }
    }

    fn busy(&self, whom: Whom) -> NoPlace {
        metrics::counter!("marketd_http_busy_total", "for" => whom.word()).increment(1);
        if let Some(count) = self.said.count(whom, self.began) {
            let whom = whom.word();
            tracing::warn!(whom, count, "requests are refused, since too many are under way");
        }
        NoPlace::Busy
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(BUSY - 1)
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<u64, Arc<Connected>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many requests at the doors may be worked on at once, of so many connections.
pub(super) const fn doors(connections: usize) -> usize {
    connections / 4
}

fn gauge(connections: usize) {
    metrics::gauge!("marketd_http_connections").set(u32::try_from(connections).unwrap_or(u32::MAX));
}

impl Place {
    /// Notes that a request came in. Until it is worked on, the connection may be closed for others.
    pub(super) fn begin(&self, whom: Whom) -> UnderWay {
        let Held { connected, places, .. } = &*self.0;
        places.under_way.fetch_add(1, Ordering::AcqRel);
        let grace = if whom == Whom::Probe { PROBE.as_secs() * 1_000 } else { 0 };
        connected.useless_since.store(places.now() + grace, Ordering::Relaxed);
        UnderWay(self.clone())
    }

    /// Takes a place to be worked on, and waits a little for it if it is the API's.
    pub(super) async fn work(&self, whom: Whom) -> Result<Work, NoPlace> {
        let places = &self.0.places;
        if places.stopping.is_cancelled() {
            return Err(NoPlace::Stopping);
        }
        let share = if whom == Whom::Door { &places.doors } else { &places.api };
        let mut work = Work { place: self.clone(), permit: None };
        if let Ok(permit) = Arc::clone(share).try_acquire_owned() {
            work.begin(permit);
            return Ok(work);
        }
        if whom == Whom::Door {
            return Err(places.busy(whom));
        }
        let _waiting = places.waiting.try_acquire().map_err(|_full| places.busy(whom))?;
        work.is_not_useless();
        tokio::select! {
            () = places.stopping.cancelled() => Err(NoPlace::Stopping),
            permit = timeout(PATIENCE, Arc::clone(share).acquire_owned()) => {
                // The semaphore is never closed.
                let permit = permit.ok().and_then(Result::ok).ok_or_else(|| places.busy(whom))?;
                work.begin(permit);
                Ok(work)
            }
        }
    }

    /// What the connection is to do.
    pub(super) fn word(&self) -> Word {
        let Held { connected, places, .. } = &*self.0;
        let leaves = connected.leaves.load(Ordering::Relaxed);
        let useless = connected.useless_since.load(Ordering::Relaxed) != BUSY;
        if places.over.load(Ordering::Relaxed) || (leaves && useless) {
            Word::Leave
        } else if leaves {
            Word::Finish
        } else {
            Word::GoOn
        }
    }

    /// Waits until there may be another word.
    pub(super) async fn is_told(&self) {
        self.0.connected.told.notified().await;
    }

    /// The places that this is one of.
    pub(super) fn places(&self) -> &Places {
        &self.0.places
    }

    fn is_useless(&self) {
        let Held { connected, places, .. } = &*self.0;
        connected.useless_since.store(places.now(), Ordering::Relaxed);
        places.freed.notify_waiters();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let left = {
            let mut connections = self.places.connections();
            connections.remove(&self.id);
            connections.len()
        };
        gauge(left);
        self.places.freed.notify_waiters();
    }
}

/// A request that has not been answered yet.
#[derive(Debug)]
pub(super) struct UnderWay(Place);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.places.under_way.fetch_sub(1, Ordering::AcqRel);
        self.0.is_useless();
    }
}

/// A request that is worked on: its connection is not closed for others.
#[derive(Debug)]
pub(super) struct Work {
    place: Place,
    permit: Option<OwnedSemaphorePermit>,
}

impl Work {
    fn begin(&mut self, permit: OwnedSemaphorePermit) {
        self.permit = Some(permit);
        self.is_not_useless();
    }

    fn is_not_useless(&self) {
        self.place.0.connected.useless_since.store(BUSY, Ordering::Relaxed);
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.place.is_useless();
    }
}

/// What was said when, so that a flood does not fill the log.
#[derive(Debug, Default)]
struct Said([(AtomicU64, AtomicU64); 3]);

impl Said {
    /// Counts; how many there were, if it is time to say so again.
    fn count(&self, whom: Whom, began: Instant) -> Option<u64> {
        let [probe, door, api] = &self.0;
        let (count, next) = match whom {
            Whom::Probe => probe,
            Whom::Door => door,
            Whom::Api => api,
        };
        let count = count.fetch_add(1, Ordering::Relaxed) + 1;
        let now = began.elapsed().as_secs();
        let due = next.load(Ordering::Relaxed);
        let again = now + SAID_EVERY.as_secs();
        let is_due = due <= now
            && next.compare_exchange(due, again, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        is_due.then_some(count)
    }
}
