//! One thing in full: a line for each of its values, then a table for each list in it.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::cells::{Column, Kind, state_of};
use super::inert::inert;
use super::screen::Screen;
use super::table::{Table, pairs};

/// The keys that say what a thing is, in the order in which they are shown before the others.
const FIRST: [&str; 9] =
    ["id", "key", "feature_id", "customer_id", "name", "title", "at", "state", "status"];
/// The keys by one of which a thing within a thing is named.
const ID_KEYS: [&str; 4] = ["id", "key", "feature_id", "dimension"];
/// The keys of prose, however short it is.
const PROSE: [&str; 5] = ["detail", "name", "note", "reason", "title"];
/// The characters up to which a column's words are short, as ids and times are.
const SHORT: usize = 40;

/// Returns the place of a key among the others: what a thing is comes first.
fn rank(key: &str) -> usize {
    FIRST.iter().position(|first| *first == key).unwrap_or(FIRST.len())
}

/// Returns the lines of a document.
pub(super) fn lines(screen: Screen, document: &Value) -> String {
    let (mut values, mut lists) = (Vec::new(), Vec::new());
    flatten("", document, &mut values, &mut lists);
    values.sort_by_key(|(key, _)| rank(key));
    let pair = |(key, value): &(String, &Value)| {
        let kind = Kind::of_key(key, value);
        let text = if key == "state" { state_of(document, value) } else { kind.text(value) };
        (inert(key), kind, text)
    };
    let mut text = pairs(screen, &values.iter().map(pair).collect::<Vec<_>>());
    for (key, items) in lists {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&inert(&key));
        text.push_str(":\n");
        text.push_str(&list(screen, items));
    }
    text
}

/// Returns the table of a list of things: a column for each key that one of them has.
fn list(screen: Screen, items: &[Value]) -> String {
    let rows: Vec<Value> = items.iter().map(flat).collect();
    let mut seen = BTreeSet::new();
    let mut keys: Vec<&str> = Vec::new();
    for key in rows.iter().filter_map(Value::as_object).flat_map(Map::keys) {
        if seen.insert(key) {
            keys.push(key);
        }
    }
    keys.sort_by_key(|key| rank(key));
    let headings: Vec<String> =
        keys.iter().map(|key| inert(key).replace('_', " ").to_uppercase()).collect();
    let columns = keys.iter().zip(&headings).map(|(key, heading)| {
        let values = || rows.iter().filter_map(|row| row.get(*key));
        let is_long = values().any(|value| value.as_str().is_some_and(|it| it.len() > SHORT));
        let kind = Kind::of_key(key, values().next().unwrap_or(&Value::Null));
        match kind {
            Kind::Text if !is_long && !PROSE.contains(key) => {
                Column { heading, path: key, kind: Kind::Id }
            }
            kind => Column { heading, path: key, kind },
        }
    });
    let columns: Vec<Column> = columns.collect();
    let mut table = Table::on(screen, &columns).wrapping();
    table.drawn(&rows)
}

/// Returns a thing of a list with what is nested in it under dotted keys.
fn flat(item: &Value) -> Value {
    let (mut values, mut lists) = (Vec::new(), Vec::new());
    flatten("", item, &mut values, &mut lists);
    let lists = lists.into_iter().map(|(key, items)| (key, ids(items)));
    let values = values.into_iter().map(|(key, value)| (key, value.clone()));
    values.chain(lists).collect::<Map<_, _>>().into()
}

/// Returns the ids of a list's things, or the things where they have none.
fn ids(items: &[Value]) -> Value {
    let id = |item: &Value| ID_KEYS.iter().find_map(|key| item.get(*key)).unwrap_or(item).clone();
    items.iter().map(id).collect()
}

/// Collects a document's values, and its lists of things, each under its dotted key.
fn flatten<'a>(
    prefix: &str,
    value: &'a Value,
    values: &mut Vec<(String, &'a Value)>,
    lists: &mut Vec<(String, &'a Vec<Value>)>,
) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (key, value) in members {
                let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&key, value, values, lists);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            lists.push((prefix.to_owned(), items));
        }
        other => values.push((prefix.to_owned(), other)),
    }
}
