//! Agreements and their licences as the Agreement API shows them.

use jiff::Timestamp;

use super::notification::is_over;
use super::{AccountId, AgreementId, LicenseArn};

/// An agreement as a search shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenAgreement {
    /// The agreement.
    pub agreement_id: AgreementId,
    /// The first of the chain of renewals and replacements that it belongs to, where AWS tells.
    pub initial_agreement_id: Option<AgreementId>,
    /// The buyer's account.
    pub account_id: Option<AccountId>,
    /// The offer.
    pub offer_id: Option<String>,
    /// AWS's word for how it stands: ACTIVE, or how it ended.
    pub status: String,
    /// The time at which it starts.
    pub starts_at: Option<Timestamp>,
    /// The time at which it ends; none for an open end.
    pub ends_at: Option<Timestamp>,
    /// The time at which it last changed.
    pub updated_at: Option<Timestamp>,
    /// The licences that stand on it.
    pub licenses: Vec<LicenseArn>,
}

impl SeenAgreement {
    /// Reports whether it is in force, or will be.
    pub fn is_active(&self) -> bool {
        self.status == "ACTIVE"
    }

    /// Returns the status with which it ended, if it did.
    pub fn ended(&self) -> Option<&str> {
        Some(self.status.as_str()).filter(|status| is_over(status))
    }
}

/// The state of a licence, by the Agreement API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LicenseState {
    /// In force.
    Provisioned,
    /// Bought, and begins later.
    Scheduled,
    /// Bought, and about to begin.
    Pending,
    /// It could not begin, for instance for want of payment.
    Failed,
    /// Over.
    Deprovisioned,
}

impl LicenseState {
    /// Every state, in the order of a licence's life.
    pub const ALL: [Self; 5] =
        [Self::Provisioned, Self::Scheduled, Self::Pending, Self::Failed, Self::Deprovisioned];

    /// Returns AWS's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provisioned => "PROVISIONED",
            Self::Scheduled => "SCHEDULED",
            Self::Pending => "PENDING",
            Self::Failed => "FAILED",
            Self::Deprovisioned => "DEPROVISIONED",
        }
    }

    /// Reads the state that AWS's word names.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}
