//! Whether data has the shape that the description promises.

use std::collections::BTreeMap;

use marketd::domain::event::EventType;
use serde_json::{Value, json};

/// Returns what an event's data has that its type's shape has not, or lacks.
pub(crate) fn faults(kind: &str, data: &Value) -> Vec<String> {
    let Some(kind) = EventType::parse(kind) else { return vec![format!("no type is {kind}")] };
    let shape = marketd::events::data(kind);
    let shapes = shape.others.iter().map(|(name, schema)| (name.clone(), json!(schema))).collect();
    let mut faults = Vec::new();
    check(&json!(shape.schema), data, &shapes, "data", &mut faults);
    faults
}

type Shapes = BTreeMap<String, Value>;

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn resolved<'a>(schema: &'a Value, shapes: &'a Shapes) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => &shapes[reference.rsplit('/').next().unwrap()],
        None => schema,
    }
}

fn check(schema: &Value, value: &Value, shapes: &Shapes, at: &str, faults: &mut Vec<String>) {
    let schema = resolved(schema, shapes);
    for either in ["oneOf", "anyOf"] {
        let parts = list(&schema[either]);
        let fits = |part: &Value| {
            let mut own = Vec::new();
            check(part, value, shapes, at, &mut own);
            own.is_empty()
        };
        if !parts.is_empty() && !parts.iter().any(fits) {
            faults.push(format!("{at} is of no shape that it may have: {value}"));
        }
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    };
    if !types.is_empty() && !types.iter().any(|kind| is_a(kind.as_str().unwrap(), value)) {
        faults.push(format!("{at} is {value}, and not a {types:?}"));
    }
    if !schema["enum"].is_null() && !list(&schema["enum"]).contains(value) {
        faults.push(format!("{at} is {value}, which is none of its words"));
    }
    for (place, item) in list(value).iter().enumerate() {
        check(&schema["items"], item, shapes, &format!("{at}[{place}]"), faults);
    }
    if let Some(members) = value.as_object() {
        check_members(schema, members, shapes, at, faults);
    }
}

fn check_members(
    schema: &Value,
    members: &serde_json::Map<String, Value>,
    shapes: &Shapes,
    at: &str,
    faults: &mut Vec<String>,
) {
    let mut parts = vec![schema];
    while let Some(part) = parts.iter().find(|part| !list(&part["allOf"]).is_empty()).copied() {
        parts.retain(|it| !std::ptr::eq(*it, part));
        parts.extend(list(&part["allOf"]).iter().map(|it| resolved(it, shapes)));
    }
    let others = parts.iter().map(|part| &part["additionalProperties"]).find(|it| !it.is_null());
    let knows =
        |key: &str| parts.iter().map(|part| &part["properties"][key]).find(|it| !it.is_null());
    let is_object = parts.iter().any(|part| part["properties"].is_object());
    for (key, value) in members {
        let at = format!("{at}.{key}");
        match (knows(key), others) {
            (Some(known), _) => check(known, value, shapes, &at, faults),
            (None, Some(other)) => check(other, value, shapes, &at, faults),
            (None, None) if is_object => faults.push(format!("{at} is not described")),
            (None, None) => {}
        }
    }
    for key in parts.iter().flat_map(|part| list(&part["required"])) {
        if !members.contains_key(key.as_str().unwrap()) {
            faults.push(format!("{at} lacks {key}"));
        }
    }
}

fn is_a(kind: &str, value: &Value) -> bool {
    match kind {
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        _ => false,
    }
}
