//! Events, posted to the seller's application, signed as the Standard Webhooks specification says.
//!
//! There are two lanes: what somebody waits for, and what only counts. Several events are posted at once, each customer's in
//! their order within a lane. Up to where all of a lane were posted is kept, and which were posted beyond that, a few times a
//! second: what was posted since then is posted again after a crash, under the same id.

mod posting;
mod queues;
mod receiver;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::event::EventType;
use crate::domain::event::data::WebhookGivenUp;
use crate::health::Health;
use crate::store::{Event, Store, StoreError, Waiter};
use crate::supervisor::Part;
use posting::Posting;
use queues::QueueKey;
use receiver::Refusal;
pub use receiver::{Receiver, WebhookTest};

/// Events read in one go.
const READ: u32 = 500;
/// Events of a lane that wait in memory.
const HELD: usize = 10_000;
/// Events of a lane posted beyond one that is refused, before the others of the lane wait for it too.
const AHEAD: usize = 100_000;
/// Posts under way at once.
const AT_ONCE: usize = 4;
/// The time that posts under way may take once the daemon stops. Whoever is cut off is posted to again.
const STOP_WITHIN: Duration = Duration::from_secs(2);
/// A fallback beside wake-ups.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);
/// The event that tells of another that was given up.
const GIVEN_UP: EventType = EventType::WebhookGivenUp;

/// The webhook, which posts events.
#[derive(Clone)]
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
    /// Set if a person has the webhook post nothing.
    pub is_paused: bool,
}

/// The part that posts. An event is passed only once the application has answered with a 2xx, so one that it refuses holds
/// up those of the same customer.
pub struct Posts {
    webhook: Webhook,
    posting: Posting,
}

impl Part for Posts {
    const NAME: &'static str = "webhook";

    async fn work(&mut self, shutdown: &CancellationToken) -> Result<(), StoreError> {
        self.webhook.work(&mut self.posting, shutdown, false).await.map(drop)
    }

    fn say_left(&self) {
        let events = self.posting.unnoted();
        tracing::warn!(events, "what was posted last could not be noted and is posted again");
    }
}

impl Webhook {
    /// Makes a webhook that posts what the store's outbox holds.
    pub fn new(receiver: Arc<Receiver>, store: Store, clock: Clock, health: Health) -> Self {
        Self { receiver, store, clock, health }
    }

