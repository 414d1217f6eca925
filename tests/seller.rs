//! The path that a seller walks: from the trust policy to an application that is told no; and the ways off it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use marketd::sandbox::market::{
    Action, ListingChange, NewProduct, Order, Product, Protocol, Visibility,
};
use marketd::sandbox::{Fault, FaultKind, RoleGrant};
use reqwest::Method;
use serde_json::{Value, json};
use support::world::{World, eventually};

fn change(world: &World, product: &Product, change: ListingChange) {
    world.market(|market, now| {
        market.change_listing(&product.entity_id, change, now).expect("it is there");
    });
}

fn access(answer: &Value) -> (bool, &str) {
    (answer["has_access"].as_bool().unwrap(), answer["reason"].as_str().unwrap())
}

const ROLE: &str = "arn:aws:iam::111122223333:role/marketplace";

/// Connects by the role that the printed policies make, after one that lacks a permission.
async fn connect(world: &World) {
    let trust = world.cli_json(&["integration", "trust-policy"]).await;
    let external_id = trust.pointer("/Statement/0/Condition/StringEquals/sts:ExternalId").unwrap();
    let external_id = external_id.as_str().map(str::to_owned);
    let policy = world.cli_json(&["integration", "iam-policy"]).await;
    let statements = policy["Statement"].as_array().unwrap().iter();
    let permissions: Vec<String> = statements
        .flat_map(|statement| statement["Action"].as_array().unwrap())
        .map(|action| action.as_str().unwrap().to_owned())
        .collect();
    let lacking =
        permissions.iter().filter(|it| !it.ends_with("DescribeEntity")).cloned().collect();
    let grant = |permissions| {
        let (role_arn, external_id) = (ROLE.to_owned(), external_id.clone());
        let permissions = Some(permissions);
        world.sandbox().add_role(RoleGrant {
            role_arn,
            external_id,
            permissions,
            ..RoleGrant::default()
        });
    };
    grant(lacking);
    let lacking = ["--output", "json", "integration", "connect", "--role-arn", ROLE];
    let (code, out, complaint) = world.cli(&lacking).await;
    assert_eq!(code, 1, "a script sees that something is missing");
    let problem: Value = serde_json::from_str(&complaint).unwrap();
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("\n  aws-marketplace:DescribeEntity: "), "{complaint}");
    let lacks: Value = serde_json::from_str(&out).unwrap();
    assert!(lacks["problems"].to_string().contains("DescribeEntity"), "{lacks}");
    grant(permissions);
    let connected = world.cli_json(&["integration", "connect", "--role-arn", ROLE]).await;
    let checks = connected["checks"].as_array().unwrap();
    assert!(checks.len() == 11 && checks.iter().all(|check| check["ok"] == true), "{connected}");
}

/// The listing as product `insight`, and what its plans grant; nothing is published.
async fn import(world: &World) -> Product {
    let insight = world.product("Acme Insight");
    let import = ["listing", "import", &insight.entity_id, "--product-id", "insight"];
    let mapping = ["--plan", "basic=basic", "--plan", "pro=pro", "--feature", "api_calls=calls"];
    let imported = world.cli_json(&[&import[..], &mapping].concat()).await;
    assert_eq!(imported["plans"][0]["status"], "draft");
    assert_eq!(imported["plans"][0]["pricing"], "custom");
    assert_eq!(imported["plans"][0]["aws"][0]["dimension"], "basic", "marked as AWS's");
    let sso = ["feature", "set", "sso", "--name", "Single sign-on", "--type", "boolean"];
    world.cli_json(&sso).await;
    let calls = ["plan", "entitle", "basic", "calls", "--limit", "2", "--reset", "month"];
    world.cli_json(&calls).await;
    world.cli_json(&["plan", "entitle", "pro", "sso"]).await;
    insight
}

