//! Agreements side by side, renewed, sold by partners, and told of by nobody: the binary against the sandbox.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod listing;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use jiff::SignedDuration;
use marketd::sandbox::RoleGrant;
use marketd::sandbox::market::{Action, ActionOutcome, Market, Options, Order, Product};
use serde_json::{Value, json};
use support::world::{World, eventually};

const ACCOUNT: &str = "123456789012";
const OFTEN: (&str, &str) = ("MARKETD__RECONCILE__SWEEP_INTERVAL", "200ms");

fn act(world: &World, action: Action) -> ActionOutcome {
    world.act(ACCOUNT, action)
}

/// A world where only licences are sold: a contract, and pay as you go.
async fn world(settings: &[(&'static str, &'static str)]) -> World {
    World::with_imported_catalog(settings).await
}

/// Waits until the subscriptions are these: plan or `usage`, and status.
async fn eventually_held(world: &World, expected: &[&str]) -> Vec<Value> {
    eventually(&format!("{expected:?}"), async || {
        let all = world.get("/v1/subscriptions").await["items"].as_array().unwrap().clone();
        let mut shown: Vec<String> = all.iter().map(shown).collect();
        shown.sort();
        (shown == expected).then_some(all)
    })
    .await
}

fn shown(subscription: &Value) -> String {
    let plan = subscription["dimension"].as_str().unwrap_or("usage");
    format!("{plan} {}", subscription["status"].as_str().unwrap())
}

#[tokio::test]
async fn what_no_event_told_is_found_by_the_sweep() {
    let world = world(&[OFTEN]).await;
    let stream = world.product("Acme Stream");
    world.sandbox().lose_notifications(true);
    act(&world, Action::Subscribe(Order::of(&stream.product_code)));
    let held = eventually_held(&world, &["usage active"]).await;
    assert_eq!(held[0]["buyer"]["account_id"], ACCOUNT);
    assert!(held[0]["agreement_id"].as_str().unwrap().starts_with("agmt-"), "{}", held[0]);
    act(&world, Action::Cancel(Order::of(&stream.product_code)));
    let ending = eventually("its end", async || {
        let found = world.get("/v1/subscriptions").await["items"][0].clone();
        (found["status"] != "active").then_some(found)
    })
    .await;
    assert!(["ending", "canceled"].contains(&ending["status"].as_str().unwrap()), "{ending}");
    world.stop().await;
}

#[tokio::test]
async fn a_buyer_of_whom_nothing_was_told_is_asked_about_at_once() {
    let world = world(&[]).await;
    let stream = world.product("Acme Stream");
    world.sandbox().lose_notifications(true);
    act(&world, Action::Subscribe(Order::of(&stream.product_code)));
    eventually("the licence", async || {
        world.market(|market, now| {
            market.tick(now);
            market.agreements()[0].accepts_usage(now).then_some(())
        })
    })
    .await;
    let body = json!({"aws": {"account_id": ACCOUNT}});
    world.put("/v1/customers/acme?wait=5s", body).await;
    let held = world.get("/v1/customers/acme/subscriptions").await;
    assert_eq!(held["items"][0]["status"], "active", "{held}");
    world.stop().await;
}

#[tokio::test]
async fn whoever_signs_up_is_asked_about_though_no_event_came() {
    let world = world(&[]).await;
    let stream = world.product("Acme Stream");
    world.sandbox().lose_notifications(true);
    let order = Order::of(&stream.product_code);
    act(&world, Action::Subscribe(order.clone()));
    let token = act(&world, Action::Register(order)).registration_token.unwrap();
    let body = json!({"registration_token": token, "customer_id": "acme"});
    let registered = world.post("/v1/registrations", body).await;
    assert!(registered["license_arn"].is_string(), "{registered}");
    let held = eventually_held(&world, &["usage active"]).await;
    assert_eq!(held[0]["customer_id"], "acme");
    world.stop().await;
}

