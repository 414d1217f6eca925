//! Long-polling SQS: receive, record, then delete.
//!
//! A message leaves the queue only after the commit that holds it. The next receive does not wait for that: the writer
//! commits several batches at once, and a message whose delete is lost comes back and is recognised.

use std::collections::HashSet;
use std::time::Duration;

use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};
use backon::{BackoffBuilder, ExponentialBuilder};
use jiff::Timestamp;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::gauge::{QueueGauge, QueueWatch};
use super::incoming as read;
use super::pace::Pace;
use super::receipts::{delete, extend, seconds};
use super::sns::{Arrived, Refusal, SnsEndpoint, SnsError};
use crate::aws::{self, Place};
use crate::clock::Clock;
use crate::domain::notification::Format;
use crate::domain::notification::wire::{self, Delivery};
use crate::health::Health;
use crate::store::{Incoming, Recorded, Store, StoreError};

/// The most that SQS hands over or deletes in one call.
const BATCH: i32 = 10;
/// Batches of a poller's that are being recorded and deleted; more would only hide a database that is slow.
const BATCHES_IN_FLIGHT: usize = 4;
/// Long enough that SQS asks all its servers, short enough for a one-shot.
const DRAIN_WAIT: Duration = Duration::from_secs(1);

/// The intake, which reads one queue into the store.
#[derive(Clone)]
pub struct Intake {
    /// The store in which notifications are recorded.
    pub store: Store,
    /// The AWS clients.
    pub aws: aws::Connection,
    /// The time.
    pub clock: Clock,
    /// The health board.
    pub health: Health,
    /// The queue.
    pub queue_url: String,
    /// The place where the age of what is received is noted.
    pub gauge: QueueGauge,
    /// The number of pollers that receive.
    pub pace: Pace,
    /// The time for which one receive waits for messages.
    pub wait: Duration,
    /// The time for which a message that was received stays invisible to others.
    pub visibility_timeout: Duration,
    /// The endpoint that verifies the signatures of SNS messages; none where that is not asked for.
    pub verify: Option<SnsEndpoint>,
}

/// The reason why a batch could not be taken in.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The queue could not be read.
    #[error("could not receive from the queue {queue_url}: {detail}")]
    Receive {
        /// The queue.
        queue_url: String,
        /// AWS's answer.
        detail: String,
    },
    /// The database could not hold the batch; it stays in the queue and comes back.
    #[error("could not record notifications")]
    Record(#[from] StoreError),
}

impl IntakeError {
    /// Describes what happened, with what the database said of it.
    fn in_full(&self) -> String {
        match self {
            Self::Record(error) => format!("{self}: {}", error.in_full()),
            Self::Receive { .. } => self.to_string(),
        }
    }
}

/// The outcome of the messages that were received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// The numbers of those that were recorded, and left the queue.
    pub recorded: Recorded,
    /// The ids of those that stay in the queue, since it could not be found out whether they are AWS's.
    pub left: HashSet<String>,
    /// The reason why that could not be found out.
    pub why: Option<String>,
    /// The reason why messages that were recorded could not be deleted, if nothing of a batch could be. They come back.
    pub undeleted: Option<String>,
}

/// A message as it is recorded, or why it is left in the queue.
enum Checked {
    Taken(Incoming),
    Left(String),
}

impl Intake {
    /// Returns the part that asks for the depth of the queue.
    pub fn watch(&self) -> QueueWatch {
        QueueWatch {
            aws: self.aws.clone(),
            clock: self.clock.clone(),
            queue_url: self.queue_url.clone(),
            gauge: self.gauge.clone(),
        }
    }

