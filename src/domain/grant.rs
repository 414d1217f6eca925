//! Grants: the entitlements that AWS says a buyer holds now.

use jiff::Timestamp;
use rust_decimal::Decimal;

use super::{AccountId, CustomerIdentifier, DimensionKey, LicenseArn, ProductCode};

/// One row of `GetEntitlements`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The product.
    pub product_code: ProductCode,
    /// The dimension that was bought.
    pub dimension: DimensionKey,
    /// The buyer's legacy name; products of the new form leave it out.
    pub customer_identifier: Option<CustomerIdentifier>,
    /// The buyer's AWS account.
    pub account_id: Option<AccountId>,
    /// The licence.
    pub license_arn: Option<LicenseArn>,
    /// The amount of it that was bought.
    pub value: GrantValue,
    /// The earliest date on which it may end. A buyer who will renew has one too.
    pub expires_at: Option<Timestamp>,
}

/// A grant's value; AWS sends exactly one of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrantValue {
    /// A count.
    Integer(i64),
    /// A switch: had or not had.
    Boolean(bool),
    /// A fractional count.
    Decimal(Decimal),
    /// A word of the seller's own.
    Text(String),
}
