//! A usage record as sent, checked for its form alone.

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde_json::Value;

use super::ApiError;
use super::allocations::{Allocations, read_allocations};
use super::input::{text, timestamp};

const QUANTITY_MAX: i64 = 2_147_483_647;

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

fn validation(message: impl Into<String>) -> ApiError {
    ApiError::bad_request("ValidationException", message)
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

/// A quantity given as an integer or as a decimal's text, never both.
pub(super) fn read_quantity(
    record: &Value,
    integer: &str,
    decimal: &str,
) -> Result<Option<Decimal>, ApiError> {
    let present = |name: &str| record.get(name).filter(|value| !value.is_null());
    match (present(integer), present(decimal)) {
        (Some(_), Some(_)) => {
            Err(validation(format!("{integer} and {decimal} are mutually exclusive")))
        }
        (Some(value), None) => value
            .as_i64()
            .filter(|quantity| (0..=QUANTITY_MAX).contains(quantity))
            .map(|quantity| Some(Decimal::from(quantity)))
            .ok_or_else(|| validation(format!("{integer} must be from 0 to {QUANTITY_MAX}"))),
        (None, Some(value)) => value
            .as_str()
            .filter(|text| is_decimal(text))
            .and_then(|text| text.parse().ok())
            .map(Some)
            .ok_or_else(|| validation(format!("{decimal} is not a decimal that AWS accepts"))),
        (None, None) => Ok(None),
    }
}

/// AWS's pattern: up to 10 digits without a leading zero, up to 6 decimals.
fn is_decimal(text: &str) -> bool {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    let digits = |part: &str, most| {
        (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    digits(whole, 10)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(|part| digits(part, 6))
}
