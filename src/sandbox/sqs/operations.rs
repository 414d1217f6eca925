//! SQS operations on one queue or one message.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::queue::{Message, NotChangeable, Queue};
use super::{
    Queues, ReceiveRequest, State, epoch_millis, no_queue, number, random_uuid, read_receipt,
    read_redrive, text, write_receipt,
};
use crate::sandbox::answer::bad_request;
use crate::sandbox::market::{ApiError, SELLER_ACCOUNT};

const BODY_BYTES_MAX: usize = 1_048_576;
const VISIBILITY_SECONDS_MAX: i64 = 43_200;

impl Queues {
    pub(super) fn one(&self, operation: &str, input: &Value) -> Result<Value, ApiError> {
        let now = self.0.clock.now();
        match operation {
            "CreateQueue" => return self.create_queue(input),
            "ListQueues" => return Ok(self.list_queues(input)),
            "GetQueueUrl" => {
                let name = text(input, "QueueName")?;
                let known = self.lock().queues.contains_key(name);
                return if known {
                    Ok(json!({"QueueUrl": self.url(name)}))
                } else {
                    Err(no_queue())
                };
            }
            _ => {}
        }
        let mut state = self.lock();
        match operation {
            "GetQueueAttributes" => Ok(queue_attributes(state.queue(input)?, input, now)),
            "SetQueueAttributes" => {
                let attributes = read_attributes(input)?;
                let queue = state.queue(input)?;
                if let Some(policy) = attributes.get("RedrivePolicy") {
                    queue.redrive =
                        (!policy.is_empty()).then(|| read_redrive(policy)).transpose()?;
                }
                queue.attributes.extend(attributes);
                queue.changed_at = now;
                Ok(json!({}))
            }
            "DeleteQueue" => {
                let name = state.queue(input)?.name.clone();
                state.remove(&name);
                Ok(json!({}))
            }
            "PurgeQueue" => {
                state.queue(input)?.messages.purge();
                Ok(json!({}))
            }
            "SendMessage" => {
                let answer = state.send(input, input, now)?;
                drop(state);
                self.0.arrived.notify_waiters();
                Ok(answer)
            }
            "DeleteMessage" => state.delete(input, input),
            "ChangeMessageVisibility" => {
                let answer = state.change_visibility(input, input, now)?;
                drop(state);
                self.0.arrived.notify_waiters();
                Ok(answer)
            }
            _ => Err(bad_request(
                "InvalidAction",
                format!("The action {operation} is not valid for this endpoint."),
            )),
        }
    }

    fn create_queue(&self, input: &Value) -> Result<Value, ApiError> {
        let name = text(input, "QueueName")?;
        let attributes = read_attributes(input)?;
        if let Some(policy) = attributes.get("RedrivePolicy") {
            read_redrive(policy)?;
        }
        let differs = self.lock().queues.get(name).is_some_and(|queue| {
            attributes.iter().any(|(key, value)| queue.attributes.get(key) != Some(value))
        });
        if differs {
            return Err(bad_request(
                "QueueNameExists",
                "A queue already exists with the same name and a different value for an attribute",
            ));
        }
        self.create(name, attributes);
        Ok(json!({"QueueUrl": self.url(name)}))
    }

    fn list_queues(&self, input: &Value) -> Value {
        let prefix = input["QueueNamePrefix"].as_str().unwrap_or_default();
        let state = self.lock();
        let urls: Vec<String> = state
            .queues
            .keys()
            .filter(|name| name.starts_with(prefix))
            .map(|name| self.url(name))
            .collect();
        json!({"QueueUrls": urls})
    }

