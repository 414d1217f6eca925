//! What became of reported usage, and of parked records.

use serde_json::Value;

use super::{count, number, text};
use crate::cli::output::{amount, shown};
use crate::domain::ledger::shown_state;

/// Tells what became of reported events; of a single one under its id.
pub(in crate::cli) fn reported(receipt: &Value, id: Option<&str>) -> Vec<String> {
    let rejected = receipt["rejected"].as_array().map(Vec::as_slice).unwrap_or_default();
    let counts = (number(receipt, "accepted"), number(receipt, "duplicates"), rejected.len());
    let mut lines = vec![match (id, counts) {
        (Some(id), (1, 0, 0)) => format!("accepted event {id}"),
        (Some(id), (0, 1, 0)) => format!("event {id} was accepted before: nothing was counted"),
        (Some(_), (0, 0, 1)) => "rejected:".to_owned(),
        (_, (accepted, repeated, rejected)) => format!(
            "{} accepted, {} repeated, {} rejected",
            count(accepted, "event"),
            amount(&repeated.into()),
            amount(&rejected.into()),
        ),
    }];
    let refusal =
        |it: &Value| format!("  {}: {}: {}", text(it, "id"), text(it, "code"), text(it, "detail"));
    lines.extend(rejected.iter().map(refusal));
    lines
}

/// Tells whether usage was let through and counted.
pub(in crate::cli) fn consumed(answer: &Value, customer: &str) -> Vec<String> {
    let feature = text(answer, "feature_id");
    let line = match (answer["accepted"] == true, answer["duplicate"] == true) {
        (true, false) => format!("counted: {customer} may use {feature}"),
        (true, true) => format!("counted before under this id: {customer} may use {feature}"),
        (false, _) => format!("denied, and not counted: {}", text(answer, "reason")),
    };
    let left = match &answer["remaining"] {
        Value::Null => String::new(),
        remaining => format!("; {} of {} left", amount(remaining), amount(&answer["limit"])),
    };
    let resets = match &answer["resets_at"] {
        Value::Null => String::new(),
        at => format!(" until {}", shown(at)),
    };
    vec![format!("{line}{left}{resets}")]
}

/// Tells what was decided on a record.
pub(in crate::cli) fn resolved(record: &Value) -> Vec<String> {
    let state = shown_state(&text(record, "state"), record["reason"].as_str()).replace('_', " ");
    vec![format!(
        "record {} is {state}: {} of {} for {} in the hour {}",
        text(record, "id"),
        amount(&record["quantity"]),
        text(record, "dimension"),
        text(record, "customer_id"),
        text(record, "hour"),
    )]
}

/// Tells what was decided on all records that match, or would be.
pub(in crate::cli) fn resolved_all(outcome: &Value, action: &str, is_dry_run: bool) -> Vec<String> {
    let deed = match action {
        "retry" => "sent again",
        "carry_forward" => "carried forward",
        _ => "written off",
    };
    let (matched, resolved) = (number(outcome, "matched"), number(outcome, "resolved"));
    let units = amount(&outcome["units"]);
    let (would_be, end) = if is_dry_run { (" would be", "; this was a dry run") } else { ("", "") };
    let mut lines = vec![if matched == 0 {
        "no parked record matches".to_owned()
    } else {
        let records = count(matched, "parked record");
        format!("{} of {records}{would_be} {deed}: {units} units{end}", amount(&resolved.into()))
    }];
    let refused = outcome["refused"].as_array().into_iter().flatten();
    lines.extend(refused.map(|it| {
        format!("  {} stays parked: {}: {}", text(it, "id"), text(it, "code"), text(it, "detail"))
    }));
    lines
}
