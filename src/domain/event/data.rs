//! The data of events that show no row as it stands: what happened, and to what.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::domain::feature::Feature;
use crate::domain::product::Dimension;
use crate::domain::{
    AwsIdentity, ClockHour, CustomerId, DimensionKey, FeatureId, ProductCode, ProductId, Quantity,
};

/// Two customers who turned out to be one.
#[derive(Serialize, ToSchema)]
pub struct CustomerMerged<'a> {
    /// The customer that remains.
    pub id: &'a CustomerId,
    /// The id that is no customer's own any more, and leads to the one that remains.
    pub merged: &'a CustomerId,
    /// The details of the other that were given up, since both had some.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub lost: Map<String, Value>,
}

/// A customer that was parted from its AWS ids.
#[derive(Serialize, ToSchema)]
pub struct CustomerUnlinked<'a> {
    /// The customer.
    pub id: &'a CustomerId,
    /// The AWS ids that it had.
    pub aws: &'a AwsIdentity,
    /// The customer, with a generated id, who has them now with all that was bought under them.
    pub unlinked: &'a CustomerId,
}

/// A contradiction between AWS and what is known of a customer.
#[derive(Serialize, ToSchema)]
pub struct CustomerContradiction<'a> {
    /// The customer whose ids do not fit.
    pub customer_id: &'a CustomerId,
    /// The customer for whom AWS's answer was taken.
    pub taken_for: &'a CustomerId,
    /// The contradiction in words.
    pub detail: &'a str,
}

/// A registration that was exchanged for a customer.
#[derive(Serialize, ToSchema)]
pub struct RegistrationExchanged<'a> {
    /// The registration.
    pub id: &'a str,
    /// The customer.
    pub customer_id: &'a CustomerId,
}

/// Buyers who came from AWS and were refused.
#[derive(Serialize, ToSchema)]
pub struct RegistrationRefused<'a> {
    /// The reason: `expired`, `unknown`, `busy` or `product_not_imported`.
    pub reason: &'a str,
    /// The way by which they came: `door` for the redirect, or `api`.
    pub via: &'a str,
    /// Their number since the last such event.
    pub count: u64,
    /// The product that is not imported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product_code: Option<&'a ProductCode>,
}

/// A feature, and the dimensions that its usage is billed to no more.
#[derive(Serialize, ToSchema)]
pub struct FeatureUpdated<'a> {
    /// The feature as it stands.
    #[serde(flatten)]
    pub feature: &'a Feature,
    /// The dimensions that its usage is billed to no more, by product.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<ProductId, DimensionKey>)]
    pub unlinked: BTreeMap<&'a ProductId, &'a DimensionKey>,
}

/// The dimensions of a product that changed at AWS.
#[derive(Serialize, ToSchema)]
pub struct ProductSynced<'a> {
    /// The product.
    pub product_id: &'a ProductId,
    /// Dimensions that are new.
    #[schema(value_type = Vec<Dimension>)]
    pub added: &'a [Dimension],
    /// Dimensions that are described otherwise.
    #[schema(value_type = Vec<Dimension>)]
    pub changed: &'a [Dimension],
    /// Dimensions that are gone.
    #[schema(value_type = Vec<Dimension>)]
    pub removed: &'a [Dimension],
}

/// Endings that are held back.
#[derive(Serialize, ToSchema)]
pub struct EndingsHeld<'a> {
    /// The product.
    pub product_id: &'a ProductId,
    /// The things that would end: `subscriptions` or `dimensions`.
    pub what: &'a str,
    /// The number of those that AWS lists no more.
    pub unlisted: u64,
    /// The number of those that are live.
    pub live: u64,
    /// The number up to which they would end by themselves.
    pub allowed: u64,
}

/// Endings that are held back no more.
#[derive(Serialize, ToSchema)]
pub struct EndingsLetGo<'a> {
    /// The product.
    pub product_id: &'a ProductId,
    /// The things: `subscriptions` or `dimensions`.
    pub what: &'a str,
    /// The number of those that AWS does not list.
    pub unlisted: u64,
}

/// How a product is metered.
#[derive(Serialize, ToSchema)]
pub struct LicensingChanged<'a> {
    /// The product.
    pub product_id: &'a ProductId,
    /// The hour from which on its buyers are metered by licence; null if they are not to be.
    #[schema(required = true)]
    pub licensed_from: Option<ClockHour>,
}

/// Trouble with AWS.
#[derive(Serialize, ToSchema)]
pub struct AwsTrouble<'a> {
    /// The reason in AWS's words, or the connection's.
    pub reason: &'a str,
}

/// Credentials that AWS refuses.
#[derive(Serialize, ToSchema)]
pub struct CredentialsRefused<'a> {
    /// The reason in AWS's words.
    pub reason: &'a str,
    /// The call that was refused.
    pub operation: &'a str,
}

/// No data: the type says all.
#[derive(Serialize, ToSchema)]
pub struct NoData {}

/// Usage that turned out to be beyond what a plan includes, and is billed.
#[derive(Serialize, ToSchema)]
pub struct UsageRatedAnew<'a> {
    /// The customer.
    pub customer_id: &'a CustomerId,
    /// The product.
    pub product_id: &'a ProductId,
    /// The feature.
    pub feature_id: &'a FeatureId,
    /// The units that are billed besides.
    pub quantity: Quantity,
}

/// A message of AWS's that is kept and not applied.
#[derive(Serialize, ToSchema)]
pub struct NotificationQuarantined<'a> {
    /// The notification.
    pub id: &'a str,
    /// Its action or detail-type; `unreadable` or `untrusted` if that is not known.
    pub kind: &'a str,
    /// The size of its body.
    pub bytes: usize,
    /// The reason in words.
    pub reason: &'a str,
}

/// A message that a person took out of quarantine without applying it.
#[derive(Serialize, ToSchema)]
pub struct NotificationDiscarded<'a> {
    /// The notification.
    pub id: &'a str,
    /// Its action or detail-type; `unreadable` or `untrusted` if that is not known.
    pub kind: &'a str,
    /// The name of the token by which it was discarded; `local` where the API has none.
    pub actor: &'a str,
    /// The reason that was given.
    pub note: &'a str,
}

/// A topic of AWS's whose subscription was ended.
#[derive(Serialize, ToSchema)]
pub struct TopicUnsubscribed<'a> {
    /// The topic.
    pub topic_arn: &'a str,
}

/// An event that the application would not have.
#[derive(Serialize, ToSchema)]
pub struct WebhookGivenUp<'a> {
    /// The event.
    pub event_id: &'a str,
    /// Its type.
    pub r#type: &'a str,
    /// The customer whom it tells of.
    #[schema(required = true)]
    pub customer_id: Option<&'a CustomerId>,
    /// The cursor after which it is posted again by a replay.
    pub after: String,
    /// The application's last answer, in words.
    pub reason: &'a str,
}