#[tokio::test]
async fn from_the_trust_policy_to_an_application_that_is_told_no() {
    let world = World::in_mid_month_with_nothing_imported().await;
    connect(&world).await;
    let insight = import(&world).await;

    // A buyer comes by AWS's redirect.
    let order = || Order::of(&insight.product_code).with("basic", 1);
    world.act("123456789012", Action::Purchase(order()));
    let token = world.act("123456789012", Action::Register(order())).registration_token.unwrap();
    let body = json!({"registration_token": token, "customer_id": "acme"});
    let registered = world.post("/v1/registrations", body).await;
    assert_eq!(registered["subscriptions"][0]["plan_id"], "basic", "{registered}");

    let ask = async |feature: &str, requested: &str| {
        let mut arguments = vec!["customer", "access", "acme", feature];
        if !requested.is_empty() {
            arguments.extend(["--requested", requested]);
        }
        world.cli_json(&arguments).await
    };
    assert_eq!(access(&ask("calls", "").await), (false, "plan_not_published"));
    world.cli_json(&["plan", "publish", "basic"]).await;
    assert_eq!(access(&ask("calls", "").await), (true, "granted"), "in the very next answer");
    assert_eq!(access(&ask("calls", "3").await), (false, "limit_exceeded"));
    assert_eq!(access(&ask("sso", "").await), (false, "feature_not_in_plan"));
    let event = json!({"id": "1", "customer_id": "acme", "feature_id": "calls", "quantity": 2});
    assert_eq!(world.post("/v1/usage", json!({"events": [event]})).await["accepted"], 1);
    let told = ask("calls", "").await;
    assert_eq!(access(&told), (false, "limit_exceeded"), "{told}");
    assert_eq!((&told["usage"], &told["remaining"]), (&json!(2), &json!(0)));

    // An upgrade, and the end.
    let insight = &insight.product_code;
    world.act("123456789012", Action::Upgrade(Order::of(insight).with("pro", 1)));
    world.cli_json(&["plan", "publish", "pro"]).await;
    let told_at_last = async |has: bool| {
        eventually("a change at AWS", async || {
            (ask("sso", "").await["has_access"] == has).then_some(())
        })
        .await;
    };
    told_at_last(true).await;
    world.act("123456789012", Action::Cancel(Order::of(insight)));
    told_at_last(false).await;
    let told = ask("sso", "").await;
    assert_eq!(access(&told), (false, "no_subscription"));
    assert_eq!(told["subscription_status"], "canceled", "{told}");
    let balance = world.get("/v1/metering/balance").await;
    assert_eq!(balance["reported"], "2", "what was bought on AWS is billed there: {balance}");
    world.stop().await;
}

#[tokio::test]
async fn whoever_bought_here_is_served_the_same_way_and_never_billed_to_aws() {
    let world = World::with_demo_catalog().await;
    let insight = world.product("Acme Insight");
    let dimensions = json!({insight.entity_id.as_str(): "api_calls"});
    let calls = json!({"name": "Calls", "type": "metered", "dimensions": dimensions});
    world.put("/v1/features/calls", calls).await;
    world.put("/v1/plans/own", json!({"name": "Own"})).await;
    world.put("/v1/plans/own/entitlements/calls", json!({"limit": 3, "soft": true})).await;
    world.post("/v1/plans/own/publish", json!({})).await;
    world.put("/v1/customers/here", json!({})).await;
    let sold = json!({"customer_id": "here", "plan_id": "own", "quantity": 2});
    let first = world.put("/v1/subscriptions/s1", sold.clone()).await;
    assert_eq!((&first["source"], &first["status"]), (&json!("direct"), &json!("active")));
    assert_eq!(
        world.put("/v1/subscriptions/s1", sold).await,
        first,
        "asking again changes nothing"
    );
    let event = |id: &str, dimension: bool| {
        let mut event = json!({"id": id, "customer_id": "here", "quantity": 4});
        if dimension {
            event["product_id"] = json!(insight.entity_id);
            event["dimension"] = json!("api_calls");
        } else {
            event["feature_id"] = json!("calls");
        }
        event
    };
    let report = json!({"events": [event("1", false), event("2", true)]});
    assert_eq!(world.post("/v1/usage", report).await["accepted"], 2);
    let told = world.get("/v1/customers/here/entitlements/calls").await;
    assert_eq!((access(&told), &told["usage"]), ((true, "granted"), &json!(4)), "soft: {told}");
    assert_eq!(world.get("/v1/metering/balance").await["reported"], "0");

    // Held until a date, then over, and not to be had again under the same id.
    let later =
        world.post("/v1/subscriptions/s1/cancel", json!({"at": "2999-01-01T00:00:00Z"})).await;
    assert_eq!(
        (&later["status"], &later["ends_at"]),
        (&json!("ending"), &json!("2999-01-01T00:00:00Z"))
    );
    let over = world.post("/v1/subscriptions/s1/cancel", json!({})).await;
    assert_eq!(over["status"], "canceled", "{over}");
    let told = world.get("/v1/customers/here/entitlements/calls").await;
    assert_eq!(access(&told), (false, "no_subscription"));
    let again = json!({"customer_id": "here", "plan_id": "own"});
    let trial = json!({"customer_id": "here", "plan_id": "own", "status": "trialing"});
    assert_eq!(world.put("/v1/subscriptions/s4", trial).await["status"], "trialing");
    let told = world.get("/v1/customers/here/entitlements/calls").await;
    assert_eq!(told["subscription_status"], "trialing", "{told}");
    let (status, ended) = world.call(Method::DELETE, "/v1/subscriptions/s4", None).await;
    assert_eq!((status, &ended["status"]), (200, &json!("canceled")));
    let (status, problem) = world.try_put("/v1/subscriptions/s1", again).await;
    assert_eq!((status, &problem["type"]), (409, &json!("urn:marketd:problem:subscription-over")));
    world.stop().await;
}

