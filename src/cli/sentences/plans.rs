//! What was done with plans and features.

use serde_json::Value;

use super::{count, named, number, text};
use crate::cli::output::{amount, shown};

pub(in crate::cli) fn created(plan: &Value) -> Vec<String> {
    let grants = match plan["entitlements"].as_array().map_or(0, Vec::len) {
        0 => "grants nothing yet".to_owned(),
        features => format!("grants {}", count(features as u64, "feature")),
    };
    vec![format!("saved plan {}: {}, {grants}", named(plan), text(plan, "status"))]
}

/// Tells what publishing has changed, by the preview that was made just before.
pub(in crate::cli) fn published(plan: &Value, preview: Option<&Value>) -> Vec<String> {
    let (id, version) = (text(plan, "id"), &plan["version"]);
    let kept = if plan["status"] == "archived" { ", which stays archived" } else { "" };
    let line = format!("published {id}, version {}{kept}", shown(version));
    // Somebody else may have changed the draft in between.
    let groups = preview.filter(|it| it["version"] == *version).map(clauses);
    vec![match groups {
        Some(groups) if groups.is_empty() => format!("{line}: nobody is on it yet"),
        Some(groups) => format!("{line}: {}", groups.join("; ")),
        None => line,
    }]
}

pub(in crate::cli) fn previewed(id: &str, preview: &Value) -> Vec<String> {
    let mut lines = vec![format!("publishing version {} of {id}:", shown(&preview["version"]))];
    for group in preview["groups"].as_array().into_iter().flatten() {
        let customers = group["customers"].as_array().map_or(0, Vec::len);
        let named: Vec<String> =
            group["customers"].as_array().into_iter().flatten().take(NAMED).map(shown).collect();
        let more = if customers > NAMED { ", …" } else { "" };
        lines.push(format!("  {}: {}{more}", clause(group, true), named.join(", ")));
        for kind in ["gains", "loses", "changes"] {
            for difference in group[kind].as_array().into_iter().flatten() {
                let side = |key: &str| match &difference[key] {
                    Value::Null => "none".to_owned(),
                    terms => self::terms(terms),
                };
                let feature = text(difference, "feature_id");
                lines.push(format!("    {feature}: {} -> {}", side("before"), side("after")));
            }
        }
    }
    if lines.len() == 1 {
        lines.push("  nobody is on it yet".to_owned());
    }
    for grant in preview["unbilled"].as_array().into_iter().flatten() {
        let (product, feature) = (text(grant, "product_id"), text(grant, "feature_id"));
        let why = match grant["lost"].as_str() {
            Some(lost) => format!("dimension {lost} of {product}, which bills {feature}, is gone"),
            None => format!("{product} has no dimension for {feature}"),
        };
        lines.push(format!("  {why}: nothing of it will be billed to AWS"));
    }
    lines
}

/// The number of customers of a group that are named.
const NAMED: usize = 10;

fn clauses(preview: &Value) -> Vec<String> {
    preview["groups"].as_array().into_iter().flatten().map(|group| clause(group, false)).collect()
}

