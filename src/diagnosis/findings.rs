//! What a person should look at.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::about::{About, Api};
use super::{Action, Diagnosis, words};
use crate::domain::Quantity;

/// The kinds of findings, those that cost money first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// Usage is parked.
    ParkedUsage,
    /// The integration was removed.
    IntegrationRemoved,
    /// A part of the daemon is failing.
    PartFailing,
    /// The role lacks a permission.
    PermissionMissing,
    /// AWS knows more of some hours than the ledger.
    UnknownHours,
    /// A metered dimension is gone from its listing, and usage is billed by it.
    DimensionLost,
    /// A dimension that live subscriptions are on is gone from its listing.
    SoldDimensionLost,
    /// Messages of AWS's cannot be read or believed.
    QuarantinedNotifications,
    /// Endings are held back.
    EndingsHeld,
    /// Live subscriptions are on plans that are drafts.
    AwaitedDraft,
    /// Buyers wait for a listing that is not imported.
    AwaitedImport,
    /// A dimension that can be bought means no plan.
    DimensionWithoutPlan,
    /// Subscriptions are past their agreement's end.
    PastAgreementEnd,
    /// What is known of customers contradicts itself.
    IdentityConflict,
    /// Buyers whom nobody has claimed.
    UnclaimedBuyers,
    /// Buyers who came by AWS's redirect met with trouble.
    Registrations,
    /// A topic's subscription was ended.
    TopicUnsubscribed,
    /// SNS messages were refused.
    SnsRefused,
    /// The webhook posts nothing, since a person has paused it.
    WebhookPaused,
    /// What the webhook is to post waits for long.
    WebhookBehind,
    /// No queue is set.
    NoQueue,
}

/// What a finding puts at risk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    /// Usage that may not be billed.
    Money,
    /// Access that customers have too long or not at all.
    Access,
    /// News of AWS's that comes late.
    Delay,
}

/// A finding: what a person should look at, how much of it there is, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Finding {
    /// The kind, as one word.
    #[schema(value_type = String)]
    pub kind: FindingKind,
    /// What is at risk.
    pub risk: Risk,
    /// The finding in a sentence.
    pub summary: String,
    /// The number of things that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The units of usage that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub units: Option<Quantity>,
    /// The time since when it has been so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// What it means for money or access.
    pub means: &'static str,
    /// What to do.
    pub remedy: &'static str,
    /// The actions of marketd's that may mend it.
    #[serde(skip_serializing_if = "<[Action]>::is_empty")]
    pub actions: &'static [Action],
    /// The path at which the API shows more.
    pub link: &'static str,
    /// What it is about, where it is known part by part: the summary says that in the words of the API.
    #[serde(skip)]
    pub about: Option<About>,
}

impl Finding {
    /// Makes a finding of a kind, in these words.
    pub fn new(kind: FindingKind, summary: String) -> Self {
        let Diagnosis { means, remedy, actions, .. } = kind.diagnosis();
        let (risk, link) = (kind.risk(), kind.link());
        Self {
            kind,
            risk,
            summary,
            count: None,
            units: None,
            since: None,
            means,
            remedy,
            actions,
            link,
            about: None,
        }
    }

    /// Makes a finding of a kind about this.
    pub fn about(kind: FindingKind, about: About) -> Self {
        let said = about.said(&Api);
        Self { about: Some(about), ..Self::new(kind, said) }
    }

    /// Returns it with the number of things that it is about.
    #[must_use]
    pub const fn counting(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }

    /// Returns it with the time since when it has been so.
    #[must_use]
    pub const fn since(mut self, since: Option<Timestamp>) -> Self {
        self.since = since;
        self
    }
}

impl Serialize for FindingKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl FindingKind {
    /// Every kind.
    pub const ALL: [Self; 21] = [
        Self::ParkedUsage,
        Self::IntegrationRemoved,
        Self::PartFailing,
        Self::PermissionMissing,
        Self::UnknownHours,
        Self::DimensionLost,
        Self::SoldDimensionLost,
        Self::QuarantinedNotifications,
        Self::EndingsHeld,
        Self::AwaitedDraft,
        Self::AwaitedImport,
        Self::DimensionWithoutPlan,
        Self::PastAgreementEnd,
        Self::IdentityConflict,
        Self::UnclaimedBuyers,
        Self::Registrations,
        Self::TopicUnsubscribed,
        Self::SnsRefused,
        Self::WebhookPaused,
        Self::WebhookBehind,
        Self::NoQueue,
    ];

