//! A customer on a plan.

use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use super::quantity::as_number;
use super::{
    AccountId, AgreementId, CustomerId, CustomerIdentifier, DimensionKey, Holder, LicenseArn,
    PlanId, ProductCode, ProductId, Quantity, SubscriptionId,
};

/// The status of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Bought, not yet in force.
    Pending,
    /// In force, in a free trial of AWS's.
    Trialing,
    /// In force.
    Active,
    /// In force, its end announced.
    Ending,
    /// Ended by the buyer or by AWS.
    Canceled,
    /// Ended by date.
    Expired,
    /// Never came into force.
    Failed,
}

impl Status {
    /// Every status, in the order of a subscription's life.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Trialing,
        Self::Active,
        Self::Ending,
        Self::Canceled,
        Self::Expired,
        Self::Failed,
    ];

    /// Returns the word that the API writes for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Trialing => "trialing",
            Self::Active => "active",
            Self::Ending => "ending",
            Self::Canceled => "canceled",
            Self::Expired => "expired",
            Self::Failed => "failed",
        }
    }

    /// Reads the status that the word names.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// Returns the status of a direct subscription at a moment, by its dates.
    #[must_use]
    pub fn at(
        self,
        starts_at: Option<Timestamp>,
        ends_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Self {
        let over = ends_at.is_some_and(|end| end <= now);
        let ahead = starts_at.is_some_and(|start| start > now);
        match self {
            Self::Ending if over => Self::Canceled,
            Self::Pending | Self::Trialing | Self::Active if over => Self::Expired,
            Self::Pending | Self::Trialing | Self::Active if ahead => Self::Pending,
            Self::Pending => Self::Active,
            status => status,
        }
    }

    /// Reports whether it is over, or never began.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Canceled | Self::Expired | Self::Failed)
    }

    /// Reports whether the plan may be used.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Trialing | Self::Active | Self::Ending)
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        Self::parse(&word).ok_or_else(|| {
            let words = Self::ALL.map(Self::as_str).join(", ");
            D::Error::custom(format!("{word:?} is none of {words}"))
        })
    }
}

/// The place where a subscription was bought, or a plan is sold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// On AWS Marketplace.
    Aws,
    /// On the seller's own site.
    Direct,
}

impl Source {
    /// Returns the word that the API writes for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Direct => "direct",
        }
    }
}

/// The terms of what was bought, and how it stands: the part of a subscription that AWS decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The licence or buyer that it belongs to at AWS; none for direct ones.
    pub holder: Option<Holder>,
    /// The buyer's account, where known.
    pub account_id: Option<AccountId>,
    /// The licence, where known.
    pub license_arn: Option<LicenseArn>,
    /// The agreement, where known.
    pub agreement_id: Option<AgreementId>,
    /// The entitled dimension; none for pay-as-you-go.
    pub dimension: Option<DimensionKey>,
    /// The plan that this means; none while the dimension is not mapped.
    pub plan_id: Option<PlanId>,
    /// The quantity that was bought.
    pub quantity: Option<Quantity>,
    /// Its status.
    pub status: Status,
    /// The time at which it came into force.
    pub starts_at: Option<Timestamp>,
    /// The earliest date on which it may end.
    pub ends_at: Option<Timestamp>,
    /// The time of the first answer of AWS that did not list it any more.
    pub missing_since: Option<Timestamp>,
    /// The time at which it ended.
    pub ended_at: Option<Timestamp>,
    /// The licence of a renewal or replacement, or the other holder, that it went on under when it ended.
    pub renewed_by: Option<Holder>,
}

impl Terms {
    /// Returns the legacy name of the buyer, if it is held by that.
    pub fn customer_identifier(&self) -> Option<&CustomerIdentifier> {
        match &self.holder {
            Some(Holder::Buyer(id)) => Some(id),
            _ => None,
        }
    }
}

/// A customer on a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Its id, which stays through upgrades and renewals.
    pub id: SubscriptionId,
    /// The customer.
    pub customer_id: CustomerId,
    /// The product; a plan of the seller's own may belong to none.
    pub product_id: Option<ProductId>,
    /// The product's code, where it has one.
    pub product_code: Option<ProductCode>,
    /// The place where it was bought.
    pub source: Source,
    /// The terms of what was bought, and how it stands.
    pub terms: Terms,
    /// The time at which it was first known.
    pub created_at: Timestamp,
    /// The time at which it last changed.
    pub updated_at: Timestamp,
}

impl Subscription {
    /// Returns its status at a moment.
    pub fn status_at(&self, now: Timestamp) -> Status {
        match self.source {
            Source::Aws => self.terms.status,
            Source::Direct => self.terms.direct_status_at(now),
        }
    }
}

impl Terms {
    /// Returns the status of a direct subscription: its dates say so, and nobody has to tell. Those of one bought on
    /// AWS say only when it may end.
    pub fn direct_status_at(&self, now: Timestamp) -> Status {
        self.status.at(self.starts_at, self.ends_at, now)
    }
}

/// A subscription as the API shows it: what is unknown is left out.
#[derive(Serialize, ToSchema)]
#[schema(as = Subscription)]
pub struct SubscriptionView<'a> {
    /// Its id.
    pub id: &'a SubscriptionId,
    /// The customer.
    pub customer_id: &'a CustomerId,
    /// The product; left out if its listing is not imported, or it is sold directly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product_id: Option<&'a ProductId>,
    /// The product's code at AWS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product_code: Option<&'a ProductCode>,
    /// The buyer at AWS; left out if it is sold directly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buyer: Option<BuyerView<'a>>,
    /// The plan; left out while its dimension means none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_id: Option<&'a PlanId>,
    /// The source: AWS Marketplace, or the seller's own site.
    pub source: Source,
    /// Its status.
    pub status: Status,
    /// The units that were bought.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_number")]
    #[schema(value_type = Option<f64>, minimum = 0)]
    pub quantity: Option<Quantity>,
    /// The contract dimension that was bought; left out for pay-as-you-go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dimension: Option<&'a DimensionKey>,
    /// The licence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license_arn: Option<&'a LicenseArn>,
    /// The agreement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement_id: Option<&'a AgreementId>,
    /// The time at which it begins or began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<Timestamp>,
    /// The time until which it is known to last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Timestamp>,
    /// The time at which it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// The licence, or legacy buyer, under which it went on when it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renewed_by: Option<&'a str>,
}

/// AWS's ids of the buyer of a subscription.
#[derive(Serialize, ToSchema)]
#[schema(as = Buyer)]
pub struct BuyerView<'a> {
    /// The account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<&'a AccountId>,
    /// The legacy name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_identifier: Option<&'a CustomerIdentifier>,
}

impl Serialize for Subscription {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let terms = &self.terms;
        let buyer = || BuyerView {
            account_id: terms.account_id.as_ref(),
            customer_identifier: terms.customer_identifier(),
        };
        let view = SubscriptionView {
            id: &self.id,
            customer_id: &self.customer_id,
            product_id: self.product_id.as_ref(),
            product_code: self.product_code.as_ref(),
            buyer: terms.holder.is_some().then(buyer),
            plan_id: terms.plan_id.as_ref(),
            source: self.source,
            status: terms.status,
            quantity: terms.quantity,
            dimension: terms.dimension.as_ref(),
            license_arn: terms.license_arn.as_ref(),
            agreement_id: terms.agreement_id.as_ref(),
            starts_at: terms.starts_at,
            ends_at: terms.ends_at,
            ended_at: terms.ended_at,
            renewed_by: terms.renewed_by.as_ref().map(Holder::value),
        };
        view.serialize(serializer)
    }
}
