//! Closing an hour: all of it is frozen, and the database itself holds what was.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use marketd::domain::ClockHour;
use support::books::Books;

#[tokio::test]
async fn many_hours_close_in_parts() {
    let mut books = Books::open(18, "Acme Stream", 1).await;
    let customer = books.customers().await.remove(0);
    // More records than one transaction freezes: every one of 12,000 buyers of one licence each would do; a
    // day's hours of many dimensions are cheaper to make.
    let file = rusqlite::Connection::open(books.folder.path().join("marketd.db")).unwrap();
    let holder: String =
        file.query_row("SELECT holder FROM subscriptions", [], |row| row.get(0)).unwrap();
    let hour = ClockHour::of(books.now()).number();
    file.execute_batch("BEGIN").unwrap();
    for number in 0..12_000 {
        file.execute(
            "INSERT INTO metering_records (product_id, customer_id, holder, dimension, hour, quantity, state)
             VALUES (?1, ?2, ?3, ?4, ?5, 1000000, 'open')",
            (&books.product.entity_id, customer.as_str(), &holder, format!("d{number}"), hour),
        )
        .unwrap();
    }
    file.execute_batch("COMMIT").unwrap();
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
    let file = rusqlite::Connection::open(books.folder.path().join("marketd.db")).unwrap();
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
        let refusal = file.execute(&update, []).unwrap_err().to_string();
        assert!(refusal.contains("never changes"), "{column}: {refusal}");
    }
    // A licence that holds the record is not written beside it, and names the buyer all the same.
    let written: bool = file
        .query_row("SELECT license_arn IS NOT NULL FROM metering_records", [], |row| row.get(0))
        .unwrap();
    assert!(!written);
    let sendable = books.store.take_sendable(books.closing.window, 10, books.now()).await.unwrap();
    // The buyer came within the hour, of which AWS takes nothing from before.
    assert_eq!(sendable[0].stamp.to_string(), "2026-11-10T09:59:59Z");
    let named = sendable[0].identity.license_arn.as_ref().unwrap();
    let holder: String =
        file.query_row("SELECT holder FROM metering_records", [], |row| row.get(0)).unwrap();
    assert_eq!(holder, format!("license:{named}"));
}
