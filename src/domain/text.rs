//! Texts that somebody writes about a customer, a plan or a feature: as long as a person would write them, and nothing in
//! them that a terminal or a mail would take for more than text.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// The most characters of a name or a mail address.
const TEXT_LONGEST: usize = 320;
/// The most bytes that metadata take as JSON.
const METADATA_LARGEST: usize = 16 * 1_024;
/// Beyond this, whole numbers are no longer exact for everybody who reads JSON.
const EXACT: u64 = 1 << 53;

/// A name, or a mail address: one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(value_type = String, max_length = 320)]
#[serde(transparent)]
pub struct Line(String);

impl Line {
    /// Returns the text, owned.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.chars().count() > TEXT_LONGEST || text.chars().any(char::is_control) {
            return Err(D::Error::custom(format!(
                "it is a line of at most {TEXT_LONGEST} characters, none of them a control character"
            )));
        }
        Ok(Self(text))
    }
}

/// Reads a line where a text is kept.
pub(super) fn line<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Line::deserialize(deserializer).map(Line::into_string)
}

/// Reads a line that may be left out.
pub(super) fn optional_line<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    Ok(Option::<Line>::deserialize(deserializer)?.map(Line::into_string))
}

/// Data that the seller keeps with a customer for their own use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
#[schema(value_type = Object)]
#[serde(transparent)]
pub struct Metadata(Map<String, Value>);

impl Metadata {
    /// Returns the members, owned.
    pub fn into_members(self) -> Map<String, Value> {
        self.0
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let members = Map::deserialize(deserializer)?;
        if let Some(number) = members.values().find_map(inexact) {
            return Err(D::Error::custom(format!(
                "{number} is beyond what JSON's readers keep exactly: write it as a string"
            )));
        }
        let value = Value::Object(members);
        if value.to_string().len() > METADATA_LARGEST {
            return Err(D::Error::custom(format!(
                "metadata are at most {METADATA_LARGEST} bytes of JSON"
            )));
        }
        match value {
            Value::Object(members) => Ok(Self(members)),
            _ => Ok(Self::default()),
        }
    }
}

/// Finds a number that was rounded when it was read, or would be by others.
fn inexact(value: &Value) -> Option<&serde_json::Number> {
    match value {
        Value::Number(number) => {
            let exact = number.as_i64().map(i64::unsigned_abs).or(number.as_u64());
            let large = match exact {
                Some(whole) => whole > EXACT,
                // A whole number that is too large for these comes as a float.
                None => number.as_f64().is_none_or(|it| it.abs() >= 9_007_199_254_740_992.0),
            };
            large.then_some(number)
        }
        Value::Array(values) => values.iter().find_map(inexact),
        Value::Object(members) => members.values().find_map(inexact),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken<T: serde::de::DeserializeOwned>(json: &str) -> bool {
        serde_json::from_str::<T>(json).is_ok()
    }

    #[test]
    fn a_name_is_one_line_of_a_bounded_length() {
        let long = |count: usize| format!("\"{}\"", "\u{fc}".repeat(count));
        for (json, expected) in [
            ("\"Acme\"", true),
            ("\"\"", true),
            ("\"zo\u{eb} <zoe@example.com>\"", true),
            ("\"x\\r\\nBcc: y\"", false),
            ("\"\\u001b[2J\"", false),
            ("\"\\u0085\"", false),
            (long(TEXT_LONGEST).as_str(), true),
            (long(TEXT_LONGEST + 1).as_str(), false),
        ] {
            assert_eq!(taken::<Line>(json), expected, "{json}");
        }
    }

    #[test]
    fn metadata_are_small_and_their_numbers_exact() {
        let long = |count: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(count - 8));
        for (json, expected) in [
            ("{}", true),
            ("{\"a\": 9007199254740992, \"b\": -9007199254740992}", true),
            ("{\"a\": 9007199254740993}", false),
            ("{\"a\": -9007199254740993}", false),
            ("{\"a\": 18446744073709551615}", false),
            ("{\"a\": 12345678901234567890123}", false),
            ("{\"a\": 1e300}", false),
            ("{\"a\": 0.1, \"b\": 1e3}", true),
            ("{\"a\": [{\"b\": [1, 9007199254740993]}]}", false),
            ("{\"a\": \"9007199254740993\"}", true),
            (long(METADATA_LARGEST).as_str(), true),
            (long(METADATA_LARGEST + 1).as_str(), false),
        ] {
            assert_eq!(taken::<Metadata>(json), expected, "{json:.80}");
        }
    }
}