    pub(super) fn read_receive(&self, input: &Value) -> Result<ReceiveRequest, ApiError> {
        let mut state = self.lock();
        let queue = state.queue(input)?;
        let most = number(input, "MaxNumberOfMessages", 1, 10)?.unwrap_or(1);
        let visibility = number(input, "VisibilityTimeout", 0, VISIBILITY_SECONDS_MAX)?;
        let wait = number(input, "WaitTimeSeconds", 0, 20)?
            .unwrap_or_else(|| queue.seconds("ReceiveMessageWaitTimeSeconds", 0));
        let mut system_attributes = names(input, "AttributeNames");
        system_attributes.extend(names(input, "MessageSystemAttributeNames"));
        Ok(ReceiveRequest {
            queue: queue.name.clone(),
            most: usize::try_from(most).unwrap_or(1),
            visibility: visibility.map(SignedDuration::from_secs),
            wait: Duration::from_secs(u64::try_from(wait).unwrap_or(0)),
            system_attributes,
            wants_attributes: !names(input, "MessageAttributeNames").is_empty(),
        })
    }

    pub(super) fn try_receive(
        &self,
        request: &ReceiveRequest,
    ) -> Result<(Value, Option<Timestamp>), ApiError> {
        let now = self.0.clock.now();
        let mut state = self.lock();
        let queue = state.queues.get_mut(&request.queue).ok_or_else(no_queue)?;
        let visibility = request
            .visibility
            .unwrap_or_else(|| SignedDuration::from_secs(queue.seconds("VisibilityTimeout", 30)));
        let redrive = queue.redrive.clone();
        let max_receive_count = redrive.as_ref().map(|it| it.max_receive_count);
        let received = queue.messages.receive(now, request.most, visibility, max_receive_count);
        let next_reveal = queue.messages.next_reveal();
        let dead_letters =
            redrive.and_then(|redrive| state.queues.get_mut(&redrive.dead_letter_queue));
        if let (false, Some(dead_letters)) = (received.dead.is_empty(), dead_letters) {
            for message in received.dead {
                dead_letters.messages.push(message, now, SignedDuration::ZERO);
            }
            self.0.arrived.notify_waiters();
        }
        if received.messages.is_empty() {
            return Ok((json!({}), next_reveal));
        }
        let messages: Vec<Value> = received
            .messages
            .iter()
            .map(|(receipt, message)| {
                let handle = write_receipt(&request.queue, *receipt);
                show_message(message, handle, request)
            })
            .collect();
        Ok((json!({"Messages": messages}), next_reveal))
    }
}

impl State {
    /// Sends a message. `request` names the queue; `entry` is the request itself or one entry of a batch.
    pub(super) fn send(
        &mut self,
        request: &Value,
        entry: &Value,
        now: Timestamp,
    ) -> Result<Value, ApiError> {
        let body = text(entry, "MessageBody")?;
        if body.len() > BODY_BYTES_MAX {
            return Err(bad_request(
                "InvalidParameterValue",
                "One or more parameters are invalid. Reason: Message must be shorter than \
                 1048576 bytes.",
            ));
        }
        if !body.chars().all(is_allowed) {
            return Err(bad_request(
                "InvalidMessageContents",
                "Invalid characters found in the message body.",
            ));
        }
        let delay = number(entry, "DelaySeconds", 0, 900)?;
        let message_id = random_uuid(&mut self.random);
        let queue = self.queue(request)?;
        let delay = delay.unwrap_or_else(|| queue.seconds("DelaySeconds", 0));
        let attributes = entry["MessageAttributes"].clone();
        let message = Message::new(message_id, body.to_owned(), attributes, now);
        let answer = json!({"MessageId": message.message_id, "MD5OfMessageBody": message.body_md5});
        let delay = SignedDuration::from_secs(delay);
        queue.messages.push(message, now, delay);
        Ok(answer)
    }

    pub(super) fn delete(&mut self, request: &Value, entry: &Value) -> Result<Value, ApiError> {
        let queue = self.queue(request)?;
        let receipt = read_receipt(&queue.name, entry)?;
        queue.messages.delete(receipt);
        Ok(json!({}))
    }

