//! What the seller sells: features, plans in versions and what they grant, their sources, and all of it as a file.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod held;
#[path = "../support/mod.rs"]
mod support;

use marketd::sandbox::market::{Action, ListingChange, Order, Product};
use reqwest::Method;
use serde_json::{Value, json};
use support::world::{World, eventually};

/// The listing as product `insight`, with a plan of the same name for each of these dimensions.
async fn import(world: &World, plans: Value) -> Product {
    let insight = world.product("Acme Insight");
    let path = format!("/v1/listings/{}/import", insight.entity_id);
    world.post(&path, json!({"plans": plans, "product_id": "insight"})).await;
    insight
}

/// The kind of problem that a call is refused with, and its status.
async fn refusal(world: &World, method: Method, path: &str, body: Value) -> (u16, String, Value) {
    let (status, problem) = world.call(method, path, Some(body)).await;
    let kind = problem["type"].as_str().unwrap_or_default();
    (status, kind.trim_start_matches("urn:marketd:problem:").to_owned(), problem)
}

async fn events(world: &World, kind: &str) -> Vec<Value> {
    let events = world.get("/v1/events?limit=500").await;
    let events = events["items"].as_array().unwrap().iter();
    events.filter(|event| event["type"] == kind).map(|event| event["data"].clone()).collect()
}

