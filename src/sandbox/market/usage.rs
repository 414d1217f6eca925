//! A usage record as sent, checked for its form alone.

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde_json::Value;

use super::ApiError;
use super::allocations::{Allocations, read_allocations};
use super::input::{text, timestamp};
use super::quantity::{read_quantity, validation};

/// One usage record of a call.
#[derive(Debug, Clone)]
pub(super) struct UsageRecord {
    pub(super) timestamp: Timestamp,
    pub(super) dimension: String,
    pub(super) quantity: Decimal,
    pub(super) allocations: Allocations,
    pub(super) customer_identifier: Option<String>,
    pub(super) account_id: Option<String>,
    pub(super) license_arn: Option<String>,
}

pub(super) fn read_record(record: &Value) -> Result<UsageRecord, ApiError> {
    let given = record.get("Timestamp").ok_or_else(|| validation("Timestamp is required"))?;
    let dimension = text(record, "Dimension").ok_or_else(|| validation("Dimension is required"))?;
    if dimension.len() > 255 {
        return Err(validation("Dimension has at most 255 characters"));
    }
    let quantity = read_quantity(record, "Quantity", "QuantityAsDecimal")?.unwrap_or(Decimal::ZERO);
    let is_decimal = record.get("QuantityAsDecimal").is_some_and(|it| !it.is_null());
    let owned = |name| text(record, name).map(str::to_owned);
    Ok(UsageRecord {
        timestamp: timestamp(given).ok_or_else(|| validation("Timestamp is malformed"))?,
        dimension: dimension.to_owned(),
        quantity,
        allocations: read_allocations(record, quantity, is_decimal)?,
        customer_identifier: owned("CustomerIdentifier"),
        account_id: owned("CustomerAWSAccountId"),
        license_arn: owned("LicenseArn"),
    })
}
