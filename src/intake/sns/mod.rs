//! SNS over HTTPS: whoever can reach the door can knock, so a message is believed only if its topic is one that is
//! listened to, its signature is AWS's, and it is fresh. What is believed is taken in as what comes through the queue.

pub mod certificate;
pub mod signature;

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use reqwest::Url;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::wire::Delivery;
use crate::aws::Topics;
use crate::clock::Clock;
use crate::store::{Recorded, Store, StoreError};
use certificate::{SigningKey, aws_address, certificate_address, signing_key};

/// SNS tries for an hour to deliver a message; what is older is somebody's repetition.
const OLDEST: SignedDuration = SignedDuration::from_mins(75);
/// How far a clock may be behind AWS's.
const AHEAD: SignedDuration = SignedDuration::from_mins(15);
/// Keys that are kept; AWS changes its own once in years.
const KEYS: usize = 16;

/// Why a message is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is no SNS message.
    #[error("{0}")]
    Unreadable(String),
    /// It names a host or a topic that is not to be listened to.
    #[error("{0}")]
    Foreign(String),
    /// It is not AWS's, or not any more.
    #[error("{0}")]
    Forged(String),
    /// AWS's certificate or confirmation could not be had; SNS tries again.
    #[error("{0}")]
    Unreachable(String),
}

/// How a message arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// At the door, where anybody may knock.
    OverHttps,
    /// Through the queue, whose policy says who may write to it, and where it may have lain for days.
    ThroughQueue,
}

/// What is fetched from AWS's hosts; an address that reaches it was checked.
pub trait Fetch: Send + Sync {
    /// The content of an address.
    fn fetch<'a>(&'a self, url: &'a Url) -> Fetched<'a>;
}

/// What comes of a fetch.
pub type Fetched<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, String>> + Send + 'a>>;

/// What was refused, for whoever looks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Refused {
    /// How many since the start.
    pub count: u64,
    /// When the last was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_at: Option<Timestamp>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_reason: Option<String>,
}

/// The door for SNS; clones share it.
#[derive(Clone)]
pub struct SnsDoor {
    store: Store,
    clock: Clock,
    fetch: Arc<dyn Fetch>,
    /// Topics that are listened to besides those of imported products.
    topics: Arc<[String]>,
    keys: Arc<Mutex<HashMap<Url, SigningKey>>>,
    refused: Arc<Mutex<Refused>>,
}

impl fmt::Debug for SnsDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnsDoor").field("topics", &self.topics).finish_non_exhaustive()
    }
}

/// Why a message that was believed could not be taken in, or that it was not believed.
#[derive(Debug, thiserror::Error)]
pub enum SnsError {
    /// It is not believed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SnsDoor {
    /// A door that fetches what it needs by `fetch`.
    pub fn new(store: Store, clock: Clock, fetch: Arc<dyn Fetch>, topics: Vec<String>) -> Self {
        let (keys, refused) = (Arc::default(), Arc::default());
        Self { store, clock, fetch, topics: topics.into(), keys, refused }
    }

    /// Takes a message in. `Ok` means that it is on disk, or was before.
    pub async fn take_in(&self, body: &str) -> Result<Recorded, SnsError> {
        let taken = self.believe(body).await;
        if let Err(SnsError::Refused(refusal)) = &taken {
            self.note(refusal);
        }
        taken
    }

    /// What was refused so far.
    pub fn refused(&self) -> Refused {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn believe(&self, body: &str) -> Result<Recorded, SnsError> {
        let message = self.verify(body, Arrived::OverHttps).await?;
        let field = |name: &str| message.get(name).and_then(Value::as_str).unwrap_or_default();
        if field("Type") == "SubscriptionConfirmation" {
            let url = aws_address(field("SubscribeURL"))?;
            self.fetch.fetch(&url).await.map_err(Refusal::Unreachable)?;
            tracing::info!(sns.topic = field("TopicArn"), "confirmed the subscription to a topic");
        }
        if field("Type") == "UnsubscribeConfirmation" {
            tracing::warn!(sns.topic = field("TopicArn"), "the subscription to a topic was ended");
        }
        let now = self.clock.now();
        let delivery = Delivery { body, transport_id: field("MessageId"), sent_at: now };
        Ok(self.store.record_notifications(vec![super::incoming(delivery)], now).await?)
    }

    /// Checks a message from the cheap to the dear; nothing is fetched for one that is foreign.
    pub async fn verify(
        &self,
        body: &str,
        arrived: Arrived,
    ) -> Result<Map<String, Value>, SnsError> {
        let message = read(body)?;
        let field = |name: &str| message.get(name).and_then(Value::as_str).unwrap_or_default();
        let now = self.clock.now();
        if arrived == Arrived::OverHttps {
            self.check_topic(field("TopicArn")).await?;
            check_time(field("Timestamp"), now)?;
        }
        // Newer topics call it SigningCertURL; the other spelling is in older documents.
        let address = [field("SigningCertURL"), field("SigningCertUrl")];
        let address = address.into_iter().find(|text| !text.is_empty()).unwrap_or_default();
        let key = self.key(&certificate_address(address)?, now).await?;
        signature::verify(&message, &key.public_key)?;
        Ok(message)
    }

    async fn check_topic(&self, topic: &str) -> Result<(), SnsError> {
        if self.topics.iter().any(|known| known == topic) {
            return Ok(());
        }
        for code in self.store.imported_codes().await? {
            let Topics { subscription, entitlement } = Topics::of(code.as_str());
            if topic == subscription || topic == entitlement {
                return Ok(());
            }
        }
        let said = format!(
            "topic {:?} is neither an imported product's nor in sns.topics",
            shortened(topic)
        );
        Err(Refusal::Foreign(said).into())
    }

    async fn key(&self, url: &Url, now: Timestamp) -> Result<SigningKey, Refusal> {
        let kept = self.keys.lock().unwrap_or_else(PoisonError::into_inner).get(url).cloned();
        if let Some(key) = kept.filter(|key| now < key.good_until) {
            return Ok(key);
        }
        let file = self.fetch.fetch(url).await.map_err(Refusal::Unreachable)?;
        let key = signing_key(&file, now)?;
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= KEYS {
            keys.clear();
        }
        keys.insert(url.clone(), key.clone());
        Ok(key)
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
        // Anybody may knock: the log says it once in a while, the count is exact.
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

/// As much of what a stranger sent as is repeated.
fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
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

/// Fetches over HTTPS, and follows nothing.
#[derive(Debug)]
pub struct HttpsFetch(reqwest::Client);

impl HttpsFetch {
    /// Ready to fetch.
    pub fn new() -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(std::time::Duration::from_secs(10))
            .build()?;
        Ok(Self(client))
    }
}

/// Certificates and confirmations are small.
const LARGEST: usize = 64 * 1024;

impl Fetch for HttpsFetch {
    fn fetch<'a>(&'a self, url: &'a Url) -> Fetched<'a> {
        Box::pin(async move {
            let said = |error: reqwest::Error| {
                format!(
                    "{} did not answer: {}",
                    url.host_str().unwrap_or_default(),
                    error.without_url()
                )
            };
            let answer = self.0.get(url.clone()).send().await.map_err(said)?;
            let mut answer = answer.error_for_status().map_err(said)?;
            let mut content = Vec::new();
            while let Some(part) = answer.chunk().await.map_err(said)? {
                content.extend_from_slice(&part);
                if content.len() > LARGEST {
                    return Err("the answer is too large".into());
                }
            }
            Ok(content)
        })
    }
}