#[tokio::test]
async fn what_cannot_be_sold_here_is_refused_with_the_reason() {
    let world = World::with_demo_catalog().await;
    world.put("/v1/plans/own", json!({"name": "Own"})).await;
    world.put("/v1/customers/here", json!({})).await;
    let sold = json!({"customer_id": "here", "plan_id": "own"});
    world.put("/v1/subscriptions/s1", sold).await;
    let put = |path, body, kind, word| (Method::PUT, path, body, kind, word);
    let on = |customer: &str, plan: &str| json!({"customer_id": customer, "plan_id": plan});
    world.put("/v1/customers/there", json!({})).await;
    let backwards =
        json!({"customer_id": "here", "plan_id": "own", "ends_at": "2020-01-01T00:00:00Z"});
    let rows = [
        put("/v1/subscriptions/s2", on("here", "pro"), (409, "sold-by-aws"), "AWS"),
        put("/v1/subscriptions/s2", on("nobody", "own"), (404, "not-found"), "nobody"),
        put("/v1/subscriptions/s2", on("here", "none"), (404, "not-found"), "none"),
        put("/v1/subscriptions/s1", on("there", "own"), (409, "id-taken"), "here"),
        put("/v1/subscriptions/s2", backwards, (422, "invalid-dates"), "after"),
        put("/v1/subscriptions/s2", json!({"plan_id": "own"}), (400, "bad-request"), "customer_id"),
        put(
            "/v1/subscriptions/s2",
            json!({"customer_id": "here", "plan_id": "own", "status": "expired"}),
            (400, "bad-request"),
            "dates",
        ),
    ];
    for (method, path, body, (status, kind), word) in rows {
        let (given, problem) = world.call(method, path, Some(body.clone())).await;
        assert_eq!(
            (given, &problem["type"]),
            (status, &json!(format!("urn:marketd:problem:{kind}"))),
            "{body}"
        );
        assert!(problem["detail"].as_str().unwrap().contains(word), "{problem}");
    }
    world.stop().await;
}