    /// Polls as one of the pollers, counted from 0, until told to stop; what was received by then is finished.
    pub async fn run(self, poller: usize, shutdown: CancellationToken) -> Result<(), StoreError> {
        let mut batches = Batches::default();
        let mut waits = backoff();
        let mut switches = self.aws.switches();
        loop {
            // Subscribed before the call, so that what ends its refusal meanwhile is not missed.
            let mut takes_us = self.aws.retries();
            let polled = if let Err(error) = batches.make_room().await {
                Err(error)
            } else {
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => break,
                    // What a poll has on its way then is visible again soon, to whoever polls next.
                    _ = switches.changed() => continue,
                    // From here on the batch is finished whatever happens.
                    received = self.receive_in_turn(poller) => {
                        received.map(|messages| batches.begin(&self, messages))
                    }
                }
            };
            let pause = match polled {
                // What is under way may fail yet.
                Ok(()) if batches.under_way.is_empty() || batches.finished > 0 => {
                    batches.finished = 0;
                    let undeleted = std::mem::take(&mut batches.drained).undeleted;
                    // While nothing can be recorded, a queue that is empty for a moment is not well.
                    if self.store.trouble().borrow().is_none() {
                        self.health.report("queue", Ok(()), self.clock.now());
                    }
                    if undeleted.is_none() {
                        waits = backoff();
                    }
                    // They come back: received as fast as that, they would keep everybody busy for nothing.
                    undeleted.and_then(|_| waits.next())
                }
                Ok(()) => None,
                // Nothing would be recorded any more.
                Err(IntakeError::Record(error)) if error.is_broken() => return Err(error),
                Err(error) => {
                    self.health.report("queue", Err(&error.in_full()), self.clock.now());
                    metrics::counter!("marketd_intake_errors_total").increment(1);
                    waits.next()
                }
            };
            if let Some(pause) = pause {
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => break,
                    () = tokio::time::sleep(pause) => {}
                    // AWS takes us again.
                    _ = takes_us.changed() => waits = backoff(),
                }
            }
        }
        if let Err(error) = batches.finish().await {
            self.health.report("queue", Err(&error.to_string()), self.clock.now());
        }
        Ok(())
    }

    /// Takes in what the queue holds, until it is empty.
    pub async fn drain(&self) -> Result<Drained, IntakeError> {
        let mut batches = Batches::default();
        loop {
            batches.make_room().await?;
            // They come back for ever.
            if batches.drained.undeleted.is_some() {
                break;
            }
            let messages = self.receive(DRAIN_WAIT).await?;
            let ids: HashSet<String> =
                messages.iter().filter_map(|message| message.message_id.clone()).collect();
            // What stays in the queue comes back, and would for as long as AWS's certificate cannot be had.
            if ids.is_subset(&batches.drained.left) {
                break;
            }
            batches.begin(self, messages);
        }
        batches.finish().await?;
        self.health.report("queue", Ok(()), self.clock.now());
        Ok(batches.drained)
    }

    /// Receives once this poller is one of those that do; what comes of it decides how many do.
    async fn receive_in_turn(&self, poller: usize) -> Result<Vec<Message>, IntakeError> {
        self.pace.turn(poller).await;
        let received = self.receive(self.wait).await;
        let is_full = |messages: &Vec<Message>| messages.len() >= BATCH.unsigned_abs() as usize;
        self.pace.received(received.as_ref().is_ok_and(is_full));
        received
    }

    async fn receive(&self, wait: Duration) -> Result<Vec<Message>, IntakeError> {
        let clients = self.aws.clients();
        let call = clients
            .sqs
            .receive_message()
            .queue_url(&self.queue_url)
            .max_number_of_messages(BATCH)
            .wait_time_seconds(seconds(wait))
            .visibility_timeout(seconds(self.visibility_timeout))
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp);
        match clients.call(Place::Apart, "ReceiveMessage", || call.clone().send()).await {
            Ok(answer) => {
                let messages = answer.messages.unwrap_or_default();
                self.gauge.received(messages.iter().filter_map(sent_at).min(), self.clock.now());
                Ok(messages)
            }
            Err(error) => Err(IntakeError::Receive {
                queue_url: self.queue_url.clone(),
                detail: error.message,
            }),
        }
    }

    /// Checks a message and returns it as it is recorded. Where signatures are to be verified, what is not AWS's is
    /// quarantined; if AWS's certificate cannot be had, the message stays in the queue.
    async fn checked(&self, message: &Message, now: Timestamp) -> Result<Checked, StoreError> {
        let body = message.body().unwrap_or_default();
        let Some(sns) = &self.verify else { return Ok(Checked::Taken(incoming(message, now))) };
        if !wire::is_sns_envelope(body) {
            return Ok(Checked::Taken(match incoming(message, now) {
                // Anybody's word: without its envelope a message has no signature.
                Incoming::Notification(it) if it.format == Format::Raw => {
                    untrusted(body, "it is a raw SNS message, which carries no signature".into())
                }
                other => other,
            }));
        }
        match sns.verify(body, Arrived::ThroughQueue).await {
            Ok(()) => {
                self.health.report("certificates", Ok(()), now);
                Ok(Checked::Taken(incoming(message, now)))
            }
            Err(SnsError::Refused(Refusal::Unreachable(detail))) => {
                self.health.report("certificates", Err(&detail), now);
                Ok(Checked::Left(detail))
            }
            Err(SnsError::Refused(refusal)) => Ok(Checked::Taken(untrusted(
                body,
                format!("its signature does not hold: {refusal}"),
            ))),
            Err(SnsError::Store(error)) => Err(error),
        }
    }

    async fn take_in(&self, messages: Vec<Message>) -> Result<Drained, IntakeError> {
        let now = self.clock.now();
        let (taken, mut drained) = self.visibly(&messages, self.recorded(&messages, now)).await?;
        count(drained.recorded);
        let gone: Vec<Message> = messages
            .into_iter()
            .zip(taken)
            .filter_map(|(message, it)| it.then_some(message))
            .collect();
        if !gone.is_empty() {
            let deleted = delete(&self.aws.clients(), &self.queue_url, &gone).await;
            let outcome = deleted.as_ref().copied().map_err(String::as_str);
            self.health.report("queue_deletes", outcome, self.clock.now());
            drained.undeleted = deleted.err();
        }
        Ok(drained)
    }

    /// Records what can be, and says of each message whether it was.
    async fn recorded(
        &self,
        messages: &[Message],
        now: Timestamp,
    ) -> Result<(Vec<bool>, Drained), StoreError> {
        let checks = messages.iter().map(|message| self.checked(message, now));
        let (mut batch, mut taken) = (Vec::with_capacity(messages.len()), Vec::new());
        let mut drained = Drained::default();
        let checked = futures::future::join_all(checks).await;
        for (message, checked) in messages.iter().zip(checked) {
            let checked = checked?;
            taken.push(matches!(checked, Checked::Taken(_)));
            match checked {
                Checked::Taken(incoming) => batch.push(incoming),
                Checked::Left(why) => {
                    drained.left.extend(message.message_id.clone());
                    drained.why = Some(why);
                }
            }
        }
        if !batch.is_empty() {
            drained.recorded = self.store.record_notifications(batch, now).await?;
        }
        Ok((taken, drained))
    }

    /// Works on a batch, and keeps its messages invisible to others for as long as that takes.
    async fn visibly<T>(&self, messages: &[Message], work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        let half_time = (self.visibility_timeout / 2).max(Duration::from_millis(500));
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(half_time) => {
                    extend(&self.aws.clients(), &self.queue_url, messages, self.visibility_timeout).await;
                }
            }
        }
    }
}