    /// Returns the word of the API and the metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ParkedUsage => "parked_usage",
            Self::IntegrationRemoved => "integration_removed",
            Self::PartFailing => "part_failing",
            Self::PermissionMissing => "permission_missing",
            Self::UnknownHours => "unknown_hours",
            Self::DimensionLost => "dimension_lost",
            Self::SoldDimensionLost => "sold_dimension_lost",
            Self::QuarantinedNotifications => "quarantined_notifications",
            Self::EndingsHeld => "endings_held",
            Self::AwaitedDraft => "awaited_draft",
            Self::AwaitedImport => "awaited_import",
            Self::DimensionWithoutPlan => "dimension_without_plan",
            Self::PastAgreementEnd => "past_agreement_end",
            Self::IdentityConflict => "identity_conflict",
            Self::UnclaimedBuyers => "unclaimed_buyers",
            Self::Registrations => "registrations",
            Self::TopicUnsubscribed => "topic_unsubscribed",
            Self::SnsRefused => "sns_refused",
            Self::WebhookPaused => "webhook_paused",
            Self::WebhookBehind => "webhook_behind",
            Self::NoQueue => "no_queue",
        }
    }

    const fn risk(self) -> Risk {
        match self {
            Self::ParkedUsage
            | Self::IntegrationRemoved
            | Self::PartFailing
            | Self::PermissionMissing
            | Self::UnknownHours
            | Self::DimensionLost => Risk::Money,
            Self::SoldDimensionLost
            | Self::QuarantinedNotifications
            | Self::EndingsHeld
            | Self::AwaitedDraft
            | Self::AwaitedImport
            | Self::DimensionWithoutPlan
            | Self::PastAgreementEnd
            | Self::IdentityConflict
            | Self::UnclaimedBuyers
            | Self::Registrations => Risk::Access,
            Self::TopicUnsubscribed
            | Self::SnsRefused
            | Self::WebhookPaused
            | Self::WebhookBehind
            | Self::NoQueue => Risk::Delay,
        }
    }

    const fn link(self) -> &'static str {
        match self {
            Self::ParkedUsage => "/v1/metering/records?state=parked",
            Self::UnknownHours => "/v1/metering/balance",
            Self::QuarantinedNotifications => "/v1/notifications?state=quarantined",
            Self::EndingsHeld
            | Self::DimensionWithoutPlan
            | Self::DimensionLost
            | Self::SoldDimensionLost => "/v1/products",
            Self::AwaitedDraft => "/v1/plans?status=draft",
            Self::AwaitedImport => "/v1/listings",
            Self::PastAgreementEnd => "/v1/subscriptions",
            Self::UnclaimedBuyers | Self::IdentityConflict => "/v1/customers",
            Self::Registrations => "/v1/registrations",
            Self::WebhookPaused | Self::WebhookBehind => "/v1/webhook",
            Self::IntegrationRemoved
            | Self::PartFailing
            | Self::PermissionMissing
            | Self::TopicUnsubscribed
            | Self::SnsRefused
            | Self::NoQueue => "/v1/integration",
        }
    }

    /// Returns the path of the console's page that shows more.
    pub const fn page(self) -> &'static str {
        match self {
            Self::ParkedUsage | Self::UnknownHours => "/metering?state=parked",
            Self::QuarantinedNotifications => "/notifications?state=quarantined",
            Self::UnclaimedBuyers => "/customers?claimed=no",
            Self::IdentityConflict => "/customers",
            Self::PastAgreementEnd => "/subscriptions?status=ending",
            Self::EndingsHeld
            | Self::DimensionWithoutPlan
            | Self::DimensionLost
            | Self::SoldDimensionLost => "/products",
            Self::AwaitedDraft => "/plans?status=draft",
            Self::AwaitedImport => "/listings",
            Self::IntegrationRemoved
            | Self::PermissionMissing
            | Self::Registrations
            | Self::TopicUnsubscribed
            | Self::SnsRefused
            | Self::NoQueue => "/integration",
            Self::WebhookPaused | Self::WebhookBehind => "/events",
            Self::PartFailing => "/#parts",
        }
    }

    /// Returns what this kind means, and what to do.
    pub const fn diagnosis(self) -> Diagnosis {
        match self {
            Self::ParkedUsage => words::PARKED_USAGE,
            Self::IntegrationRemoved => words::INTEGRATION_REMOVED,
            Self::PartFailing => words::PART_FAILING,
            Self::PermissionMissing => words::PERMISSION_MISSING,
            Self::UnknownHours => words::UNKNOWN_HOURS,
            Self::DimensionLost => words::DIMENSION_LOST,
            Self::SoldDimensionLost => words::SOLD_DIMENSION_LOST,
            Self::QuarantinedNotifications => words::QUARANTINED_NOTIFICATIONS,
            Self::EndingsHeld => words::ENDINGS_HELD,
            Self::AwaitedDraft => words::AWAITED_DRAFT,
            Self::AwaitedImport => words::AWAITED_IMPORT,
            Self::DimensionWithoutPlan => words::DIMENSION_WITHOUT_PLAN,
            Self::PastAgreementEnd => words::PAST_AGREEMENT_END,
            Self::IdentityConflict => words::IDENTITY_CONFLICT,
            Self::UnclaimedBuyers => words::UNCLAIMED_BUYERS,
            Self::Registrations => words::REGISTRATIONS,
            Self::TopicUnsubscribed => words::TOPIC_UNSUBSCRIBED,
            Self::SnsRefused => words::SNS_REFUSED,
            Self::WebhookPaused => words::WEBHOOK_PAUSED,
            Self::WebhookBehind => words::WEBHOOK_BEHIND,
            Self::NoQueue => words::NO_QUEUE,
        }
    }
}
