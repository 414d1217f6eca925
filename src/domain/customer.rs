//! The seller's customer.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{AccountId, CustomerId, CustomerIdentifier, LicenseArn};

/// A customer and what AWS calls it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Customer {
    /// The seller's id, or a generated `aws-…` while nobody has claimed it.
    pub id: CustomerId,
    /// The name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Set if the seller provisioned it; otherwise it is known from AWS only.
    pub claimed: bool,
    /// The ids by which AWS knows it.
    #[serde(skip_serializing_if = "AwsIdentity::is_empty")]
    pub aws: AwsIdentity,
    /// Ids that led here before two customers turned out to be one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<CustomerId>,
    /// The seller's own notes.
    pub metadata: Map<String, Value>,
    /// The time at which it was first known.
    pub created_at: Timestamp,
    /// The time at which it last changed.
    pub updated_at: Timestamp,
    /// The time at which it was erased who the customer is; until they are named anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erased_at: Option<Timestamp>,
}

impl Customer {
    /// Makes a customer whom nobody has provisioned, with no AWS ids yet.
    pub fn unclaimed(id: CustomerId, now: Timestamp) -> Self {
        Self {
            id,
            name: None,
            email: None,
            claimed: false,
            aws: AwsIdentity::default(),
            aliases: Vec::new(),
            metadata: Map::new(),
            created_at: now,
            updated_at: now,
            erased_at: None,
        }
    }
}

/// The ids by which AWS knows a customer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct AwsIdentity {
    /// The AWS account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<AccountId>,
    /// The legacy name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_identifier: Option<CustomerIdentifier>,
    /// Licences that were named when it was provisioned.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub license_arns: Vec<LicenseArn>,
}

impl AwsIdentity {
    /// Reports whether AWS does not know this customer.
    pub fn is_empty(&self) -> bool {
        self.account_id.is_none()
            && self.customer_identifier.is_none()
            && self.license_arns.is_empty()
    }
}
