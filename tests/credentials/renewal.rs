//! Credentials that AWS takes no more are loaded anew at once; where that does not help, AWS is asked a few times.

use std::path::PathBuf;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use marketd::sandbox::market::{Action, Order};
use marketd::sandbox::{CallSummary, Demands, Fault, FaultKind, SessionEnd};
use serde_json::json;
use tokio::time::Instant;

use super::support::world::{World, eventually};

pub(crate) const ROLE: (&str, &str) =
    ("MARKETD__INTEGRATION__ROLE_ARN", "arn:aws:iam::111122223333:role/marketd");
pub(crate) const PROMPTLY: Duration = Duration::from_secs(10);

/// Calls that AWS refused because of who called.
pub(crate) fn doomed(world: &World) -> u64 {
    let of_identity = |it: &CallSummary| {
        ["Expired", "Unrecognized", "InvalidClient", "SignatureDoes", "AccessDenied"]
            .iter()
            .any(|word| it.outcome.starts_with(word))
    };
    world.sandbox().calls().iter().filter(|it| of_identity(it)).map(|it| it.count).sum()
}

/// Somebody buys, and uses something in an hour that is over, so that queue, entitlements and metering are called.
pub(crate) async fn buy_and_use(world: &World, account: &str) {
    let now = Timestamp::now();
    let earlier = now - SignedDuration::from_hours(3);
    let metered = world.market(|market, _| {
        market.products().find(|it| !it.pricing.has_contract()).unwrap().clone()
    });
    let order = Order::of(&metered.product_code);
    world.sandbox().clock().set(earlier);
    world.market(|market, at| market.act(at, account, Action::Subscribe(order))).unwrap();
    world.sandbox().clock().set(now);
    let products = world.get("/v1/products").await;
    let products = products["items"].as_array().unwrap().clone();
    let product = products.iter().find(|it| it["product_code"] == metered.product_code.as_str());
    let dimension = metered.dimensions.first().unwrap().key.clone();
    let customer = format!("c-{account}");
    world.put(&format!("/v1/customers/{customer}"), json!({"aws": {"account_id": account}})).await;
    let event = json!({
        "id": account, "customer_id": customer, "product_id": product.unwrap()["id"],
        "dimension": dimension, "quantity": 3, "timestamp": now - SignedDuration::from_hours(1),
    });
    let answer = world.post("/v1/usage", json!({"events": [event]})).await;
    assert_eq!(answer["accepted"], 1, "{answer}");
}

/// Waits until all that somebody used is billed, and tells how many attempts that took.
pub(crate) async fn billed(world: &World, account: &str) -> i64 {
    eventually("the bill", async || {
        let path = format!("/v1/metering/records?customer_id=c-{account}");
        let records = world.get(&path).await;
        let record = &records["items"][0];
        (record["state"] == "accepted").then(|| record["attempts"].as_i64().unwrap())
    })
    .await
}

pub(crate) fn demand(world: &World, demands: Demands) {
    world.sandbox().demand(demands);
}

pub(crate) fn end_sessions(world: &World, how: SessionEnd) {
    demand(world, Demands { end_sessions: Some(how), ..Demands::default() });
}

pub(crate) fn accept(world: &World, key: &str) {
    demand(world, Demands { accept_keys: Some(vec![key.to_owned()]), ..Demands::default() });
}

pub(crate) async fn credentials_part(world: &World) -> (bool, String) {
    let part = world.get("/v1/integration").await["parts"]["credentials"].clone();
    (part["ok"] != false, part["detail"].as_str().unwrap_or_default().to_owned())
}

/// How often it was told that AWS refuses the credentials, and that it takes them again.
async fn told(world: &World) -> (usize, usize) {
    let events = world.get("/v1/events?limit=500").await["items"].as_array().unwrap().clone();
    let told = |kind: &str| events.iter().filter(|it| it["type"] == kind).count();
    (told("credentials.refused"), told("credentials.accepted"))
}

#[tokio::test]
async fn a_session_that_ends_before_its_time_is_replaced_at_once() {
    let world = World::with_imported_catalog(&[ROLE]).await;
    buy_and_use(&world, "700000000001").await;
    billed(&world, "700000000001").await;
    for (number, how) in [(2, SessionEnd::Expired), (3, SessionEnd::Denied)] {
        let account = format!("70000000000{number}");
        end_sessions(&world, how);
        let (begun, before) = (Instant::now(), doomed(&world));
        buy_and_use(&world, &account).await;
        let attempts = billed(&world, &account).await;
        assert!(begun.elapsed() < PROMPTLY, "{how:?}: {:?}", begun.elapsed());
        assert_eq!(attempts, 1, "{how:?}: the same record, in the same attempt");
        assert!(doomed(&world) - before < 10, "{how:?}: {}", doomed(&world) - before);
        assert!(credentials_part(&world).await.0, "{how:?}: nothing is wrong");
    }
    let balance = world.get("/v1/metering/balance").await;
    assert_eq!(balance["reported"], balance["accepted"], "{balance}");
    world.stop().await;
}

