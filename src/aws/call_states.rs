//! The state of each of AWS's operations: when it was last called with success, and what the last failure said. `calling.rs`
//! makes the calls.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::AwsError;
use crate::clock::Clock;

/// The outcomes of the calls of one operation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct CallState {
    /// The last success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_ok_at: Option<Timestamp>,
    /// The last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error_at: Option<Timestamp>,
    /// The text of the last error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// The states of all operations.
#[derive(Debug)]
pub(super) struct CallStates {
    clock: Clock,
    states: Mutex<BTreeMap<&'static str, CallState>>,
}

impl CallStates {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, states: Mutex::default() }
    }

    pub(super) fn succeeded(&self, operation: &'static str) {
        count(operation, "ok");
        let now = self.clock.now();
        self.with(|states| states.entry(operation).or_default().last_ok_at = Some(now));
    }

    pub(super) fn failed(&self, error: &AwsError) {
        count(error.operation, error.kind.as_str());
        let now = self.clock.now();
        self.with(|states| {
            let state = states.entry(error.operation).or_default();
            state.last_error_at = Some(now);
            state.last_error = Some(error.message.clone());
        });
    }

    pub(super) fn states(&self) -> BTreeMap<&'static str, CallState> {
        self.with(|states| states.clone())
    }

    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<&'static str, CallState>) -> T) -> T {
        work(&mut self.states.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn count(operation: &'static str, outcome: &'static str) {
    metrics::counter!("marketd_aws_calls_total", "operation" => operation, "outcome" => outcome)
        .increment(1);
}