#[tokio::test]
async fn listings_of_every_kind_are_shown_and_imported_once() {
    let world = World::with_nothing_imported().await;
    let draft = NewProduct {
        title: "Acme Draft".into(),
        protocol: Protocol::Licensed,
        visibility: Visibility::Draft,
        dimensions: Vec::new(),
        product_code: None,
        entity_id: Some("prod-draft".into()),
    };
    world.market(|market, now| drop(market.add_product(draft, now).unwrap().clone()));
    // More than a page of the catalog's.
    for number in 0..60 {
        let more = NewProduct {
            title: format!("Acme {number}"),
            protocol: Protocol::Licensed,
            visibility: Visibility::Limited,
            dimensions: world.product("Acme Insight").dimensions,
            product_code: None,
            entity_id: None,
        };
        world.market(|market, now| drop(market.add_product(more, now).unwrap().clone()));
    }
    let listings = world.get("/v1/listings").await;
    let listings = listings["items"].as_array().unwrap();
    assert_eq!(listings.len(), 65);
    let draft = listings.iter().find(|it| it["entity_id"] == "prod-draft").unwrap();
    assert!(draft["problems"].to_string().contains("no dimensions"), "{draft}");

    let insight = world.product("Acme Insight");
    let path = format!("/v1/listings/{}/import", insight.entity_id);
    world.put("/v1/plans/own", json!({"name": "Own"})).await;
    world.put("/v1/plans/sold", json!({"name": "Sold"})).await;
    world.put("/v1/customers/here", json!({})).await;
    world.put("/v1/subscriptions/s1", json!({"customer_id": "here", "plan_id": "sold"})).await;
    world.put("/v1/features/flag", json!({"name": "Flag", "type": "boolean"})).await;
    let rows = [
        (json!({"plans": {"basic": "sold"}}), 409, "sold-directly"),
        (json!({"plans": {"none": "basic"}}), 422, "unknown-dimension"),
        (json!({"features": {"basic": "calls"}}), 422, "unknown-dimension"),
        (json!({"features": {"api_calls": "flag"}}), 422, "feature-type-fixed"),
        (json!({"plans": {"basic": ""}}), 400, "bad-request"),
    ];
    for (body, status, kind) in rows {
        let (given, problem) = world.call(Method::POST, &path, Some(body.clone())).await;
        assert_eq!(
            (given, &problem["type"]),
            (status, &json!(format!("urn:marketd:problem:{kind}"))),
            "{body}"
        );
    }
    assert_eq!(
        world.get("/v1/products").await["items"],
        json!([]),
        "a refused import leaves nothing"
    );
    let body = json!({"plans": {"basic": "own"}, "features": {"api_calls": "calls"}, "product_id": "insight"});
    let imported = world.post(&path, body).await;
    assert_eq!(imported["plans"][0]["id"], "own", "an existing plan may be taken: {imported}");
    assert_eq!(imported["plans"][0]["source"], "aws");
    assert_eq!(
        world.get("/v1/features/calls").await["dimensions"],
        json!({"insight": "api_calls"})
    );
    let status = world.get("/v1/integration").await;
    assert!(status["problems"].to_string().contains("enterprise"), "it means no plan: {status}");
    world.stop().await;
}

