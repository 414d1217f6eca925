//! The binary against the sandbox, over real protocols: what an operator sees.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod database;
mod endings;
mod posting;
#[path = "../support/slow_wire.rs"]
#[allow(dead_code, reason = "each user takes a part of it")]
mod slow_wire;
#[path = "../support/mod.rs"]
mod support;
mod webhook;

use std::time::Duration;

use marketd::sandbox::market::{Action, Order, Product};
use marketd::sandbox::{Fault, FaultKind, RoleGrant};
use serde_json::{Value, json};
use support::sql::Trigger;
use support::world::{World, eventually, until_none_is_left};

fn fault(operation: &str, kind: FaultKind, times: u32) -> Fault {
    Fault { operation: operation.into(), kind, times: Some(times), one_in: None, amount: None }
}

#[tokio::test]
async fn a_notification_is_a_changed_subscription_within_a_second() {
    let world = World::with_demo_catalog().await;
    let insight = world.product("Acme Insight");
    let bought = Order::of(&insight.product_code).with("basic", 1);
    world.act("123456789012", Action::Purchase(bought));
    let begun = tokio::time::Instant::now();
    let subscription = eventually("an active subscription", async || {
        let found = world.get("/v1/subscriptions?status=active").await;
        found["items"].get(0).cloned()
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(1), "took {:?}", begun.elapsed());
    assert_eq!(subscription["plan_id"], "basic");
    assert_eq!(subscription["source"], "aws");
    assert_eq!(subscription["buyer"]["account_id"], "123456789012");

    let upgrade = Order::of(&insight.product_code).with("pro", 1);
    world.act("123456789012", Action::Upgrade(upgrade));
    let upgraded = eventually("the upgrade", async || {
        let found = world.get("/v1/subscriptions?status=active").await;
        found["items"].get(0).filter(|it| it["plan_id"] == "pro").cloned()
    })
    .await;
    assert_eq!(
        upgraded["id"], subscription["id"],
        "an upgrade is a change, not a new subscription"
    );
    world.stop().await;
}

#[tokio::test]
async fn provisioning_before_and_after_the_notification_ends_the_same() {
    let world = World::with_demo_catalog().await;
    let classic = world.product("Acme Classic");
    for (account, first) in [("111111111111", true), ("222222222222", false)] {
        let customer = format!("/v1/customers/seller-{account}");
        let body = json!({"name": "A buyer", "aws": {"account_id": account}});
        if first {
            world.put(&customer, body.clone()).await;
        }
        let order = Order::of(&classic.product_code).with("pro", 3);
        world.act(account, Action::Purchase(order));
        if !first {
            eventually("the buyer nobody provisioned", async || {
                let found = world.get("/v1/customers").await;
                let mut customers = found["items"].as_array().cloned()?.into_iter();
                customers.find(|it| it["aws"]["account_id"] == account && it["claimed"] == false)
            })
            .await;
            world.put(&format!("{customer}?wait=5s"), body).await;
        }
        let subscription = eventually("the customer's subscription", async || {
            let found = world.get(&format!("{customer}/subscriptions")).await;
            found["items"].get(0).cloned()
        })
        .await;
        assert_eq!(subscription["customer_id"], format!("seller-{account}"));
        assert_eq!(
            (&subscription["plan_id"], &subscription["quantity"]),
            (&json!("pro"), &json!(3))
        );
    }
    let customers = world.get("/v1/customers").await;
    assert_eq!(customers["items"].as_array().map(Vec::len), Some(2), "{customers}");
    world.stop().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_quarantined_and_shown() {
    let world = World::with_demo_catalog().await;
    world.inject("not a notification");
    world.inject(r#"{"Type":"Notification","MessageId":"m-1","Message":"{\"action\":\"subscribe-success\"}"}"#);
    let found = eventually("both in quarantine", async || {
        let found = world.get("/v1/notifications?state=quarantined").await;
        (found["items"].as_array()?.len() == 2).then_some(found)
    })
    .await;
    let reasons = found.to_string();
    assert!(
        reasons.contains("not JSON") && reasons.contains("names no customer-identifier"),
        "{reasons}"
    );
    // Who has one of them processed again is told that nothing came of it.
    for row in found["items"].as_array().unwrap() {
        let (code, shown, complaint) =
            world.cli(&["notification", "replay", row["id"].as_str().unwrap()]).await;
        let reason = format!("still quarantined: {}", row["reason"].as_str().unwrap());
        assert!(code == 1 && complaint.contains(&reason), "{code} {shown} {complaint}");
    }
    eventually("an empty queue", async || world.queue_is_empty().then_some(())).await;
    let metrics = world.get_text("/metrics").await;
    assert!(
        metrics.contains(r#"marketd_notifications_total{outcome="quarantined"} "#),
        "{metrics}"
    );
    let families: Vec<&str> = metrics
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split(['{', ' ']).next().unwrap())
        .collect();
    assert!(families.len() > 3, "{metrics}");
    for family in families {
        for word in ["HELP", "TYPE"] {
            assert!(
                metrics.contains(&format!("# {word} {family} ")),
                "{word} of {family}: {metrics}"
            );
        }
    }
    world.stop().await;
}

fn arm_every_fault(world: &World) {
    for (kind, times) in [
        (FaultKind::CutAfter, 2),
        (FaultKind::Throttle, 1),
        (FaultKind::Error500, 1),
        (FaultKind::Garble, 1),
        (FaultKind::Unprocessed, 1),
        (FaultKind::CutBefore, 1),
    ] {
        world.arm(fault("BatchMeterUsage", kind, times));
    }
}

/// Each metering record that was billed: AWS's id, dimension, hour and quantity, by us and by AWS.
async fn bills(world: &World) -> (Vec<String>, Vec<String>) {
    let records = world.get("/v1/metering/records?state=accepted&limit=500").await;
    let mut ours: Vec<String> = records["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            let id = it["metering_record_id"].as_str().expect("AWS's id of it");
            format!(
                "{id} {} {} {}",
                it["dimension"],
                it["hour"],
                it["quantity"].as_str().expect("a decimal")
            )
        })
        .collect();
    let mut theirs: Vec<String> = world.market(|market, _| {
        let line = |it: &marketd::sandbox::market::HonouredRecord| {
            let hour = json!(it.hour);
            format!(
                "{} {} {hour} {}",
                it.metering_record_id,
                json!(it.dimension),
                it.quantity.normalize()
            )
        };
        market.ledger().honoured().iter().map(line).collect()
    });
    ours.sort();
    theirs.sort();
    (ours, theirs)
}

#[tokio::test]
async fn everything_reported_is_billed_once_under_faults() {
    let world = World::with_demo_catalog().await;
    let (meter, stream) = (world.product("Acme Meter"), world.product("Acme Stream"));
    let buyers = ["123456789012", "223456789012", "323456789012"];
    for account in buyers {
        world.act(account, Action::Subscribe(Order::of(&meter.product_code)));
        world.act(account, Action::Subscribe(Order::of(&stream.product_code)));
    }
    eventually("six subscriptions", async || {
        let found = world.get("/v1/subscriptions?status=active").await;
        (found["items"].as_array()?.len() == 6).then_some(())
    })
    .await;
    for account in buyers {
        let identifier = world.market(|market, _| {
            market.buyer(account).expect("a buyer").customer_identifier.clone()
        });
        let aws = json!({"account_id": account, "customer_identifier": identifier});
        world.put(&format!("/v1/customers/buyer-{account}?wait=5s"), json!({"aws": aws})).await;
    }
    arm_every_fault(&world);
    let mut events = Vec::new();
    for (number, account) in buyers.iter().cycle().take(60).enumerate() {
        let product = if number % 2 == 0 { &meter } else { &stream };
        let customer = format!("buyer-{account}");
        let dimension = if number % 3 == 0 { "gb" } else { "requests" };
        events.push(json!({
            "id": format!("e-{number}"), "customer_id": customer, "product_id": product.entity_id,
            "dimension": dimension, "quantity": number,
        }));
    }
    let receipt = world.post("/v1/usage", json!({"events": events.clone()})).await;
    assert_eq!(receipt["accepted"], 60, "{receipt}");
    let again = world.post("/v1/usage", json!({"events": events})).await;
    assert_eq!((&again["accepted"], &again["duplicates"]), (&json!(0), &json!(60)), "{again}");

    // The buyers leave: the open hour is billed at once.
    for account in buyers {
        for product in [&meter, &stream] {
            world.act(account, Action::Cancel(Order::of(&product.product_code)));
        }
    }
    let balance = eventually("everything billed", async || {
        let balance = world.get("/v1/metering/balance").await;
        (balance["pending"] == "0").then_some(balance)
    })
    .await;
    assert_eq!(balance["reported"], (0..60).sum::<i64>().to_string(), "{balance}");
    assert_eq!(balance["accepted"], balance["reported"], "{balance}");
    assert_eq!(balance["adds_up"], true);
    let (ours, theirs) = bills(&world).await;
    assert_eq!(
        ours, theirs,
        "AWS billed what was reported: each licence, dimension and hour, to the unit"
    );
    world.stop().await;
}

#[tokio::test]
async fn a_role_is_taken_up_without_a_restart_and_a_refused_one_says_why() {
    let world = World::with_demo_catalog().await;
    let role_arn = "arn:aws:iam::111122223333:role/seller";
    world.sandbox().add_role(RoleGrant {
        role_arn: role_arn.into(),
        external_id: Some("secret-id".into()),
        ..RoleGrant::default()
    });
    let (status, problem) = world
        .try_put("/v1/integration", json!({"role_arn": role_arn, "external_id": "wrong"}))
        .await;
    assert_eq!(status, 422, "{problem}");
    assert_eq!(problem["type"], "urn:marketd:problem:role-refused");
    assert_eq!(problem["checks"][0]["ok"], false);

    let connected = world
        .put("/v1/integration", json!({"role_arn": role_arn, "external_id": "secret-id"}))
        .await;
    assert_eq!(connected["state"], "connected", "{connected}");
    assert_eq!(connected["seller_account_id"], "111122223333");
    let insight = world.product("Acme Insight");
    let order = Order::of(&insight.product_code).with("basic", 1);
    world.act("123456789012", Action::Purchase(order));
    eventually("a call with the role's credentials", async || {
        let calls = world.sandbox().calls();
        calls
            .iter()
            .any(|call| call.operation == "GetEntitlements" && call.access_key.starts_with("ASIA"))
            .then_some(())
    })
    .await;
    world.stop().await;
}

#[tokio::test]
async fn one_pass_does_everything_and_says_so() {
    let mut world = World::with_demo_catalog().await;
    world.stop_daemon().await;
    let insight = world.product("Acme Insight");
    let order = Order::of(&insight.product_code).with("basic", 1);
    world.act("123456789012", Action::Purchase(order));
    let (code, summary) = world.run_once().await;
    assert_eq!(code, 0, "{summary}");
    assert_eq!(summary["ok"], true);
    assert_eq!(summary["notifications"]["new"], 2, "{summary}");

    world.arm(fault("GetEntitlements", FaultKind::Deny, 1_000));
    let (code, summary) = world.run_once().await;
    assert_eq!(code, 1, "{summary}");
    assert!(
        summary["errors"][0].as_str().is_some_and(|it| it.contains("AccessDenied")),
        "{summary}"
    );
    world.sandbox().disarm();

    world.start_daemon().await;
    let found: Value = world.get("/v1/subscriptions").await;
    assert_eq!(found["items"][0]["plan_id"], "basic", "{found}");
    world.stop().await;
}

#[tokio::test]
async fn ten_thousand_notifications_on_the_wire_end_at_what_aws_holds() {
    let world = World::with_demo_catalog().await;
    let mut rng = fastrand::Rng::with_seed(11);
    let products: Vec<Product> = world.market(|market, _| market.products().cloned().collect());
    let clock = world.sandbox().clock();
    clock.set(clock.now() - jiff::SignedDuration::from_hours(24 * 23));
    world.sandbox().hold_notifications(true);
    support::live_a_while(&mut rng, &products, 8_000, |wait, step| {
        clock.advance(wait).expect("within time");
        if let Some((account, action)) = step {
            world.market(|market, now| market.act(now, &account, action)).ok();
        }
    });
    clock.set(jiff::Timestamp::now());
    eventually("everything published", async || {
        world.market(|market, now| market.next_due().is_none_or(|due| due > now)).then_some(())
    })
    .await;
    let sent = world.sandbox().held();
    for number in 0..5 {
        world.inject(&format!("rubbish {number}"));
    }
    world.sandbox().release_shuffled_and_repeated(3);
    let distinct = sent + 5;
    assert!(distinct > 8_000, "{distinct} messages");
    until_none_is_left("messages", async || {
        let busy = world.get("/v1/notifications?state=pending&limit=1").await;
        u64::from(!busy["items"].as_array().unwrap().is_empty()) + world.queued()
    })
    .await;
    let theirs = world.market(|market, _| support::held_by_aws(market));
    eventually("the state that AWS holds", async || {
        let mut ours = Vec::new();
        for subscription in world.list("/v1/subscriptions").await {
            if !["active", "trialing", "ending"].contains(&subscription["status"].as_str()?) {
                continue;
            }
            let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
            let legacy = &subscription["buyer"]["customer_identifier"];
            let holder = if legacy.is_null() { &subscription["license_arn"] } else { legacy };
            let quantity = subscription["quantity"].as_u64().unwrap_or(0);
            let code = text(&subscription["product_code"]);
            ours.push(format!(
                "{code} {} {} {quantity}",
                text(holder),
                text(&subscription["dimension"])
            ));
        }
        ours.sort();
        (ours == theirs).then_some(())
    })
    .await;
    let count =
        async |state: &str| world.list(&format!("/v1/notifications?state={state}")).await.len();
    assert_eq!(count("quarantined").await, 5);
    assert_eq!(count("applied").await + 5, distinct, "nothing is lost, nothing is made up");
    world.stop().await;
}

#[tokio::test]
async fn a_buyer_whom_the_database_refuses_holds_up_nobody_else() {
    let often = ("MARKETD__RECONCILE__SWEEP_INTERVAL", "200ms");
    let world = World::with_imported_catalog(&[often]).await;
    let insight = world.product("Acme Insight").product_code;
    let bad = "210987654321";
    let when = format!("new.account_id = '{bad}'");
    let refusal = Trigger { table: "subscriptions", at: "BEFORE INSERT", when: &when, does: None };
    refusal.set(&world.database());
    let buy = |account: &str| {
        let order = Order::of(&insight).with("basic", 1);
        world.act(account, Action::Purchase(order));
    };
    let active = async |count| {
        eventually("those who can be taken over", async || {
            let items = world.get("/v1/subscriptions").await["items"].as_array().unwrap().clone();
            (items.iter().filter(|it| it["status"] == "active").count() == count).then_some(())
        })
        .await;
    };
    buy(bad);
    buy("123456789012");
    active(1).await;
    eventually("the refusal to show", async || {
        let metrics = world.get_text("/metrics").await;
        metrics.contains("marketd_reconcile_failures_total").then_some(())
    })
    .await;
    // Whoever comes later is not held up either, by looks or by sweeps.
    buy("123456789013");
    active(2).await;
    refusal.end(&world.database());
    active(3).await;
    world.stop().await;
}

/// They come back each time: as fast as they come, that would keep everybody busy for nothing.
#[tokio::test]
async fn while_nothing_can_be_deleted_messages_are_received_ever_more_seldom() {
    let one = [("MARKETD__QUEUE__POLLERS", "1"), ("MARKETD__QUEUE__MAX_POLLERS", "1")];
    let world = World::with_settings(&one).await;
    world.arm(fault("DeleteMessageBatch", FaultKind::Deny, 100_000));
    let begun = std::time::Instant::now();
    for number in 0..200 {
        world.inject(&format!("nobody can read {number}"));
    }
    eventually("seven batches that cannot be deleted", async || {
        let metrics = world.get_text("/metrics").await;
        let line = metrics.lines().find(|it| it.starts_with("marketd_intake_deletes_failed_total"));
        let failed: u64 = line?.rsplit(' ').next()?.parse().ok()?;
        (failed >= 70).then_some(())
    })
    .await;
    // Four may be under way before the first fails; then one comes after half a second, one after a second, and so on.
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    world.stop().await;
}

#[tokio::test]
async fn what_cannot_be_deleted_from_the_queue_shows_on_the_board() {
    let world = World::with_demo_catalog().await;
    world.arm(fault("DeleteMessageBatch", FaultKind::Deny, 1_000));
    let insight = world.product("Acme Insight");
    let order = Order::of(&insight.product_code).with("basic", 1);
    world.act("123456789012", Action::Purchase(order));
    let board = async |ok: bool| {
        eventually("the board to say so", async || {
            let parts = world.get("/readyz").await["parts"].clone();
            // Messages are received all the same.
            (parts["queue_deletes"]["ok"] == ok && parts["queue"]["ok"] == true).then_some(())
        })
        .await;
    };
    board(false).await;
    world.sandbox().disarm();
    board(true).await;
    world.stop().await;
}