#[tokio::test]
async fn whoever_was_seen_to_wait_is_asked_about_anew_when_the_seller_names_them() {
    let world = World::in_mid_month().await;
    let stream = world.product("Acme Stream");
    world.sandbox().lose_notifications(true);
    let slow = Options { license_delay: SignedDuration::from_mins(30), ..Options::default() };
    world.market(|market, _| market.set_options(slow));
    act(&world, Action::Subscribe(Order::of(&stream.product_code)));
    let body = json!({"aws": {"account_id": ACCOUNT}});
    world.put("/v1/customers/acme?wait=5s", body.clone()).await;
    eventually_held(&world, &["usage pending"]).await;
    world.sandbox().clock().advance(SignedDuration::from_mins(31)).unwrap();
    world.market(Market::tick);
    world.put("/v1/customers/acme?wait=5s", body).await;
    eventually_held(&world, &["usage active"]).await;
    // Of whom AWS has nothing more to tell nobody asks again.
    let searches = world.sandbox().recent_calls("SearchAgreements", 1_000).len();
    let body = json!({"aws": {"account_id": ACCOUNT}, "name": "Acme"});
    world.put("/v1/customers/acme?wait=5s", body).await;
    let of_all = world.list("/v1/products").await.len();
    let asked = world.sandbox().recent_calls("SearchAgreements", 1_000).len() - searches;
    assert!(asked < of_all, "{asked} searches for {of_all} products");
    world.stop().await;
}

#[tokio::test]
async fn whoever_comes_back_unheard_is_asked_about_at_the_sign_up() {
    let world = World::in_mid_month().await;
    let stream = world.product("Acme Stream");
    let order = Order::of(&stream.product_code);
    act(&world, Action::Subscribe(order.clone()));
    eventually_held(&world, &["usage active"]).await;
    act(&world, Action::Cancel(order.clone()));
    eventually_held(&world, &["usage canceled"]).await;
    world.sandbox().lose_notifications(true);
    act(&world, Action::Subscribe(order.clone()));
    let token = act(&world, Action::Register(order)).registration_token.unwrap();
    let body = json!({"registration_token": token, "customer_id": "acme"});
    world.post("/v1/registrations", body).await;
    eventually_held(&world, &["usage active", "usage canceled"]).await;
    world.stop().await;
}

#[tokio::test]
async fn whoever_is_refused_usage_is_asked_about() {
    let mut world = world(&[]).await;
    let stream = world.product("Acme Stream");
    let order = Order::of(&stream.product_code);
    let ago = |hours: i64| jiff::SignedDuration::from_hours(hours);
    let act = |world: &World, account: &str, action, hours| {
        world
            .market(|market, now| market.act(now - ago(hours), account, action).map(drop))
            .unwrap();
    };
    act(&world, ACCOUNT, Action::Subscribe(order.clone()), 4);
    let held = eventually_held(&world, &["usage active"]).await;
    // The one sweep after a start finds another buyer: it is past the first one by then.
    world.sandbox().lose_notifications(true);
    world.stop_daemon().await;
    act(&world, "210987654321", Action::Subscribe(order.clone()), 4);
    world.start_daemon().await;
    eventually_held(&world, &["usage active", "usage active"]).await;
    act(&world, ACCOUNT, Action::Cancel(order), 3);
    let at = (jiff::Timestamp::now() - ago(1)).to_string();
    let used = json!({"id": "e-1", "customer_id": held[0]["customer_id"], "timestamp": at,
        "product_id": held[0]["product_id"], "dimension": "requests", "quantity": 5});
    world.post("/v1/usage", json!({"events": [used]})).await;
    eventually_held(&world, &["usage active", "usage canceled"]).await;
    world.stop().await;
}

/// A plan that grants a hundred calls a month, and bills them.
async fn grant_calls(world: &World, product: &Product, plan: &str) {
    let dimensions = json!({product.entity_id.as_str(): "api_calls"});
    let feature = json!({"name": "Calls", "type": "metered", "dimensions": dimensions});
    world.put("/v1/features/calls", feature).await;
    let terms = json!({"limit": 100, "reset": "month"});
    world.put(&format!("/v1/plans/{plan}/entitlements/calls"), terms).await;
    world.post(&format!("/v1/plans/{plan}/publish"), json!({})).await;
}

