//! Events as an application takes them: by the webhook, and by the feed.

use reqwest::Method;
use serde_json::{Value, json};

use super::support::receiver::{Receiver, webhook};
use super::support::world::{World, eventually};

async fn direct_sale(world: &World, customer: &str) {
    world.put("/v1/plans/own", json!({"name": "Own"})).await;
    world.put(&format!("/v1/customers/{customer}"), json!({})).await;
    let body = json!({"customer_id": customer, "plan_id": "own"});
    world.put(&format!("/v1/subscriptions/s-{customer}"), body).await;
}

#[tokio::test]
async fn a_webhook_that_is_set_later_begins_at_now_and_is_told_the_rest_on_request() {
    let mut world = World::with_settings(&[]).await;
    direct_sale(&world, "early").await;
    let before = world.get("/v1/events?limit=500").await["items"].as_array().unwrap().len();
    assert!(before > 0);
    world.stop_daemon().await;
    let application = Receiver::listening().await;
    let settings = webhook(&world, &application.url());
    world.set(&settings);
    world.start_daemon().await;
    direct_sale(&world, "late").await;
    let feed = world.get("/v1/events?limit=500").await;
    let after: Vec<Value> = feed["items"].as_array().unwrap()[before..].to_vec();
    eventually("the events since", async || {
        (application.told().len() == after.len()).then_some(())
    })
    .await;
    let ids: Vec<&str> = after.iter().map(|it| it["id"].as_str().unwrap()).collect();
    let mut told: Vec<String> = application.told().into_iter().map(|it| it.id).collect();
    told.sort();
    assert_eq!(told, ids, "none from before");
    let replayed = world.cli_json(&["webhook", "replay", "--from", "0"]).await;
    let all = before + after.len();
    assert_eq!(replayed["events"], json!(all));
    eventually("all of them", async || {
        (application.told().len() == after.len() + all).then_some(())
    })
    .await;
    world.stop().await;
}

#[tokio::test]
async fn an_application_that_sends_elsewhere_has_taken_nothing() {
    let mut world = World::with_settings(&[]).await;
    world.stop_daemon().await;
    let application = Receiver::listening().await;
    let settings = webhook(&world, &application.url_of("moved"));
    world.set(&settings);
    world.start_daemon().await;
    direct_sale(&world, "acme").await;
    let said = eventually("that the webhook fails", async || {
        let parts = world.get("/v1/integration").await["parts"]["webhook"].clone();
        (parts["ok"] == false).then(|| parts["detail"].as_str().unwrap().to_owned())
    })
    .await;
    assert!(said.contains("308"), "{said}");
    assert!(application.told().is_empty(), "{:?}", application.told());
    // The very same once the address is right.
    world.stop_daemon().await;
    world.set(&[("MARKETD__WEBHOOK__URL", application.url().leak())]);
    let (code, summary) = world.run_once().await;
    assert_eq!((code, &summary["events"]["left"]), (0, &json!(0)), "{summary}");
    assert!(
        application.kinds().contains(&"subscription.created".to_owned()),
        "{application:?}",
        application = application.kinds()
    );
    world.start_daemon().await;
    world.stop().await;
}

#[tokio::test]
async fn a_webhook_that_was_left_out_begins_at_now_and_one_that_moves_goes_on() {
    let mut world = World::with_settings(&[]).await;
    world.stop_daemon().await;
    let [first, second] = [Receiver::listening().await, Receiver::listening().await];
    let settings = webhook(&world, &first.url());
    world.set(&settings);
    world.start_daemon().await;
    let customers = async |world: &World, id: &str| {
        world.put(&format!("/v1/customers/{id}"), json!({})).await;
    };
    customers(&world, "a").await;
    eventually("the first", async || (first.told().len() == 1).then_some(())).await;
    // Moved while one is refused: the new address is told that one, and nothing twice.
    first.refuses(Some("b"));
    for id in ["b", "c"] {
        customers(&world, id).await;
    }
    eventually("the third", async || (first.told().len() == 2).then_some(())).await;
    world.stop_daemon().await;
    world.set(&webhook(&world, &second.url()));
    world.start_daemon().await;
    eventually("the second", async || (second.told().len() == 1).then_some(())).await;
    customers(&world, "d").await;
    eventually("the next", async || (second.told().len() == 2).then_some(())).await;

    // Left out, and set again with the address that it had: what happened meanwhile is not posted, but on request.
    for (again, application) in [("same", &second), ("another", &first)] {
        world.stop_daemon().await;
        world.unset(&settings);
        world.start_daemon().await;
        customers(&world, &format!("meanwhile-{again}")).await;
        world.stop_daemon().await;
        // A pass is no daemon: what it finds left out stays so, and it posts nothing.
        assert_eq!(world.run_once().await.0, 0);
        world.set(&webhook(&world, &application.url()));
        let log = world.file("daemon.log");
        world.start_daemon_logging_to(&log).await;
        let log = std::fs::read_to_string(log).unwrap();
        let said = log
            .lines()
            .find(|line| line.contains("webhook replay --from"))
            .expect("the log says what is passed over");
        let cursor = said.split("--from ").nth(1).unwrap().split('`').next().unwrap();
        let before = application.told().len();
        customers(&world, &format!("later-{again}")).await;
        eventually("what happens now", async || {
            (application.told().len() == before + 1).then_some(())
        })
        .await;
        world.cli_json(&["webhook", "replay", "--from", cursor]).await;
        eventually("all since then", async || {
            (application.told().len() == before + 3).then_some(())
        })
        .await;
    }
    world.stop().await;
}

#[tokio::test]
async fn a_cursor_that_the_feed_never_gave_is_told_apart_from_its_end() {
    let world = World::with_settings(&[]).await;
    direct_sale(&world, "acme").await;
    let newest = world.get("/v1/events?limit=500").await["next_cursor"].clone();
    for unknown in ["999999", "-1"] {
        let path = format!("/v1/events?after={unknown}");
        let (status, problem) = world.call(Method::GET, &path, None).await;
        assert_eq!((status, &problem["newest_cursor"]), (409, &newest), "{problem}");
        assert!(problem["type"].as_str().unwrap().ends_with("cursor-unknown"), "{problem}");
        let body = json!({"from": unknown});
        let (status, _) = world.call(Method::POST, "/v1/webhook/replay", Some(body)).await;
        assert_eq!(status, 409);
    }
    let latest = world.get("/v1/events?after=latest").await;
    assert_eq!((&latest["items"], &latest["next_cursor"]), (&json!([]), &newest));
    direct_sale(&world, "later").await;
    let newest = newest.as_str().unwrap();
    assert_ne!(world.get(&format!("/v1/events?after={newest}")).await["items"], json!([]));
    world.stop().await;
}
