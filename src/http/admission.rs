//! Admission of connections and requests: connection slots, requests under way, and eviction of idle connections.
//!
//! A peer that reaches the address can hold a connection and send nothing, or send it byte by byte. So a connection by
//! itself is no claim: when all slots are taken, the connection that has been idle for the longest time is closed for
//! the next one. A connection whose request is being processed is never closed. Fewer requests are processed at once
//! than there are connection slots, and each class of requests has a share of its own. So there is always an idle
//! connection to close, and probes always get in.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::body_budget::Bodies;

/// The time that a call of the API waits for a permit before it is told to come back.
const PATIENCE: Duration = Duration::from_secs(5);
/// The time during which a probe's connection is not evicted.
const PROBE: Duration = Duration::from_secs(5);
/// The interval at which a new connection looks again for one to evict.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The least time between two log lines about evictions, or about refusals of one class of requests.
const SAID_EVERY: Duration = Duration::from_secs(60);
/// The `idle_since` of a connection whose request is being processed.
const BUSY: u64 = u64::MAX;

/// The class of a request, by which it is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    /// A probe: liveness, readiness, metrics.
    Probe,
    /// A public endpoint, which AWS calls, or a buyer's browser that AWS sends.
    Door,
    /// A call of the seller's own programs.
    Api,
}

impl Whom {
    /// Classifies a path. An unknown path is the API's, which is the best guarded.
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

/// The reason why a request is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoPlace {
    /// The class of the request has no permit left.
    #[error("too many requests are under way: try again in a moment")]
    Busy,
    /// The daemon is stopping.
    #[error("marketd is stopping: try again when it is back")]
    Stopping,
}

/// The next step of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    GoOn,
    /// Answer the request under way, then close.
    Finish,
    /// Close at once.
    Leave,
}

/// The connection slots of a listener.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    began: Instant,
    connections: Mutex<HashMap<u64, Arc<Connected>>>,
    next: AtomicU64,
    /// Notified when a connection was closed, or has no request under way any more.
    freed: Notify,
    /// The number of requests that have not been answered yet.
    under_way: AtomicUsize,
    api: Arc<Semaphore>,
    doors: Arc<Semaphore>,
    /// Calls of the API that wait for a permit.
    waiting: Semaphore,
    /// The bytes of bodies from public endpoints.
    pub(super) bodies: Bodies,
    pub(super) stopping: CancellationToken,
    over: AtomicBool,
    said: Said,
}

#[derive(Debug)]
struct Connected {
    /// The time since which the connection may be evicted, in milliseconds since `began`.
    useless_since: AtomicU64,
    leaves: AtomicBool,
    /// Notified when the next step may have changed.
    told: Notify,
}

/// A connection's slot, released when the last clone is dropped.
#[derive(Clone, Debug)]
pub(super) struct Place(Arc<Held>);

#[derive(Debug)]
struct Held {
    id: u64,
    connected: Arc<Connected>,
    places: Arc<Places>,
}

impl Places {
    /// Makes slots for this many connections, until the daemon stops.
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

    /// Acquires a slot for a connection, and evicts another connection if none is free.
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

    /// Evicts the connection that has been idle for the longest time.
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

    /// Waits until no request is under way.
    pub(super) async fn are_quiet(&self) {
        loop {
            let freed = self.freed.notified();
            if self.under_way.load(Ordering::Acquire) == 0 {
                return;
            }
            freed.await;
        }
    }

    /// Closes every connection.
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

/// Returns the most requests at public endpoints that may be processed at once, of this many connections.
pub(super) const fn doors(connections: usize) -> usize {
    connections / 4
}

fn gauge(connections: usize) {
    metrics::gauge!("marketd_http_connections").set(u32::try_from(connections).unwrap_or(u32::MAX));
}

impl Place {
    /// Registers a request. Until it is processed, its connection may be evicted.
    pub(super) fn begin(&self, whom: Whom) -> UnderWay {
        let Held { connected, places, .. } = &*self.0;
        places.under_way.fetch_add(1, Ordering::AcqRel);
        let grace = if whom == Whom::Probe { PROBE.as_secs() * 1_000 } else { 0 };
        connected.useless_since.store(places.now() + grace, Ordering::Relaxed);
        UnderWay(self.clone())
    }

    /// Acquires the permit to process a request; a call of the API waits for it for a while.
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

    /// Returns the connection's next step.
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

    /// Waits until the next step may have changed.
    pub(super) async fn is_told(&self) {
        self.0.connected.told.notified().await;
    }

    /// Returns all slots of the listener.
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

/// The permit to process a request: its connection is not evicted.
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

/// Limits on log lines, so that a flood does not fill the log: for each class the count and the next time to log.
#[derive(Debug, Default)]
struct Said([(AtomicU64, AtomicU64); 3]);

impl Said {
    /// Counts an occurrence, and returns the count if it is time to log it.
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
