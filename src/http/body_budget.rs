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
const ALL: usize = 8 * 1_024 * 1_024;
/// The time that a body may take, from its first byte to its last.
const WITHIN: Duration = Duration::from_secs(10);

/// The reason why a body was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unread {
    /// The body is larger than the endpoint takes.
    #[error("the body is larger than the {0} bytes that are taken here")]
    TooLarge(usize),
    /// The body took too long.
    #[error("the body did not come in time: send it again")]
    TooSlow,
    /// The budget was exceeded, and this body was the largest.
    #[error("too much is sent at once: try again in a moment")]
    Crowded,
    /// The daemon is stopping.
    #[error("marketd is stopping: try again when it is back")]
    Stopping,
    /// The connection broke off.
    #[error("the body cannot be read: {0}")]
    Broken(String),
}

/// The byte budget, shared by all bodies that are being read.
#[derive(Clone, Debug, Default)]
pub(super) struct Bodies(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    next: u64,
    each: BTreeMap<u64, Part>,
}

#[derive(Debug)]
struct Part {
    bytes: usize,
    give_way: CancellationToken,
}

/// A body's reservation in the budget, released when dropped.
struct Share {
    bodies: Bodies,
    id: u64,
    give_way: CancellationToken,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.bodies.held().let_go(self.id);
    }
}

impl Held {
    fn let_go(&mut self, id: u64) {
        if let Some(part) = self.each.remove(&id) {
            self.bytes -= part.bytes;
        }
    }
}

impl Bodies {
    /// Reads a body of at most `most` bytes, of which `announced` are declared in its head.
    pub(super) async fn read(
        &self,
        body: Body,
        announced: Option<u64>,
        most: usize,
        stopping: &CancellationToken,
    ) -> Result<Vec<u8>, Unread> {
        let deadline = Instant::now() + WITHIN;
        if announced.is_some_and(|bytes| usize::try_from(bytes).map_or(true, |it| it > most)) {
            return Err(Unread::TooLarge(most));
        }
        let share = self.share();
        let mut parts = body.into_data_stream();
        // What comes is copied: each part of it may hold on to a buffer that is much larger.
        let mut whole = Vec::new();
        loop {
            let part = tokio::select! {
                biased;
                () = share.give_way.cancelled() => return Err(Unread::Crowded),
                () = stopping.cancelled() => return Err(Unread::Stopping),
                part = timeout_at(deadline, parts.next()) => part.map_err(|_late| Unread::TooSlow)?,
            };
            let Some(part) = part else { return Ok(whole) };
            let part = part.map_err(|error| Unread::Broken(error.to_string()))?;
            if whole.len() + part.len() > most {
                return Err(Unread::TooLarge(most));
            }
            share.grow(part.len());
            whole.extend_from_slice(&part);
        }
    }

    fn share(&self) -> Share {
        let mut held = self.held();
        let (id, give_way) = (held.next, CancellationToken::new());
        held.next += 1;
        held.each.insert(id, Part { bytes: 0, give_way: give_way.clone() });
        Share { bodies: self.clone(), id, give_way }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Reserves bytes that came. Beyond the budget the largest body is dropped, which may be this one.
    fn grow(&self, bytes: usize) {
        let mut held = self.bodies.held();
        if let Some(part) = held.each.get_mut(&self.id) {
            part.bytes += bytes;
            held.bytes += bytes;
        }
        while held.bytes > ALL {
            let largest = held.each.iter().max_by_key(|(_, part)| part.bytes);
            let Some((&id, largest)) = largest else { return };
            largest.give_way.cancel();
            metrics::counter!("marketd_http_bodies_dropped_total").increment(1);
            held.let_go(id);
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
        let (bodies, going_on) = (Bodies::default(), CancellationToken::new());
        let read = async |body| bodies.read(body, None, 1_000, &going_on).await;
        assert_eq!(read(of(vec![400, 600])).await.map(|it| it.len()), Ok(1_000));
        assert_eq!(read(of(vec![400, 601])).await, Err(Unread::TooLarge(1_000)));
        let announced = bodies.read(unfinished(0), Some(1_001), 1_000, &going_on).await;
        assert_eq!(announced, Err(Unread::TooLarge(1_000)));
        // However many parts come, and each of them soon.
        let drops = stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_millis(900)).await;
            Some((Ok::<_, Infallible>(Bytes::from_static(b"a")), ()))
        });
        let began = Instant::now();
        assert_eq!(read(Body::from_stream(drops)).await, Err(Unread::TooSlow));
        assert_eq!(began.elapsed(), WITHIN);
        let stopped = CancellationToken::new();
        stopped.cancel();
        let read = bodies.read(unfinished(9), None, 1_000, &stopped).await;
        assert_eq!(read, Err(Unread::Stopping));
        assert!(bodies.held().each.is_empty() && bodies.held().bytes == 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_largest_gives_way_and_small_ones_are_read() {
        let (bodies, going_on) = (Bodies::default(), CancellationToken::new());
        let mut flood: Vec<_> = (0..100)
            .map(|_| {
                let (bodies, going_on) = (bodies.clone(), going_on.clone());
                let body = unfinished(255 * 1_024);
                tokio::spawn(async move { bodies.read(body, None, 256 * 1_024, &going_on).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(bodies.held().bytes <= ALL);
        let small = bodies.read(of(vec![2_000, 1_000]), None, 256 * 1_024, &going_on).await;
        assert_eq!(small.map(|it| it.len()), Ok(3_000));
        let mut crowded = 0;
        for reading in &mut flood {
            crowded += usize::from(reading.await.unwrap() == Err(Unread::Crowded));
        }
        assert_eq!(crowded, 100 - ALL / (255 * 1_024));
        assert_eq!(bodies.held().bytes, 0);
    }
}