#[tokio::test]
async fn a_renewal_by_a_new_licence_is_one_plan_all_the_way() {
    for names_previous in [true, false] {
        // What is left of a month's calls is what was left before, unless another month begins.
        let world = World::in_mid_month().await;
        let insight = world.product("Acme Insight");
        grant_calls(&world, &insight, "basic").await;
        let order = Order::of(&insight.product_code).with("basic", 1);
        act(&world, Action::Purchase(order.clone()));
        let held = eventually_held(&world, &["basic active"]).await;
        let customer = held[0]["customer_id"].as_str().unwrap().to_owned();
        let used =
            json!({"id": "e-1", "customer_id": customer, "feature_id": "calls", "quantity": 80});
        world.post("/v1/usage", json!({"events": [used]})).await;
        act(
            &world,
            Action::Renew(Order {
                new_license: true,
                previous_agreement_id: Some(names_previous),
                ..order
            }),
        );
        // All the while the plan may be used, and never twice.
        let access = format!("/v1/customers/{customer}/entitlements/calls");
        eventually("the renewal", async || {
            let answer = world.get(&access).await;
            assert_eq!((&answer["has_access"], &answer["remaining"]), (&true.into(), &20.into()));
            let all = world.get(&format!("/v1/customers/{customer}/subscriptions")).await;
            let all = all["items"].as_array().unwrap().clone();
            let lives =
                |it: &&Value| ["active", "ending"].contains(&it["status"].as_str().unwrap());
            assert_eq!(all.iter().filter(lives).count(), 1, "{all:?}");
            let old = all.iter().find(|it| it.get("renewed_by").is_some())?;
            let new = all.iter().find(|it| it["license_arn"] == old["renewed_by"])?;
            (new["status"] == "active").then_some(())
        })
        .await;
        assert_eq!(world.get(&access).await["remaining"], 20, "what was used counts on");
        let told = world.get("/v1/events?limit=500").await.to_string();
        assert!(told.contains("subscription.renewed"), "{told}");
        assert!(!told.contains("subscription.canceled"), "{told}");
        world.stop().await;
    }
}

#[tokio::test]
async fn a_legacy_contract_goes_on_when_its_product_moves_to_licences() {
    let world = world(&[OFTEN]).await;
    let classic = world.product("Acme Classic");
    act(&world, Action::Purchase(Order::of(&classic.product_code).with("basic", 1)));
    let before = eventually_held(&world, &["basic active"]).await.remove(0);
    let name = before["buyer"]["customer_identifier"].as_str().unwrap().to_owned();
    world.market(|market, _| market.move_to_licenses(&classic.product_code));
    let asked = || {
        let calls = world.sandbox().calls();
        let of = calls.iter().filter(|call| call.operation == "GetEntitlements");
        of.map(|call| call.count).sum::<u64>()
    };
    let once = asked();
    // By the whole product, by the account, and by the name that AWS knows no more.
    eventually("some sweeps", async || (asked() > once + 12).then_some(())).await;
    world.put("/v1/customers/acme?wait=5s", json!({"aws": {"account_id": ACCOUNT}})).await;
    world.put("/v1/customers/acme?wait=5s", json!({"aws": {"customer_identifier": name}})).await;
    let once = asked();
    eventually("some more", async || (asked() > once + 12).then_some(())).await;
    let after = eventually_held(&world, &["basic active"]).await.remove(0);
    assert_eq!(after["id"], before["id"]);
    assert_eq!(after["customer_id"], "acme");
    let told = world.get("/v1/events?limit=500").await.to_string();
    assert_eq!(told.matches("subscription.").count(), 1, "{told}");
    world.stop().await;
}

