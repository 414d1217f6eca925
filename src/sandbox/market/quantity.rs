//! Reading of quantities as AWS does.

use rust_decimal::Decimal;
use serde_json::Value;

use super::ApiError;

const QUANTITY_MAX: i64 = 2_147_483_647;

pub(super) fn validation(message: impl Into<String>) -> ApiError {
    ApiError::bad_request("ValidationException", message)
}

/// Reads a quantity given as an integer or as a decimal's text, never both.
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

/// Reports whether a text matches AWS's pattern: up to 10 digits without a leading zero, up to 6 decimals.
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
