//! The seller's application, which is posted to.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use serde::Serialize;
use serde_json::json;
use sha2::Sha256;
use utoipa::ToSchema;

use crate::domain::event::EventType;
use crate::outgoing;
use crate::settings::{SigningKey, WebhookSettings};
use crate::store::{Event, new_event_id};

/// The time that the application may take to answer.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The reason why the application has not taken an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// In words.
    pub(super) reason: String,
    /// The status of its answer, if there was one.
    pub(super) status: Option<u16>,
    /// Set if the application has said that it is the event's fault.
    pub(super) is_definite: bool,
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self { reason, status: None, is_definite: false }
    }
}

/// The outcome of trying the webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WebhookTest {
    /// The id of the event that was posted.
    pub event_id: String,
    /// Set if the application has taken it.
    pub delivered: bool,
    /// The status that it answered with; left out if there was no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The reason why it was not taken, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The seller's application.
pub struct Receiver {
    client: Client,
    url: Url,
    key: SigningKey,
}

impl Receiver {
    /// Makes a client of the application that the settings name.
    pub fn new(settings: WebhookSettings) -> Result<Self, reqwest::Error> {
        let WebhookSettings { url, key } = settings;
        // Whoever is redirected to may be anybody.
        let client = outgoing::client_to(&url).timeout(TIMEOUT).redirect(Policy::none()).build()?;
        if is_readable_on_the_way(&url) {
            tracing::warn!("webhook.url is not https: whoever is on the way can read the events");
        }
        Ok(Self { client, url, key })
    }

    /// Returns the address that events are posted to, without what may be a password in it.
    pub fn shown_url(&self) -> String {
        let mut url = self.url.clone();
        if url.query().is_some() {
            url.set_query(Some("********"));
        }
        url.to_string()
    }

    /// Posts an event that tells of nothing, to try the webhook.
    pub async fn test(&self, now: Timestamp) -> WebhookTest {
        let event = Event {
            seq: 0,
            id: new_event_id(),
            kind: EventType::WebhookTest.as_str().to_owned(),
            at: now,
            customer_id: None,
            data: json!({}),
        };
        let (event_id, posted) = (event.id.clone(), self.post(&event, now.as_second()).await);
        match posted {
            Ok(status) => {
                WebhookTest { event_id, delivered: true, status: Some(status), error: None }
            }
            Err(Refusal { reason, status, .. }) => {
                WebhookTest { event_id, delivered: false, status, error: Some(reason) }
            }
        }
    }

    /// Posts an event; returns the status once the application has taken it.
    pub(super) async fn post(&self, event: &Event, timestamp: i64) -> Result<u16, Refusal> {
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
            return Ok(status.as_u16());
        }
        let mut reason = format!("the application answered {status} to event {}", event.id);
        if status.is_redirection() {
            reason.push_str(
                ": events are not posted elsewhere, so let webhook.url be where they are taken",
            );
        }
        Err(Refusal { reason, status: Some(status.as_u16()), is_definite: is_definite(status) })
    }
}

/// Reports whether a status speaks of what was posted, and not of who posts, of where to, or of another time.
fn is_definite(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::CONFLICT
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNPROCESSABLE_ENTITY
    )
}

/// Reports whether others than this machine's can read what is posted there.
fn is_readable_on_the_way(url: &Url) -> bool {
    url.scheme() == "http" && !outgoing::is_local(url)
}

/// Signs a post: `v1,` and the HMAC-SHA256 of id, timestamp and body, as Standard Webhooks has it.
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
