//! What people do, as `/activity` tells it: which operation of the API a form is, and what was done to what.

use percent_encoding::percent_decode_str;

use serde_json::Value;

use super::choices::Grants;
use super::parts::segment;
use crate::domain::FeatureId;
use crate::domain::feature::FeatureKind;
use crate::domain::terms::EntitlementTerms;

/// The operation of the API that each form does.
const OPERATIONS: [(&str, &str); 26] = [
    ("/customers", "provisionCustomer"),
    ("/customers/{id}/erase", "eraseCustomer"),
    ("/customers/{id}/unlink", "unlinkCustomer"),
    ("/events/pause", "pauseWebhook"),
    ("/events/replay", "replayWebhook"),
    ("/events/resume", "resumeWebhook"),
    ("/events/test", "testWebhook"),
    ("/features", "putFeature"),
    ("/integration/connect", "connectIntegration"),
    ("/integration/remove", "removeIntegration"),
    ("/listings/{entity}/import", "importListing"),
    ("/metering/records/{id}/resolve", "resolveMeteringRecord"),
    ("/metering/resolve", "resolveMeteringRecords"),
    ("/notifications/{id}/discard", "discardNotification"),
    ("/notifications/{id}/replay", "replayNotification"),
    ("/plans", "putPlan"),
    ("/plans/{id}/archive", "archivePlan"),
    ("/plans/{id}/discard", "discardPlanDraft"),
    ("/plans/{id}/entitlements", "entitlePlan"),
    ("/plans/{id}/entitlements/remove", "unentitlePlan"),
    ("/plans/{id}/publish", "publishPlan"),
    ("/products/{id}/confirm-endings", "confirmEndings"),
    ("/products/{id}/remove", "removeProduct"),
    ("/products/{id}/sync", "syncProduct"),
    ("/subscriptions", "putSubscription"),
    ("/subscriptions/{id}/cancel", "cancelSubscription"),
];

/// Returns the operation of the API that the form of a route does; the route itself where the API has none.
pub(super) fn operation(route: &str) -> &str {
    let found = OPERATIONS.iter().find(|(form, _)| *form == route);
    found.map_or(route, |(_, operation)| operation)
}

/// Returns the path of what a form changes: a form that names its object in a field has it in no path.
pub(super) fn path_of<'a>(path: &str, field: impl Fn(&str) -> Option<&'a str>) -> String {
    let name = |field: Option<&str>| field.map(str::trim).filter(|it| !it.is_empty()).map(segment);
    let named = match path {
        "/customers" | "/features" | "/plans" => name(field("id")).map(|id| format!("{path}/{id}")),
        "/subscriptions" => {
            name(field("customer_id")).map(|id| format!("/customers/{id}/subscriptions"))
        }
        _ if path.ends_with("/entitlements") || path.ends_with("/entitlements/remove") => {
            let plan = path.trim_end_matches("/remove");
            name(field("feature_id")).map(|id| format!("{plan}/{id}"))
        }
        _ => None,
    };
    named.unwrap_or_else(|| path.to_owned())
}

/// What somebody changed: its kind, its name, and its page.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) place: String,
}

/// The pages of what has an id in a path: the folder there, its kind, and the page's folder.
const FOLDERS: [(&str, &str, &str); 8] = [
    ("customers", "customer", "customers"),
    ("features", "feature", "features"),
    ("listings", "listing", "listings"),
    ("notifications", "notification", "notifications"),
    ("plans", "plan", "plans"),
    ("products", "product", "products"),
    ("records", "record", "metering/records"),
    ("subscriptions", "subscription", "subscriptions"),
];

/// Reads from the path of a request what it changed; none if that has no page.
pub(super) fn object(path: &str) -> Option<Object> {
    let path = path.strip_prefix("/v1").unwrap_or(path);
    let path = path
        .strip_prefix("/metering/records")
        .map_or_else(|| path.to_owned(), |rest| format!("/records{rest}"));
    let mut parts = path.trim_start_matches('/').split('/');
    let (folder, id) = (parts.next()?, parts.next());
    let id = id.and_then(|id| percent_decode_str(id).decode_utf8().ok());
    let page = |kind, place: &str| Object { kind, name: String::new(), place: place.to_owned() };
    match (folder, id) {
        ("sandbox", _) => Some(page("the sandbox", "sandbox")),
        ("integration", _) => Some(page("the connection to AWS", "integration")),
        ("metering", Some(id)) if id == "resolve" => Some(page("metering records", "metering")),
        ("events" | "webhook", _) => Some(page("the webhook", "events")),
        (folder, Some(id)) => {
            let (_, kind, place) = FOLDERS.iter().find(|(it, ..)| *it == folder)?;
            let tail = if *kind == "listing" { "/import" } else { "" };
            let place = format!("{place}/{}{tail}", segment(&id));
            Some(Object { kind, name: id.into_owned(), place })
        }
        _ => None,
    }
}

