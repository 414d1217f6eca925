//! Receipts: messages that were received are deleted, or kept from others while they are worked on.

use std::time::Duration;

use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message,
};

use crate::aws::{AwsClients, Place};

/// Returns a duration as SQS takes it.
pub(super) fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

/// Deletes what is recorded; fails if nothing of it could be.
pub(super) async fn delete(
    clients: &AwsClients,
    queue_url: &str,
    messages: &[Message],
) -> Result<(), String> {
    let entries = messages.iter().enumerate().filter_map(|(at, message)| {
        DeleteMessageBatchRequestEntry::builder()
            .id(at.to_string())
            .receipt_handle(message.receipt_handle()?)
            .build()
            .ok()
    });
    let call = clients.sqs.delete_message_batch().queue_url(queue_url);
    let call = call.set_entries(Some(entries.collect()));
    let answer = clients.call(Place::Apart, "DeleteMessageBatch", || call.clone().send()).await;
    // What could not be deleted comes back after its visibility timeout and is deleted as a repetition.
    let (left, why) = match answer {
        Ok(answer) => {
            let first = answer.failed().first();
            let why = first.map(|it| it.message().unwrap_or(it.code()).to_owned());
            (answer.failed().len(), why)
        }
        Err(error) => (messages.len(), Some(error.to_string())),
    };
    if left > 0 {
        metrics::counter!("marketd_intake_deletes_failed_total")
            .increment(u64::try_from(left).unwrap_or(u64::MAX));
    }
    match why {
        Some(why) if left >= messages.len() => {
            Err(format!("recorded messages cannot be deleted, and come back: {why}"))
        }
        _ => Ok(()),
    }
}

/// Keeps messages invisible to others for so long from now on.
pub(super) async fn extend(
    clients: &AwsClients,
    queue_url: &str,
    messages: &[Message],
    timeout: Duration,
) {
    let entries = messages.iter().enumerate().filter_map(|(at, message)| {
        ChangeMessageVisibilityBatchRequestEntry::builder()
            .id(at.to_string())
            .receipt_handle(message.receipt_handle()?)
            .visibility_timeout(seconds(timeout))
            .build()
            .ok()
    });
    let call = clients.sqs.change_message_visibility_batch().queue_url(queue_url);
    let call = call.set_entries(Some(entries.collect()));
    if let Err(error) =
        clients.call(Place::Apart, "ChangeMessageVisibilityBatch", || call.clone().send()).await
    {
        tracing::warn!(%error, "could not keep messages invisible");
    }
}
