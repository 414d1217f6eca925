//! Events, posted to the seller's application in order, signed as the Standard Webhooks specification says.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Client, Url};
use serde_json::json;
use sha2::Sha256;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::health::Health;
use crate::outgoing;
use crate::settings::{SigningKey, WebhookSettings};
use crate::store::{Event, Store, StoreError};
use crate::supervisor::Endurance;

const EVENTS_AT_ONCE: u32 = 100;
const TIMEOUT: Duration = Duration::from_secs(15);
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);

/// Posts events.
pub struct Webhook {
    url: Url,
    key: SigningKey,
    store: Store,
    clock: Clock,
    health: Health,
}

impl Webhook {
    /// A webhook that posts what the store's outbox holds.
    pub fn new(settings: WebhookSettings, store: Store, clock: Clock, health: Health) -> Self {
        Self { url: settings.url, key: settings.key, store, clock, health }
    }

    /// Posts until told to stop. An event is passed only once the application has answered with a 2xx, so
    /// one that it refuses holds up those after it: their order is worth more than their speed.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), StoreError> {
        let mut endurance = Endurance::of("webhook");
        while let Err(error) = self.work(&shutdown).await {
            endurance.wait_out(error, &shutdown).await?;
        }
        Ok(())
    }

    async fn work(&self, shutdown: &CancellationToken) -> Result<(), StoreError> {
        let client = outgoing::client_to(&self.url).timeout(TIMEOUT).build().unwrap_or_default();
        let mut wait = Duration::from_secs(1);
        while !shutdown.is_cancelled() {
            let mut changes = self.store.nudges().events.subscribe();
            let cursor = self.store.webhook_cursor().await?;
            let events = self.store.events_after(cursor, EVENTS_AT_ONCE).await?;
            if events.is_empty() {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    _ = changes.changed() => {}
                }
                continue;
            }
            for event in events {
                match self.post(&client, &event).await {
                    Ok(()) => {
                        self.health.report("webhook", Ok(()), self.clock.now());
                        self.store.pass_webhook_cursor(event.seq).await?;
                        wait = Duration::from_secs(1);
                    }
                    Err(reason) => {
                        self.health.report("webhook", Err(&reason), self.clock.now());
                        tokio::select! {
                            () = shutdown.cancelled() => {}
                            () = tokio::time::sleep(wait) => {}
                        }
                        wait = (wait * 2).min(LONGEST_WAIT);
                        break;
                    }
                }
                if shutdown.is_cancelled() {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn post(&self, client: &Client, event: &Event) -> Result<(), String> {
        let body =
            json!({"type": event.kind, "timestamp": event.at, "data": event.data}).to_string();
        let timestamp = self.clock.now().as_second();
        let signature = sign(self.key.bytes(), &event.id, timestamp, &body)?;
        let answer = client
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header("webhook-id", &event.id)
            .header("webhook-timestamp", timestamp.to_string())
            .header("webhook-signature", signature)
            .body(body)
            .send()
            .await
            .map_err(|error| error.without_url().to_string())?;
        if answer.status().is_success() {
            return Ok(());
        }
        Err(format!("the application answered {} to event {}", answer.status(), event.id))
    }
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
}