/// What the forms of the sandbox do, which are no operations of the API.
const REHEARSED: [(&str, &str); 11] = [
    ("/sandbox/agreements", "Act on an agreement, as the buyer"),
    ("/sandbox/clock", "Let time pass"),
    ("/sandbox/delivery", "Change how messages arrive"),
    ("/sandbox/dimensions", "Lose a dimension"),
    ("/sandbox/faults", "Have AWS fail"),
    ("/sandbox/faults/clear", "Have AWS answer again"),
    ("/sandbox/listings", "Import the listings"),
    ("/sandbox/messages", "Send a message"),
    ("/sandbox/purchases", "Buy, as a buyer"),
    ("/sandbox/roles", "Change a role"),
    ("/sandbox/usage", "Report usage"),
];

/// Returns what was done in words, with what was granted or decided.
pub(super) fn done(operation: &str, path: &str, detail: Option<&Value>, words: &Grants) -> String {
    let feature = || {
        let (_, id) = path.split_once("/entitlements/")?;
        percent_decode_str(id).decode_utf8().ok().map(FeatureId::new)
    };
    match (operation, feature()) {
        ("entitlePlan", Some(feature)) => {
            // What is had or not had is granted, and there is nothing more to say of it.
            let is_all = words.feature(&feature).is_some_and(|it| it.kind == FeatureKind::Boolean);
            let granted: Option<EntitlementTerms> =
                detail.filter(|_| !is_all).and_then(|it| serde_json::from_value(it.clone()).ok());
            let granted = granted.map(|it| format!(": {}", words.terms(&feature, &it)));
            format!("Grant {}{}", words.name(&feature), granted.unwrap_or_default())
        }
        ("unentitlePlan", Some(feature)) => format!("Take out {}", words.name(&feature)),
        _ => match detail.and_then(|it| it["action"].as_str()) {
            Some("map") => "Save the mapping".into(),
            Some("retry") => "Send again".into(),
            Some("carry_forward") => "Carry forward".into(),
            Some("write_off") => "Write off".into(),
            _ => said(operation),
        },
    }
}

