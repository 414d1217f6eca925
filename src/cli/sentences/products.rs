//! What was done with listings, products and the connection to AWS.

use serde_json::Value;

use super::{count, each, number, text};

/// Tells what a listing was imported as, and what each dimension stands for.
pub(in crate::cli) fn imported(product: &Value, billed: &[(String, String)]) -> Vec<String> {
    let mut lines = vec![format!(
        "imported {} as {} (product code {})",
        text(product, "title"),
        text(product, "id"),
        text(product, "product_code"),
    )];
    for dimension in product["dimensions"].as_array().into_iter().flatten() {
        let plan = text(dimension, "plan_id");
        if !plan.is_empty() && dimension["removed_at"].is_null() {
            lines.push(format!("  dimension {} is plan {plan}", text(dimension, "key")));
        }
    }
    for (dimension, feature) in billed {
        lines.push(format!("  dimension {dimension} bills feature {feature}"));
    }
    let usage_plan = text(product, "usage_plan_id");
    if !usage_plan.is_empty() {
        lines.push(format!("  who pays as they go is on plan {usage_plan}"));
    }
    let plans = product["plans"].as_array().into_iter().flatten();
    let drafts: Vec<String> =
        plans.filter(|plan| plan["status"] == "draft").map(|plan| text(plan, "id")).collect();
    if !drafts.is_empty() {
        lines.push(format!("drafts until they are published: {}", drafts.join(", ")));
    }
    lines
}

/// Tells how a product's dimensions have changed with its listing.
pub(in crate::cli) fn synced(product: &str, changes: &Value) -> Vec<String> {
    let parts = ["added", "changed", "removed"].into_iter().filter_map(|kind| {
        let keys = each(&changes[kind], "key");
        (!keys.is_empty()).then(|| format!("{kind} {}", keys.join(", ")))
    });
    let parts: Vec<String> = parts.collect();
    vec![if parts.is_empty() {
        format!("{product} is as its listing: nothing to change")
    } else {
        format!("{product}'s dimensions: {}", parts.join("; "))
    }]
}

/// Tells from when on a product is metered by licence.
pub(in crate::cli) fn licensed(product: &Value) -> Vec<String> {
    let id = text(product, "id");
    vec![match text(product, "licensed_from") {
        from if from.is_empty() => format!("{id} is metered by product code, and no move is set"),
        from => format!("{id} is metered by licence from {from} on"),
    }]
}

/// Tells who is ready for a product's move to licences.
pub(in crate::cli) fn licensing(view: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    let from = text(view, "licensed_from");
    if !from.is_empty() {
        lines.push(format!("metered by licence from {from} on"));
    }
    lines.push(format!(
        "{} ready, {} without a known licence, {} without a known account",
        count(number(view, "ready"), "legacy buyer"),
        number(view, "without_license"),
        number(view, "without_account"),
    ));
    lines
}

/// Tells what becomes of endings that were held back.
pub(in crate::cli) fn confirmed(product: &Value) -> Vec<String> {
    let id = text(product, "id");
    vec![format!("confirmed: AWS is asked once more, and what it does not list of {id} ends")]
}

pub(in crate::cli) fn product_removed(product: &Value) -> Vec<String> {
    let (id, entity) = (text(product, "id"), text(product, "entity_id"));
    vec![format!("removed product {id}: its listing {entity} can be imported again")]
}

/// Tells which account is connected, and how many permissions work.
pub(in crate::cli) fn connected(view: &Value) -> Vec<String> {
    let checks = view["checks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let well = checks.iter().filter(|check| check["ok"] == true).count();
    vec![format!(
        "{} to account {} as {}: {well} of {} work",
        text(view, "state"),
        text(view, "seller_account_id"),
        text(view, "role_arn"),
        count(checks.len() as u64, "permission"),
    )]
}