#[tokio::test]
async fn agreements_of_one_buyer_live_side_by_side() {
    let world = world(&[OFTEN]).await;
    let insight = world.product("Acme Insight");
    let order = Order::of(&insight.product_code);
    let first = act(&world, Action::Purchase(order.clone().with("basic", 1)));
    let second = act(&world, Action::Purchase(order.clone().with("pro", 1)));
    assert_ne!(first.license_arn, second.license_arn);
    eventually_held(&world, &["basic active", "pro active"]).await;
    let first_agreement = first.agreement_id.clone();
    act(&world, Action::Cancel(Order { agreement_id: first_agreement, ..order }));
    eventually_held(&world, &["basic canceled", "pro active"]).await;
    world.stop().await;
}

#[tokio::test]
async fn what_a_channel_partner_sold_lives_by_events_alone() {
    let world = world(&[OFTEN]).await;
    let stream = world.product("Acme Stream");
    let order = Order::of(&stream.product_code);
    act(
        &world,
        Action::Subscribe(Order { channel_partner: Some("999999999999".into()), ..order.clone() }),
    );
    eventually_held(&world, &["usage active"]).await;
    let searched = || {
        let calls = world.sandbox().calls();
        let of = calls.iter().filter(|call| call.operation == "SearchAgreements");
        of.map(|call| call.count).sum::<u64>()
    };
    // The API shows nothing of it, sweep after sweep, and that proves nothing.
    let before = searched();
    eventually("some more sweeps", async || (searched() > before + 6).then_some(())).await;
    eventually_held(&world, &["usage active"]).await;
    act(&world, Action::Cancel(order));
    eventually_held(&world, &["usage ending"]).await;
    world.stop().await;
}

/// An event of a partner's sale.
fn partners_event(world: &World, id: &str, kind: &str, mut detail: Value) {
    detail["acceptor"] = json!({"accountId": ACCOUNT});
    let now = jiff::Timestamp::now().to_string();
    let event = json!({"version": "0", "id": id, "detail-type": kind, "time": now,
        "source": "aws.agreement-marketplace", "account": "111122223333", "region": "us-east-1",
        "resources": [], "detail": detail});
    world.inject(&event.to_string());
}

#[tokio::test]
async fn a_sale_that_outlives_its_end_untold_is_a_problem() {
    let world = world(&[]).await;
    let stream = world.product("Acme Stream");
    let hours =
        |hours: i64| (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(hours)).to_string();
    let agreement = |ends: &str| json!({"agreement": {"id": "agmt-1", "intent": "NEW", "startTime": hours(-48), "endTime": ends}});
    let arn = "arn:aws:license-manager::294406891311:license:l-1";
    let license = json!({"agreement": {"id": "agmt-1"}, "license": {"arn": arn},
        "product": {"id": stream.entity_id, "code": stream.product_code}});
    let created = "Purchase Agreement Created - Manufacturer";
    partners_event(&world, "e-1", created, agreement(&hours(-2)));
    partners_event(&world, "e-2", "License Updated - Manufacturer", license);
    let held = eventually_held(&world, &["usage active"]).await;
    let problems = async || world.get("/v1/integration").await["problems"].to_string();
    let id = held[0]["id"].as_str().unwrap();
    eventually("the problem", async || problems().await.contains(id).then_some(())).await;
    // It was renewed, as AWS tells in the end.
    let amended = "Purchase Agreement Amended - Manufacturer";
    partners_event(&world, "e-3", amended, agreement(&hours(24)));
    eventually("no problem", async || (!problems().await.contains(id)).then_some(())).await;
    world.stop().await;
}

