//! Credentials that expire, are revoked, or are somebody else's: told apart, and shown.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod healing;
mod renewal;
mod sources;
mod trusting;

use marketd::sandbox::market::{Action, Order};
use marketd::sandbox::{Fault, FaultKind, RoleGrant};
use serde_json::json;
use support::world::{World, eventually};

const OFTEN: (&str, &str) = ("MARKETD__RECONCILE__SWEEP_INTERVAL", "200ms");

async fn eventually_shown(world: &World, words: &str) {
    eventually(words, async || {
        let shown = world.get("/v1/integration").await["problems"].to_string();
        shown.contains(words).then_some(())
    })
    .await;
}

async fn eventually_well(world: &World) {
    eventually("that nothing is wrong", async || {
        let shown = world.get("/v1/integration").await["problems"].to_string();
        (!shown.contains("credentials")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn credentials_that_expire_and_that_are_revoked_are_told_apart() {
    let world = World::with_imported_catalog(&[OFTEN]).await;
    let rows = [
        (FaultKind::ExpiredCredentials, "have expired"),
        (FaultKind::RevokedCredentials, "was revoked"),
    ];
    for (kind, words) in rows {
        world.arm(Fault { operation: "*".into(), kind, times: None, one_in: None, amount: None });
        eventually_shown(&world, words).await;
        world.sandbox().disarm();
        eventually_well(&world).await;
    }
    world.stop().await;
}

#[tokio::test]
async fn a_role_of_another_account_is_told_from_the_sellers() {
    let world = World::with_imported_catalog(&[OFTEN]).await;
    let role = |account: &str| format!("arn:aws:iam::{account}:role/marketd");
    for account in ["999999999999", "111122223333"] {
        let (role_arn, external_id) = (role(account), Some("id".to_owned()));
        world.sandbox().add_role(RoleGrant { role_arn, external_id, ..RoleGrant::default() });
    }
    let arn = role("999999999999");
    let connect = ["integration", "connect", "--role-arn", &arn, "--external-id", "id"];
    let (code, _, complaint) = world.cli(&connect).await;
    assert!(code == 1 && complaint.contains("connect a role of that account"), "{complaint}");
    eventually_shown(&world, "sold by 111122223333: connect a role of that account").await;
    // What is due meanwhile waits: to another account AWS may answer as if nobody had bought anything.
    let asked = || -> u64 {
        let calls = world.sandbox().calls().into_iter();
        let asked = calls
            .filter(|it| ["GetEntitlements", "BatchMeterUsage"].contains(&it.operation.as_str()));
        asked.map(|it| it.count).sum()
    };
    let before = asked();
    let insight = world.product("Acme Insight");
    let order = Order::of(&insight.product_code).with("pro", 1);
    world.market(|market, now| market.act(now, "123456789012", Action::Purchase(order))).unwrap();
    eventually("a buyer whom nobody may ask about", async || {
        let shown = world.get("/v1/integration").await;
        let said = shown["parts"]["entitlements"]["detail"].as_str().unwrap_or_default().to_owned();
        said.contains("connect a role of that account").then_some(())
    })
    .await;
    assert_eq!(asked(), before, "nothing is asked in another's name");
    assert_eq!(world.get("/v1/subscriptions").await["items"], json!([]));
    world
        .put("/v1/integration", json!({"role_arn": role("111122223333"), "external_id": "id"}))
        .await;
    eventually_well(&world).await;
    eventually("the subscription", async || {
        let held = world.get("/v1/subscriptions").await;
        (held["items"][0]["status"] == "active").then_some(())
    })
    .await;
    world.stop().await;
}

#[tokio::test]
async fn a_role_that_can_be_assumed_no_more_is_shown_as_that() {
    let world = World::with_imported_catalog(&[OFTEN]).await;
    let body = json!({"role_arn": "arn:aws:iam::111122223333:role/gone", "external_id": "id"});
    let (status, problem) = world.try_put("/v1/integration", body).await;
    assert_eq!(status, 422, "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("cannot be assumed") && detail.contains("trust-policy"), "{detail}");
    world.arm(Fault {
        operation: "AssumeRole".into(),
        kind: FaultKind::RevokedCredentials,
        times: None,
        one_in: None,
        amount: None,
    });
    let body = json!({"role_arn": "arn:aws:iam::111122223333:role/marketd"});
    let (status, problem) = world.try_put("/v1/integration", body).await;
    assert_eq!(status, 502, "our own credentials are at fault: {problem}");
    assert!(problem["detail"].as_str().unwrap().contains("was revoked"), "{problem}");
    world.stop().await;
}

#[tokio::test]
async fn a_removed_integration_lets_go_of_the_queue_at_once() {
    let world = World::with_settings(&[("MARKETD__QUEUE__WAIT", "20s")]).await;
    let (status, _) =
        world.call(reqwest::Method::DELETE, "/v1/integration?confirm=true", None).await;
    assert_eq!(status, 200);
    let begun = tokio::time::Instant::now();
    eventually("that nobody polls", async || {
        let shown = world.get("/v1/integration").await;
        (shown["parts"]["queue"]["ok"] == false).then_some(())
    })
    .await;
    assert!(begun.elapsed().as_secs() < 15, "the long poll went on: {:?}", begun.elapsed());
    let problems = world.get("/v1/integration").await["problems"].to_string();
    assert_eq!(problems.matches("was removed").count(), 1, "{problems}");
    world.stop().await;
}
