//! SQS: queues, visibility timeouts, dead letters and long polling, over AWS JSON 1.0.

mod batch;
mod operations;
mod queue;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use md5::{Digest as _, Md5};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::answer::bad_request;
use super::clock::SandboxClock;
use super::market::{ApiError, SELLER_ACCOUNT};
use queue::{Message, Queue, Receipt, Redrive};

/// All queues of a sandbox.
#[derive(Clone)]
pub(super) struct Queues(Arc<Inner>);

struct Inner {
    base_url: String,
    clock: SandboxClock,
    seed: u64,
    arrived: Notify,
    state: Mutex<State>,
}

struct State {
    queues: BTreeMap<String, Queue>,
    random: fastrand::Rng,
    /// The sequence at which the receipts of a new queue begin.
    next_sequence: u64,
}

impl Queues {
    pub(super) fn new(base_url: String, clock: SandboxClock, seed: u64) -> Self {
        Self(Arc::new(Inner {
            base_url,
            clock,
            seed,
            arrived: Notify::new(),
            state: Mutex::new(State {
                queues: BTreeMap::new(),
                random: fastrand::Rng::with_seed(seed),
                next_sequence: 0,
            }),
        }))
    }

    /// Deletes every queue with its messages, and gives out the same message ids again.
    pub(super) fn reset(&self) {
        let mut state = self.lock();
        let names: Vec<String> = state.queues.keys().cloned().collect();
        for name in names {
            state.remove(&name);
        }
        state.random = fastrand::Rng::with_seed(self.0.seed);
        drop(state);
        self.0.arrived.notify_waiters();
    }

    /// Returns the URL of a queue.
    pub(super) fn url(&self, name: &str) -> String {
        format!("{}/{SELLER_ACCOUNT}/{name}", self.0.base_url)
    }

    /// Creates a queue; one that exists stays.
    pub(super) fn create(&self, name: &str, attributes: BTreeMap<String, String>) {
        let now = self.0.clock.now();
        let mut state = self.lock();
        if !state.queues.contains_key(name) {
            let redrive = attributes.get("RedrivePolicy").and_then(|text| read_redrive(text).ok());
            let queue = Queue {
                name: name.to_owned(),
                messages: queue::Messages::after(state.next_sequence),
                attributes,
                created_at: now,
                changed_at: now,
                redrive,
            };
            state.queues.insert(name.to_owned(), queue);
        }
    }

    /// Puts a body on a queue as AWS's own services do; `None` when there is no such queue.
    pub(super) fn deliver(&self, name: &str, body: String) -> Option<String> {
        let now = self.0.clock.now();
        let mut state = self.lock();
        let message_id = random_uuid(&mut state.random);
        let queue = state.queues.get_mut(name)?;
        let message = Message::new(message_id.clone(), body, Value::Null, now);
        queue.messages.push(message, now, SignedDuration::ZERO);
        drop(state);
        self.0.arrived.notify_waiters();
        Some(message_id)
    }

    /// Returns the name of a queue, if the URL is one of ours.
    pub(super) fn name_of(&self, url: &str) -> Option<String> {
        let name = url.rsplit('/').next()?;
        self.lock().queues.get(name).map(|queue| queue.name.clone())
    }

    /// Returns how many messages every queue holds, for the control API.
    pub(super) fn summary(&self) -> Value {
        let now = self.0.clock.now();
        let mut state = self.lock();
        let items: Vec<Value> = state
            .queues
            .values_mut()
            .map(|queue| {
                let counts = queue.messages.counts(now);
                json!({
                    "name": queue.name,
                    "url": self.url(&queue.name),
                    "visible": counts.visible,
                    "in_flight": counts.in_flight,
                    "delayed": counts.delayed,
                })
            })
            .collect();
        json!({"items": items})
    }

    /// Answers one SQS call.
    pub(super) async fn call(&self, operation: &str, input: &Value) -> Result<Value, ApiError> {
        match operation {
            "ReceiveMessage" => self.receive(input).await,
            "SendMessageBatch" | "DeleteMessageBatch" | "ChangeMessageVisibilityBatch" => {
                self.batch(operation, input)
            }
            _ => self.one(operation, input),
        }
    }

