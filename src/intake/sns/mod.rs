//! Verification of SNS messages. Whoever can reach `/aws/sns` can send to it, and whoever may write to the queue can
//! write anything: a message is believed if its topic is one that is listened to and its signature is AWS's; at the
//! endpoint it must be fresh too. What is believed is read from what the signature covers and nothing else.

pub mod certificate;
mod fetch;
mod keys;
pub mod signature;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::aws::Topics;
use crate::clock::Clock;
use crate::domain::notification::wire::Delivery;
use crate::store::{NotificationRow, Recorded, Store, StoreError};
use crate::turns::Source;
use certificate::Host;
pub use certificate::is_topic;
pub use fetch::{Fetch, FetchError, Fetched, HttpsFetch};
use keys::Keys;

/// The age of the oldest message that is taken: SNS tries for an hour to deliver a message; what is older is somebody's
/// repetition.
const OLDEST: SignedDuration = SignedDuration::from_mins(75);
/// The most that a clock may be behind AWS's.
const AHEAD: SignedDuration = SignedDuration::from_mins(15);
/// The most characters of a reason: it quotes what somebody sent, and is shown and kept.
const REASON: usize = 200;

/// The reason why a message is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is no SNS message.
    #[error("{}", shortened(.0))]
    Unreadable(String),
    /// It names a host or a topic that is not to be listened to.
    #[error("{}", shortened(.0))]
    Foreign(String),
    /// It is not AWS's, or not any more.
    #[error("{}", shortened(.0))]
    Forged(String),
    /// AWS's certificate or confirmation could not be had now; the message comes again.
    #[error("{}", shortened(.0))]
    Unreachable(String),
}

fn shortened(reason: &str) -> String {
    reason.chars().take(REASON).collect()
}

impl From<FetchError> for Refusal {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::NotThere(said) => Self::Forged(said),
            FetchError::Unreachable(said) => Self::Unreachable(said),
        }
    }
}

/// The way by which a message arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// At the endpoint, to which anybody may send.
    OverHttps,
    /// Through the queue, whose policy says who may write to it, and where it may have lain for days.
    ThroughQueue,
}

/// The messages that were refused, for whoever looks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Refused {
    /// The number since the start.
    pub count: u64,
    /// The time at which the last was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_at: Option<Timestamp>,
    /// The reason of the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_reason: Option<String>,
}

/// The endpoint for SNS; clones share it.
#[derive(Clone)]
pub struct SnsEndpoint {
    store: Store,
    clock: Clock,
    fetch: Arc<dyn Fetch>,
    keys: Arc<Keys>,
    /// Topics that are listened to besides those of products.
    topics: Arc<[String]>,
    refused: Arc<Mutex<Refused>>,
}

impl fmt::Debug for SnsEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnsEndpoint").field("topics", &self.topics).finish_non_exhaustive()
    }
}

/// The reason why a message that was believed could not be taken in, or that it was not believed.
#[derive(Debug, thiserror::Error)]
pub enum SnsError {
    /// It is not believed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SnsEndpoint {
    /// Makes an endpoint that fetches what it needs by `fetch`.
    pub fn new(store: Store, clock: Clock, fetch: Arc<dyn Fetch>, topics: Vec<String>) -> Self {
        let keys = Arc::new(Keys::new(Arc::clone(&fetch)));
        Self { store, clock, fetch, keys, topics: topics.into(), refused: Arc::default() }
    }

    /// Takes a message in. `Ok` means that it is on disk, or was before.
    pub async fn take_in(&self, body: &str) -> Result<Recorded, SnsError> {
        self.take_in_from(Source::UNKNOWN, body).await
    }

    /// Takes in a message from a source.
    pub async fn take_in_from(&self, source: Source, body: &str) -> Result<Recorded, SnsError> {
        let taken = self.believe(source, body).await;
        self.noted(taken)
    }

    /// Verifies that a message is AWS's.
    pub async fn verify(&self, body: &str, arrived: Arrived) -> Result<(), SnsError> {
        let checked = self.check(body, arrived, Source::UNKNOWN).await;
        self.noted(checked).map(drop)
    }

    /// Reads a kept notification once more; none if there is no such one. One that was not trusted has to pass the
    /// check first: it may do so now, where its topic is listened to since.
    pub async fn replay(&self, id: &str) -> Result<Option<NotificationRow>, SnsError> {
        let Some(row) = self.store.notification(id.to_owned()).await? else { return Ok(None) };
        if row.is_untrusted() {
            self.check(&row.text(), Arrived::ThroughQueue, Source::UNKNOWN).await?;
        }
        Ok(self.store.replay_notification(id.to_owned(), self.clock.now()).await?)
    }

