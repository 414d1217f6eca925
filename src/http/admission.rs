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

use super::body_budget::BodyBudget;

/// The time that a call of the API waits for a permit before it is told to come back.
const PERMIT_WAIT: Duration = Duration::from_secs(5);
/// The time during which a probe's connection is not evicted.
const PROBE_GRACE: Duration = Duration::from_secs(5);
/// The interval at which a new connection looks again for one to evict.
const EVICTION_RETRY: Duration = Duration::from_secs(1);
/// The least time between two log lines about evictions, or about refusals of one class of requests.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// The `idle_since` of a connection whose request is being processed.
const BUSY: u64 = u64::MAX;

/// The class of a request, by which it is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestClass {
    /// A probe: liveness, readiness, metrics.
    Probe,
    /// A public endpoint, which AWS calls, or a buyer's browser that AWS sends.
    Public,
    /// A call of the seller's own programs.
    Api,
}

impl RequestClass {
    /// Classifies a path. An unknown path is the API's, which is the best guarded.
    pub(super) fn of(path: &str) -> Self {
        match path {
            "/healthz" | "/readyz" | "/metrics" => Self::Probe,
            path if path.starts_with("/aws/") => Self::Public,
            _ => Self::Api,
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Public => "aws",
            Self::Api => "api",
        }
    }
}

/// The reason why a request is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AdmissionError {
    /// The class of the request has no permit left.
    #[error("too many requests are under way: try again in a moment")]
    Busy,
    /// The daemon is stopping.
    #[error("marketd is stopping: try again when it is back")]
    Stopping,
}

/// The next step of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextStep {
    Continue,
    /// Answer the request under way, then close.
    Finish,
    /// Close at once.
    Close,
}

/// The connection slots of a listener.
#[derive(Debug)]
pub(super) struct ConnectionSlots {
    connections_max: usize,
    began: Instant,
    connections: Mutex<HashMap<u64, Arc<ConnectionState>>>,
    next: AtomicU64,
    /// Notified when a connection was closed, or has no request under way any more.
    freed: Notify,
    /// The number of requests that have not been answered yet.
    under_way: AtomicUsize,
    api: Arc<Semaphore>,
    public: Arc<Semaphore>,
    /// Calls of the API that wait for a permit.
    waiting: Semaphore,
    /// The bytes of bodies from public endpoints.
    pub(super) bodies: BodyBudget,
    pub(super) stopping: CancellationToken,
    closing: AtomicBool,
    log_limits: LogLimits,
}

#[derive(Debug)]
struct ConnectionState {
    /// The time since which the connection may be evicted, in milliseconds since `began`.
    idle_since: AtomicU64,
    evicted: AtomicBool,
    /// Notified when the next step may have changed.
    changed: Notify,
}

/// A connection's slot, released when the last clone is dropped.
#[derive(Clone, Debug)]
pub(super) struct ConnectionSlot(Arc<SlotInner>);

#[derive(Debug)]
struct SlotInner {
    id: u64,
    state: Arc<ConnectionState>,
    slots: Arc<ConnectionSlots>,
}

