//! Which events are posted first, which again after a crash, and what a stop does about those under way.

use std::time::{Duration, Instant};

use marketd::sandbox::market::{Action, Order};
use serde_json::json;

use super::support::receiver::{Receiver, webhook};
use super::support::sql;
use super::support::world::{World, eventually};

const ACCOUNT: &str = "123456789012";

/// Events of many customers' accepted records, one of them a customer of the world's, as an hour's end brings them.
fn tell_of_accepted_records(world: &World, count: u32, of: &str) {
    let told = format!(
        "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count} - 1)
         INSERT INTO events (id, type, at_ms, customer_id, data)
         SELECT 'evt_bulk_' || n, 'metering.accepted', 0,
             CASE n % 600 WHEN 0 THEN '{of}' ELSE 'bulk-' || (n % 600) END, '{{}}'
         FROM numbers"
    );
    assert_eq!(sql::change(&world.database(), &told), Ok(count.into()));
}

async fn newest(world: &World) -> String {
    let latest = world.get("/v1/events?after=latest").await;
    latest["next_cursor"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_cancellation_overtakes_what_only_counts() {
    let mut world = World::with_demo_catalog().await;
    let stream = world.product("Acme Stream").product_code;
    world.act(ACCOUNT, Action::Subscribe(Order::of(&stream)));
    let customer = eventually("the subscription", async || {
        let found = world.get("/v1/subscriptions?status=active").await;
        found["items"][0]["customer_id"].as_str().map(str::to_owned)
    })
    .await;
    let receiver = Receiver::listening().await;
    receiver.takes(Duration::from_millis(50));
    receiver.open(false);
    let from = newest(&world).await;
    world.stop_daemon().await;
    // An hour of 600 buyers with fifty records each, the one's who cancels too: it takes minutes to post.
    tell_of_accepted_records(&world, 30_000, &customer);
    let settings = webhook(&world, &receiver.url());
    world.set(&settings);
    world.start_daemon().await;
    let waiting = world.cli_json(&["webhook", "replay", "--from", &from]).await;
    assert_eq!(waiting["events"], 30_000);
    eventually("posts under way", async || (receiver.under_way() == 3).then_some(())).await;
    let before = newest(&world).await;

    let begun = Instant::now();
    let order = Order { immediate: true, ..Order::of(&stream) };
    world.act(ACCOUNT, Action::Cancel(order));
    eventually("the event", async || {
        let told = world.get(&format!("/v1/events?after={before}")).await;
        told.to_string().contains("subscription.canceled").then_some(())
    })
    .await;
    // One more than those of the hour is under way, and it is answered with them.
    eventually("the next post", async || (receiver.under_way() == 4).then_some(())).await;
    receiver.open(true);
    let first = eventually("the cancellation", async || {
        receiver.kinds().iter().position(|kind| kind == "subscription.canceled")
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(first < 20, "{first} went before it");
    world.stop().await;
}

#[tokio::test]
async fn a_crash_posts_few_events_again_however_many_are_ahead_of_a_refused_one() {
    let mut world = World::with_settings(&[]).await;
    let receiver = Receiver::listening().await;
    receiver.refuses(Some("refused"));
    world.stop_daemon().await;
    let settings = webhook(&world, &receiver.url());
    world.set(&settings);
    world.start_daemon().await;
    world.put("/v1/customers/refused", json!({})).await;
    for number in 0..600 {
        world.put(&format!("/v1/customers/c-{number}"), json!({})).await;
    }
    eventually("most of them", async || (receiver.told().len() > 500).then_some(())).await;
    world.take_daemon().kill().await.unwrap();
    let taken = receiver.told().len();
    world.start_daemon().await;
    eventually("all of those", async || (receiver.times().len() == 600).then_some(())).await;
    receiver.refuses(None);
    eventually("the refused one", async || (receiver.times().len() == 601).then_some(())).await;
    // What was posted is noted within a moment, and nothing is under way then.
    eventually("that all is noted", async || {
        let all = "SELECT count(*) FROM cursors WHERE seq = (SELECT max(seq) FROM events)
                   AND NOT EXISTS (SELECT 1 FROM webhook_ahead)";
        (sql::run(&world.database(), all).as_deref() == Some("1")).then_some(())
    })
    .await;
    let told = receiver.told().len();
    let again = told - 601;
    assert!(again <= 104, "{again} of {taken} were posted again");

    world.take_daemon().kill().await.unwrap();
    world.start_daemon().await;
    world.put("/v1/customers/last", json!({})).await;
    eventually("the last", async || (receiver.times().len() == 602).then_some(())).await;
    assert_eq!(receiver.told().len(), told + 1, "nothing is posted again");
    world.stop().await;
}

#[tokio::test]
async fn an_idle_daemon_stops_at_once_and_one_that_posts_in_seconds() {
    // Nothing comes to the queue: a poller waits there as well.
    let mut world = World::with_imported_catalog(&[("MARKETD__QUEUE__WAIT", "20s")]).await;
    world.stop_daemon().await;
    let receiver = Receiver::listening().await;
    let settings = webhook(&world, &receiver.url());
    world.set(&settings);
    world.start_daemon().await;
    world.put("/v1/customers/first", json!({})).await;
    eventually("the first event", async || (receiver.told().len() == 1).then_some(())).await;
    let begun = Instant::now();
    world.stop_daemon().await;
    assert!(begun.elapsed() < Duration::from_secs(2), "idle: {:?}", begun.elapsed());

    // A post that ends in time is waited for, and is not made again.
    world.start_daemon().await;
    receiver.takes(Duration::from_millis(500));
    world.put("/v1/customers/second", json!({})).await;
    eventually("a post under way", async || (receiver.under_way() == 1).then_some(())).await;
    world.stop_daemon().await;
    assert_eq!(receiver.told().len(), 2);

    let log = world.file("daemon.log");
    world.start_daemon_logging_to(&log).await;
    receiver.open(false);
    for customer in ["third", "fourth"] {
        world.put(&format!("/v1/customers/{customer}"), json!({})).await;
    }
    eventually("posts under way", async || (receiver.under_way() == 2).then_some(())).await;
    let begun = Instant::now();
    world.stop_daemon().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "posting: {:?}", begun.elapsed());
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("has not answered in time") && !log.contains("was left"), "{log}");
    eventually("that they are cut", async || (receiver.under_way() == 0).then_some(())).await;
    receiver.open(true);
    world.start_daemon().await;
    eventually("them again", async || (receiver.told().len() == 4).then_some(())).await;
    assert!(receiver.times().values().all(|times| *times == 1), "{:?}", receiver.times());
    world.stop().await;
}
