//! Forms that are refused: each comes back on its page, with what was typed and with what was wrong.

use std::collections::BTreeSet;

use reqwest::header;
use serde_json::json;

use crate::roles::FORMS;
use crate::support::troubled::trouble;
use crate::support::world::World;
use crate::{browser, form_token, sold};

/// A form that is sent with a mistake.
struct Mistake {
    /// Its row in the table of forms.
    form: &'static str,
    /// The page that it is on.
    page: String,
    /// Where it is sent to.
    action: String,
    fields: Vec<(&'static str, String)>,
    /// What the page has of what was typed, as HTML.
    typed: Vec<String>,
    /// What the page says went wrong.
    said: &'static str,
    /// The field at fault, if it is one.
    field: Option<&'static str>,
}

/// A form on a page, sent to where its row in the table says.
fn on(page: &str, form: &'static str, said: &'static str) -> Mistake {
    Mistake {
        form,
        page: page.to_owned(),
        action: form.trim_start_matches('/').to_owned(),
        fields: Vec::new(),
        typed: Vec::new(),
        said,
        field: None,
    }
}

impl Mistake {
    fn to(mut self, action: impl Into<String>) -> Self {
        self.action = action.into();
        self
    }

    /// A field with a text that comes back as its value.
    fn typing(mut self, name: &'static str, text: &str) -> Self {
        self.typed.push(format!("name=\"{name}\" value=\"{text}\""));
        self.with(name, text)
    }

    /// A choice that comes back as chosen.
    fn choosing(mut self, name: &'static str, word: &str, mark: &str) -> Self {
        self.typed.push(format!("value=\"{word}\" {mark}"));
        self.with(name, word)
    }

    fn with(mut self, name: &'static str, text: &str) -> Self {
        self.fields.push((name, text.to_owned()));
        self
    }

