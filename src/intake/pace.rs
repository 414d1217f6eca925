//! The number of pollers that receive: more while there is a backlog, fewer once there is none.
//!
//! How many are useful depends on how far away the queue is and how fast messages come, neither of which a setting can
//! know. A batch that is full says that there is more; one that is not, that whoever polls already is enough.

use std::sync::Arc;

use tokio::sync::watch;

/// The number of pollers that receive, shared by all of a queue's.
#[derive(Clone, Debug)]
pub struct Pace {
    wanted: Arc<watch::Sender<usize>>,
    least: usize,
    most: usize,
}

impl Pace {
    /// Begins with the fewest. Where `most` is less than `least`, their number never changes.
    pub fn new(least: usize, most: usize) -> Self {
        let least = least.max(1);
        Self { wanted: Arc::new(watch::Sender::new(least)), least, most: most.max(least) }
    }

    /// Returns the most pollers that there may be.
    pub const fn most(&self) -> usize {
        self.most
    }

    /// Takes into account that a receive brought as many messages as one can, or that it did not.
    pub(super) fn received(&self, full: bool) {
        self.wanted.send_if_modified(|wanted| {
            let next = if full { *wanted + 1 } else { *wanted - 1 }.clamp(self.least, self.most);
            std::mem::replace(wanted, next) != next
        });
    }

    /// Waits until so many receive that this poller, counted from 0, is one of them.
    pub(super) async fn turn(&self, poller: usize) {
        let mut wanted = self.wanted.subscribe();
        if wanted.wait_for(|wanted| poller < *wanted).await.is_err() {
            unreachable!("the sender is this pace's own");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    /// A queue that takes a while to answer.
    #[derive(Clone, Default)]
    struct FarQueue {
        messages: Arc<AtomicUsize>,
        asked: Arc<AtomicUsize>,
        most_asked: Arc<AtomicUsize>,
    }

    impl FarQueue {
        async fn receive(&self) -> usize {
            let asked = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
            self.most_asked.fetch_max(asked, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(50)).await;
            let take = |held: usize| Some(held - held.min(10));
            let held = self.messages.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
            self.asked.fetch_sub(1, Ordering::Relaxed);
            held.unwrap_or(0).min(10)
        }

        /// Has all pollers take what is there, and returns the most receives that there were at once, and how many polled
        /// at the end.
        async fn taken(pace: Pace, messages: usize) -> (usize, usize) {
            let queue = Self::default();
            queue.messages.store(messages, Ordering::Relaxed);
            let polling = (0..pace.most()).map(|poller| {
                let (queue, pace) = (queue.clone(), pace.clone());
                async move {
                    loop {
                        pace.turn(poller).await;
                        pace.received(queue.receive().await >= 10);
                    }
                }
            });
            let polling = futures::future::join_all(polling);
            // In virtual time, and far longer than it takes.
            drop(tokio::time::timeout(Duration::from_mins(1), polling).await);
            assert_eq!(queue.messages.load(Ordering::Relaxed), 0);
            let polled = *pace.wanted.borrow();
            (queue.most_asked.load(Ordering::Relaxed), polled)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_backlog_has_more_pollers_and_an_empty_queue_fewer() {
        assert_eq!(FarQueue::taken(Pace::new(2, 8), 0).await, (2, 2));
        assert_eq!(FarQueue::taken(Pace::new(2, 8), 500).await, (8, 2));
        assert_eq!(FarQueue::taken(Pace::new(2, 8), 9).await, (2, 2), "that is no backlog");
        assert_eq!(FarQueue::taken(Pace::new(3, 1), 500).await, (3, 3), "no room for more");
    }
}
