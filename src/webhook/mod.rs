//! Events, posted to the seller's application, signed as the Standard Webhooks specification says.
//!
//! Several are posted at once, each customer's in their order. How far everything was posted is kept; what was posted beyond
//! that is posted again after a crash, under the same id.

mod lanes;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use serde_json::json;
use sha2::Sha256;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::health::Health;
use crate::outgoing;
use crate::settings::{SigningKey, WebhookSettings};
use crate::store::{Event, Store, StoreError};
use crate::supervisor::Endurance;
use lanes::{Lane, Lanes};

/// Events read in one go.
const READ: u32 = 500;
/// Events read ahead of what was posted; so many at most are posted again after a crash.
const AHEAD: i64 = 10_000;
/// Posts under way at once.
const AT_ONCE: usize = 4;
const TIMEOUT: Duration = Duration::from_secs(15);
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Posts events.
pub struct Webhook {
    receiver: Arc<Receiver>,
    store: Store,
    clock: Clock,
    health: Health,
}

/// The seller's application.
struct Receiver {
    client: Client,
    url: Url,
    key: SigningKey,
}

/// What posting came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Posted {
    /// Events that were taken.
    pub posted: usize,
    /// Events that wait.
    pub left: usize,
}

impl Webhook {
    /// A webhook that posts what the store's outbox holds.
    pub fn new(
        settings: WebhookSettings,
        store: Store,
        clock: Clock,
        health: Health,
    ) -> Result<Self, reqwest::Error> {
        // Whoever is redirected to may be anybody.
        let WebhookSettings { url, key } = settings;
        let client = outgoing::client_to(&url).timeout(TIMEOUT).redirect(Policy::none()).build()?;
        if is_readable_on_the_way(&url) {
            tracing::warn!("webhook.url is not https: whoever is on the way can read the events");
        }
        Ok(Self { receiver: Arc::new(Receiver { client, url, key }), store, clock, health })
    }

    /// Posts until told to stop. An event is passed only once the application has answered with a 2xx, so one that it
    /// refuses holds up those of the same customer.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), StoreError> {
        let mut endurance = Endurance::of("webhook");
        while let Err(error) = self.work(&shutdown, false).await {
            endurance.wait_out(error, &shutdown).await?;
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
        tokio::select! {
            posted = self.work(&shutdown, true) => posted,
            () = late => Ok(Posted::default()),
        }
    }

    async fn work(
        &self,
        shutdown: &CancellationToken,
        until_empty: bool,
    ) -> Result<Posted, StoreError> {
        let mut posts: JoinSet<(Lane, Result<(), String>)> = JoinSet::new();
        let mut changes = self.store.nudges().events.subscribe();
        let mut kept = self.store.begin_webhook().await?;
        let mut lanes = Lanes::after(kept);
        let mut posted = 0;
        loop {
            changes.mark_unchanged();
            let held = self.store.begin_webhook().await?;
            // Somebody wants events again.
            if held != kept && posts.is_empty() {
                (kept, lanes) = (held, Lanes::after(held));
            }
            while held == kept && lanes.waiting() < READ as usize && lanes.read_to() - kept < AHEAD
            {
                let events = self.store.events_after(lanes.read_to(), READ).await?;
                if events.is_empty() {
                    break;
                }
                for event in events {
                    lanes.add(event);
                }
            }
            let now = Instant::now();
            while held == kept
                && !shutdown.is_cancelled()
                && posts.len() < AT_ONCE
                && let Some((lane, event)) = lanes.next(now)
            {
                let (receiver, at) = (Arc::clone(&self.receiver), self.clock.now().as_second());
                posts.spawn(async move { (lane, receiver.post(&event, at).await) });
            }
            let is_over = shutdown.is_cancelled() || (until_empty && lanes.waiting() == 0);
            if posts.is_empty() && is_over {
                return Ok(Posted { posted, left: lanes.waiting() });
            }
            let full = posts.len() >= AT_ONCE;
            let waits = full || held != kept;
            let next = lanes.next_at(now).filter(|_| !waits).unwrap_or(now + LONGEST_SLEEP);
            tokio::select! {
                () = shutdown.cancelled(), if posts.is_empty() => {}
                Some(done) = posts.join_next() => {
                    let (lane, outcome) = done
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
                    posted += usize::from(outcome.is_ok());
                    self.note(&mut lanes, &lane, outcome, &mut kept).await?;
                }
                _ = changes.changed(), if !full => {}
                () = tokio::time::sleep_until(next), if !full => {}
            }
        }
    }

    /// Notes what became of a post, and how far everything was posted.
    async fn note(
        &self,
        lanes: &mut Lanes,
        lane: &Lane,
        outcome: Result<(), String>,
        kept: &mut i64,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        match outcome {
            Ok(()) => {
                lanes.taken(lane);
                if !lanes.has_refused() {
                    self.health.report("webhook", Ok(()), now);
                }
                let to = lanes.posted_to();
                if to != *kept && self.store.pass_webhook_cursor(*kept, to).await? {
                    *kept = to;
                }
            }
            Err(reason) => {
                lanes.refused(lane, Instant::now());
                self.health.report("webhook", Err(&reason), now);
            }
        }
        Ok(())
    }
}

impl Receiver {
    async fn post(&self, event: &Event, timestamp: i64) -> Result<(), String> {
        let body =
            json!({"type": event.kind, "timestamp": event.at, "data": event.data}).to_string();
        let signature = sign(self.key.bytes(), &event.id, timestamp, &body)?;
        let answer = self
            .client
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header("webhook-id", &event.id)
            .header("webhook-timestamp", timestamp.to_string())
            .header("webhook-signature", signature)
            .body(body)
            .send()
            .await
            .map_err(|error| error.without_url().to_string())?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        if status.is_redirection() {
            return Err(format!(
                "the application answered {status} to event {}: events are not posted elsewhere, so let webhook.url be where they are taken",
                event.id
            ));
        }
        Err(format!("the application answered {status} to event {}", event.id))
    }
}

/// Whether others than this machine's can read what is posted there.
fn is_readable_on_the_way(url: &Url) -> bool {
    url.scheme() == "http" && !outgoing::is_local(url)
}

/// `v1,` and the HMAC-SHA256 of id, timestamp and body, as Standard Webhooks has it.
fn sign(key: &[u8], id: &str, timestamp: i64, body: &str) -> Result<String, String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|error| error.to_string())?;
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_the_specification_s_example_does() {
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature =
            sign(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature.unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn only_https_is_not_readable_on_the_way_beyond_this_machine() {
        for (url, readable) in [
            ("https://hooks.test/x", false),
            ("http://hooks.test/x", true),
            ("http://127.0.0.1:1/x", false),
            ("http://[::1]:1/x", false),
            ("http://localhost/x", false),
        ] {
            assert_eq!(is_readable_on_the_way(&url.parse().unwrap()), readable, "{url}");
        }
    }
}
