//! History that is old is let go: nothing is billed twice for it, everything adds up, and the file stops growing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use marketd::domain::event::{EventType, PerLane};
use marketd::domain::usage::UsageEvent;
use marketd::domain::{CustomerId, Quantity};
use marketd::retention::Retention;
use marketd::sandbox::market::{Action, Order};
use marketd::settings::RetentionSettings;
use marketd::store::{History, Order as ListOrder, Page, Resolution, Store, UsageFilter};
use reqwest::Method;
use serde_json::json;
use support::books::{Books, account};
use support::database::{on_server, open_store};
use support::world::{World, eventually};

const STREAM: &str = "Acme Stream";

fn days(count: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * count)
}

/// Everything is kept for so many days.
fn kept_for(count: u64) -> RetentionSettings {
    let kept = Some(Duration::from_secs(24 * 3_600 * count));
    RetentionSettings {
        notifications: kept,
        events: kept,
        usage_events: kept,
        attempts: kept,
        activity: kept,
    }
}

async fn prune(store: &Store, now: Timestamp, settings: RetentionSettings) {
    let clock = marketd::clock::Clock::manual(now);
    let retention = Retention { store: store.clone(), clock, settings };
    retention.run_once(Duration::from_secs(600)).await.unwrap();
}

async fn usage_ids(books: &Books) -> Vec<String> {
    let page = Page { after: None, limit: 1_000 };
    let (all, order) = (UsageFilter::default(), ListOrder::Oldest);
    let events = books.store.usage_events(all, order, page).await.unwrap().rows;
    let mut ids: Vec<String> = events.into_iter().map(|it| it.id).collect();
    ids.sort();
    ids
}

async fn pruned(store: &Store, history: History) -> i64 {
    store.pruned(history).await.unwrap().map_or(0, |it| it.rows)
}

fn gb(books: &mut Books, customer: &CustomerId) -> UsageEvent {
    let subject = books.dimension("gb");
    books.event(customer, subject, "5")
}

#[tokio::test]
async fn what_is_pruned_is_not_billed_again_and_the_balance_adds_up() {
    let mut books = Books::open(51, STREAM, 1).await;
    let customer = books.customers().await.remove(0);
    let first = gb(&mut books, &customer);
    let untimed = UsageEvent { timestamp: None, ..gb(&mut books, &customer) };
    books.take(vec![first.clone(), untimed.clone()]).await;
    books.pass_minutes(62);
    books.run_pass().await;
    let before = books.balance().await;
    assert_eq!(before.accepted, Quantity::from_units(10));
    books.pass(days(40));
    // The newest row stays, so that its place is not given out again.
    let last = gb(&mut books, &customer);
    books.take(vec![last.clone()]).await;
    prune(&books.store, books.now(), kept_for(41)).await;
    assert_eq!(usage_ids(&books).await.len(), 3, "nothing is as old as that");
    prune(&books.store, books.now(), kept_for(35)).await;
    assert_eq!(usage_ids(&books).await, [last.id.as_str()]);
    assert_eq!(pruned(&books.store, History::UsageEvents).await, 2);
    assert_eq!(pruned(&books.store, History::Attempts).await, 1);
    assert_eq!(books.balance().await.accepted, before.accepted);
    let record = books.records().await.remove(0);
    let (record, history) = books.store.metering_record(record.id).await.unwrap().unwrap();
    assert_eq!(
        (record.attempts, history.attempts.len()),
        (1, 0),
        "the record says how often it was sent"
    );
    // Whatever usage.max_age may be by now.
    let limits = marketd::domain::ledger::AgeLimits {
        max_age: days(3_650),
        ..marketd::domain::ledger::AgeLimits::default()
    };
    let again = vec![first.clone(), last.clone()];
    let receipt = books.store.append_usage(again, limits, books.now()).await.unwrap();
    assert_eq!((receipt.accepted, receipt.duplicates), (0, 1), "{receipt:?}");
    assert_eq!(receipt.rejected.len(), 1);
    assert_eq!(
        (receipt.rejected[0].id.as_str(), receipt.rejected[0].code),
        (first.id.as_str(), "too_old")
    );
    // Just after what was pruned it may be new.
    let at = first.timestamp.map(|at| at + SignedDuration::from_millis(1));
    let later = UsageEvent { timestamp: at, ..gb(&mut books, &customer) };
    let receipt = books.store.append_usage(vec![later], limits, books.now()).await.unwrap();
    assert_eq!(receipt.accepted, 1, "{receipt:?}");
    // What says no time is used when it is reported.
    let receipt = books.take(vec![untimed]).await;
    assert_eq!(receipt.accepted, 1, "{receipt:?}");
    books.balance().await;
}