/// Returns an operation of the API as people say it: `eraseCustomer` erases a customer.
fn said(operation: &str) -> String {
    match operation {
        "entitlePlan" => return "Grant a feature".to_owned(),
        "unentitlePlan" => return "Take out a feature".to_owned(),
        _ => {}
    }
    if let Some((_, words)) = REHEARSED.iter().find(|(path, _)| *path == operation) {
        return (*words).to_owned();
    }
    let operation = match operation.strip_prefix("put") {
        Some(what) => format!("save{what}"),
        None => operation.to_owned(),
    };
    let mut words = String::new();
    for letter in operation.chars() {
        match letter {
            _ if words.is_empty() => words.extend(letter.to_uppercase()),
            upper if upper.is_ascii_uppercase() => {
                words.push(' ');
                words.push(upper.to_ascii_lowercase());
            }
            other => words.push(other),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::json;

    use super::*;
    use crate::domain::feature::{Feature, WhenStale};
    use crate::http::console::{ACTIONS, ADMINISTRATION, SANDBOX_ACTIONS};

    #[test]
    fn each_form_that_changes_something_is_an_operation_of_the_api() {
        let known: BTreeSet<String> = crate::http::OPERATIONS
            .iter()
            .filter(|((method, _), _)| *method != axum::http::Method::GET)
            .map(|(_, operation)| operation.clone())
            .collect();
        let pages = ["/settings"];
        for (route, _) in ACTIONS.iter().chain(ADMINISTRATION) {
            if !pages.contains(route) {
                assert!(known.contains(operation(route)), "{route} does {}", operation(route));
            }
        }
    }

    #[test]
    fn what_was_changed_is_read_from_the_path() {
        let rows = [
            ("/v1/customers/globex", Some(("customer", "globex", "customers/globex"))),
            ("/customers/a%2Fb/erase", Some(("customer", "a/b", "customers/a%2Fb"))),
            ("/plans/pro/entitlements/calls", Some(("plan", "pro", "plans/pro"))),
            (
                "/v1/metering/records/met%5F1/resolve",
                Some(("record", "met_1", "metering/records/met%5F1")),
            ),
            ("/metering/resolve", Some(("metering records", "", "metering"))),
            ("/integration/connect", Some(("the connection to AWS", "", "integration"))),
            ("/v1/integration", Some(("the connection to AWS", "", "integration"))),
            ("/v1/webhook/pause", Some(("the webhook", "", "events"))),
            ("/listings/prod-1/import", Some(("listing", "prod-1", "listings/prod%2D1/import"))),
            ("/v1/catalogue", None),
            ("/customers", None),
            ("/", None),
        ];
        for (path, expected) in rows {
            let expected = expected.map(|(kind, name, place)| Object {
                kind,
                name: name.to_owned(),
                place: place.to_owned(),
            });
            assert_eq!(object(path), expected, "{path}");
        }
    }

    #[test]
    fn a_form_that_names_its_object_in_a_field_has_it_in_its_path() {
        let fields = |name: &str| match name {
            "id" => Some(" globex "),
            "customer_id" => Some("acme"),
            "feature_id" => Some("calls"),
            _ => None,
        };
        for (path, expected) in [
            ("/customers", "/customers/globex"),
            ("/customers/acme/erase", "/customers/acme/erase"),
            ("/subscriptions", "/customers/acme/subscriptions"),
            ("/plans/pro/entitlements", "/plans/pro/entitlements/calls"),
            ("/plans/pro/entitlements/remove", "/plans/pro/entitlements/calls"),
        ] {
            assert_eq!(path_of(path, fields), expected, "{path}");
        }
        assert_eq!(path_of("/customers", |_| None), "/customers");
    }

    #[test]
    fn what_was_granted_or_decided_is_said() {
        let granted = json!({"limit": 1000, "reset": "month"});
        let feature = |id: &str, name: &str, kind| Feature {
            id: FeatureId::new(id),
            name: name.into(),
            kind,
            unit: None,
            dimensions: BTreeMap::new(),
            when_stale: WhenStale::Allow,
        };
        let words = Grants::new(
            vec![
                feature("calls", "calls", FeatureKind::Metered),
                feature("sso", "Single sign-on", FeatureKind::Boolean),
            ],
            false,
        );
        for (operation, path, detail, said) in [
            (
                "entitlePlan",
                "/v1/plans/pro/entitlements/calls",
                &granted,
                "Grant calls: 1,000 a month",
            ),
            ("entitlePlan", "/v1/plans/pro/entitlements/calls", &Value::Null, "Grant calls"),
            ("unentitlePlan", "/plans/pro/entitlements/calls", &Value::Null, "Take out calls"),
            (
                "entitlePlan",
                "/v1/plans/pro/entitlements/sso",
                &json!({"limit": null, "unlimited": false, "reset": null}),
                "Grant Single sign-on",
            ),
            (
                "importListing",
                "/listings/prod-1/import",
                &json!({"action": "map"}),
                "Save the mapping",
            ),
            ("importListing", "/listings/prod-1/import", &Value::Null, "Import listing"),
            (
                "resolveMeteringRecords",
                "/v1/metering/resolve",
                &json!({"action": "write_off"}),
                "Write off",
            ),
            (
                "resolveMeteringRecord",
                "/metering/records/1/resolve",
                &Value::Null,
                "Resolve metering record",
            ),
        ] {
            let detail = Some(detail).filter(|it| !it.is_null());
            assert_eq!(done(operation, path, detail, &words), said, "{operation}");
        }
    }

    #[test]
    fn every_form_of_the_sandbox_is_said_in_words() {
        for (route, _) in SANDBOX_ACTIONS {
            assert!(!said(route).starts_with('/'), "{route}");
            assert_eq!(object(route).map(|it| it.kind), Some("the sandbox"));
        }
    }

    #[test]
    fn operations_are_said_in_words() {
        for (operation, words) in [
            ("eraseCustomer", "Erase customer"),
            ("syncProduct", "Sync product"),
            ("putPlan", "Save plan"),
            ("entitlePlan", "Grant a feature"),
            ("/sandbox/clock", "Let time pass"),
        ] {
            assert_eq!(said(operation), words);
        }
    }
}
