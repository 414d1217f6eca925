//! Actions that buyers may take, and their outcomes.

use std::collections::BTreeMap;

use jiff::{Span, Timestamp};
use serde::{Deserialize, Serialize};

/// An action of a buyer.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Subscribes to a pay-as-you-go product, again if need be.
    Subscribe(Order),
    /// Buys a contract; for licensed products beside others of the same buyer.
    Purchase(Order),
    /// Changes dimension or quantity within the term.
    Upgrade(Order),
    /// Renews with a new agreement.
    Renew(Order),
    /// Amends the agreement: auto-renewal, end, or a new private offer.
    Amend(Order),
    /// Cancels.
    Cancel(Order),
    /// Lets the term run out now.
    Expire(Order),
    /// Tries to subscribe, and the payment fails.
    Fail(Order),
    /// AWS suspends the buyer's account, or lifts that with `suspended: false`.
    Suspend(Order),
    /// Presses "Set up your account" and gets a registration token.
    Register(Order),
}

/// The particulars of an action; each action reads what it needs.
#[expect(clippy::struct_excessive_bools, reason = "a request body's independent switches")]
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Order {
    /// The product code or entity id.
    pub product: String,
    /// The agreement, of several; the latest active one if left out.
    pub agreement_id: Option<String>,
    /// The quantities bought, by dimension.
    pub dimensions: BTreeMap<String, u64>,
    /// The length of a contract (`1y`, `1mo`, `30d`); a year if left out.
    pub term: Option<OrderTerm>,
    /// An exact end instead of a term.
    pub ends_at: Option<Timestamp>,
    /// True if the contract renews itself.
    pub auto_renew: Option<bool>,
    /// Set to start with a free trial of 30 days; a contract is then the trial alone.
    pub free_trial: bool,
    /// Set to upgrade by a new agreement with intent REPLACE.
    pub replace: bool,
    /// True if the new agreement of a renewal or replacement gets a new licence.
    pub new_license: bool,
    /// True if a renewal's event names the previous agreement; yes if left out.
    pub previous_agreement_id: Option<bool>,
    /// Set to cancel without AWS's final hour.
    pub immediate: bool,
    /// The account of a channel partner that sells it.
    pub channel_partner: Option<String>,
    /// True to suspend (the default), false to lift a suspension.
    pub suspended: Option<bool>,
}

impl Order {
    /// Makes an order for a product, with nothing else.
    pub fn of(product: impl Into<String>) -> Self {
        Self { product: product.into(), ..Self::default() }
    }

    /// Adds a quantity of a dimension.
    #[must_use]
    pub fn with(mut self, dimension: &str, quantity: u64) -> Self {
        self.dimensions.insert(dimension.to_owned(), quantity);
        self
    }
}

/// A contract's length.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(transparent)]
pub struct OrderTerm(pub Span);

impl PartialEq for OrderTerm {
    fn eq(&self, other: &Self) -> bool {
        self.0.fieldwise() == other.0.fieldwise()
    }
}

/// The ids that an action made or touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ActionOutcome {
    /// The buyer's account.
    pub account_id: String,
    /// The buyer's legacy identity; only for legacy products.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_identifier: Option<String>,
    /// The product's code.
    pub product_code: String,
    /// The agreement's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement_id: Option<String>,
    /// The licence's ARN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license_arn: Option<String>,
    /// A registration token, good for four hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration_token: Option<String>,
}

/// The reason why an action or an addition cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it")]
pub enum ActionError {
    #[error("no product has the code or entity id {product:?}")]
    UnknownProduct { product: String },
    #[error("no buyer has the account {account_id:?}")]
    UnknownBuyer { account_id: String },
    #[error("the buyer has no agreement {agreement:?}")]
    UnknownAgreement { agreement: String },
    #[error("the buyer has no active agreement for this product")]
    NotSubscribed,
    #[error("the buyer already has one; only licensed products allow concurrent agreements")]
    AlreadySubscribed,
    #[error("this product is sold as {expected}: use that action")]
    WrongPricing { expected: &'static str },
    #[error("the product has no entitled dimension {dimension:?}")]
    UnknownDimension { dimension: String },
    #[error("a contract needs at least one dimension with a quantity above zero")]
    NothingBought,
    #[error("the end of the term is not a valid time after now")]
    BadTerm,
    #[error("an account id has 12 digits, not {account_id:?}")]
    BadAccount { account_id: String },
    #[error("another buyer has the customer identifier {customer_identifier:?}")]
    IdentifierTaken { customer_identifier: String },
    #[error("a product with the code {product:?} or its entity id exists already")]
    ProductExists { product: String },
}

impl ActionError {
    /// Reports whether something named does not exist, as against not being possible.
    pub fn is_unknown(&self) -> bool {
        matches!(
            self,
            Self::UnknownProduct { .. } | Self::UnknownBuyer { .. } | Self::UnknownAgreement { .. }
        )
    }
}