#[tokio::test]
async fn what_is_not_settled_stays_however_old_it_is() {
    let mut books = Books::open(52, STREAM, 2).await;
    let customers = [books.customer(0).await, books.customer(1).await];
    let mut ids = Vec::new();
    for customer in &customers {
        let event = gb(&mut books, customer);
        ids.push(event.id.clone());
        books.take(vec![event]).await;
    }
    books.pass_minutes(62);
    // AWS bills one, and its answers are lost; the other it refuses.
    books.aws.faults.lock().unwrap().lose_next = true;
    books.run_pass().await;
    for number in 0..2 {
        let order = Order { suspended: Some(true), ..books.order() };
        books.act(&account(number), Action::Suspend(order));
    }
    books.pass_minutes(1);
    books.run_pass().await;
    let parked = "09 gb 5 parked customer_not_subscribed";
    assert_eq!(books.shown().await, [parked, parked]);
    books.pass(days(500));
    let last = gb(&mut books, &customers[0]);
    books.take(vec![last.clone()]).await;
    prune(&books.store, books.now(), kept_for(400)).await;
    ids.push(last.id.clone());
    assert_eq!(usage_ids(&books).await, ids);
    assert_eq!(pruned(&books.store, History::Attempts).await, 0);
    // Given up by a person: what AWS may have billed all the same keeps what shows it.
    let uncertain = books.records().await.iter().filter(|it| it.uncertain).count();
    for record in books.records().await.iter().filter(|it| it.state == "parked") {
        let (id, how) = (record.id.clone(), Resolution::WriteOff);
        books.store.resolve_record(id, how, "as told".into(), books.now()).await.unwrap();
    }
    prune(&books.store, books.now(), kept_for(400)).await;
    assert_eq!(usage_ids(&books).await, [last.id]);
    let attempts = async |id: &str| {
        let found = books.store.metering_record(id.to_owned()).await.unwrap();
        found.map_or(0, |(_, history)| history.attempts.len())
    };
    for record in books.records().await.iter().filter(|it| it.state == "written_off") {
        assert_eq!(attempts(&record.id).await > 0, record.uncertain, "{record:?}");
    }
    assert!(uncertain > 0);
    books.balance().await;
}