    fn over(mut self, field: &'static str) -> Self {
        self.field = Some(field);
        self
    }
}

/// Forms that are a button alone, and that nothing can be wrong with where their page shows them.
const BUTTONS: [&str; 7] = [
    "/events/pause",
    "/events/resume",
    "/events/test",
    "/integration/remove",
    "/sandbox/faults/clear",
    "/sandbox/listings",
    "/sign-out",
];

/// A mistake in each form of the world.
async fn mistakes(world: &World) -> Vec<Mistake> {
    let record = world.list("/v1/metering/records").await[0]["id"].as_str().unwrap().to_owned();
    let quarantined = world.list("/v1/notifications?state=quarantined").await;
    let message = quarantined[0]["id"].as_str().unwrap().to_owned();
    let (entity, _, plan) = sold(world).await;
    world.put("/v1/plans/old", json!({"name": "Old"})).await;
    world.put("/v1/plans/old/entitlements/calls", json!({"limit": 1})).await;
    world.post("/v1/plans/old/archive", json!({})).await;
    let long = "a long story ".repeat(400);
    let agreement = world.market(|market, _| market.agreements().first().unwrap().clone());
    let mut all = catalogue(&plan, &entity);
    all.extend([
        on("/customers", "/customers", "12 digits")
            .typing("id", "typed-id")
            .typing("account_id", "12")
            .over("account_id"),
        // Two customers would become one without a word.
        on("/customers", "/customers", "is a customer already")
            .with("fresh", "yes")
            .typing("id", "acme")
            .typing("name", "Another")
            .over("id"),
        on("/customers/acme", "/subscriptions", "sold by AWS")
            .with("customer_id", "acme")
            .with("plan_id", &plan)
            .choosing("trial", "yes", "checked"),
        on("/customers/acme/erase", "/customers/acme/erase", "has live subscriptions"),
        on("/customers", "/customers/acme/unlink", "no customer").to("customers/none/unlink"),
        on("/subscriptions", "/subscriptions/sub-1/cancel", "no subscription"),
        on("/events", "/events/replay", "number of").typing("after", "yesterday").over("after"),
        on(&format!("/metering/records/{record}"), "/metering/records/1/resolve", "at most")
            .to(format!("metering/records/{record}/resolve"))
            .choosing("action", "write_off", "required checked")
            .with("note", &long)
            .over("note"),
        on("/metering/resolve?action=write_off", "/metering/resolve", "at most")
            .with("action", "write_off")
            .with("note", &long)
            .over("note"),
        on("/notifications", "/notifications/1/replay", "no notification"),
        on(&format!("/notifications/{message}"), "/notifications/1/discard", "at most")
            .to(format!("notifications/{message}/discard"))
            .with("note", &long)
            .over("note"),
        on("/integration", "/integration/connect", "IAM role's ARN")
            .typing("role_arn", "my role")
            .over("role_arn"),
    ]);
    all.extend(of_sandbox(&agreement));
    all
}

/// Mistakes in the forms of the sandbox.
fn of_sandbox(agreement: &marketd::sandbox::market::Agreement) -> Vec<Mistake> {
    vec![
        on("/sandbox", "/sandbox/purchases", "12 digits")
            .typing("account_id", "12 34")
            .typing("quantity", "7")
            .with("offer", "x")
            .over("account_id"),
        on("/sandbox", "/sandbox/agreements", "whole number")
            .with("account_id", &agreement.account_id)
            .with("product", &agreement.product_code)
            .with("agreement_id", &agreement.agreement_id)
            .with("verb", "upgrade")
            .with("dimension", "x")
            .with("quantity", "two")
            .over("quantity"),
        on("/sandbox", "/sandbox/faults", "number of calls")
            .choosing("operation", "ListEntities", "selected")
            .choosing("kind", "slow", "selected")
            .typing("times", "often")
            .over("times"),
        on("/sandbox", "/sandbox/messages", "empty").with("body", " ").over("body"),
        on("/sandbox", "/sandbox/clock", "unknown variant").with("by", "decade").over("by"),
        on("/sandbox", "/sandbox/dimensions", "has that dimension").with("lost", "x").over("lost"),
        on("/sandbox", "/sandbox/usage", "decimal number")
            .with("used", &format!("{}/api_calls", agreement.agreement_id))
            .typing("units", "many")
            .over("units"),
        on("/sandbox", "/sandbox/delivery", "unknown variant").with("way", "lost").over("way"),
        on("/sandbox", "/sandbox/roles", "missing field").with("role", "x"),
    ]
}

/// Mistakes in the forms of the catalogue.
fn catalogue(plan: &str, entity: &str) -> Vec<Mistake> {
    let page = format!("/plans/{plan}");
    vec![
        on("/features", "/features", "one of the kinds")
            .typing("id", "typed-id")
            .typing("name", "Typed name")
            .with("type", "odd")
            .over("type"),
        on(&format!("/listings/{entity}/import"), "/listings/prod-1/import", "imported")
            .to(format!("listings/{entity}/import"))
            .with("product_id", "another-id"),
        on("/plans", "/plans", "not empty").with("id", " ").typing("name", "Typed name").over("id"),
        on("/plans", "/plans/pro/archive", "no plan").to("plans/none/archive"),
        on("/plans", "/plans/pro/discard", "no plan").to("plans/none/discard"),
        on(&format!("{page}?grant=calls"), "/plans/pro/entitlements", "“Limit” is a number")
            .to(format!("plans/{plan}/entitlements"))
            .with("feature_id", "calls")
            .typing("limit", "12,5")
            .choosing("reset", "month", "selected")
            .choosing("bill", "overage", "selected")
            .choosing("soft", "yes", "checked")
            .over("limit"),
        on(&page, "/plans/pro/entitlements/remove", "not empty")
            .to(format!("plans/{plan}/entitlements/remove"))
            .with("feature_id", "")
            .over("feature_id"),
        on("/plans/old/publish", "/plans/pro/publish", "archived")
            .to("plans/old/publish")
            .choosing("to", "", "required checked"),
        on("/products", "/products/insight/confirm-endings", "no product"),
        on("/products", "/products/insight/remove", "no product"),
        on("/products", "/products/insight/sync", "no product"),
    ]
}

#[tokio::test]
async fn each_form_that_is_refused_is_shown_again_with_what_was_typed() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let world = World::in_mid_month_with(vec![
        ("MARKETD__WEBHOOK__URL".into(), "http://127.0.0.1:9/".into()),
        ("MARKETD__WEBHOOK__SECRET_FILE".into(), secret.display().to_string()),
    ])
    .await;
    world.import_everything().await;
    trouble(&world, json!({"name": "Acme"}), "no message").await;
    let contract = world.product("Acme Insight");
    let order = marketd::sandbox::market::Order::of(contract.product_code).with("basic", 1);
    world.act("123456789012", marketd::sandbox::market::Action::Purchase(order));

