//! Conversion between CBOR and JSON: the market works in JSON, current SDKs speak CBOR to some services.

use ciborium::Value as Cbor;
use serde_json::{Map, Number, Value};

/// The fields that are timestamps: numbers of seconds in JSON, tagged numbers in CBOR.
const TIMES: [&str; 6] = [
    "ExpirationDate",
    "acceptanceTime",
    "startTime",
    "endTime",
    "lastUpdateTime",
    "freeTrialEndTime",
];
/// The tag of a timestamp in seconds since 1970 (RFC 8949).
const EPOCH_TAG: u64 = 1;

/// Reads a body; `None` if it is not CBOR.
pub(super) fn decode(body: &[u8]) -> Option<Value> {
    if body.is_empty() {
        return Some(Value::Object(Map::new()));
    }
    ciborium::from_reader(body).ok().map(to_json)
}

fn to_json(value: Cbor) -> Value {
    match value {
        Cbor::Integer(number) => i64::try_from(number).map_or(Value::Null, Value::from),
        Cbor::Float(number) => Number::from_f64(number).map_or(Value::Null, Value::Number),
        Cbor::Text(text) => Value::String(text),
        Cbor::Bool(truth) => Value::Bool(truth),
        Cbor::Tag(_, inner) => to_json(*inner),
        Cbor::Array(items) => items.into_iter().map(to_json).collect(),
        Cbor::Map(entries) => entries
            .into_iter()
            .filter_map(|(key, value)| Some((key.into_text().ok()?, to_json(value))))
            .collect(),
        _ => Value::Null,
    }
}

/// Writes a body.
pub(super) fn encode(value: &Value) -> Vec<u8> {
    let mut body = Vec::new();
    ciborium::into_writer(&to_cbor(value, false), &mut body)
        .expect("writing to memory does not fail");
    body
}

fn to_cbor(value: &Value, is_time: bool) -> Cbor {
    match value {
        Value::Null => Cbor::Null,
        Value::Bool(truth) => Cbor::Bool(*truth),
        Value::String(text) => Cbor::Text(text.clone()),
        Value::Number(number) => {
            let plain = match number.as_i64() {
                Some(whole) => Cbor::Integer(whole.into()),
                None => Cbor::Float(number.as_f64().unwrap_or_default()),
            };
            if is_time { Cbor::Tag(EPOCH_TAG, Box::new(plain)) } else { plain }
        }
        Value::Array(items) => Cbor::Array(items.iter().map(|item| to_cbor(item, false)).collect()),
        Value::Object(members) => Cbor::Map(
            members
                .iter()
                .map(|(key, value)| {
                    let time = TIMES.contains(&key.as_str());
                    (Cbor::Text(key.clone()), to_cbor(value, time))
                })
                .collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let value =
            json!({"a": [1, -2, "t", true, null, 1.5], "ExpirationDate": 1_700_000_000, "m": {}});
        assert_eq!(decode(&encode(&value)), Some(value));
        assert_eq!(decode(b""), Some(json!({})));
        assert_eq!(decode(b"\xff\xff"), None);
    }

    #[test]
    fn times_are_tagged() {
        let body = encode(&json!({"ExpirationDate": 5}));
        let read: Cbor = ciborium::from_reader(body.as_slice()).unwrap();
        let expected = Cbor::Tag(1, Box::new(Cbor::Integer(5.into())));
        assert_eq!(read.as_map().unwrap()[0].1, expected);
    }
}