/// Batches under way, and what those came to that are finished.
#[derive(Default)]
struct Batches {
    under_way: JoinSet<Result<Drained, IntakeError>>,
    /// The number of those that have ended well.
    finished: usize,
    drained: Drained,
}

impl Batches {
    fn begin(&mut self, intake: &Intake, messages: Vec<Message>) {
        if !messages.is_empty() {
            let intake = intake.clone();
            self.under_way.spawn(async move { intake.take_in(messages).await });
        }
    }

    /// Waits until another may begin; fails if one did.
    async fn make_room(&mut self) -> Result<(), IntakeError> {
        while let Some(done) = self.under_way.try_join_next() {
            self.note(done)?;
        }
        while self.under_way.len() >= BATCHES_IN_FLIGHT
            && let Some(done) = self.under_way.join_next().await
        {
            self.note(done)?;
        }
        Ok(())
    }

    /// Waits for all of them.
    async fn finish(&mut self) -> Result<(), IntakeError> {
        let mut failed = Ok(());
        while let Some(done) = self.under_way.join_next().await {
            failed = failed.and(self.note(done));
        }
        failed
    }

    fn note(
        &mut self,
        done: Result<Result<Drained, IntakeError>, JoinError>,
    ) -> Result<(), IntakeError> {
        let taken = done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        self.finished += 1;
        let total = &mut self.drained;
        total.recorded.add(taken.recorded);
        total.left.extend(taken.left);
        total.why = taken.why.or(total.why.take());
        total.undeleted = taken.undeleted.or(total.undeleted.take());
        Ok(())
    }
}

fn backoff() -> backon::ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(30))
        .with_jitter()
        .without_max_times()
        .build()
}

fn sent_at(message: &Message) -> Option<Timestamp> {
    let attributes = message.attributes()?;
    let millis = attributes.get(&MessageSystemAttributeName::SentTimestamp)?.parse().ok()?;
    Timestamp::from_millisecond(millis).ok()
}

fn incoming(message: &Message, now: Timestamp) -> Incoming {
    let body = message.body().unwrap_or_default();
    let sent_at = sent_at(message).unwrap_or(now);
    let transport_id = message.message_id().unwrap_or_default();
    read(Delivery { body, transport_id, sent_at })
}

/// Quarantines a message, since nothing of it can be believed.
fn untrusted(body: &str, reason: String) -> Incoming {
    Incoming::Untrusted { id: wire::content_id(body), body: body.to_owned(), reason }
}

fn count(recorded: Recorded) {
    let add = |outcome: &'static str, count: usize| {
        metrics::counter!("marketd_notifications_total", "outcome" => outcome)
            .increment(u64::try_from(count).unwrap_or(u64::MAX));
    };
    add("new", recorded.new);
    add("duplicate", recorded.duplicates);
    add("quarantined", recorded.quarantined);
}
