//! Notifications: what they say, apart from how they were wrapped.

pub mod wire;

use jiff::Timestamp;

use super::{AccountId, AgreementId, CustomerIdentifier, EntityId, LicenseArn, ProductCode};

/// A message from AWS that something changed: a hint to look, never the truth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The message's own id, by which repetitions are recognised.
    pub id: String,
    /// The wire format in which it came.
    pub format: Format,
    /// The action or detail-type, as AWS wrote it.
    pub kind: String,
    /// Its own time, not that of receipt.
    pub at: Timestamp,
    /// The message as it was received.
    pub body: String,
    /// Its meaning.
    pub meaning: Meaning,
}

/// The wire format of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An SNS envelope.
    Sns,
    /// An SNS message delivered raw, without its envelope.
    Raw,
    /// An EventBridge event.
    EventBridge,
}

impl Format {
    /// Returns the word that the database and the API write for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sns => "sns",
            Self::Raw => "raw",
            Self::EventBridge => "eventbridge",
        }
    }
}

/// The meaning of a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A legacy buyer's subscription changed.
    Subscription(SubscriptionNews),
    /// A legacy buyer's contract changed in some way.
    EntitlementUpdated {
        /// The product.
        product_code: ProductCode,
        /// The buyer.
        customer_identifier: CustomerIdentifier,
    },
    /// A licence became active, changed or ended.
    License(LicenseNews),
    /// An agreement was made, changed or ended.
    Agreement(AgreementNews),
    /// A topic's subscription was made or ended.
    Topic(TopicNews),
    /// Kept and shown; changes nothing by itself.
    Informational,
}

/// The news that a topic sends here from now on, or does not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicNews {
    /// The topic.
    pub topic_arn: String,
    /// Set if it sends from now on.
    pub subscribed: bool,
}

/// The news of an SNS subscription message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionNews {
    /// The product.
    pub product_code: ProductCode,
    /// The buyer.
    pub customer_identifier: CustomerIdentifier,
    /// The action that happened.
    pub action: SubscriptionAction,
    /// Set if the offer has a free trial; only some actions say.
    pub free_trial: Option<bool>,
    /// The offer; only some actions say.
    pub offer_id: Option<String>,
}

/// An SNS subscription action. The order is that of a subscription's life: where two messages carry
/// the same time, the later stage is taken for the newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SubscriptionAction {
    /// The purchase failed.
    Fail,
    /// Access may be granted and usage metered.
    Success,
    /// About an hour is left for the last usage.
    UnsubscribePending,
    /// Over.
    UnsubscribeSuccess,
}

impl SubscriptionAction {
    /// Returns AWS's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "subscribe-fail",
            Self::Success => "subscribe-success",
            Self::UnsubscribePending => "unsubscribe-pending",
            Self::UnsubscribeSuccess => "unsubscribe-success",
        }
    }

    /// Reports whether the buyer leaves, or has left.
    pub const fn is_end(self) -> bool {
        matches!(self, Self::UnsubscribePending | Self::UnsubscribeSuccess)
    }

    /// Reads the action that AWS's word names.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Fail, Self::Success, Self::UnsubscribePending, Self::UnsubscribeSuccess]
            .into_iter()
            .find(|action| action.as_str() == word)
    }
}

/// The news of a licence event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LicenseNews {
    /// The licence.
    pub license_arn: LicenseArn,
    /// The change that happened to it.
    pub change: LicenseChange,
    /// The product's code; events carry it, though not every sample does.
    pub product_code: Option<ProductCode>,
    /// The product's catalog id.
    pub entity_id: Option<EntityId>,
    /// The buyer's account.
    pub account_id: Option<AccountId>,
    /// The agreement behind the licence.
    pub agreement_id: Option<AgreementId>,
}

/// A change of a licence. Ordered like a life: at the same second, the end is taken as the newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LicenseChange {
    /// It is active, or changed while active.
    Updated,
    /// It is over.
    Deprovisioned,
}

impl LicenseChange {
    /// Returns the word that the database writes for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Updated => "updated",
            Self::Deprovisioned => "deprovisioned",
        }
    }
}

/// The news of an agreement event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgreementNews {
    /// The agreement.
    pub agreement_id: AgreementId,
    /// Its end, if this event tells of it: CANCELLED, EXPIRED, TERMINATED, RENEWED, REPLACED, …
    pub ended: Option<String>,
    /// NEW, RENEW, REPLACE, AMEND.
    pub intent: Option<String>,
    /// The buyer's account.
    pub account_id: Option<AccountId>,
    /// The product's catalog id; often left out.
    pub entity_id: Option<EntityId>,
    /// The offer.
    pub offer_id: Option<String>,
    /// The agreement that this one continues.
    pub previous_agreement_id: Option<AgreementId>,
    /// The time at which it starts, if the event says.
    pub starts_at: Option<Timestamp>,
    /// The time at which it ends, if the event says.
    pub ends_at: Option<AgreedEnd>,
}

/// The end that an agreement has. One that is not told is another thing than one that is open, which is later than any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AgreedEnd {
    /// At this time.
    At(Timestamp),
    /// None: it lasts until somebody ends it.
    Open,
}

impl AgreedEnd {
    /// Returns the time, if it has one.
    pub const fn at(self) -> Option<Timestamp> {
        match self {
            Self::At(time) => Some(time),
            Self::Open => None,
        }
    }
}

/// The word for an end of which no status was told.
pub const END_WITHOUT_STATUS: &str = "ENDED";

/// Reports whether an agreement that ended with this status is a customer leaving. A renewed or replaced one
/// goes on under another agreement.
pub fn is_departure(ended_status: &str) -> bool {
    matches!(ended_status, "CANCELLED" | "EXPIRED" | "TERMINATED" | "ARCHIVED")
}

/// Reports whether a status says that the agreement is over. One that was rolled back or superseded is a revision of an
/// agreement that is in force by another; of a word that is missing or new nothing is concluded: what AWS says of the
/// licence decides.
pub fn is_over(status: &str) -> bool {
    is_departure(status) || matches!(status, "RENEWED" | "REPLACED")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_word_that_says_so_is_a_buyer_leaving() {
        // (AWS's word, whether the agreement is over, whether the buyer leaves)
        let rows = [
            ("ACTIVE", false, false),
            ("ARCHIVED", true, true),
            ("CANCELLED", true, true),
            ("EXPIRED", true, true),
            ("RENEWED", true, false),
            ("REPLACED", true, false),
            ("ROLLED_BACK", false, false),
            ("SUPERSEDED", false, false),
            ("TERMINATED", true, true),
            (END_WITHOUT_STATUS, false, false),
            ("A_WORD_OF_LATER_YEARS", false, false),
        ];
        for (word, over, leaves) in rows {
            assert_eq!((is_over(word), is_departure(word)), (over, leaves), "{word}");
        }
    }
}