/// A shared credentials file with a key, and the settings that have a daemon read it.
pub(crate) fn shared_file(key: &str) -> (PathBuf, Vec<(&'static str, &'static str)>) {
    let folder = tempfile::tempdir().unwrap().keep();
    let path = folder.join("credentials");
    write_key(&path, key);
    let name: &'static str = path.display().to_string().leak();
    let settings = vec![
        ("AWS_SHARED_CREDENTIALS_FILE", name),
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_SECRET_ACCESS_KEY", ""),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ];
    (path, settings)
}

pub(crate) fn write_key(path: &std::path::Path, key: &str) {
    let text = format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = secret\n");
    std::fs::write(path, text).unwrap();
}

#[tokio::test]
async fn keys_that_are_replaced_in_the_shared_file_are_taken_as_soon_as_aws_takes_them() {
    for role in [None, Some(ROLE)] {
        let (file, mut settings) = shared_file("AKIAOLD");
        settings.extend(role);
        let world = World::with_imported_catalog(&settings).await;
        accept(&world, "AKIANEW");
        end_sessions(&world, SessionEnd::Expired);
        buy_and_use(&world, "700000000001").await;
        let said = eventually("that the credentials are refused", async || {
            let (ok, said) = credentials_part(&world).await;
            (!ok).then_some(said)
        })
        .await;
        let names = |word: &str| said.contains(word);
        assert!(names("AKIAOLD of the shared AWS files") && names("write others there"), "{said}");
        let (begun, before) = (Instant::now(), doomed(&world));
        // Long enough for many calls, if each backed off for itself.
        tokio::time::sleep(Duration::from_secs(12)).await;
        let doomed = doomed(&world) - before;
        assert!((1..8).contains(&doomed), "{doomed} in {:?}", begun.elapsed());
        write_key(&file, "AKIANEW");
        let replaced = Instant::now();
        assert_eq!(billed(&world, "700000000001").await, 1, "what is not sent is no attempt");
        assert!(replaced.elapsed() < PROMPTLY, "{role:?}: {:?}", replaced.elapsed());
        assert_eq!(told(&world).await, (1, 1));
        eventually("that nothing is wrong", async || {
            credentials_part(&world).await.0.then_some(())
        })
        .await;
        world.stop().await;
    }
}

#[tokio::test]
async fn a_clock_that_is_off_is_made_up_for_by_aws_s() {
    for role in [None, Some(ROLE)] {
        let settings: Vec<_> = role.into_iter().collect();
        let world = World::with_imported_catalog(&settings).await;
        let ahead = Some(SignedDuration::from_mins(20));
        demand(&world, Demands { clock_ahead: ahead, ..Demands::default() });
        end_sessions(&world, SessionEnd::Expired);
        let begun = Instant::now();
        buy_and_use(&world, "700000000001").await;
        assert_eq!(billed(&world, "700000000001").await, 1, "{role:?}");
        assert!(begun.elapsed() < PROMPTLY, "{role:?}: {:?}", begun.elapsed());
        assert!(credentials_part(&world).await.0);
        world.stop().await;
    }
}

#[tokio::test]
async fn an_operation_that_alone_refuses_us_stops_no_other() {
    let world = World::with_imported_catalog(&[ROLE]).await;
    world.arm(Fault {
        operation: "ListEntities".into(),
        kind: FaultKind::RevokedCredentials,
        times: None,
        one_in: None,
        amount: None,
    });
    for _ in 0..20 {
        let (status, problem) = world.call(reqwest::Method::GET, "/v1/listings", None).await;
        assert_eq!(status, 502, "{problem}");
    }
    assert!(doomed(&world) < 8, "{}", doomed(&world));
    let begun = Instant::now();
    buy_and_use(&world, "700000000001").await;
    billed(&world, "700000000001").await;
    assert!(begun.elapsed() < PROMPTLY, "{:?}", begun.elapsed());
    world.sandbox().disarm();
    eventually("the listings", async || {
        let (status, _) = world.call(reqwest::Method::GET, "/v1/listings", None).await;
        (status == 200).then_some(())
    })
    .await;
    eventually("that nothing is wrong", async || credentials_part(&world).await.0.then_some(()))
        .await;
    assert_eq!(told(&world).await, (1, 1), "the identity itself was never refused, and lifted");
    world.stop().await;
}
