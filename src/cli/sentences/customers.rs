//! What was done with customers and subscriptions.

use serde_json::Value;

use super::{count, named, number, text};
use crate::cli::output::{amount, shown};

/// Tells who was provisioned, with the subscriptions that are held.
pub(in crate::cli) fn provisioned(customer: &Value, held: &Value) -> Vec<String> {
    let mut lines = vec![format!("provisioned {}{}", named(customer), aws(customer))];
    for subscription in held["items"].as_array().into_iter().flatten() {
        lines.push(format!("  {}", subscribed(subscription)));
    }
    lines
}

/// Tells by which ids AWS knows a customer.
fn aws(customer: &Value) -> String {
    let ids = &customer["aws"];
    let account = text(ids, "account_id");
    let identifier = text(ids, "customer_identifier");
    let mut said: Vec<String> = Vec::new();
    if !account.is_empty() {
        said.push(format!("AWS account {account}"));
    }
    if !identifier.is_empty() {
        said.push(format!("CustomerIdentifier {identifier}"));
    }
    if said.is_empty() { String::new() } else { format!(", {}", said.join(", ")) }
}

pub(in crate::cli) fn unlinked(answer: &Value) -> Vec<String> {
    let id = text(&answer["customer"], "id");
    vec![match &answer["buyer"] {
        Value::Null => format!("{id} had no AWS ids: nothing was changed"),
        buyer => format!(
            "unlinked {id}: what was bought on AWS belongs to {}{} now, whom nobody has claimed",
            named(buyer),
            aws(buyer)
        ),
    }]
}

/// Tells whom was erased, and by which id the rest is found.
pub(in crate::cli) fn erased(id: &str, left: &Value) -> Vec<String> {
    vec![format!("erased {id}: what billing needs stays as {}", text(left, "id"))]
}

pub(in crate::cli) fn mapped(outcome: &Value, is_dry_run: bool) -> Vec<String> {
    let refused = outcome["refused"].as_array().map(Vec::as_slice).unwrap_or_default();
    let line = format!(
        "{} linked, {} joined, {} unchanged, {} about buyers who are no customers yet, {} replaced, {} refused",
        count(number(outcome, "linked"), "customer"),
        count(number(outcome, "joined"), "pair"),
        amount(&outcome["unchanged"]),
        amount(&outcome["unknown"]),
        amount(&outcome["replaced"]),
        amount(&refused.len().into()),
    );
    let mut lines = vec![if is_dry_run { format!("{line}; this was a dry run") } else { line }];
    let refusal = |it: &Value| format!("  line {}: {}", text(it, "line"), text(it, "detail"));
    lines.extend(refused.iter().map(refusal));
    lines
}

pub(in crate::cli) fn sold(subscription: &Value) -> Vec<String> {
    vec![subscribed(subscription)]
}

pub(in crate::cli) fn canceled(subscription: &Value) -> Vec<String> {
    let id = text(subscription, "id");
    let ends = text(subscription, "ends_at");
    vec![match subscription["status"].as_str() {
        Some("canceled" | "expired") => format!("canceled {id}: it has ended"),
        _ if ends.is_empty() => format!("canceled {id}"),
        _ => format!("canceled {id}: it ends at {ends}"),
    }]
}

/// Tells how a subscription stands.
fn subscribed(subscription: &Value) -> String {
    let plan = match text(subscription, "plan_id") {
        plan if plan.is_empty() => "no plan".to_owned(),
        plan => plan,
    };
    let mut line = format!(
        "{}: {} on {plan}, {}",
        text(subscription, "id"),
        text(subscription, "customer_id"),
        text(subscription, "status"),
    );
    if !subscription["quantity"].is_null() {
        line.push_str(&format!(", quantity {}", amount(&subscription["quantity"])));
    }
    for (key, word) in [("starts_at", "from"), ("ends_at", "until")] {
        if !subscription[key].is_null() {
            line.push_str(&format!(", {word} {}", shown(&subscription[key])));
        }
    }
    line
}
