//! A log of the calls that the sandbox answered: operation, caller and outcome.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::locked;

/// The number of calls that are remembered one by one.
const REMEMBERED: usize = 10_000;

/// One call.
#[derive(Clone, Debug, Serialize)]
pub struct CallRecord {
    /// The called operation.
    pub operation: String,
    /// The caller's access key.
    pub access_key: String,
    /// The time at which it was answered.
    pub at: Timestamp,
    /// The outcome: `ok`, AWS's error code, or the fault that was met.
    pub outcome: String,
    /// The `filters` and `sort` of the request as they came, where the operation filters and sorts.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub asked: Value,
}

/// The number of calls by operation, caller and outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CallSummary {
    /// The called operation.
    pub operation: String,
    /// The caller's access key.
    pub access_key: String,
    /// The outcome: `ok`, AWS's error code, or the fault that was met.
    pub outcome: String,
    /// The number of these calls.
    pub count: u64,
}

#[derive(Clone, Default)]
pub(super) struct Calls(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    recent: VecDeque<CallRecord>,
    counts: BTreeMap<(String, String, String), u64>,
}

impl Calls {
    pub(super) fn note(&self, call: CallRecord) {
        let mut state = locked(&self.0);
        let key = (call.operation.clone(), call.access_key.clone(), call.outcome.clone());
        *state.counts.entry(key).or_default() += 1;
        if state.recent.len() == REMEMBERED {
            state.recent.pop_front();
        }
        state.recent.push_back(call);
    }

    pub(super) fn reset(&self) {
        *locked(&self.0) = State::default();
    }

    pub(super) fn recent(&self, operation: Option<&str>, limit: usize) -> Vec<CallRecord> {
        let state = locked(&self.0);
        let matching = state
            .recent
            .iter()
            .rev()
            .filter(|call| operation.is_none_or(|it| call.operation == it));
        matching.take(limit).cloned().collect()
    }

    pub(super) fn summary(&self) -> Vec<CallSummary> {
        let state = locked(&self.0);
        let row = |((operation, access_key, outcome), count): (&(String, String, String), &u64)| {
            CallSummary {
                operation: operation.clone(),
                access_key: access_key.clone(),
                outcome: outcome.clone(),
                count: *count,
            }
        };
        state.counts.iter().map(row).collect()
    }
}