    /// Returns what was refused so far.
    pub fn refused(&self) -> Refused {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn believe(&self, source: Source, body: &str) -> Result<Recorded, SnsError> {
        let message = self.check(body, Arrived::OverHttps, source).await?;
        if field(&message, "Type") == "SubscriptionConfirmation" {
            let topic = field(&message, "TopicArn");
            let url = Host::of_topic(topic)?.address(field(&message, "SubscribeURL"))?;
            self.fetch.fetch(&url).await.map_err(Refusal::from)?;
            tracing::info!(sns.topic = topic, "confirmed the subscription to a topic");
        }
        let now = self.clock.now();
        let transport_id = field(&message, "MessageId");
        let delivery = Delivery { body, transport_id, sent_at: now };
        Ok(self.store.record_notifications(vec![super::incoming(delivery)], now).await?)
    }

    /// Checks a message from the cheap to the dear; nothing is fetched for one that is foreign.
    async fn check(
        &self,
        body: &str,
        arrived: Arrived,
        source: Source,
    ) -> Result<Map<String, Value>, SnsError> {
        let message = read(body)?;
        let topic = field(&message, "TopicArn");
        let now = self.clock.now();
        self.check_topic(topic, arrived).await?;
        if arrived == Arrived::OverHttps {
            check_time(field(&message, "Timestamp"), now)?;
        }
        let host = Host::of_topic(topic)?;
        // Newer topics call it SigningCertURL; the other spelling is in older documents.
        let address = [field(&message, "SigningCertURL"), field(&message, "SigningCertUrl")];
        let address = address.into_iter().find(|text| !text.is_empty()).unwrap_or_default();
        // Whether what it carries could be a signature at all costs nothing to see.
        signature::claim(&message)?;
        let key = self.keys.key(&host.certificate(address)?, &host, source, now).await?;
        signature::verify(&message, &key.public_key)?;
        Ok(message)
    }

    /// Checks that a topic is listened to. AWS signs whatever anybody's topic sends, so that the signature alone says
    /// nothing. The queue takes what the topic of any product says: one that is not imported yet waits for its import.
    async fn check_topic(&self, topic: &str, arrived: Arrived) -> Result<(), SnsError> {
        if self.topics.iter().any(|known| known == topic) {
            return Ok(());
        }
        let product = Topics::product_of(topic);
        let imported = match (arrived, product) {
            (Arrived::ThroughQueue, Some(_)) => return Ok(()),
            (Arrived::OverHttps, Some(_)) => self.store.imported_codes().await?,
            (_, None) => Vec::new(),
        };
        if imported.iter().any(|code| Some(code.as_str()) == product) {
            return Ok(());
        }
        let what = match arrived {
            Arrived::OverHttps => "an imported product's",
            Arrived::ThroughQueue => "AWS Marketplace's",
        };
        let said = format!("its topic is neither {what} nor in sns.topics: {topic:?}");
        Err(Refusal::Foreign(said).into())
    }

    fn noted<T>(&self, outcome: Result<T, SnsError>) -> Result<T, SnsError> {
        if let Err(SnsError::Refused(refusal)) = &outcome {
            self.note(refusal);
        }
        outcome
    }

    fn note(&self, refusal: &Refusal) {
        let reason = match refusal {
            Refusal::Unreadable(_) => "unreadable",
            Refusal::Foreign(_) => "foreign",
            Refusal::Forged(_) => "forged",
            Refusal::Unreachable(_) => "unreachable",
        };
        metrics::counter!("marketd_sns_refused_total", "reason" => reason).increment(1);
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        // Anybody may send: the log says it once in a while, the count is exact.
        if refused.count.is_power_of_two() || refused.count == 0 {
            tracing::warn!(reason, detail = %refusal, count = refused.count + 1, "an SNS message was refused");
        }
        refused.count += 1;
        refused.last_at = Some(self.clock.now());
        refused.last_reason = Some(refusal.to_string());
    }
}

/// Reads a message; it has every field that a signature covers.
pub fn read(body: &str) -> Result<Map<String, Value>, Refusal> {
    let message = match serde_json::from_str(body) {
        Ok(Value::Object(message)) => message,
        Ok(_) => return Err(Refusal::Unreadable("an SNS message is a JSON object".into())),
        Err(error) => return Err(Refusal::Unreadable(format!("not JSON: {error}"))),
    };
    signature::signed_text(&message)?;
    Ok(message)
}

fn field<'a>(message: &'a Map<String, Value>, name: &str) -> &'a str {
    message.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn check_time(text: &str, now: Timestamp) -> Result<(), Refusal> {
    let at: Timestamp =
        text.parse().map_err(|_| Refusal::Unreadable("its Timestamp is no time".into()))?;
    let age = now.duration_since(at);
    if age > OLDEST || age < -AHEAD {
        return Err(Refusal::Forged(format!("it is of {at}, which is not now")));
    }
    Ok(())
}
