//! The page of the docs about events.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{data, example, sent};
use crate::domain::event::{EventType, Lane};

const ABOUT: &str = include_str!("about.md");

/// The names of the schemas that are values of their own, and no objects with fields.
type Shapes = BTreeMap<String, Value>;

/// Returns `docs/events.md`.
pub fn page() -> String {
    let mut page = ABOUT.to_owned();
    page += "\n## Types\n";
    let mut shapes = Shapes::new();
    for kind in EventType::ALL {
        let shape = data(kind);
        page += &format!("\n### `{}`\n\n{}\n\n", kind.as_str(), sent(kind));
        if kind.lane() == Lane::Bulk {
            page += "It has a lane of its own, behind which nothing else waits.\n\n";
        }
        page += &format!("`data`: [{}](#{})\n\n", shape.name, anchor(&shape.name));
        let event = json!({
            "type": kind.as_str(), "timestamp": "2026-11-10T09:00:00Z", "data": example(kind),
        });
        page += &format!(
            "```json\n{}\n```\n",
            serde_json::to_string_pretty(&event).unwrap_or_default()
        );
        shapes.insert(shape.name, json!(shape.schema));
        shapes.extend(shape.others.into_iter().map(|(name, schema)| (name, json!(schema))));
    }
    page += "\n## Data\n\nA field that is not always there is marked with a question mark.\n";
    for (name, schema) in &shapes {
        let fields = fields(schema, &shapes);
        let words = schema["description"].as_str().unwrap_or_default();
        page += &format!("\n### {name}\n\n");
        if !words.is_empty() {
            page += &format!("{}\n\n", sentence(words));
        }
        if fields.is_empty() {
            page += &format!("{}\n", of_value(schema));
            continue;
        }
        page += "| field | type | meaning |\n| --- | --- | --- |\n";
        for Field { name, is_required, kind, meaning } in fields {
            let mark = if is_required { "" } else { "?" };
            page += &format!("| `{name}`{mark} | {kind} | {meaning} |\n");
        }
    }
    page
}

/// A field of a shape.
struct Field {
    name: String,
    is_required: bool,
    kind: String,
    meaning: String,
}

/// Returns the fields of an object, those of the objects that it is made of first.
fn fields(schema: &Value, shapes: &Shapes) -> Vec<Field> {
    let mut found = Vec::new();
    for part in schema["allOf"].as_array().into_iter().flatten() {
        let of = part["$ref"].as_str().and_then(|it| shapes.get(name_of(it))).unwrap_or(part);
        found.extend(fields(of, shapes));
    }
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    for (name, of) in schema["properties"].as_object().into_iter().flatten() {
        let is_required = required.contains(&json!(name));
        found.push(Field {
            kind: if is_required { type_of(of) } else { type_of(of).replace(" or null", "") },
            is_required,
            name: name.clone(),
            meaning: sentence(meaning(of)),
        });
    }
    found
}

/// Returns the description of a field: its own, or that of what it may hold.
fn meaning(schema: &Value) -> &str {
    let parts = || {
        let parts = ["oneOf", "anyOf", "allOf"].into_iter().filter_map(|it| schema[it].as_array());
        parts.flatten().find_map(|part| part["description"].as_str())
    };
    schema["description"].as_str().or_else(parts).unwrap_or_default()
}

fn name_of(reference: &str) -> &str {
    reference.rsplit('/').next().unwrap_or(reference)
}

fn anchor(name: &str) -> String {
    name.to_lowercase()
}

/// Returns a description on one line, as a sentence.
fn sentence(words: &str) -> String {
    let line = words.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
    if line.is_empty() || line.ends_with(['.', '`']) { line } else { format!("{line}.") }
}

/// Returns what values a shape without fields has.
fn of_value(schema: &Value) -> String {
    match schema["enum"].as_array() {
        Some(words) => {
            let words: Vec<String> =
                words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect();
            format!("One of {}.", words.join(", "))
        }
        None if schema["type"] == "object" => format!("An {}.", type_of(schema)),
        None => format!("A {}.", type_of(schema)),
    }
}

/// Returns the type of a value in words.
fn type_of(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = name_of(reference);
        return format!("[{name}](#{})", anchor(name));
    }
    for either in ["oneOf", "anyOf", "allOf"] {
        if let Some(parts) = schema[either].as_array() {
            let parts: Vec<String> = parts.iter().map(type_of).collect();
            return parts.join(" or ");
        }
    }
    let word = |word: &str| match (word, schema["format"].as_str()) {
        ("string", Some("date-time")) => "time".to_owned(),
        ("array", _) => format!("list of {}", type_of(&schema["items"])),
        ("object", _) if schema["additionalProperties"].is_object() => {
            format!("object of {}", type_of(&schema["additionalProperties"]))
        }
        (word, _) => word.to_owned(),
    };
    match &schema["type"] {
        Value::String(one) => word(one),
        Value::Array(several) => {
            let words: Vec<String> = several.iter().filter_map(Value::as_str).map(word).collect();
            words.join(" or ")
        }
        _ => "anything".to_owned(),
    }
}