    /// Receives messages by long polling: looks, then waits for an arrival, a reveal, a move of the clock or the end.
    async fn receive(&self, input: &Value) -> Result<Value, ApiError> {
        let request = self.read_receive(input)?;
        let end = tokio::time::Instant::now() + request.wait;
        let mut moves = self.0.clock.moves();
        loop {
            let arrived = self.0.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            moves.mark_unchanged();
            let (answer, next_reveal) = self.try_receive(&request)?;
            if answer.get("Messages").is_some() || tokio::time::Instant::now() >= end {
                return Ok(answer);
            }
            let reveal = async {
                match next_reveal {
                    Some(at) => self.0.clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = arrived => {}
                () = reveal => {}
                _ = moves.changed() => {}
                () = tokio::time::sleep_until(end) => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The parameters of a receive.
struct ReceiveRequest {
    queue: String,
    most: usize,
    visibility: Option<SignedDuration>,
    wait: Duration,
    system_attributes: Vec<String>,
    wants_attributes: bool,
}

impl State {
    fn remove(&mut self, name: &str) {
        if let Some(queue) = self.queues.remove(name) {
            self.next_sequence = self.next_sequence.max(queue.messages.next_sequence());
        }
    }

    fn queue(&mut self, input: &Value) -> Result<&mut Queue, ApiError> {
        let url = text(input, "QueueUrl")?;
        let name = url.rsplit('/').next().unwrap_or_default();
        self.queues.get_mut(name).ok_or_else(no_queue)
    }
}

fn no_queue() -> ApiError {
    bad_request("QueueDoesNotExist", "The specified queue does not exist.")
}

fn text<'a>(input: &'a Value, name: &str) -> Result<&'a str, ApiError> {
    match input.get(name).and_then(Value::as_str) {
        Some(text) if !text.is_empty() => Ok(text),
        _ => Err(bad_request(
            "MissingParameter",
            format!("The request must contain the parameter {name}."),
        )),
    }
}

/// Reads a whole number within limits; absent is `None`.
fn number(input: &Value, name: &str, least: i64, most: i64) -> Result<Option<i64>, ApiError> {
    match input.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_i64() {
            Some(number) if (least..=most).contains(&number) => Ok(Some(number)),
            _ => Err(bad_request(
                "InvalidParameterValue",
                format!(
                    "Value {value} for parameter {name} is invalid. Reason: Must be >= {least} \
                     and <= {most}, if provided."
                ),
            )),
        },
    }
}

fn read_redrive(policy: &str) -> Result<Redrive, ApiError> {
    let invalid =
        || bad_request("InvalidAttributeValue", "Value for parameter RedrivePolicy is invalid.");
    let policy: Value = serde_json::from_str(policy).map_err(|_| invalid())?;
    let count = match &policy["maxReceiveCount"] {
        Value::String(text) => text.parse().ok(),
        value => value.as_u64().and_then(|count| u32::try_from(count).ok()),
    };
    let queue = policy["deadLetterTargetArn"].as_str().and_then(|arn| arn.rsplit(':').next());
    match (queue, count) {
        (Some(queue), Some(count)) if (1..=1000).contains(&count) => {
            Ok(Redrive { dead_letter_queue: queue.to_owned(), max_receive_count: count })
        }
        _ => Err(invalid()),
    }
}

fn write_receipt(queue: &str, receipt: Receipt) -> String {
    STANDARD.encode(format!("{} {} {queue}", receipt.sequence, receipt.delivery))
}

fn read_receipt(queue: &str, input: &Value) -> Result<Receipt, ApiError> {
    let handle = text(input, "ReceiptHandle")?;
    let decoded = STANDARD.decode(handle).ok();
    decoded
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| {
            let mut parts = text.splitn(3, ' ');
            let sequence = parts.next()?.parse().ok()?;
            let delivery = parts.next()?.parse().ok()?;
            (parts.next()? == queue).then_some(Receipt { sequence, delivery })
        })
        .ok_or_else(|| {
            bad_request(
                "ReceiptHandleIsInvalid",
                format!("The input receipt handle \"{handle}\" is not a valid receipt handle."),
            )
        })
}

/// Returns a random identifier in the form AWS gives its messages.
pub(super) fn random_uuid(random: &mut fastrand::Rng) -> String {
    uuid::Builder::from_random_bytes(random.u128(..).to_be_bytes()).into_uuid().to_string()
}

fn md5_hex(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(32);
    for byte in Md5::digest(bytes) {
        write!(hex, "{byte:02x}").expect("writing to a string does not fail");
    }
    hex
}

fn epoch_millis(at: Timestamp) -> String {
    at.as_millisecond().to_string()
}