#[tokio::test]
async fn a_role_that_may_not_search_is_shown_and_not_tried_again() {
    let world = world(&[OFTEN]).await;
    let role = "arn:aws:iam::111122223333:role/careful";
    let permissions = [
        "aws-marketplace:GetEntitlements",
        "aws-marketplace:BatchMeterUsage",
        "sqs:ReceiveMessage",
        "sqs:DeleteMessage",
    ];
    world.sandbox().add_role(RoleGrant {
        role_arn: role.into(),
        external_id: Some("id".into()),
        permissions: Some(permissions.into_iter().map(str::to_owned).collect()),
        ..RoleGrant::default()
    });
    world.put("/v1/integration", json!({"role_arn": role, "external_id": "id"})).await;
    let tried = || {
        let calls = world.sandbox().calls();
        let by_role = calls.iter().filter(|call| call.operation == "SearchAgreements");
        by_role.filter(|call| call.outcome != "ok").map(|call| call.count).sum::<u64>()
    };
    let swept = || {
        let calls = world.sandbox().calls();
        let of = calls.iter().filter(|call| call.operation == "GetEntitlements");
        of.map(|call| call.count).sum::<u64>()
    };
    let (once, before) = (tried(), swept());
    eventually("some more sweeps", async || (swept() > before + 6).then_some(())).await;
    assert_eq!(tried(), once, "it was told once that it may not");
    let shown = world.get("/v1/integration").await["problems"].to_string();
    assert!(shown.contains("SearchAgreements"), "{shown}");
    // Events do without.
    act(&world, Action::Subscribe(Order::of(world.product("Acme Stream").product_code)));
    eventually_held(&world, &["usage active"]).await;
    tokio::time::timeout(Duration::from_secs(60), world.stop()).await.unwrap();
}

#[tokio::test]
async fn what_a_buyer_of_two_products_uses_of_the_newer_is_sent_by_its_licence() {
    // What is used in the second in which its buyer leaves waits for an hour if that is the hour's first.
    let world = World::in_mid_month().await;
    let (older, newer) = (world.product("Acme Classic"), world.product("Acme Insight"));
    let order = Order::of(&older.product_code).with("pro", 1);
    act(&world, Action::Purchase(order.clone()));
    eventually_held(&world, &["pro active"]).await;
    // A sign-up for the older one tells both ids, and with these the newer one's rows are asked for.
    let token = act(&world, Action::Register(order)).registration_token.unwrap();
    let body = json!({"registration_token": token, "customer_id": "acme"});
    world.post("/v1/registrations", body).await;
    let at_once = Options { deprovision_delay: jiff::SignedDuration::ZERO, ..Options::default() };
    world.market(|market, _| market.set_options(at_once));
    // Nobody tells of the newer one: what AWS lists is all that is known.
    world.sandbox().lose_notifications(true);
    let order = Order::of(&newer.product_code).with("pro", 1);
    act(&world, Action::Purchase(order.clone()));
    let identifier = world.market(|market, _| market.buyer(ACCOUNT).unwrap().clone());
    let both = json!({"aws": {"account_id": ACCOUNT, "customer_identifier": identifier.customer_identifier}});
    world.put("/v1/customers/acme?wait=5s", both).await;
    let held = eventually_held(&world, &["pro active", "pro active"]).await;
    let newer_one = held.iter().find(|it| it["product_code"] == newer.product_code).unwrap();
    assert!(newer_one["buyer"]["customer_identifier"].is_null(), "{newer_one}");

    let dimension = newer.dimensions.iter().find(|it| newer.meters(&it.key)).unwrap();
    let event = json!({"id": "e-1", "customer_id": "acme", "product_id": newer.entity_id,
        "dimension": dimension.key, "quantity": 500});
    let taken = world.post("/v1/usage", json!({"events": [event]})).await;
    assert_eq!(taken["accepted"], 1, "{taken}");
    world.sandbox().lose_notifications(false);
    act(&world, Action::Cancel(order));
    let record = eventually("the last hour to go out", async || {
        let records = world.get("/v1/metering/records").await["items"].as_array()?.clone();
        let settled = |it: &Value| it["state"] == "accepted" || it["state"] == "parked";
        records.first().filter(|it| settled(it)).cloned()
    })
    .await;
    assert_eq!(record["state"], "accepted", "{record}");
    let by_licence = world.market(|market, _| {
        market.ledger().honoured().iter().filter(|it| it.license_arn.is_some()).count()
    });
    assert_eq!(by_licence, 1);
    world.stop().await;
}
