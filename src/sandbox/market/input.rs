//! Reading of API inputs and writing of answers: small helpers over JSON values.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Number, Value};

use super::ApiError;

/// Returns a member's text; an absent, null or empty member is `None`, as the SDKs send `""` for unset.
pub(super) fn text<'a>(input: &'a Value, name: &str) -> Option<&'a str> {
    input.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// Returns `MaxResults`, or the default.
pub(super) fn page_size(
    input: &Value,
    name: &str,
    most: usize,
    refusal: impl Fn(String) -> ApiError,
) -> Result<usize, ApiError> {
    match input.get(name) {
        None | Some(Value::Null) => Ok(most),
        Some(value) => value
            .as_u64()
            .and_then(|size| usize::try_from(size).ok())
            .filter(|size| (1..=most).contains(size))
            .ok_or_else(|| refusal(format!("{name} must be between 1 and {most}"))),
    }
}

/// Encodes a position as an opaque paging token.
pub(super) fn encode_token(position: &str) -> String {
    URL_SAFE_NO_PAD.encode(position)
}

/// Decodes the position in a paging token; `None` when it is not one of ours.
pub(super) fn decode_token(token: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    String::from_utf8(bytes).ok()
}

/// Reads a timestamp in any of the forms that SDKs send: epoch seconds or RFC 3339.
pub(super) fn timestamp(value: &Value) -> Option<Timestamp> {
    match value {
        Value::Number(number) => {
            if let Some(seconds) = number.as_i64() {
                return Timestamp::from_second(seconds).ok();
            }
            // Fractions of a second do not matter for anything that AWS decides by hour.
            let text = number.to_string();
            let (seconds, _) = text.split_once('.')?;
            Timestamp::from_second(seconds.parse().ok()?).ok()
        }
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// Writes a timestamp as epoch seconds as AWS does, with milliseconds where there are any.
pub(super) fn epoch(at: Timestamp) -> Value {
    if at.as_millisecond() % 1000 == 0 {
        return Value::from(at.as_second());
    }
    let text = format!("{}.{:03}", at.as_second(), at.subsec_millisecond());
    let number = text.parse().ok().and_then(Number::from_f64);
    number.map_or_else(|| Value::from(at.as_second()), Value::Number)
}
