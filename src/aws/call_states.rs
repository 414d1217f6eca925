//! The state of each of AWS's operations: when it was last called with success, and what the last failure said. `calling.rs`
//! makes the calls.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::{AwsError, AwsErrorKind, CredentialsTrouble};
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

/// The call that gets the credentials of a role, which the SDK makes before others.
const ASSUME_ROLE: &str = "AssumeRole";

tokio::task_local! {
    /// Set while permissions are tried.
    static TRYING: ();
}

/// Makes calls that can do nothing, to find out what may be called: that AWS refuses what they name is no failure.
pub(super) async fn trying<F: Future>(work: F) -> F::Output {
    TRYING.scope((), work).await
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
        self.with(|states| {
            states.entry(operation).or_default().last_ok_at = Some(now);
            // Whoever gets an answer has the credentials for it.
            if let Some(role) = states.get_mut(ASSUME_ROLE) {
                role.last_ok_at = Some(now);
            }
        });
    }

    pub(super) fn failed(&self, error: &AwsError) {
        // Whoever is refused over what a trial names has got through.
        if error.kind == AwsErrorKind::Refused && TRYING.try_with(|()| ()).is_ok() {
            return self.succeeded(error.operation);
        }
        count(error.operation, error.kind.as_str());
        let now = self.clock.now();
        self.with(|states| {
            let state = states.entry(error.operation).or_default();
            state.last_error_at = Some(now);
            state.last_error = Some(error.message.clone());
            if error.kind == AwsErrorKind::Credentials(CredentialsTrouble::RoleRefused) {
                // The call never got as far.
                let failed = state.clone();
                states.insert(ASSUME_ROLE, failed);
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_trial_names_is_refused_without_being_a_failure() {
        let states = CallStates::new(Clock::system());
        let error = |operation, kind| AwsError {
            operation,
            kind,
            code: Some("ValidationException".into()),
            message: "there is none".into(),
        };
        trying(async {
            states.failed(&error("GetAgreementEntitlements", AwsErrorKind::Refused));
            states.failed(&error("ListEntities", AwsErrorKind::AccessDenied));
        })
        .await;
        states.failed(&error("BatchMeterUsage", AwsErrorKind::Refused));
        let held = states.states();
        assert!(held["GetAgreementEntitlements"].last_error.is_none());
        assert!(held["GetAgreementEntitlements"].last_ok_at.is_some());
        assert!(held["ListEntities"].last_error.is_some(), "a permission that is missing is one");
        assert!(held["BatchMeterUsage"].last_error.is_some(), "no trial");
    }
}