    let mut told = BTreeSet::from(BUTTONS);
    // It has a page of its own, whose test it is.
    told.insert("/sign-in");
    let mut faults = Vec::new();
    for it in mistakes(&world).await {
        told.insert(it.form);
        if let Err(fault) = check(&world, &it).await {
            faults.push(format!("{}: {fault}", it.form));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let all: BTreeSet<&str> = FORMS.iter().map(|(form, _)| *form).collect();
    assert_eq!(
        all.difference(&told).collect::<Vec<_>>(),
        Vec::<&&str>::new(),
        "forms without a row"
    );
    world.stop().await;
}

/// Sends a form as a browser does, and looks at the page that it comes back on.
async fn check(world: &World, it: &Mistake) -> Result<(), String> {
    let page = world.get_text(&it.page).await;
    let hidden = page.split_once("name=\"form_page\" value=\"").map(|(_, rest)| rest);
    let form_page = hidden.map_or(it.page.trim_start_matches('/').to_owned(), |rest| {
        rest.split_once('"').unwrap().0.replace("&#38;", "&")
    });
    // The token of forms is the visitor's, whichever page it is on.
    let form_token = form_token(&world.get_text("/plans").await);
    let mut fields: Vec<(&str, &str)> =
        vec![("form_token", &form_token), ("form_page", &form_page)];
    fields.extend(it.fields.iter().map(|(name, text)| (*name, text.as_str())));
    let request = browser().post(format!("{}/{}", world.url(), it.action)).form(&fields);
    let answer = request.header(header::ORIGIN, world.url()).send().await.unwrap();
    let status = answer.status();
    let again = answer.text().await.unwrap();
    if !status.is_client_error() {
        return Err(format!("answered {status}"));
    }
    let has = |what: &str| if again.contains(what) { Ok(()) } else { Err(format!("no {what}")) };
    let (_, alert) = again.split_once("role=\"alert\"").ok_or("no alert")?;
    let alert = alert.split_once("</div>").unwrap().0.replace("&#39;", "'");
    if !alert.contains(it.said) {
        return Err(format!("it says {alert}"));
    }
    let title =
        |page: &str| page.split_once("<title>").unwrap().1.split_once('<').unwrap().0.to_owned();
    has(&title(&page))?;
    let form = format!("action=\"{}\"", it.action);
    if page.contains(&form) {
        has(&form)?;
    } else if !it.fields.is_empty() {
        return Err(format!("{} has no such form", it.page));
    }
    for typed in &it.typed {
        has(typed)?;
    }
    if let Some((_, long)) = it.fields.iter().find(|(_, text)| text.len() > 1_000) {
        has(&format!(">{long}</textarea>"))?;
    }
    if let Some(field) = it.field.filter(|field| page.contains(&format!("id=\"{field}\""))) {
        has(&format!("id=\"{field}_fault\""))?;
    }
    Ok(())
}
