//! The queue's backlog: how many messages wait in it, and how old they are when they are received.
//!
//! The depth is asked for now and then, apart from receiving and from whoever wants to know. The age needs no call: each
//! message says when it was sent. Neither decides anything, so a role that may not ask is no failure.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_sqs::types::QueueAttributeName;
use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::aws::{AwsError, AwsErrorKind, Connection, Place};
use crate::clock::Clock;
use crate::store::StoreError;

/// The time between two questions.
const ASK_EVERY: Duration = Duration::from_secs(60);
/// The time until a question that was denied is asked again.
const ASK_DENIED_EVERY: Duration = Duration::from_secs(15 * 60);

/// The backlog of the queue, as far as SQS tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct QueueBacklog {
    /// The number of messages that wait to be received, approximately; null if it is not known.
    #[schema(required = true)]
    pub depth: Option<u64>,
    /// The number of messages that were received and are not deleted yet, approximately; null if it is not known.
    #[schema(required = true)]
    pub in_flight: Option<u64>,
    /// The time at which these were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_at: Option<Timestamp>,
    /// The reason why they are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The age of the oldest message that the last receive brought, in seconds; 0 if it found the queue empty, null if
    /// there was none yet.
    #[schema(required = true)]
    pub age_seconds: Option<i64>,
    /// The time of that receive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_at: Option<Timestamp>,
}

/// The place where the backlog is kept; clones share it.
#[derive(Clone, Debug, Default)]
pub struct QueueGauge(Arc<Mutex<QueueBacklog>>);

impl QueueGauge {
    /// Returns the backlog.
    pub fn backlog(&self) -> QueueBacklog {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes a receive, and when the oldest of its messages was sent.
    #[expect(clippy::cast_precision_loss, reason = "a gauge; no queue is that old")]
    pub(super) fn received(&self, oldest: Option<Timestamp>, now: Timestamp) {
        let age = oldest.map_or(0, |sent| now.duration_since(sent).as_secs().max(0));
        metrics::gauge!("marketd_queue_age_seconds").set(age as f64);
        self.with(|backlog| {
            backlog.age_seconds = Some(age);
            backlog.received_at = Some(now);
        });
    }

    /// Notes the depth and the number in flight, or why they are not known.
    #[expect(clippy::cast_precision_loss, reason = "a gauge; no queue is that deep")]
    fn asked(&self, outcome: Result<(u64, u64), String>, now: Timestamp) {
        let count = |state: &'static str, count: Option<u64>| {
            let gauge = metrics::gauge!("marketd_queue_messages", "state" => state);
            gauge.set(count.map_or(f64::NAN, |count| count as f64));
        };
        let (known, reason) = match outcome {
            Ok(known) => (Some(known), None),
            Err(reason) => (None, Some(reason)),
        };
        let (depth, in_flight) = known.unzip();
        count("waiting", depth);
        count("in_flight", in_flight);
        self.with(|backlog| {
            (backlog.depth, backlog.in_flight) = (depth, in_flight);
            (backlog.asked_at, backlog.reason) = (Some(now), reason);
        });
    }

    fn with(&self, change: impl FnOnce(&mut QueueBacklog)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Asks for the depth now and then.
pub struct QueueWatch {
    /// The AWS clients.
    pub(super) aws: Connection,
    /// The time.
    pub(super) clock: Clock,
    /// The queue.
    pub(super) queue_url: String,
    /// The place where the answer is kept.
    pub(super) gauge: QueueGauge,
}

impl QueueWatch {
    /// Asks until told to stop. A change of the identity has it ask at once.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), StoreError> {
        let mut switches = self.aws.switches();
        let mut alarm = self.clock.alarm();
        loop {
            let begun = self.clock.now();
            let asked = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                asked = self.ask() => asked,
            };
            let is_denied = asked.as_ref().is_err_and(|it| it.kind == AwsErrorKind::AccessDenied);
            let rest = if is_denied { ASK_DENIED_EVERY } else { ASK_EVERY };
            self.gauge.asked(asked.map_err(|error| error.to_string()), self.clock.now());
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                _ = switches.changed() => {}
                () = alarm.rest(begun, rest) => {}
            }
        }
        Ok(())
    }

    async fn ask(&self) -> Result<(u64, u64), AwsError> {
        let clients = self.aws.clients();
        let call = clients
            .sqs
            .get_queue_attributes()
            .queue_url(&self.queue_url)
            .attribute_names(QueueAttributeName::ApproximateNumberOfMessages)
            .attribute_names(QueueAttributeName::ApproximateNumberOfMessagesNotVisible);
        let answer =
            clients.call(Place::Apart, "GetQueueAttributes", || call.clone().send()).await?;
        let number = |name| {
            let told = answer.attributes().and_then(|told| told.get(&name));
            told.and_then(|text| text.parse().ok()).unwrap_or(0)
        };
        Ok((
            number(QueueAttributeName::ApproximateNumberOfMessages),
            number(QueueAttributeName::ApproximateNumberOfMessagesNotVisible),
        ))
    }
}