impl ConnectionSlots {
    /// Makes slots for this many connections, until the daemon stops.
    pub(super) fn new(connections_max: usize, stopping: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            connections_max,
            began: Instant::now(),
            connections: Mutex::default(),
            next: AtomicU64::new(0),
            freed: Notify::new(),
            under_way: AtomicUsize::new(0),
            api: Arc::new(Semaphore::new(connections_max / 2)),
            public: Arc::new(Semaphore::new(public_requests_max(connections_max))),
            waiting: Semaphore::new(connections_max / 8),
            bodies: BodyBudget::default(),
            stopping,
            closing: AtomicBool::new(false),
            log_limits: LogLimits::default(),
        })
    }

    /// Acquires a slot for a connection, and evicts another connection if none is free.
    pub(super) async fn acquire(self: &Arc<Self>) -> ConnectionSlot {
        loop {
            let freed = self.freed.notified();
            {
                let mut connections = self.connections();
                if connections.len() < self.connections_max {
                    let id = self.next.fetch_add(1, Ordering::Relaxed);
                    let state = Arc::new(ConnectionState {
                        idle_since: AtomicU64::new(self.now()),
                        evicted: AtomicBool::new(false),
                        changed: Notify::new(),
                    });
                    connections.insert(id, Arc::clone(&state));
                    gauge(connections.len());
                    return ConnectionSlot(Arc::new(SlotInner {
                        id,
                        state,
                        slots: Arc::clone(self),
                    }));
                }
                self.evict_one(&connections);
            }
            timeout(EVICTION_RETRY, freed).await.ok();
        }
    }

    /// Evicts the connection that has been idle for the longest time.
    pub(super) fn evict_idle(&self) {
        self.evict_one(&self.connections());
    }

    fn evict_one(&self, connections: &HashMap<u64, Arc<ConnectionState>>) {
        let now = self.now();
        let kept = connections.values().filter(|it| !it.evicted.load(Ordering::Relaxed));
        let since = kept.map(|it| (it.idle_since.load(Ordering::Relaxed), it));
        let longest = since.filter(|(since, _)| *since <= now).min_by_key(|(since, _)| *since);
        let Some((_, longest)) = longest else { return };
        longest.evicted.store(true, Ordering::Relaxed);
        longest.changed.notify_one();
        metrics::counter!("marketd_http_connections_closed_total").increment(1);
        if let Some(count) = self.log_limits.count(RequestClass::Probe, self.began) {
            tracing::warn!(
                http.connections = self.connections_max,
                count,
                "all connections are taken: those that are idle the longest are closed for others"
            );
        }
    }

    /// Waits until no request is under way.
    pub(super) async fn drained(&self) {
        loop {
            let freed = self.freed.notified();
            if self.under_way.load(Ordering::Acquire) == 0 {
                return;
            }
            freed.await;
        }
    }

    /// Closes every connection.
    pub(super) fn close_all(&self) {
        self.closing.store(true, Ordering::Relaxed);
        for state in self.connections().values() {
            state.changed.notify_one();
        }
    }

    fn refuse_busy(&self, class: RequestClass) -> AdmissionError {
        metrics::counter!("marketd_http_busy_total", "for" => class.label()).increment(1);
        if let Some(count) = self.log_limits.count(class, self.began) {
            let class = class.label();
            tracing::warn!(
                whom = class,
                count,
                "requests are refused, since too many are under way"
            );
        }
        AdmissionError::Busy
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(BUSY - 1)
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<u64, Arc<ConnectionState>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the most requests at public endpoints that may be processed at once, of this many connections.
pub(super) const fn public_requests_max(connections: usize) -> usize {
    connections / 4
}

fn gauge(connections: usize) {
    metrics::gauge!("marketd_http_connections").set(u32::try_from(connections).unwrap_or(u32::MAX));
}

impl ConnectionSlot {
    /// Registers a request. Until it is processed, its connection may be evicted.
    pub(super) fn begin_request(&self, class: RequestClass) -> OpenRequest {
        let SlotInner { state, slots, .. } = &*self.0;
        slots.under_way.fetch_add(1, Ordering::AcqRel);
        let grace = if class == RequestClass::Probe { PROBE_GRACE.as_secs() * 1_000 } else { 0 };
        state.idle_since.store(slots.now() + grace, Ordering::Relaxed);
        OpenRequest(self.clone())
    }

    /// Acquires the permit to process a request; a call of the API waits for it for a while.
    pub(super) async fn acquire_permit(
        &self,
        class: RequestClass,
    ) -> Result<WorkPermit, AdmissionError> {
        let slots = &self.0.slots;
        if slots.stopping.is_cancelled() {
            return Err(AdmissionError::Stopping);
        }
        let share = if class == RequestClass::Public { &slots.public } else { &slots.api };
        let mut work = WorkPermit { slot: self.clone(), permit: None };
        if let Ok(permit) = Arc::clone(share).try_acquire_owned() {
            work.begin(permit);
            return Ok(work);
        }
        if class == RequestClass::Public {
            return Err(slots.refuse_busy(class));
        }
        let _waiting = slots.waiting.try_acquire().map_err(|_full| slots.refuse_busy(class))?;
        work.mark_busy();
        tokio::select! {
            () = slots.stopping.cancelled() => Err(AdmissionError::Stopping),
            permit = timeout(PERMIT_WAIT, Arc::clone(share).acquire_owned()) => {
                // The semaphore is never closed.
                let permit = permit.ok().and_then(Result::ok).ok_or_else(|| slots.refuse_busy(class))?;
                work.begin(permit);
                Ok(work)
            }
        }
    }

    /// Returns the connection's next step.
    pub(super) fn next_step(&self) -> NextStep {
        let SlotInner { state, slots, .. } = &*self.0;
        let evicted = state.evicted.load(Ordering::Relaxed);
        let is_idle = state.idle_since.load(Ordering::Relaxed) != BUSY;
        if slots.closing.load(Ordering::Relaxed) || (evicted && is_idle) {
            NextStep::Close
        } else if evicted {
            NextStep::Finish
        } else {
            NextStep::Continue
        }
    }

    /// Waits until the next step may have changed.
    pub(super) async fn next_step_changed(&self) {
        self.0.state.changed.notified().await;
    }

    /// Returns all slots of the listener.
    pub(super) fn all(&self) -> &ConnectionSlots {
        &self.0.slots
    }

    fn mark_idle(&self) {
        let SlotInner { state, slots, .. } = &*self.0;
        state.idle_since.store(slots.now(), Ordering::Relaxed);
        slots.freed.notify_waiters();
    }
}

impl Drop for SlotInner {
    fn drop(&mut self) {
        let left = {
            let mut connections = self.slots.connections();
            connections.remove(&self.id);
            connections.len()
        };
        gauge(left);
        self.slots.freed.notify_waiters();
    }
}

/// A request that has not been answered yet.
#[derive(Debug)]
pub(super) struct OpenRequest(ConnectionSlot);

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.0.slots.under_way.fetch_sub(1, Ordering::AcqRel);
        self.0.mark_idle();
    }
}

