//! Diagnosis: what each fault means and what to do about it, in plain words.
//!
//! One table for API, CLI, console and docs. Each kind of fault is an enum, and its words are a `match` without a wildcard:
//! a fault without words does not compile. `docs/troubleshooting.md` is written from here, and a test compares.

mod about;
mod calls;
mod findings;
mod notifications;
mod page;
mod records;
mod words;

use serde::Serialize;
use utoipa::ToSchema;

pub use about::{About, Surface};
pub(crate) use about::{is_one, units};
pub use findings::{Finding, FindingKind, Risk};
pub use notifications::Quarantine;
pub use page::troubleshooting;

/// A fault explained to a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Diagnosis {
    /// What happened.
    pub happened: &'static str,
    /// What it means for money or access.
    pub means: &'static str,
    /// What to do.
    pub remedy: &'static str,
    /// The actions of marketd's that may mend it, the likeliest first.
    #[serde(skip_serializing_if = "<[Action]>::is_empty")]
    pub actions: &'static [Action],
}

/// An action of marketd's that may mend a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RemedyAction)]
pub enum Action {
    /// Sends a parked record again as it is.
    Retry,
    /// Bills a parked record's units with the open hour.
    CarryForward,
    /// Gives a parked record up.
    WriteOff,
    /// Processes a quarantined notification again.
    Replay,
    /// Takes a quarantined notification out of quarantine without applying it.
    Discard,
    /// Connects the seller's AWS account.
    Connect,
    /// Imports a listing, with a plan for each dimension.
    Import,
    /// Publishes a plan.
    Publish,
    /// Lets the endings go that are held back.
    ConfirmEndings,
    /// Has the webhook post again.
    ResumeWebhook,
}

impl Action {
    /// Returns the action as the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::CarryForward => "carry_forward",
            Self::WriteOff => "write_off",
            Self::Replay => "replay",
            Self::Discard => "discard",
            Self::Connect => "connect",
            Self::Import => "import",
            Self::Publish => "publish",
            Self::ConfirmEndings => "confirm_endings",
            Self::ResumeWebhook => "resume_webhook",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ledger::ParkReason;

    #[test]
    fn every_diagnosis_is_whole_sentences() {
        for (name, diagnosis) in page::all() {
            for text in [diagnosis.happened, diagnosis.means, diagnosis.remedy] {
                assert!(text.ends_with('.'), "{name}: {text}");
                assert!(text.starts_with(|first: char| !first.is_lowercase()), "{name}: {text}");
            }
        }
    }

    #[test]
    fn what_was_never_frozen_is_not_offered_to_be_sent_again() {
        let never_frozen = [
            ParkReason::NoSubscription,
            ParkReason::LicenseRequired,
            ParkReason::DirectCustomer,
            ParkReason::Fraction,
            ParkReason::Restored,
        ];
        for reason in never_frozen {
            assert!(!reason.diagnosis().actions.contains(&Action::Retry), "{reason:?}");
        }
    }
}
