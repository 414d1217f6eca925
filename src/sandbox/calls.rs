//! Who called what, and how it went.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::locked;

/// How many calls are remembered one by one.
const REMEMBERED: usize = 10_000;

/// One call.
#[derive(Clone, Debug, Serialize)]
pub struct CallRecord {
    /// The operation.
    pub operation: String,
    /// The caller's access key.
    pub access_key: String,
    /// When it was answered.
    pub at: Timestamp,
    /// `ok`, AWS's error code, or the fault that was met.
    pub outcome: String,
    /// What was asked for, where the operation filters and sorts: `filters` and `sort` as they came.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub asked: Value,
}

/// How often an operation was called, by whom, and how it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CallSummary {
    /// The operation.
    pub operation: String,
    /// The caller's access key.
    pub access_key: String,
    /// `ok`, AWS's error code, or the fault that was met.
    pub outcome: String,
    /// How often.
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