fn paths_of(applied: &Value) -> Vec<&str> {
    applied["changes"].as_array().unwrap().iter().map(|it| it["path"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_feature_keeps_what_is_not_said_of_it() {
    let world = World::with_nothing_imported().await;
    import(&world, json!({"basic": "basic"})).await;
    let set = async |more: &[&str]| {
        let calls = ["feature", "set", "calls", "--name", "Calls", "--type", "metered"];
        world.cli_json(&[&calls[..], more].concat()).await
    };
    let all = ["--unit", "call", "--dimension", "insight=api_calls", "--when-stale", "deny"];
    let first = set(&all).await;
    assert_eq!(first["dimensions"], json!({"insight": "api_calls"}));
    assert_eq!(set(&[]).await, first, "options that are left out keep what is there");
    assert_eq!(events(&world, "feature.updated").await.len(), 1, "and nothing is told");
    let renamed = json!({"name": "API calls", "type": "metered"});
    let renamed = world.put("/v1/features/calls", renamed).await;
    assert_eq!((&renamed["dimensions"], &renamed["unit"]), (&first["dimensions"], &json!("call")));
    assert_eq!(renamed["when_stale"], "deny");

    let unlinked = set(&["--no-dimension"]).await;
    assert_eq!(unlinked["dimensions"], json!({}));
    let told = events(&world, "feature.updated").await.pop().unwrap();
    assert_eq!(told["unlinked"], json!({"insight": "api_calls"}), "{told}");
    set(&["--dimension", "insight=api_calls"]).await;
    let explicit = json!({"name": "Calls", "type": "metered", "dimensions": {}, "unit": ""});
    let explicit = world.put("/v1/features/calls", explicit).await;
    assert_eq!((&explicit["dimensions"], explicit.get("unit")), (&json!({}), None));

    let billed = json!({"name": "SSO", "type": "boolean", "dimensions": {"insight": "api_calls"}});
    let (status, kind, problem) = refusal(&world, Method::PUT, "/v1/features/sso", billed).await;
    assert_eq!((status, kind.as_str()), (422, "invalid-feature"), "{problem}");
    world.stop().await;
}

#[tokio::test]
async fn usage_of_what_is_not_metered_is_refused_and_the_rest_is_kept() {
    let world = World::with_nothing_imported().await;
    world.put("/v1/customers/acme", json!({})).await;
    for kind in ["boolean", "numeric", "metered"] {
        world.put(&format!("/v1/features/{kind}"), json!({"name": kind, "type": kind})).await;
    }
    let event = |feature: &str| json!({"id": feature, "customer_id": "acme", "feature_id": feature, "quantity": 1});
    let events = ["boolean", "metered", "numeric"].map(event);
    let receipt = world.post("/v1/usage", json!({"events": events})).await;
    assert_eq!(receipt["accepted"], 1, "{receipt}");
    let rejected = receipt["rejected"].as_array().unwrap();
    let shown = |it: &Value| (it["id"].clone(), it["code"].clone());
    let code = json!("feature_not_metered");
    assert_eq!(
        rejected.iter().map(shown).collect::<Vec<_>>(),
        [(json!("boolean"), code.clone()), (json!("numeric"), code)]
    );
    assert!(rejected[0]["detail"].as_str().unwrap().contains("boolean is boolean"), "{receipt}");
    world.stop().await;
}

#[tokio::test]
async fn ids_that_cannot_be_shown_are_refused_wherever_they_are_chosen() {
    let world = World::with_nothing_imported().await;
    let entity = world.product("Acme Insight").entity_id;
    let long = "x".repeat(129);
    let feature = json!({"name": "A", "type": "boolean"});
    for id in ["%20", "%00", "%0A", "a%7Fb", &long] {
        for (path, body) in [
            (format!("/v1/features/{id}"), feature.clone()),
            (format!("/v1/customers/{id}"), json!({})),
            (format!("/v1/plans/{id}"), json!({"name": "A"})),
            (format!("/v1/subscriptions/{id}"), json!({"customer_id": "a", "plan_id": "b"})),
        ] {
            let (status, kind, problem) = refusal(&world, Method::PUT, &path, body).await;
            assert_eq!((status, kind.as_str()), (400, "bad-request"), "{path}: {problem}");
            assert!(problem["detail"].as_str().unwrap().contains("id"), "{path}: {problem}");
        }
    }
    let path = format!("/v1/listings/{entity}/import");
    for body in [json!({"product_id": "a\nb"}), json!({"plans": {"basic": long}})] {
        let (status, kind, problem) = refusal(&world, Method::POST, &path, body).await;
        assert_eq!((status, kind.as_str()), (400, "bad-request"), "{problem}");
    }
    world.put(&format!("/v1/features/{}", &long[1..]), feature).await;
    assert_eq!(world.cli(&["export"]).await.0, 0);
    world.stop().await;
}

#[tokio::test]
async fn what_is_new_in_the_catalogue_has_letters_digits_and_few_signs_wherever_it_is_made() {
    let world = World::with_nothing_imported().await;
    let entity = world.product("Acme Insight").entity_id;
    let import = format!("/v1/listings/{entity}/import");
    let feature = json!({"name": "A", "type": "boolean"});
    let plan = json!({"name": "A", "status": "draft", "entitlements": {}});
    for (method, path, body, field) in [
        (Method::PUT, "/v1/features/a%20b", feature.clone(), "id"),
        (Method::PUT, "/v1/plans/a%21", json!({"name": "A"}), "id"),
        (Method::POST, &*import, json!({"product_id": "my product"}), "product_id"),
        (Method::POST, &*import, json!({"plans": {"basic": "my plan"}}), "plans.basic"),
        (Method::POST, &*import, json!({"features": {"api_calls": "a?"}}), "features.api_calls"),
        (Method::POST, "/v1/catalogue", json!({"features": {"a b": feature}}), "id"),
        (Method::POST, "/v1/catalogue", json!({"plans": {"a b": plan}}), "id"),
    ] {
        let (status, kind, problem) = refusal(&world, method, path, body).await;
        assert_eq!((status, kind.as_str()), (400, "bad-request"), "{path}: {problem}");
        assert_eq!(problem["field"], field, "{path}: {problem}");
        let said = problem["detail"].as_str().unwrap();
        assert!(said.contains("letters, digits and any of - _ . : /"), "{path}: {problem}");
    }
    let (code, _, error) = world.cli(&["plan", "create", "a b", "--name", "A"]).await;
    assert!(code != 0 && error.contains("not a space"), "{error}");
    for list in ["/v1/products", "/v1/plans", "/v1/features"] {
        assert_eq!(world.list(list).await.len(), 0, "{list}");
    }
    world.put("/v1/features/eu:Zo%C3%AB%2F1_x.y-z", json!({"name": "A", "type": "boolean"})).await;
    world.put("/v1/customers/jane%20doe%21", json!({})).await;
    world.stop().await;
}

#[tokio::test]
async fn a_product_that_was_imported_by_mistake_is_removed_and_one_that_was_sold_is_not() {
    let world = World::with_nothing_imported().await;
    world.put("/v1/plans/kept", json!({"name": "Kept"})).await;
    world.post("/v1/plans/kept/publish", json!({})).await;
    let insight = import(&world, json!({"basic": "mistaken", "pro": "kept"})).await;
    let path = format!("/v1/listings/{}/import", insight.entity_id);
    world.post(&path, json!({"features": {"api_calls": "calls"}})).await;
    let removed = world.cli_json(&["product", "remove", "insight"]).await;
    assert_eq!(removed["entity_id"], json!(insight.entity_id));
    assert_eq!(world.call(Method::GET, "/v1/products/insight", None).await.0, 404);
    assert_eq!(world.call(Method::GET, "/v1/plans/mistaken", None).await.0, 404);
    let kept = world.get("/v1/plans/kept").await;
    assert_eq!((&kept["source"], &kept["product_id"]), (&json!("direct"), &Value::Null));
    assert_eq!(world.get("/v1/features/calls").await["dimensions"], json!({}));
    assert_eq!(events(&world, "product.removed").await.len(), 1);
    assert_eq!(world.call(Method::DELETE, "/v1/products/insight", None).await.0, 404);

    world.post(&path, json!({"product_id": "right", "plans": {"basic": "basic"}})).await;
    let order = Order::of(insight.product_code).with("basic", 1);
    world.act("123456789012", Action::Purchase(order));
    eventually("the sale", async || {
        (!world.list("/v1/subscriptions").await.is_empty()).then_some(())
    })
    .await;
    let (status, kind, problem) =
        refusal(&world, Method::DELETE, "/v1/products/right", Value::Null).await;
    assert_eq!((status, kind.as_str()), (409, "product-in-use"), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("customers are or were subscribed"));
    assert_eq!(world.list("/v1/products").await.len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn a_listing_keeps_the_id_that_it_was_imported_under() {
    let world = World::with_nothing_imported().await;
    let insight = import(&world, json!({"basic": "basic"})).await;
    let path = format!("/v1/listings/{}/import", insight.entity_id);
    let other = json!({"product_id": "other", "plans": {"pro": "pro"}});
    let (status, kind, problem) = refusal(&world, Method::POST, &path, other).await;
    assert_eq!((status, kind.as_str()), (409, "already-imported"), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("say insight"), "{problem}");
    assert_eq!(world.get("/v1/plans").await["items"].as_array().unwrap().len(), 1);
    assert_eq!(world.post(&path, json!({})).await["id"], "insight", "left out, it is found");
    world.stop().await;
}

#[tokio::test]
async fn a_plan_is_awss_as_long_as_a_mapping_means_it() {
    let world = World::with_nothing_imported().await;
    world.put("/v1/plans/own", json!({"name": "Own"})).await;
    world.put("/v1/customers/here", json!({})).await;
    let insight = import(&world, json!({"basic": "own"})).await;
    assert_eq!(world.get("/v1/plans/own").await["source"], "aws");
    let sold = json!({"customer_id": "here", "plan_id": "own"});
    assert_eq!(world.try_put("/v1/subscriptions/s1", sold.clone()).await.0, 409);
    let held = world.call(Method::DELETE, "/v1/plans/own", None).await;
    assert_eq!((held.0, &held.1["type"]), (409, &json!("urn:marketd:problem:plan-in-use")));

    let path = format!("/v1/listings/{}/import", insight.entity_id);
    world.post(&path, json!({"plans": {"basic": "basic"}})).await;
    assert_eq!(world.get("/v1/plans/own").await["source"], "direct", "no mapping means it now");
    world.put("/v1/subscriptions/s1", sold).await;
    let back = json!({"plans": {"basic": "own"}});
    let (status, kind, problem) = refusal(&world, Method::POST, &path, back).await;
    assert_eq!((status, kind.as_str()), (409, "sold-directly"), "{problem}");

    // What the file unmaps is the seller's again, and an orphan that nobody had can be removed.
    let file = json!({"products": {"insight": {"entity_id": insight.entity_id, "plans": {}}}});
    world.post("/v1/catalogue", file).await;
    assert_eq!(world.get("/v1/plans/basic").await["source"], "direct");
    world.cli_json(&["plan", "remove", "basic"]).await;
    assert_eq!(world.call(Method::GET, "/v1/plans/basic", None).await.0, 404);
    assert_eq!(events(&world, "plan.removed").await.len(), 1);
    let held = world.call(Method::DELETE, "/v1/plans/own", None).await;
    assert_eq!(held.0, 409, "{}", held.1);
    world.stop().await;
}

#[tokio::test]
async fn grants_that_contradict_their_feature_are_refused_by_the_field() {
    let world = World::with_nothing_imported().await;
    world.put("/v1/plans/own", json!({"name": "Own"})).await;
    for kind in ["boolean", "numeric", "metered"] {
        world.put(&format!("/v1/features/{kind}"), json!({"name": kind, "type": kind})).await;
    }
    let path = |feature: &str| format!("/v1/plans/own/entitlements/{feature}");
    world.put(&path("metered"), json!({"limit": 100})).await;
    for (feature, terms, field) in [
        ("boolean", json!({"limit": 1}), "limit"),
        ("boolean", json!({"reset": "day"}), "reset"),
        ("numeric", json!({"limit": 1, "reset": "day"}), "reset"),
        ("numeric", json!({}), "limit"),
        ("metered", json!({"limit": 1, "unlimited": true}), "unlimited"),
        ("metered", json!({"bill": "overage"}), "limit"),
        ("metered", json!({}), "limit"),
    ] {
        let (status, kind, problem) = refusal(&world, Method::PUT, &path(feature), terms).await;
        assert_eq!((status, kind.as_str()), (422, "invalid-entitlement"), "{problem}");
        assert_eq!(problem["field"], field, "{problem}");
    }
    let grants = world.get("/v1/plans/own").await["entitlements"].clone();
    assert_eq!((grants.as_array().unwrap().len(), &grants[0]["limit"]), (1, &json!(100)));
    let (code, _, complaint) = world.cli(&["plan", "entitle", "own", "metered"]).await;
    assert!(code == 1 && complaint.contains("unlimited"), "{complaint}");
    let said = world.put(&path("metered"), json!({"limit": null})).await;
    assert_eq!(said["entitlements"][0]["unlimited"], true, "{said}");
    world.put(&path("boolean"), json!({})).await;
    world.stop().await;
}

#[tokio::test]
async fn an_archived_plan_is_sold_again_only_if_that_is_said() {
    let world = World::with_nothing_imported().await;
    import(&world, json!({"basic": "basic"})).await;
    world.put("/v1/features/sso", json!({"name": "SSO", "type": "boolean"})).await;
    let publish =
        async |body: Value| refusal(&world, Method::POST, "/v1/plans/basic/publish", body).await;
    publish(json!({})).await;
    let (code, out, _) = world.cli(&["plan", "archive", "basic"]).await;
    assert!(code == 0 && out.contains("AWS goes on selling it as dimension basic"), "{out}");
    world.cli_json(&["plan", "entitle", "basic", "sso"]).await;
    let (status, kind, problem) = publish(json!({})).await;
    assert_eq!((status, kind.as_str()), (409, "plan-archived"), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("reopen"), "{problem}");
    assert_eq!(world.cli(&["plan", "publish", "basic"]).await.0, 1);

    let kept = world.cli_json(&["plan", "publish", "basic", "--to", "all"]).await;
    assert_eq!((&kept["status"], &kept["version"]), (&json!("archived"), &json!(2)), "{kept}");
    let versions = world.cli_json(&["plan", "versions", "basic"]).await;
    let shown = |at: usize| (&versions["items"][at]["version"], &versions["items"][at]["state"]);
    assert_eq!(shown(0), (&json!(2), &json!("published")), "{versions}");
    assert_eq!(shown(1), (&json!(1), &json!("superseded")), "{versions}");
    let older = world.cli_json(&["plan", "versions", "basic", "1"]).await;
    assert_eq!(older["entitlements"], json!([]));
    let open = world.cli_json(&["plan", "publish", "basic", "--reopen"]).await;
    assert_eq!((&open["status"], &open["version"]), (&json!("published"), &json!(2)), "{open}");
    let removed = world.call(Method::DELETE, "/v1/plans/basic", None).await;
    assert_eq!(removed.0, 409, "{}", removed.1);
    world.stop().await;
}

const CATALOGUE: &str = r#"
[products.insight]
entity_id = "ENTITY"
plans = { basic = "basic", pro = "pro" }

[features.sso]
name = "Single sign-on"
type = "boolean"

[features.calls]
name = "Calls"
type = "metered"
dimensions = { insight = "api_calls" }

[plans.basic]
name = "Basic"
status = "published"
entitlements = { calls = { limit = 100, reset = "month" } }

[plans.pro]
name = "Pro"
status = "draft"
entitlements = { sso = {}, calls = { unlimited = true } }
"#;

/// Writes a catalogue of the product's; its path.
fn write(world: &World, product: &Product, text: &str) -> String {
    let file = world.file("catalogue.toml");
    std::fs::write(&file, text.replace("ENTITY", &product.entity_id)).unwrap();
    file.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_catalogue_is_what_a_reviewed_file_says() {
    let world = World::with_nothing_imported().await;
    let insight = world.product("Acme Insight");
    let write = |text: &str| write(&world, &insight, text);
    let first = CATALOGUE;
    let path = write(first);
    let dry = world.cli_json(&["apply", "-f", &path, "--dry-run"]).await;
    assert_eq!(dry["applied"], false);
    assert_eq!(world.get("/v1/catalogue").await["plans"], json!({}), "a dry run changes nothing");
    assert!(
        world.get("/v1/events").await["items"].as_array().unwrap().is_empty(),
        "and tells nothing"
    );
    let wet = world.cli_json(&["apply", "-f", &path]).await;
    assert_eq!(wet["changes"], dry["changes"], "it showed just what came of it");
    assert_eq!(world.get("/v1/plans/basic").await["version"], 1);
    let again = world.cli_json(&["apply", "-f", &path]).await;
    assert_eq!(again["changes"], json!([]));

    // What is exported is what was applied, and applies to nothing.
    let (code, exported, _) = world.cli(&["export"]).await;
    assert_eq!(code, 0);
    assert_eq!(world.cli_json(&["apply", "-f", &write(&exported)]).await["changes"], json!([]));

    // A draft beside what is published, and a mapping taken back.
    let second =
        exported.replace("pro = \"pro\"\n", "") + "\n[plans.basic.draft]\ncalls = { limit = 50 }\n";
    let changed = world.cli_json(&["apply", "-f", &write(&second)]).await;
    let paths = ["plans.basic.draft", "products.insight.plans.pro"];
    assert_eq!(paths_of(&changed), paths, "{changed}");
    assert_eq!(changed["removals"], 1);
    assert_eq!(world.get("/v1/plans/basic").await["entitlements"][0]["limit"], 100);
    assert_eq!(world.get("/v1/plans/basic/preview").await["version"], 2);
    let back = world.cli_json(&["apply", "-f", &write(first)]).await;
    assert_eq!(paths_of(&back), ["products.insight.plans.pro"], "the draft stays: {back}");
    world.cli_json(&["plan", "discard", "basic"]).await;

    world.stop().await;
}

#[tokio::test]
async fn a_file_is_applied_whole_or_not_at_all() {
    let world = World::with_nothing_imported().await;
    let insight = world.product("Acme Insight");
    let write = |text: &str| write(&world, &insight, text);
    let first = CATALOGUE;
    world.cli_json(&["apply", "-f", &write(first)]).await;
    let rows = [
        (
            first.replace("Single sign-on", "SSO").replace("calls = { limit", "none = { limit"),
            "catalogue.toml, line 18: plans.basic.entitlements.none: there is no feature none",
        ),
        (
            first
                .replace("Single sign-on", "SSO")
                .replace("status = \"published\"", "status = \"draft\""),
            "basic",
        ),
        (
            first.replace("Single sign-on", "SSO").replace("basic = \"basic\"", "gold = \"basic\""),
            "gold",
        ),
        (first.replace("type = \"boolean\"", "type = \"numeric\""), "sso"),
        (first.replace("products.insight", "products.other"), "products.other: listing"),
        (
            first.replace(
                "products.insight]\nentity_id = \"",
                "products.other]\nentity_id = \"prod-none",
            ),
            "line 2: products.other",
        ),
        (first.replace("limit = 100", "limmit = 100"), "limmit"),
        (first.replace("limit = 100", "limmit = 100"), "line 18"),
        (first.replace("limit = 100", "limmit = 100"), "plans.basic.entitlements.calls"),
        (first.replace("[plans.pro]", "[plans.pro"), "catalogue.toml"),
    ];
    for (text, word) in rows {
        let (code, _, complaint) = world.cli(&["apply", "-f", &write(&text)]).await;
        assert_eq!(code, 1, "{text}");
        assert!(complaint.contains(word), "{word:?} is not in {complaint:?}");
        assert_eq!(world.get("/v1/features/sso").await["name"], "Single sign-on");
    }
    world.stop().await;
}

/// What is left out of a thing that the file names.
#[tokio::test]
async fn a_table_that_the_file_leaves_out_is_left_alone() {
    let world = World::with_nothing_imported().await;
    let insight = world.product("Acme Insight");
    let write = |text: &str| write(&world, &insight, text);
    world.cli_json(&["apply", "-f", &write(CATALOGUE)]).await;
    world.cli_json(&["plan", "archive", "basic"]).await;
    let sparse = "[products.insight]\nentity_id = \"ENTITY\"\n\n[features.calls]\nname = \"Calls\"\ntype = \"metered\"\n\n[plans.basic]\nname = \"Basic\"\nstatus = \"archived\"\n";
    let applied = world.cli_json(&["apply", "-f", &write(sparse)]).await;
    assert_eq!(paths_of(&applied), [""; 0], "{applied}");
    assert_eq!(world.get("/v1/plans/basic").await["entitlements"][0]["limit"], 100);
    assert_eq!(
        world.get("/v1/features/calls").await["dimensions"],
        json!({"insight": "api_calls"})
    );

    // One that is there is all that there is, and the dry run shows what goes.
    let bare = sparse.replace("\"ENTITY\"", "\"ENTITY\"\nplans = { pro = \"pro\" }")
        + "entitlements = {}\n";
    let (code, out, _) = world.cli(&["apply", "-f", &write(&bare), "--dry-run"]).await;
    assert_eq!(code, 0);
    for line in [
        "- plans.basic.entitlements.calls = {\"limit\":100,\"reset\":\"month\"}",
        "- products.insight.plans.basic = \"basic\"",
        "2 changes would be made, of which 2 take something away; this was a dry run",
    ] {
        assert!(out.lines().any(|shown| shown == line), "{line:?} is not in {out}");
    }
    assert_eq!(world.get("/v1/plans/basic").await["entitlements"][0]["limit"], 100);
    world.stop().await;
}

#[tokio::test]
async fn what_is_exported_applies_elsewhere_and_is_the_same_there() {
    let world = World::with_nothing_imported().await;
    let insight = world.product("Acme Insight");
    world.cli_json(&["apply", "-f", &write(&world, &insight, CATALOGUE)]).await;
    let enterprise = json!({"plans": {"enterprise": "enterprise"}});
    world.post(&format!("/v1/listings/{}/import", insight.entity_id), enterprise).await;
    world.put("/v1/plans/pro/entitlements/calls", json!({"limit": null})).await;
    world.put("/v1/plans/solo", json!({"name": "Solo"})).await;
    world.put("/v1/plans/solo/entitlements/sso", json!({})).await;
    world.post("/v1/plans/solo/publish", json!({})).await;
    world.post("/v1/plans/solo/archive", json!({})).await;
    world.put("/v1/plans/solo/entitlements/calls", json!({"limit": 7})).await;
    world.put("/v1/plans/never", json!({"name": "Never"})).await;
    world.put("/v1/plans/never/entitlements/sso", json!({})).await;
    world.post("/v1/plans/never/archive", json!({})).await;
    let stream = world.product("Acme Stream");
    world.post(&format!("/v1/listings/{}/import", stream.entity_id), json!({})).await;
    // A dimension goes from the listing: those who have it keep its plan, and no other daemon has ever heard of it.
    let take_out = |world: &World| {
        let mut dimensions = insight.dimensions.clone();
        dimensions.retain(|it| it.key != "enterprise");
        let change = ListingChange { dimensions: Some(dimensions), ..ListingChange::default() };
        world.market(|market, now| {
            market.change_listing(&insight.entity_id, change, now).expect("it is there");
        });
    };
    take_out(&world);
    world.post("/v1/products/insight/sync", json!({})).await;

    let (_, exported, _) = world.cli(&["export"]).await;
    assert!(!exported.contains("enterprise = "), "{exported}");
    let file = world.file("exported.toml");
    std::fs::write(&file, &exported).unwrap();
    let path = file.to_str().unwrap();
    let again = world.cli_json(&["apply", "-f", path]).await;
    assert_eq!(again["changes"], json!([]), "here, it changes nothing");
    let kept = world.get("/v1/plans/enterprise").await;
    assert_eq!(
        (&kept["source"], &kept["aws"][0]["dimension"]),
        (&json!("aws"), &json!("enterprise"))
    );

    let other = World::with_nothing_imported().await;
    take_out(&other);
    other.cli_json(&["apply", "-f", path]).await;
    let (_, same, _) = other.cli(&["export"]).await;
    assert_eq!(same, exported);
    let solo = other.get("/v1/plans/solo").await;
    assert_eq!((&solo["version"], &solo["draft"]["version"]), (&json!(1), &json!(2)), "{solo}");
    assert_eq!(other.get("/v1/plans/never").await["version"], Value::Null);
    other.stop().await;
    world.stop().await;
}
