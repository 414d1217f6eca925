//! Closing an hour: all of it is frozen, and the database itself holds what was.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use jiff::{SignedDuration, Timestamp};
use marketd::domain::{ClockHour, Quantity};
use support::books::Books;
use support::sql;

/// Passes as the daemon makes them, until a time.
async fn run_until(books: &Books, end: &str) {
    let end: Timestamp = end.parse().unwrap();
    while books.now() < end {
        books.pass_minutes(10);
        books.run_pass().await;
    }
}

#[tokio::test]
async fn every_hour_is_billed_whatever_the_grace() {
    for minutes in [0, 5, 6 * 60, 22 * 60, 23 * 60, 23 * 60 + 59] {
        let mut books = Books::open(30, "Acme Stream", 1).await;
        books.closing.grace = SignedDuration::from_mins(minutes);
        let customer = books.customers().await.remove(0);
        books.report(&customer, "gb", "5", books.now()).await;
        run_until(&books, "2026-11-10T10:00:00Z").await;
        books.report(&customer, "gb", "2", books.now()).await;
        run_until(&books, "2026-11-11T12:00:00Z").await;
        assert_eq!(books.billed(), ["09 gb 5 licence", "10 gb 2 licence"], "{minutes} min");
        // A long grace is what the seller chose, and nothing to warn of.
        let warned = books.told("metering.deadline_near").await;
        assert!(warned.is_empty(), "{minutes} min: {warned:?}");
        books.balance().await;
    }
}

#[tokio::test]
async fn the_last_hours_of_a_month_are_billed_to_it_whatever_the_grace() {
    for minutes in [5, 5 * 60, 6 * 60, 7 * 60, 22 * 60] {
        let mut books = Books::open(31, "Acme Stream", 1).await;
        books.closing.grace = SignedDuration::from_mins(minutes);
        books.closing.zero_usage = true;
        let customer = books.customers().await.remove(0);
        books
            .pass("2026-11-30T19:10:00Z".parse::<Timestamp>().unwrap().duration_since(books.now()));
        books.run_pass().await;
        for hour in ["20", "21", "22", "23"] {
            run_until(&books, &format!("2026-11-30T{hour}:10:00Z")).await;
            books.report(&customer, "gb", "3", books.now()).await;
        }
        run_until(&books, "2026-12-01T06:30:00Z").await;
        let billed = books.billed();
        for hour in ["20", "21", "22", "23"] {
            for line in [format!("{hour} gb 3 licence"), format!("{hour} requests 0 licence")] {
                assert!(billed.contains(&line), "{minutes} min: {line} is missing from {billed:?}");
            }
        }
        let states = books.shown().await;
        assert!(states.iter().all(|it| !it.contains("parked")), "{minutes} min: {states:?}");
    }
}

#[tokio::test]
async fn an_hour_in_its_grace_is_not_said_to_lack_anything() {
    let mut books = Books::open(32, "Acme Stream", 1).await;
    books.closing.grace = SignedDuration::from_hours(10);
    let customer = books.customers().await.remove(0);
    books.report(&customer, "gb", "5", books.now()).await;
    books.pass(SignedDuration::from_hours(9));
    books.run_pass().await;
    let due = books.store.due_hours(books.closing.timing(), books.now()).await.unwrap();
    assert!(due.is_empty(), "{due:?}");
    assert_eq!(books.shown().await, ["09 gb 5 open"]);
}

#[tokio::test]
async fn usage_whose_time_passed_while_nothing_ran_is_billed_with_the_open_hour() {
    // A daemon that slept, or a clock that was behind by as much.
    for hours in [24, 30, 24 * 21] {
        let mut books = Books::open(33, "Acme Stream", 1).await;
        let customer = books.customers().await.remove(0);
        books.report(&customer, "gb", "5", books.now()).await;
        books.pass(SignedDuration::from_hours(hours));
        books.run_pass().await;
        let event = books.store.usage_event("e-1".into()).await.unwrap().unwrap();
        assert_eq!(event.moved.as_deref(), Some("late"), "{hours} h");
        books.pass_minutes(62);
        books.run_pass().await;
        assert_eq!(books.billed().len(), 1, "{hours} h: {:?}", books.shown().await);
        assert_eq!(books.balance().await.accepted, Quantity::from_units(5), "{hours} h");
    }
    // What was frozen stays as it is: AWS may have heard of it.
    let mut books = Books::open(33, "Acme Stream", 1).await;
    let customer = books.customers().await.remove(0);
    books.report(&customer, "gb", "5", books.now()).await;
    books.pass_minutes(62);
    books.store.close_hours(books.closing.clone(), books.now()).await.unwrap();
    books.pass(SignedDuration::from_hours(30));
    books.run_pass().await;
    assert_eq!(books.shown().await, ["09 gb 5 parked out_of_window"]);
}

#[tokio::test]
async fn many_hours_close_in_parts() {
    let mut books = Books::open(18, "Acme Stream", 1).await;
    let customer = books.customers().await.remove(0);
    // More records than one transaction freezes: every one of 12,000 buyers of one licence each would do; a
    // day's hours of many dimensions are cheaper to make.
    let hour = ClockHour::of(books.now()).number();
    let records = format!(
        "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < 11999)
         INSERT INTO metering_records (product_id, customer_id, holder, dimension, hour, quantity, state)
         SELECT s.product_id, s.customer_id, s.holder, 'd' || n, {hour}, 1000000, 'open'
         FROM numbers CROSS JOIN subscriptions s"
    );
    assert_eq!(sql::change(&books.database(), &records), Ok(12_000));
    books.report(&customer, "gb", "1", books.now()).await;
    books.pass_minutes(62);
    let closed = books.store.close_hours(books.closing.clone(), books.now()).await.unwrap();
    assert_eq!(closed.frozen, 12_001);
}

#[tokio::test]
async fn the_database_itself_refuses_to_change_what_was_frozen() {
    let mut books = Books::open(19, "Acme Stream", 1).await;
    let customer = books.customers().await.remove(0);
    books.report(&customer, "gb", "1", books.now()).await;
    books.pass_minutes(62);
    let closed = books.store.close_hours(books.closing.clone(), books.now()).await.unwrap();
    assert_eq!(closed.frozen, 1);
    for column in [
        "product_id",
        "holder",
        "dimension",
        "hour",
        "quantity",
        "product_code",
        "account_id",
        "customer_identifier",
        "license_arn",
        "region",
        "stamp_ms",
        "allocations",
    ] {
        let update = format!("UPDATE metering_records SET {column} = {column}");
        let refusal = sql::change(&books.database(), &update).unwrap_err();
        assert!(refusal.contains("never changes"), "{column}: {refusal}");
    }
    // A licence that holds the record is not written beside it, and names the buyer all the same.
    let written = sql::run(&books.database(), "SELECT count(license_arn) FROM metering_records");
    assert_eq!(written.as_deref(), Some("0"));
    let sendable =
        books.store.records_to_send(books.closing.window, 10, books.now()).await.unwrap();
    // The buyer came within the hour, of which AWS takes nothing from before.
    assert_eq!(sendable[0].stamp.to_string(), "2026-11-10T09:59:59Z");
    let named = sendable[0].identity.license_arn.as_ref().unwrap();
    let holder = sql::run(&books.database(), "SELECT holder FROM metering_records");
    assert_eq!(holder, Some(format!("license:{named}")));
}