/// Tells what the subscriptions of a group come to, and from which version if that is wanted.
fn clause(group: &Value, with_version: bool) -> String {
    let subscriptions = number(group, "subscriptions");
    let is_one = subscriptions == 1;
    let version = format!("version {}", shown(&group["version"]));
    let verb = |one: &'static str, many: &'static str| if is_one { one } else { many };
    let mut parts = Vec::new();
    let features = |kind: &str, is_new: Option<(&str, bool)>| {
        let found = group[kind].as_array().into_iter().flatten();
        let found = found.filter(|it| is_new.is_none_or(|(side, none)| it[side].is_null() == none));
        found.map(|it| text(it, "feature_id")).collect::<Vec<_>>().join(", ")
    };
    for (kind, side, one, many) in [
        ("gains", Some(("before", true)), "gains", "gain"),
        ("gains", Some(("before", false)), "gets more of", "get more of"),
        ("loses", Some(("after", false)), "gets less of", "get less of"),
        ("loses", Some(("after", true)), "loses", "lose"),
        ("changes", None, "gets other terms for", "get other terms for"),
    ] {
        let features = features(kind, side);
        if !features.is_empty() {
            parts.push(format!("{} {features}", verb(one, many)));
        }
    }
    if group["keeps"] == true {
        let it = if with_version { "it".to_owned() } else { version.clone() };
        parts.push(format!("{} {it}", verb("keeps", "keep")));
    }
    if parts.is_empty() {
        parts.push(format!("{} what {} had", verb("keeps", "keep"), verb("it", "they")));
    }
    let on = if with_version && !group["version"].is_null() {
        format!(" on {version}")
    } else {
        String::new()
    };
    format!("{}{on} {}", count(subscriptions, "subscription"), parts.join(" and "))
}

/// Tells what the draft grants of a feature now.
pub(in crate::cli) fn drafted(plan: &Value, feature: &str) -> Vec<String> {
    let id = text(plan, "id");
    let (which, entitlements) = match &plan["draft"] {
        Value::Null if plan["status"] == "draft" => {
            (format!("draft of {id}"), &plan["entitlements"])
        }
        Value::Null => (format!("plan {id}"), &plan["entitlements"]),
        draft => (
            format!("draft of {id} (version {})", shown(&draft["version"])),
            &draft["entitlements"],
        ),
    };
    let granted = entitlements.as_array().into_iter().flatten();
    let granted = granted.filter(|it| it["feature_id"] == feature).map(terms).next();
    let grants = match granted {
        Some(terms) if terms == YES => format!("grants {feature}"),
        Some(terms) => format!("grants {feature}: {terms}"),
        None => format!("grants no {feature}"),
    };
    let line = format!("{which} {grants}");
    // A draft that came to be what is published has nothing to publish.
    let is_published = plan["draft"].is_null() && plan["status"] == "published";
    if is_published {
        return vec![format!("{line}; that is what is published")];
    }
    vec![line, format!("customers get it by `marketd plan publish {id}`")]
}

pub(in crate::cli) fn discarded(plan: &Value) -> Vec<String> {
    let id = text(plan, "id");
    vec![match &plan["version"] {
        Value::Null => format!("{id} was never published: it stays the draft that it is"),
        version => format!("{id} has no draft now; version {} stays", shown(version)),
    }]
}

pub(in crate::cli) fn archived(plan: &Value) -> Vec<String> {
    let id = text(plan, "id");
    let mut lines = vec![format!("archived {id}: its subscribers keep it, and nobody new gets it")];
    let warnings = plan["warnings"].as_array().into_iter().flatten();
    lines.extend(warnings.map(|warning| format!("but {}", shown(warning))));
    lines
}

pub(in crate::cli) fn removed(plan: &Value) -> Vec<String> {
    vec![format!("removed plan {}", named(plan))]
}

pub(in crate::cli) fn feature_set(feature: &Value) -> Vec<String> {
    let mut line = format!("saved feature {}: {}", named(feature), text(feature, "type"));
    let unit = text(feature, "unit");
    if !unit.is_empty() {
        line.push_str(&format!(", counted in {unit}"));
    }
    let dimensions = feature["dimensions"].as_object().into_iter().flatten();
    let billed: Vec<String> =
        dimensions.map(|(product, key)| format!("{} of {product}", shown(key))).collect();
    if !billed.is_empty() {
        line.push_str(&format!(", billed as {}", billed.join(", ")));
    }
    if feature["when_stale"] == "deny" {
        line.push_str(", denied while AWS cannot be reached for long");
    }
    vec![line]
}

/// The terms of a feature that one has or has not.
const YES: &str = "yes";

