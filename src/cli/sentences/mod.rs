//! What commands have done, as sentences for people. They are made of the API's answers alone.

mod customers;
mod metering;
mod plans;
mod products;

pub(super) use customers::{canceled, erased, mapped, provisioned, sold, unlinked};
pub(super) use metering::{consumed, reported, resolved, resolved_all};
pub(super) use plans::{
    archived, created, discarded, drafted, feature_set, previewed, published, removed,
};
pub(super) use products::{
    confirmed, connected, imported, licensed, licensing, product_removed, synced,
};

use serde_json::Value;

use super::output::{amount, shown};
use crate::domain::counted::plural;

/// Returns a number with its noun, in the plural unless it is one.
fn count(number: u64, noun: &str) -> String {
    format!("{} {}", amount(&number.into()), plural(number, noun))
}

/// Returns the text under a key; empty if there is none.
fn text(value: &Value, key: &str) -> String {
    if value[key].is_null() { String::new() } else { shown(&value[key]) }
}

/// Returns the number under a key; none is 0.
fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_default()
}

/// Returns what the things of a list have under a key.
fn each(list: &Value, key: &str) -> Vec<String> {
    list.as_array().into_iter().flatten().map(|item| text(item, key)).collect()
}

/// Returns a thing's id, with its name if it has another.
fn named(thing: &Value) -> String {
    let (id, name) = (text(thing, "id"), text(thing, "name"));
    if name.is_empty() || name == id { id } else { format!("{id} ({name})") }
}