    /// Makes the part that posts.
    pub fn posts(self) -> Posts {
        Posts { webhook: self, posting: Posting::default() }
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
        let mut is_moved = false;
        posting.fall_behind();
        loop {
            if news.is_woken() {
                posting.fall_behind();
                news.arm();
            }
            // Before anything else is posted, so that what a crash forgets has a bound.
            if posting.is_to_be_noted(Instant::now()) {
                posting.note(&self.store).await?;
            }
            let is_stopping = shutdown.is_cancelled();
            let begun = Instant::now();
            if is_moved || posting.is_behind(begun) {
                is_moved = posting.follow(&self.store).await?;
                if !is_moved && !is_stopping {
                    posting.read(&self.store, begun).await?;
                }
            }
            if !is_moved && !is_stopping {
                self.post(posting);
            }
            let is_done = until_empty && (posting.left() == 0 || posting.is_paused());
            if posting.is_idle() && (is_stopping || is_done) {
                posting.note(&self.store).await?;
                let left =
                    usize::try_from(self.store.webhook_backlog().await?).unwrap_or(usize::MAX);
                let is_paused = posting.is_paused();
                return Ok(Posted { posted: posting.posted(), left, is_paused });
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
                Some((key, outcome)) = posting.ended() => {
                    self.note_outcome(posting, &key, outcome).await?;
                }
                () = news.woken(), if !is_stopping => posting.fall_behind(),
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
    async fn note_outcome(
        &self,
        posting: &mut Posting,
        key: &QueueKey,
        outcome: Result<u16, Refusal>,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        match outcome {
            Ok(status) => {
                posting.taken(key, status, now);
                if !posting.has_refused() {
                    self.health.report("webhook", Ok(()), now);
                }
            }
            Err(refusal) => {
                posting.refused(key, &refusal, now);
                self.health.report("webhook", Err(&refusal.reason), now);
                if let Some(event) = posting.hopeless(key, &refusal, now) {
                    self.tell_given_up(event, &refusal.reason).await?;
                    posting.given_up(key, now);
                }
            }
        }
        Ok(())
    }

    /// Says that an event is given up: in the log, by a metric, and to whoever reads the feed.
    async fn tell_given_up(&self, event: &Event, reason: &str) -> Result<(), StoreError> {
        let after = event.seq - 1;
        tracing::error!(
            event = event.id,
            kind = event.kind,
            reason,
            "an event that the application has refused for three days is given up; `marketd webhook replay --after {after}` posts it again with all that came after it"
        );
        metrics::counter!("marketd_webhook_given_up_total").increment(1);
        if event.kind == GIVEN_UP.as_str() {
            return Ok(());
        }
        let data = WebhookGivenUp {
            event_id: &event.id,
            r#type: &event.kind,
            customer_id: event.customer_id.as_ref(),
            after: after.to_string(),
            reason,
        };
        self.store.tell(GIVEN_UP, &data, self.clock.now()).await
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};
    use serde_json::json;

    use super::*;
    use crate::settings::WebhookSettings;
    use crate::store::test_database::open_store;

    fn settings(folder: &tempfile::TempDir) -> WebhookSettings {
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let variables = [
            ("MARKETD__WEBHOOK__URL", "http://127.0.0.1:1/told".to_owned()),
            ("MARKETD__WEBHOOK__SECRET_FILE", secret.display().to_string()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value));
        crate::settings::load(None, variables).unwrap().settings.webhook.unwrap()
    }

    #[tokio::test]
    async fn what_is_refused_for_three_days_is_given_up_aloud_and_what_is_behind_it_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let store = open_store(&folder.path().join("marketd.db"));
        store.begin_webhook().await.unwrap();
        let now: Timestamp = "2026-11-10T09:00:00Z".parse().unwrap();
        let (old, young) = (EventType::PlanUpdated, EventType::FeatureUpdated);
        for (kind, hours) in [(old, 73), (young, 71)] {
            let at = now - SignedDuration::from_hours(hours);
            store.tell(kind, &json!({}), at).await.unwrap();
        }
        let clock = Clock::manual(now);
        let health = Health::default();
        let receiver = Arc::new(Receiver::new(settings(&folder)).unwrap());
        let webhook = Webhook::new(receiver, store.clone(), clock, health);
        let mut posting = Posting::default();
        posting.follow(&store).await.unwrap();
        posting.read(&store, Instant::now()).await.unwrap();
        let later = || Instant::now() + Duration::from_secs(3_600);
        let reason = "400 Bad Request".to_owned();
        let refusal = Refusal { reason, status: Some(400), is_definite: true };
        let refused = || Err(refusal.clone());
        let mut tries = 0;
        let key = loop {
            let (key, event) = posting.next(later()).unwrap();
            if event.kind == young.as_str() {
                break key;
            }
            tries += 1;
            webhook.note_outcome(&mut posting, &key, refused()).await.unwrap();
        };
        assert_eq!(tries, 12);
        for _ in 0..20 {
            webhook.note_outcome(&mut posting, &key, refused()).await.unwrap();
            assert_eq!(
                posting.next(later()).unwrap().1.kind,
                young.as_str(),
                "it is not old enough"
            );
        }
        posting.note(&store).await.unwrap();
        assert_eq!(store.webhook_place().await.unwrap().cursor(), 1);
        let told = store.events_after(2, 10).await.unwrap();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(
            (told[0].kind.as_str(), &told[0].data["type"]),
            (GIVEN_UP.as_str(), &json!(old.as_str()))
        );
        assert_eq!(told[0].data["after"], "0", "from where it is posted again");
    }
}