/// The permit to process a request: its connection is not evicted.
#[derive(Debug)]
pub(super) struct WorkPermit {
    slot: ConnectionSlot,
    permit: Option<OwnedSemaphorePermit>,
}

impl WorkPermit {
    fn begin(&mut self, permit: OwnedSemaphorePermit) {
        self.permit = Some(permit);
        self.mark_busy();
    }

    fn mark_busy(&self) {
        self.slot.0.state.idle_since.store(BUSY, Ordering::Relaxed);
    }
}

impl Drop for WorkPermit {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.slot.mark_idle();
    }
}

/// Limits on log lines, so that a flood does not fill the log: for each class the count and the next time to log.
#[derive(Debug, Default)]
struct LogLimits([(AtomicU64, AtomicU64); 3]);

impl LogLimits {
    /// Counts an occurrence, and returns the count if it is time to log it.
    fn count(&self, class: RequestClass, began: Instant) -> Option<u64> {
        let [probe, public, api] = &self.0;
        let (count, next) = match class {
            RequestClass::Probe => probe,
            RequestClass::Public => public,
            RequestClass::Api => api,
        };
        let count = count.fetch_add(1, Ordering::Relaxed) + 1;
        let now = began.elapsed().as_secs();
        let due = next.load(Ordering::Relaxed);
        let again = now + LOG_INTERVAL.as_secs();
        let is_due = due <= now
            && next.compare_exchange(due, again, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        is_due.then_some(count)
    }
}