    pub(super) fn change_visibility(
        &mut self,
        request: &Value,
        entry: &Value,
        now: Timestamp,
    ) -> Result<Value, ApiError> {
        let queue = self.queue(request)?;
        let receipt = read_receipt(&queue.name, entry)?;
        let seconds = number(entry, "VisibilityTimeout", 0, VISIBILITY_SECONDS_MAX)?;
        let seconds = seconds.ok_or_else(|| {
            bad_request(
                "MissingParameter",
                "The request must contain the parameter VisibilityTimeout.",
            )
        })?;
        let visibility = SignedDuration::from_secs(seconds);
        match queue.messages.change_visibility(receipt, now, visibility) {
            Ok(()) => Ok(json!({})),
            Err(NotChangeable::NotInFlight) => {
                Err(bad_request("MessageNotInflight", "The message referred to is not in flight."))
            }
            Err(NotChangeable::Gone) => Err(bad_request(
                "InvalidParameterValue",
                "Value for parameter ReceiptHandle is invalid. Reason: Message does not exist or \
                 is not available for visibility timeout change.",
            )),
        }
    }
}

fn show_message(message: &Message, handle: String, request: &ReceiveRequest) -> Value {
    let mut shown = Map::new();
    shown.insert("MessageId".into(), json!(message.message_id));
    shown.insert("ReceiptHandle".into(), Value::String(handle));
    shown.insert("MD5OfBody".into(), json!(message.body_md5));
    shown.insert("Body".into(), json!(message.body));
    let wanted = &request.system_attributes;
    let all = wanted.iter().any(|name| name == "All");
    let first_received_at = message.first_received_at.unwrap_or(message.sent_at);
    let system: Map<String, Value> = [
        ("SenderId", SELLER_ACCOUNT.to_owned()),
        ("SentTimestamp", epoch_millis(message.sent_at)),
        ("ApproximateReceiveCount", message.receive_count.to_string()),
        ("ApproximateFirstReceiveTimestamp", epoch_millis(first_received_at)),
    ]
    .into_iter()
    .filter(|(name, _)| all || wanted.iter().any(|it| it == name))
    .map(|(name, value)| (name.to_owned(), Value::String(value)))
    .collect();
    if !system.is_empty() {
        shown.insert("Attributes".into(), Value::Object(system));
    }
    if request.wants_attributes && message.attributes.is_object() {
        shown.insert("MessageAttributes".into(), message.attributes.clone());
    }
    Value::Object(shown)
}

fn queue_attributes(queue: &mut Queue, input: &Value, now: Timestamp) -> Value {
    let counts = queue.messages.counts(now);
    let mut attributes: BTreeMap<String, String> = [
        ("VisibilityTimeout", "30"),
        ("DelaySeconds", "0"),
        ("MaximumMessageSize", "1048576"),
        ("MessageRetentionPeriod", "345600"),
        ("ReceiveMessageWaitTimeSeconds", "0"),
        ("SqsManagedSseEnabled", "true"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    attributes.extend(queue.attributes.clone());
    let arn = format!("arn:aws:sqs:us-east-1:{SELLER_ACCOUNT}:{}", queue.name);
    attributes.extend(
        [
            ("QueueArn", arn),
            ("ApproximateNumberOfMessages", counts.visible.to_string()),
            ("ApproximateNumberOfMessagesNotVisible", counts.in_flight.to_string()),
            ("ApproximateNumberOfMessagesDelayed", counts.delayed.to_string()),
            ("CreatedTimestamp", queue.created_at.as_second().to_string()),
            ("LastModifiedTimestamp", queue.changed_at.as_second().to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    let wanted = names(input, "AttributeNames");
    if !wanted.iter().any(|name| name == "All") {
        attributes.retain(|name, _| wanted.contains(name));
    }
    json!({"Attributes": attributes})
}

fn read_attributes(input: &Value) -> Result<BTreeMap<String, String>, ApiError> {
    match input.get("Attributes") {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(attributes) => serde_json::from_value(attributes.clone())
            .map_err(|_| bad_request("InvalidAttributeValue", "Attribute values must be strings.")),
    }
}

fn names(input: &Value, member: &str) -> Vec<String> {
    let names = input.get(member).and_then(Value::as_array);
    names.into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// Reports whether SQS takes a character in a message body.
fn is_allowed(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}