#[tokio::test]
async fn a_listing_that_changes_is_followed_and_what_is_gone_stays_with_those_who_have_it() {
    let world = World::with_settings(&[("MARKETD__CATALOG__SYNC_INTERVAL", "200ms")]).await;
    let insight = world.product("Acme Insight");
    let plans = json!({"basic": "basic", "pro": "pro", "enterprise": "enterprise"});
    let import = format!("/v1/listings/{}/import", insight.entity_id);
    world.post(&import, json!({"plans": plans, "product_id": "insight"})).await;
    world.put("/v1/features/sso", json!({"name": "SSO", "type": "boolean"})).await;
    for plan in ["basic", "enterprise"] {
        world.put(&format!("/v1/plans/{plan}/entitlements/sso"), json!({})).await;
        world.post(&format!("/v1/plans/{plan}/publish"), json!({})).await;
    }
    world.act("123456789012", Action::Purchase(Order::of(&insight.product_code).with("basic", 1)));
    world.put("/v1/customers/acme?wait=5s", json!({"aws": {"account_id": "123456789012"}})).await;

    let mut dimensions = insight.dimensions.clone();
    dimensions.retain(|it| it.key != "basic");
    dimensions.iter_mut().find(|it| it.key == "pro").unwrap().name = "Professional".into();
    let mut team = dimensions[0].clone();
    team.key = "team".into();
    dimensions.push(team);
    change(
        &world,
        &insight,
        ListingChange { dimensions: Some(dimensions), ..ListingChange::default() },
    );
    // Nobody asks: the schedule finds it.
    let plan = eventually("the sync", async || {
        let plan = world.get("/v1/plans/basic").await;
        plan["aws"][0]["removed_at"].is_string().then_some(plan)
    })
    .await;
    assert_eq!(plan["status"], "published", "a person archives it");
    let events = world.get("/v1/events?limit=500").await;
    let told = events["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|event| event["type"] == "product.synced")
        .unwrap();
    let keys = |list: &str| {
        told["data"][list]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["key"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (keys("added"), keys("changed"), keys("removed")),
        (vec![json!("team")], vec![json!("pro")], vec![json!("basic")])
    );
    assert_eq!(world.post("/v1/products/insight/sync", json!({})).await["added"], json!([]));

    world.post("/v1/plans/basic/archive", json!({})).await;
    let told = world.get("/v1/customers/acme/entitlements/sso").await;
    assert_eq!(access(&told), (true, "granted"), "{told}");
    let priced = json!({"name": "Pro", "price": 5});
    let (status, problem) = world.try_put("/v1/plans/pro", priced).await;
    assert_eq!(status, 400, "{problem}");
    let elsewhere = json!({"name": "Pro", "product_id": "other"});
    assert_eq!(world.try_put("/v1/plans/pro", elsewhere).await.0, 409);
    world.stop().await;
}

#[tokio::test]
async fn no_queue_policy_lets_every_seller_s_topics_write() {
    let world = World::with_nothing_imported().await;
    let (exit, text, complaint) = world.cli(&["integration", "queue-policy"]).await;
    assert!(exit == 1 && complaint.contains("--product-code"), "{text} {complaint}");
    let named = world.cli_json(&["integration", "queue-policy", "--product-code", "abc"]).await;
    let named = named.to_string();
    assert!(named.contains("notification-abc") && !named.contains("notification-*"), "{named}");
    world.stop().await;
}

#[tokio::test]
async fn the_documents_name_the_account_the_queue_and_the_products_topics() {
    let world = World::with_demo_catalog().await;
    let code = world.product("Acme Insight").product_code;
    let queue = world.cli_json(&["integration", "queue-policy"]).await.to_string();
    assert!(queue.contains(&format!("aws-mp-entitlement-notification-{code}")), "{queue}");
    for (format, word) in
        [("cloudformation", "AWS::SNS::Subscription"), ("terraform", "aws_sns_topic_subscription")]
    {
        let template =
            ["integration", "template", "--format", format, "--account-id", "444455556666"];
        let (exit, text, _) = world.cli(&template).await;
        assert_eq!(exit, 0);
        assert!(
            text.contains(word) && text.contains("444455556666") && text.contains(&code),
            "{text}"
        );
    }
    let bad = ["integration", "template", "--product-code", "a\"b"];
    let (exit, _, complaint) = world.cli(&bad).await;
    assert_eq!(exit, 1);
    assert!(complaint.contains("letters and digits"), "{complaint}");
    world.stop().await;
}

#[tokio::test]
async fn a_customer_may_come_before_the_purchase_and_old_knowledge_is_said_to_be_old() {
    let settings = [
        ("MARKETD__ACCESS__STALE_AFTER", "500ms"),
        ("MARKETD__RECONCILE__SWEEP_INTERVAL", "100ms"),
    ];
    let world = World::with_settings(&settings).await;
    let insight = world.product("Acme Insight");
    let import = format!("/v1/listings/{}/import", insight.entity_id);
    world.post(&import, json!({"plans": {"basic": "basic"}})).await;
    for (feature, when_stale) in [("open", "allow"), ("closed", "deny")] {
        let feature_body = json!({"name": feature, "type": "boolean", "when_stale": when_stale});
        world.put(&format!("/v1/features/{feature}"), feature_body).await;
        world.put(&format!("/v1/plans/basic/entitlements/{feature}"), json!({})).await;
    }
    world.post("/v1/plans/basic/publish", json!({})).await;
    let ask = async |feature: &str| {
        world.get(&format!("/v1/customers/acme/entitlements/{feature}")).await
    };
    assert_eq!(access(&ask("open").await), (false, "unknown_customer"));
    world.put("/v1/customers/acme?wait=5s", json!({"aws": {"account_id": "123456789012"}})).await;
    assert_eq!(access(&ask("open").await), (false, "no_subscription"));
    world.act("123456789012", Action::Purchase(Order::of(&insight.product_code).with("basic", 1)));
    eventually("the purchase", async || {
        (access(&ask("closed").await) == (true, "granted")).then_some(())
    })
    .await;
    assert_eq!(world.list("/v1/customers").await.len(), 1, "nobody was made up for it");

    let down = |times| Fault {
        operation: "GetEntitlements".into(),
        kind: FaultKind::Error500,
        times,
        one_in: None,
        amount: None,
    };
    world.arm(down(None));
    let closed = eventually("AWS to be out of reach for long", async || {
        Some(ask("closed").await).filter(|answer| answer["stale_since"].is_string())
    })
    .await;
    assert_eq!(access(&closed), (false, "stale"), "{closed}");
    let open = ask("open").await;
    assert_eq!(access(&open), (true, "granted"));
    assert_eq!(open["stale_since"], closed["stale_since"]);
    world.sandbox().disarm();
    eventually("AWS to be asked again", async || {
        let answer = ask("closed").await;
        (access(&answer) == (true, "granted") && answer["stale_since"].is_null()).then_some(())
    })
    .await;
    world.stop().await;
}

#[tokio::test]
async fn aws_s_file_says_which_legacy_buyer_is_which_account() {
    let world = World::with_nothing_imported().await;
    let known_as = |aws: Value| json!({"aws": aws});
    world.put("/v1/customers/old", known_as(json!({"customer_identifier": "X1"}))).await;
    world.put("/v1/customers/new", known_as(json!({"account_id": "111111111111"}))).await;
    world.put("/v1/customers/half", known_as(json!({"customer_identifier": "X2"}))).await;
    let other = json!({"customer_identifier": "X3", "account_id": "333333333333"});
    world.put("/v1/customers/other", known_as(other)).await;
    let file = world.file("mapping.csv");
    let text = "CustomerIdentifier,CustomerAWSAccountId\nX1,111111111111\nX2,222222222222\nX3,333333333333\nX3,999999999999\nX9,888888888888\n";
    std::fs::write(&file, text).unwrap();
    let import = ["customer", "import-mapping", file.to_str().unwrap()];
    let dry = world.cli_json(&[&import[..], &["--dry-run"]].concat()).await;
    assert_eq!(world.get("/v1/customers/new").await["aws"]["customer_identifier"], Value::Null);
    let wet = world.cli_json(&import).await;
    assert_eq!(wet, dry, "it showed just what came of it");
    let counts = ["linked", "joined", "unchanged", "unknown"].map(|key| wet[key].as_u64().unwrap());
    assert_eq!(counts, [1, 1, 1, 1], "{wet}");
    assert_eq!(wet["refused"][0]["line"], 5);
    let one = world.get("/v1/customers/new").await;
    assert_eq!(one["id"], "old", "the older of the seller's ids stays: {one}");
    assert_eq!(one["aws"], json!({"account_id": "111111111111", "customer_identifier": "X1"}));
    assert_eq!(world.get("/v1/customers/half").await["aws"]["account_id"], "222222222222");
    let again = world.cli_json(&import).await;
    assert_eq!((&again["unchanged"], &again["linked"]), (&json!(3), &json!(0)));
    for (text, word) in
        [("a,b\n1,2\n", "customer_identifier"), ("CustomerIdentifier,AccountId\nX1,12\n", "line 2")]
    {
        std::fs::write(&file, text).unwrap();
        let (code, _, complaint) = world.cli(&import).await;
        assert!(code == 1 && complaint.contains(word), "{complaint}");
    }
    world.stop().await;
}