#[tokio::test]
async fn notifications_that_wait_and_events_that_are_not_posted_stay() {
    let books = Books::open(53, STREAM, 3).await;
    let count = async |state: &str| {
        let counts = books.store.notification_counts().await.unwrap();
        counts.into_iter().find(|(it, _)| it == state).map_or(0, |(_, count)| count)
    };
    let unreadable = marketd::store::Incoming::Unreadable {
        id: "u".into(),
        body: "?".into(),
        reason: "it is nothing".into(),
    };
    let mut discarded = unreadable.clone();
    if let marketd::store::Incoming::Unreadable { id, .. } = &mut discarded {
        *id = "d".into();
    }
    books.store.record_notifications(vec![unreadable, discarded], books.now()).await.unwrap();
    books.store.discard_notification("d".into(), "a test".into(), books.now()).await.unwrap();
    let applied = count("applied").await;
    assert!(applied > 2);
    books.store.replay_webhook(2).await.unwrap();
    let newest = books.store.newest_event().await.unwrap();
    assert!(newest > 2);
    books.pass(days(10));
    prune(&books.store, books.now(), kept_for(5)).await;
    assert_eq!((count("applied").await, count("quarantined").await), (0, 1));
    // What nobody waits for any more goes like the rest, unless it is the newest of all.
    let newest_is_discarded = count("discarded").await;
    assert_eq!(
        pruned(&books.store, History::Notifications).await,
        applied + 1 - newest_is_discarded
    );
    let kept = books.store.events_after(0, 1_000).await.unwrap();
    assert_eq!(kept.first().map(|it| it.seq), Some(3), "the webhook has posted two");
    let turn = books.store.webhook_place().await.unwrap().turn;
    let lanes = PerLane::from_fn(|_| newest);
    books.store.note_posted(turn, lanes, Vec::new()).await.unwrap();
    prune(&books.store, books.now(), kept_for(5)).await;
    assert_eq!(books.store.events_after(0, 1_000).await.unwrap(), []);
    books.store.tell(EventType::PlanUpdated, &json!({}), books.now()).await.unwrap();
    assert_eq!(books.store.newest_event().await.unwrap(), newest + 1, "no cursor is given twice");
}

#[tokio::test]
async fn the_file_stops_growing_once_as_much_goes_as_comes() {
    let mut books = Books::open(54, STREAM, 1).await;
    if on_server(&books.database()).is_some() {
        return; // There is no file on a server.
    }
    let customer = books.customers().await.remove(0);
    let mut sizes = Vec::new();
    for _day in 0..12 {
        let events: Vec<UsageEvent> = (0..2_000).map(|_| gb(&mut books, &customer)).collect();
        assert_eq!(books.take(events).await.accepted, 2_000);
        books.pass_minutes(62);
        books.run_pass().await;
        books.pass(days(1));
        prune(&books.store, books.now(), kept_for(3)).await;
        books.store.close();
        sizes.push(std::fs::metadata(books.database()).unwrap().len());
        books.store = open_store(&books.database());
    }
    let grown = |from: usize, to: usize| sizes[to].saturating_sub(sizes[from]);
    assert!(grown(0, 2) > 400_000, "200 kB a day at first: {sizes:?}");
    // Records are kept for ever, and are few.
    assert!(grown(5, 11) < 50_000, "{sizes:?}");
    assert_eq!(books.balance().await.accepted, Quantity::from_units(12 * 10_000));
}

#[tokio::test]
async fn a_daemon_prunes_beside_its_work_and_the_feed_says_what_is_gone() {
    let world = World::with_settings(&[("MARKETD__RETENTION__EVENTS", "1s")]).await;
    for name in ["a", "b", "c"] {
        world.put(&format!("/v1/customers/{name}"), json!({})).await;
    }
    let newest: i64 = eventually("three events to be pruned", async || {
        let metrics = world.get_text("/metrics").await;
        let feed = world.get("/v1/events?after=0").await;
        let cursor: i64 = feed["next_cursor"].as_str().unwrap().parse().unwrap();
        let is_pruned = metrics.contains("marketd_pruned_total{history=\"events\"} 3");
        (is_pruned && feed["items"] == json!([])).then_some(cursor.max(3))
    })
    .await;
    let (status, problem) = world.call(Method::GET, "/v1/events?after=1", None).await;
    assert_eq!(status, 409, "{problem}");
    assert!(problem["type"].as_str().unwrap().ends_with("cursor-unknown"), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("retention.events"), "{problem}");
    // Whoever has read all that was pruned has missed nothing.
    let (status, _) = world.call(Method::GET, &format!("/v1/events?after={newest}"), None).await;
    assert_eq!(status, 200);
    world.stop().await;
}