/// Tells the terms of a grant, as `100 a month, beyond it billed`.
fn terms(terms: &Value) -> String {
    let mut said = match &terms["limit"] {
        Value::Null if terms["unlimited"] == true => "unlimited".to_owned(),
        Value::Null => YES.to_owned(),
        limit => amount(limit),
    };
    if terms["per_unit"] == true {
        said.push_str(" for each unit bought");
    }
    let reset = text(terms, "reset");
    if !reset.is_empty() {
        said.push_str(&format!(" {} {reset}", if reset == "hour" { "an" } else { "a" }));
    }
    if terms["anchor"] == "subscription" {
        said.push_str(", from the subscription's start");
    }
    if terms["soft"] == true {
        said.push_str(", soft");
    }
    match terms["bill"].as_str() {
        Some("overage") => said.push_str(", beyond it billed"),
        Some("none") => said.push_str(", not billed"),
        _ => {}
    }
    said
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn group(subscriptions: u64, more: &Value) -> Value {
        let mut group = json!({
            "version": 1, "keeps": false, "subscriptions": subscriptions, "customers": ["acme"],
            "gains": [], "loses": [], "changes": [],
        });
        for (key, value) in more.as_object().unwrap() {
            group[key] = value.clone();
        }
        group
    }

    #[test]
    fn publishing_says_who_comes_to_have_what() {
        let plan = json!({"id": "team", "status": "published", "version": 2});
        let calls = |before: Value, after: Value| json!([{"feature_id": "calls", "before": before, "after": after}]);
        let rows = [
            (json!([]), "nobody is on it yet"),
            (
                json!([group(1200, &json!({"gains": calls(Value::Null, json!({"limit": 5}))}))]),
                "1,200 subscriptions gain calls",
            ),
            (
                json!([group(
                    1,
                    &json!({"gains": calls(json!({"limit": 4}), json!({"limit": 5}))})
                )]),
                "1 subscription gets more of calls",
            ),
            (
                json!([
                    group(2, &json!({"loses": calls(json!({"limit": 5}), Value::Null)})),
                    group(3, &json!({"keeps": true})),
                ]),
                "2 subscriptions lose calls; 3 subscriptions keep version 1",
            ),
            (json!([group(1, &json!({}))]), "1 subscription keeps what it had"),
        ];
        for (groups, expected) in rows {
            let preview = json!({"version": 2, "groups": groups});
            let said = published(&plan, Some(&preview));
            assert_eq!(said, [format!("published team, version 2: {expected}")]);
        }
        let another = json!({"version": 3, "groups": []});
        assert_eq!(published(&plan, Some(&another)), ["published team, version 2"]);
    }

    #[test]
    fn a_preview_tells_what_nothing_will_bill() {
        let unbilled = json!([{"feature_id": "calls", "product_id": "classic"}]);
        let said = previewed("team", &json!({"version": 1, "groups": [], "unbilled": unbilled}));
        let expected = "  classic has no dimension for calls: nothing of it will be billed to AWS";
        assert_eq!(said.last().unwrap(), expected);
        let lost = json!([{"feature_id": "calls", "product_id": "classic", "lost": "api"}]);
        let said = previewed("team", &json!({"version": 1, "groups": [], "unbilled": lost}));
        let expected = "  dimension api of classic, which bills calls, is gone: nothing of it will be billed to AWS";
        assert_eq!(said.last().unwrap(), expected);
    }

    #[test]
    fn terms_are_told_in_words() {
        for (given, expected) in [
            (json!({}), "yes"),
            (json!({"unlimited": true}), "unlimited"),
            (
                json!({"limit": 1000, "reset": "month", "bill": "overage"}),
                "1,000 a month, beyond it billed",
            ),
            (
                json!({"limit": 2, "per_unit": true, "reset": "hour", "soft": true}),
                "2 for each unit bought an hour, soft",
            ),
        ] {
            assert_eq!(terms(&given), expected);
        }
    }
}
