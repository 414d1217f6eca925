//! The batch operations: each entry succeeds or fails for itself, the batch as a whole rarely fails.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{Queues, no_queue, text};
use crate::sandbox::answer::bad_request;
use crate::sandbox::market::ApiError;

const BATCH_ENTRIES_MAX: usize = 10;
const BATCH_BYTES_MAX: usize = 1_048_576;

impl Queues {
    pub(super) fn batch(&self, operation: &str, input: &Value) -> Result<Value, ApiError> {
        let now = self.0.clock.now();
        let entries = check_entries(input)?;
        let mut state = self.lock();
        state.queue(input).map_err(|_| no_queue())?;
        let mut successful = Vec::new();
        let mut failed = Vec::new();
        for entry in entries {
            let outcome = match operation {
                "SendMessageBatch" => state.send(input, entry, now),
                "DeleteMessageBatch" => state.delete(input, entry),
                _ => state.change_visibility(input, entry, now),
            };
            let id = &entry["Id"];
            match outcome {
                Ok(mut answer) => {
                    answer["Id"] = id.clone();
                    successful.push(answer);
                }
                Err(error) => failed.push(json!({
                    "Id": id,
                    "Code": error.code,
                    "Message": error.message,
                    "SenderFault": true,
                })),
            }
        }
        drop(state);
        if operation != "DeleteMessageBatch" {
            self.0.arrived.notify_waiters();
        }
        Ok(json!({"Successful": successful, "Failed": failed}))
    }
}

fn check_entries(input: &Value) -> Result<&[Value], ApiError> {
    let entries = input.get("Entries").and_then(Value::as_array);
    let entries = entries.map_or(&[][..], Vec::as_slice);
    if entries.is_empty() {
        return Err(bad_request(
            "EmptyBatchRequest",
            "There should be at least one entry in the request.",
        ));
    }
    if entries.len() > BATCH_ENTRIES_MAX {
        return Err(bad_request(
            "TooManyEntriesInBatchRequest",
            format!(
                "Maximum number of entries per request are {BATCH_ENTRIES_MAX}. You have sent {}.",
                entries.len()
            ),
        ));
    }
    let mut ids = HashSet::new();
    let mut bytes = 0;
    for entry in entries {
        let id = text(entry, "Id")?;
        let fits = id.chars().all(|it| it.is_ascii_alphanumeric() || it == '-' || it == '_');
        if !fits || id.len() > 80 {
            return Err(bad_request(
                "InvalidBatchEntryId",
                "A batch entry id can only contain alphanumeric characters, hyphens and \
                 underscores. It can be at most 80 letters long.",
            ));
        }
        if !ids.insert(id) {
            return Err(bad_request("BatchEntryIdsNotDistinct", format!("Id {id} repeated.")));
        }
        bytes += entry["MessageBody"].as_str().map_or(0, str::len);
    }
    if bytes > BATCH_BYTES_MAX {
        return Err(bad_request(
            "BatchRequestTooLong",
            format!("Batch requests cannot be longer than {BATCH_BYTES_MAX} bytes."),
        ));
    }
    Ok(entries)
}
