//! The byte budget of bodies from public endpoints: limits for each body, for all of them together, and in time.
//!
//! Each body has a limit and a time. When all of them together exceed the budget, the largest is dropped: what AWS and
//! buyers send is small and comes at once, and whoever wants to fill the memory has to send more than they do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use futures::StreamExt as _;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// The most bytes that are held of all bodies together.
const TOTAL_BYTES_MAX: usize = 8 * 1_024 * 1_024;
/// The time that a body may take, from its first byte to its last.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The reason why a body was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    /// The body is larger than the endpoint takes.
    #[error("the body is larger than the {0} bytes that are taken here")]
    TooLarge(usize),
    /// The body took too long.
    #[error("the body did not come in time: send it again")]
    TooSlow,
    /// The budget was exceeded, and this body was the largest.
    #[error("too much is sent at once: try again in a moment")]
    Dropped,
    /// The daemon is stopping.
    #[error("marketd is stopping: try again when it is back")]
    Stopping,
    /// The connection broke off.
    #[error("the body cannot be read: {0}")]
    Broken(String),
}

/// The byte budget, shared by all bodies that are being read.
#[derive(Clone, Debug, Default)]
pub(super) struct BodyBudget(Arc<Mutex<Reserved>>);

#[derive(Debug, Default)]
struct Reserved {
    bytes: usize,
    next: u64,
    each: BTreeMap<u64, Reservation>,
}

#[derive(Debug)]
struct Reservation {
    bytes: usize,
    dropped: CancellationToken,
}

/// A body's reservation in the budget, released when dropped.
struct BodyReservation {
    bodies: BodyBudget,
    id: u64,
    dropped: CancellationToken,
}

impl Drop for BodyReservation {
    fn drop(&mut self) {
        self.bodies.reserved().release(self.id);
    }
}

impl Reserved {
    fn release(&mut self, id: u64) {
        if let Some(part) = self.each.remove(&id) {
            self.bytes -= part.bytes;
        }
    }
}

impl BodyBudget {
    /// Reads a body of at most `bytes_max` bytes, of which `announced` are declared in its head.
    pub(super) async fn read(
        &self,
        body: Body,
        announced: Option<u64>,
        bytes_max: usize,
        stopping: &CancellationToken,
    ) -> Result<Vec<u8>, BodyError> {
        let deadline = Instant::now() + READ_TIMEOUT;
        if announced.is_some_and(|bytes| usize::try_from(bytes).map_or(true, |it| it > bytes_max)) {
            return Err(BodyError::TooLarge(bytes_max));
        }
        let reservation = self.reserve();
        let mut parts = body.into_data_stream();
        // What comes is copied: each part of it may hold on to a buffer that is much larger.
        let mut whole = Vec::new();
        loop {
            let part = tokio::select! {
                biased;
                () = reservation.dropped.cancelled() => return Err(BodyError::Dropped),
                () = stopping.cancelled() => return Err(BodyError::Stopping),
                part = timeout_at(deadline, parts.next()) => part.map_err(|_late| BodyError::TooSlow)?,
            };
            let Some(part) = part else { return Ok(whole) };
            let part = part.map_err(|error| BodyError::Broken(error.to_string()))?;
            if whole.len() + part.len() > bytes_max {
                return Err(BodyError::TooLarge(bytes_max));
            }
            reservation.add(part.len());
            whole.extend_from_slice(&part);
        }
    }

    fn reserve(&self) -> BodyReservation {
        let mut reserved = self.reserved();
        let (id, dropped) = (reserved.next, CancellationToken::new());
        reserved.next += 1;
        reserved.each.insert(id, Reservation { bytes: 0, dropped: dropped.clone() });
        BodyReservation { bodies: self.clone(), id, dropped }
    }

    fn reserved(&self) -> MutexGuard<'_, Reserved> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BodyReservation {
    /// Reserves bytes that came. Beyond the budget the largest body is dropped, which may be this one.
    fn add(&self, bytes: usize) {
        let mut reserved = self.bodies.reserved();
        if let Some(part) = reserved.each.get_mut(&self.id) {
            part.bytes += bytes;
            reserved.bytes += bytes;
        }
        while reserved.bytes > TOTAL_BYTES_MAX {
            let largest = reserved.each.iter().max_by_key(|(_, part)| part.bytes);
            let Some((&id, largest)) = largest else { return };
            largest.dropped.cancel();
            metrics::counter!("marketd_http_bodies_dropped_total").increment(1);
            reserved.release(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use futures::stream;

    use super::*;

    fn of(parts: Vec<usize>) -> Body {
        let parts =
            parts.into_iter().map(|length| Ok::<_, Infallible>(Bytes::from(vec![0; length])));
        Body::from_stream(stream::iter(parts))
    }

    /// Makes a body whose end never comes.
    fn unfinished(length: usize) -> Body {
        let first = stream::iter([Ok::<_, Infallible>(Bytes::from(vec![0; length]))]);
        Body::from_stream(first.chain(stream::pending()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_has_a_limit_and_a_time() {
        let (bodies, going_on) = (BodyBudget::default(), CancellationToken::new());
        let read = async |body| bodies.read(body, None, 1_000, &going_on).await;
        assert_eq!(read(of(vec![400, 600])).await.map(|it| it.len()), Ok(1_000));
        assert_eq!(read(of(vec![400, 601])).await, Err(BodyError::TooLarge(1_000)));
        let announced = bodies.read(unfinished(0), Some(1_001), 1_000, &going_on).await;
        assert_eq!(announced, Err(BodyError::TooLarge(1_000)));
        // However many parts come, and each of them soon.
        let drops = stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_millis(900)).await;
            Some((Ok::<_, Infallible>(Bytes::from_static(b"a")), ()))
        });
        let began = Instant::now();
        assert_eq!(read(Body::from_stream(drops)).await, Err(BodyError::TooSlow));
        assert_eq!(began.elapsed(), READ_TIMEOUT);
        let stopped = CancellationToken::new();
        stopped.cancel();
        let read = bodies.read(unfinished(9), None, 1_000, &stopped).await;
        assert_eq!(read, Err(BodyError::Stopping));
        assert!(bodies.reserved().each.is_empty() && bodies.reserved().bytes == 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_largest_gives_way_and_small_ones_are_read() {
        let (bodies, going_on) = (BodyBudget::default(), CancellationToken::new());
        let mut flood: Vec<_> = (0..100)
            .map(|_| {
                let (bodies, going_on) = (bodies.clone(), going_on.clone());
                let body = unfinished(255 * 1_024);
                tokio::spawn(async move { bodies.read(body, None, 256 * 1_024, &going_on).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(bodies.reserved().bytes <= TOTAL_BYTES_MAX);
        let small = bodies.read(of(vec![2_000, 1_000]), None, 256 * 1_024, &going_on).await;
        assert_eq!(small.map(|it| it.len()), Ok(3_000));
        let mut crowded = 0;
        for reading in &mut flood {
            crowded += usize::from(reading.await.unwrap() == Err(BodyError::Dropped));
        }
        assert_eq!(crowded, 100 - TOTAL_BYTES_MAX / (255 * 1_024));
        assert_eq!(bodies.reserved().bytes, 0);
    }
}
