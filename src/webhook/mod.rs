//! Events, posted to the seller's application, signed as the Standard Webhooks specification says.
//!
//! Several are posted at once, each customer's in their order. Up to where all were posted is kept, and which were posted
//! beyond that, a few times a second: what was posted since then is posted again after a crash, under the same id.

mod posting;
mod queues;
mod receiver;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::health::Health;
use crate::settings::WebhookSettings;
use crate::store::{Store, StoreError, Waiter};
use crate::supervisor::Endurance;
use posting::Posting;
use queues::QueueKey;
use receiver::Receiver;

/// Events read in one go.
const READ: u32 = 500;
/// Events that wait in memory: an urgent one is found behind so many of the others.
const HELD: usize = 10_000;
/// Events posted beyond one that is refused, before the others wait for it too.
const AHEAD: usize = 100_000;
/// Posts under way at once.
const AT_ONCE: usize = 4;
/// The time that posts under way may take once the daemon stops. Whoever is cut off is posted to again.
const STOP_WITHIN: Duration = Duration::from_secs(2);
/// A fallback beside wake-ups.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

/// The webhook, which posts events.
pub struct Webhook {
    receiver: Arc<Receiver>,
    store: Store,
    clock: Clock,
    health: Health,
}

/// The outcome of posting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Posted {
    /// Events that were taken.
    pub posted: usize,
    /// Events that wait.
    pub left: usize,
}

impl Webhook {
    /// Makes a webhook that posts what the store's outbox holds.
    pub fn new(
        settings: WebhookSettings,
        store: Store,
        clock: Clock,
        health: Health,
    ) -> Result<Self, reqwest::Error> {
        Ok(Self { receiver: Arc::new(Receiver::new(settings)?), store, clock, health })
    }

    /// Posts until told to stop. An event is passed only once the application has answered with a 2xx, so one that it
    /// refuses holds up those of the same customer.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), StoreError> {
        let mut endurance = Endurance::of("webhook");
        let mut posting = Posting::default();
        while let Err(error) = self.work(&mut posting, &shutdown, false).await {
            endurance.wait_out(error, &shutdown).await?;
            if shutdown.is_cancelled() {
                let events = posting.unnoted();
                tracing::warn!(
                    events,
                    "what was posted last could not be noted and is posted again"
                );
                return Ok(());
            }
        }
        Ok(())
    }

    /// Posts what there is, for so long at most.
    pub async fn run_once(&self, within: Duration) -> Result<Posted, StoreError> {
        let shutdown = CancellationToken::new();
        let late = async {
            tokio::time::sleep(within).await;
            shutdown.cancel();
            std::future::pending::<()>().await;
        };
        let mut posting = Posting::default();
        tokio::select! {
            posted = self.work(&mut posting, &shutdown, true) => posted,
            () = late => Ok(Posted::default()),
        }
    }

    async fn work(
        &self,
        posting: &mut Posting,
        shutdown: &CancellationToken,
        until_empty: bool,
    ) -> Result<Posted, StoreError> {
        let mut news = self.store.wakeups().of(Waiter::Events);
        let mut cut_at = None;
        loop {
            news.arm();
            // Before anything else is posted, so that what a crash forgets has a bound.
            if posting.is_to_be_noted(Instant::now()) {
                posting.note(&self.store).await?;
            }
            let is_moved = posting.follow(&self.store).await?;
            let is_stopping = shutdown.is_cancelled();
            if !is_moved && !is_stopping {
                posting.read(&self.store).await?;
                self.post(posting);
            }
            if posting.is_idle() && (is_stopping || (until_empty && posting.left() == 0)) {
                posting.note(&self.store).await?;
                return Ok(Posted { posted: posting.posted(), left: posting.left() });
            }
            let now = Instant::now();
            if is_stopping && *cut_at.get_or_insert(now + STOP_WITHIN) <= now {
                posting.cut().await;
                continue;
            }
            let next = posting.next_at(now).filter(|_| !is_moved && !is_stopping);
            let wake = [next, posting.note_at(), cut_at].into_iter().flatten().min();
            tokio::select! {
                () = shutdown.cancelled(), if !is_stopping => {}
                Some((key, outcome)) = posting.ended() => self.note_outcome(posting, &key, outcome),
                () = news.woken(), if !is_stopping => {}
                () = tokio::time::sleep_until(wake.unwrap_or(now + LONGEST_SLEEP)) => {}
            }
        }
    }

    /// Begins as many posts as may be under way at once.
    fn post(&self, posting: &mut Posting) {
        let now = Instant::now();
        while let Some((key, event)) = posting.next(now) {
            let (receiver, at) = (Arc::clone(&self.receiver), self.clock.now().as_second());
            posting.begin(async move { (key, receiver.post(&event, at).await) });
        }
    }

    /// Notes the outcome of a post.
    fn note_outcome(&self, posting: &mut Posting, key: &QueueKey, outcome: Result<(), String>) {
        let now = self.clock.now();
        match outcome {
            Ok(()) => {
                posting.taken(key);
                if !posting.has_refused() {
                    self.health.report("webhook", Ok(()), now);
                }
            }
            Err(reason) => {
                posting.refused(key);
                self.health.report("webhook", Err(&reason), now);
            }
        }
    }
}
