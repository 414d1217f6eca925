//! A database server that is far, or lost at the worst moment. Without `MARKETD_TEST_DATABASE_URL` nothing is tried; run it
//! by `.ci/postgres cargo test --test server`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

#[path = "support/slow_wire.rs"]
#[allow(dead_code, reason = "each user takes a part of it")]
mod slow_wire;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use marketd::domain::{AwsIds, CustomerId};
use marketd::store::{Address, CustomerFilter, Page, Place, ProvisionCustomer, ServerPlace, Store};
use slow_wire::{Loss, SlowWire};

/// Opens a database of its own on the server, at the end of a wire; none where no server is named.
fn at_the_end_of_a_wire() -> Option<(Store, SlowWire)> {
    let (store, wire, _) = in_a_schema()?;
    Some((store, wire))
}

/// Does the same, and returns the name of its schema.
fn in_a_schema() -> Option<(Store, SlowWire, String)> {
    let server = std::env::var("MARKETD_TEST_DATABASE_URL").ok()?;
    let wire = SlowWire::to(&server, Duration::ZERO);
    // What is encrypted cannot be told from other bytes on the way.
    let url = format!("{}?sslmode=disable", wire.url());
    let address: Address = url.parse().unwrap();
    let schema = format!("test_{:016x}", fastrand::u64(..));
    let place = ServerPlace::new(address.in_schema(&schema), 2);
    Some((Store::open_at(Place::Server(place)).unwrap(), wire, schema))
}

fn customer(id: &str) -> ProvisionCustomer {
    ProvisionCustomer {
        id: CustomerId::new(id),
        name: None,
        email: None,
        metadata: None,
        aws: AwsIds::default(),
    }
}

/// A client beside the store, as the person who runs the server.
async fn beside(wire: &SlowWire) -> tokio_postgres::Client {
    let (client, connection) =
        tokio_postgres::connect(&wire.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn customers(store: &Store) -> Vec<String> {
    let found =
        store.customers(CustomerFilter::default(), Page { after: None, limit: 100 }).await.unwrap();
    found.into_iter().map(|it| it.id.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_found_out() {
    let Some((store, wire)) = at_the_end_of_a_wire() else { return };
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    store.provision_customer(customer("before"), now).await.unwrap();
    wire.lose(Loss::Answer);
    store.provision_customer(customer("done"), now).await.unwrap();
    store.provision_customer(customer("after"), now).await.unwrap();
    assert_eq!(customers(&store).await, ["after", "before", "done"]);
    store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_never_came_is_answered_as_trouble_and_leaves_nothing() {
    let Some((store, wire)) = at_the_end_of_a_wire() else { return };
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    store.provision_customer(customer("before"), now).await.unwrap();
    wire.lose(Loss::Commit);
    store.provision_customer(customer("lost"), now).await.unwrap_err();
    assert!(store.trouble().borrow().is_some());
    assert_eq!(customers(&store).await, ["before"]);
    store.provision_customer(customer("lost"), now).await.unwrap();
    assert!(store.trouble().borrow().is_none());
    assert_eq!(customers(&store).await, ["before", "lost"]);
    store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_slow_by_half_a_second_is_waited_for() {
    let Some((store, wire)) = at_the_end_of_a_wire() else { return };
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    store.provision_customer(customer("before"), now).await.unwrap();
    wire.delay(Duration::from_millis(250));
    let begun = Instant::now();
    store.provision_customer(customer("slow"), now).await.unwrap();
    assert!(begun.elapsed() > Duration::from_secs(1), "the wire is slow: {:?}", begun.elapsed());
    wire.delay(Duration::ZERO);
    wire.cut();
    assert_eq!(customers(&store).await, ["before", "slow"]);
    store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_a_newer_version_adds_disturb_no_daemon_that_runs() {
    let Some((store, wire, schema)) = in_a_schema() else { return };
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let both = async |id: &str| {
        store.provision_customer(customer(id), now).await.unwrap();
        let found = store.customer(CustomerId::new(id)).await.unwrap();
        assert_eq!(found.unwrap().id.as_str(), id);
        store.events_after(0, 10).await.unwrap().len()
    };
    let before = both("before").await;
    let added = format!(
        "DO $$ DECLARE name text; BEGIN
            FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = '{schema}'
            LOOP EXECUTE format('ALTER TABLE {schema}.%I ADD COLUMN added_later text', name); END LOOP;
         END $$"
    );
    beside(&wire).await.batch_execute(&added).await.unwrap();
    assert_eq!(both("after").await, before * 2);
    store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_come_in_pieces_are_put_together() {
    let Some((store, wire)) = at_the_end_of_a_wire() else { return };
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    store.provision_customer(customer("before"), now).await.unwrap();
    wire.crumble();
    let written = store.provision_customer(customer("in-pieces"), now);
    let in_time = tokio::time::timeout(Duration::from_secs(60), written).await;
    in_time.expect("the answers to what was posted are taken in").unwrap();
    assert_eq!(customers(&store).await, ["before", "in-pieces"]);
    store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_after_a_connection_was_cut_notices_nothing() {
    let Some((store, wire)) = at_the_end_of_a_wire() else { return };
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    for round in 0..3 {
        store.provision_customer(customer(&format!("c-{round}")), now).await.unwrap();
        assert_eq!(customers(&store).await.len(), round + 1);
        wire.cut();
    }
    store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_machine_is_gone_keeps_nobody_waiting_for_long() {
    let Some((gone, wire, schema)) = in_a_schema() else { return };
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    gone.provision_customer(customer("before"), now).await.unwrap();
    let address: Address = std::env::var("MARKETD_TEST_DATABASE_URL").unwrap().parse().unwrap();
    let place = Place::Server(ServerPlace::new(address.in_schema(&schema), 2));
    let other = Store::open_at(place).unwrap();
    wire.lose(Loss::Everything);
    let silent = gone.clone();
    let lost = tokio::spawn(async move { silent.provision_customer(customer("lost"), now).await });
    let server = beside(&wire).await;
    let holds_the_turn = "SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction'";
    while server.query(holds_the_turn, &[]).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let begun = Instant::now();
    while other.provision_customer(customer("other"), now).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(15), "the turn is somebody else's soon");
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    wire.cut();
    lost.await.unwrap().unwrap_err();
    assert_eq!(customers(&other).await, ["before", "other"]);
    other.close();
    gone.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_somebody_else_holds_is_trouble_that_passes() {
    let Some((store, wire, schema)) = in_a_schema() else { return };
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    store.provision_customer(customer("before"), now).await.unwrap();
    let mut server = beside(&wire).await;
    let held = server.transaction().await.unwrap();
    held.batch_execute(&format!("SELECT n FROM {schema}.turns FOR UPDATE")).await.unwrap();
    store.provision_customer(customer("refused"), now).await.unwrap_err();
    assert!(store.trouble().borrow().is_some());
    assert_eq!(customers(&store).await, ["before"]);
    held.rollback().await.unwrap();
    store.provision_customer(customer("later"), now).await.unwrap();
    assert!(store.trouble().borrow().is_none());
    store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_room_is_trouble_that_passes() {
    let Some((store, wire, schema)) = in_a_schema() else { return };
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    store.provision_customer(customer("before"), now).await.unwrap();
    let server = beside(&wire).await;
    // As the server says it where a table cannot grow.
    let full = format!(
        "CREATE FUNCTION {schema}.full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
         END $$;
         CREATE TRIGGER is_full BEFORE INSERT ON {schema}.customers FOR EACH ROW EXECUTE FUNCTION {schema}.full()"
    );
    server.batch_execute(&full).await.unwrap();
    // Alone, and with others that wait for the same commit.
    for at_once in [1, 20] {
        let writes = (0..at_once).map(|at| {
            let store = store.clone();
            async move { store.provision_customer(customer(&format!("f-{at}")), now).await }
        });
        for refused in futures::future::join_all(writes).await {
            refused.unwrap_err();
        }
        let said = store.trouble().borrow().clone().unwrap_or_default();
        assert!(said.contains("No space left on device"), "{said}");
        assert_eq!(customers(&store).await, ["before"]);
    }
    server.batch_execute(&format!("DROP TRIGGER is_full ON {schema}.customers")).await.unwrap();
    store.provision_customer(customer("later"), now).await.unwrap();
    assert!(store.trouble().borrow().is_none());
    assert_eq!(customers(&store).await, ["before", "later"]);
    store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_connections_is_trouble_that_passes() {
    const ALLOWED: usize = 4;
    let Ok(url) = std::env::var("MARKETD_TEST_DATABASE_URL") else { return };
    let server = SlowWire::to(&url, Duration::ZERO);
    let name = format!("seller_{:08x}", fastrand::u32(..));
    let made = format!(
        "CREATE ROLE {name} LOGIN CONNECTION LIMIT {ALLOWED}; CREATE SCHEMA AUTHORIZATION {name}"
    );
    beside(&server).await.batch_execute(&made).await.unwrap();
    let wire = SlowWire::to(&url.replace("postgres@", &format!("{name}@")), Duration::ZERO);
    let address: Address = format!("{}?sslmode=disable", wire.url()).parse().unwrap();
    let place = ServerPlace::new(address.in_schema(&name), 1);
    let store = Store::open_at(Place::Server(place)).unwrap();
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    store.provision_customer(customer("before"), now).await.unwrap();

    wire.cut();
    let mut others = Vec::new();
    while others.len() < ALLOWED {
        // The server takes a moment to let go of those that were cut.
        match tokio_postgres::connect(&wire.url(), tokio_postgres::NoTls).await {
            Ok((client, connection)) => others.push((client, tokio::spawn(connection))),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    store.provision_customer(customer("refused"), now).await.unwrap_err();
    let said = store.trouble().borrow().clone().unwrap_or_default();
    assert!(said.contains("too many connections"), "{said}");
    drop(others);
    let begun = Instant::now();
    while store.provision_customer(customer("later"), now).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "it comes back by itself");
    }
    assert!(store.trouble().borrow().is_none());
    assert_eq!(customers(&store).await, ["before", "later"]);
    store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_fall_silent_are_left_and_others_are_made() {
    let Some((store, wire)) = at_the_end_of_a_wire() else { return };
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    store.provision_customer(customer("before"), now).await.unwrap();
    assert_eq!(customers(&store).await, ["before"]);
    wire.freeze();
    let write = store.provision_customer(customer("lost"), now);
    let read = store.customer(CustomerId::new("before"));
    let both = async { tokio::join!(write, read) };
    let in_time = tokio::time::timeout(Duration::from_secs(60), both).await;
    let (written, found) = in_time.expect("nobody waits for ever");
    for said in [written.unwrap_err().to_string(), found.unwrap_err().to_string()] {
        assert!(said.contains("database"), "{said}");
    }
    let said = store.trouble().borrow().clone().unwrap_or_default();
    assert!(said.contains("says nothing"), "{said}");
    store.provision_customer(customer("after"), now).await.unwrap();
    assert!(store.trouble().borrow().is_none());
    assert_eq!(customers(&store).await, ["after", "before"]);
    store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_that_nobody_can_take_are_said_with_what_mends_them() {
    let Some((store, wire, schema)) = in_a_schema() else { return };
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    store.provision_customer(customer("before"), now).await.unwrap();
    let mut trouble = store.trouble();
    let server = beside(&wire).await;
    server.batch_execute(&format!("DELETE FROM {schema}.turns")).await.unwrap();
    // It is seen before anybody writes.
    let seen = trouble.wait_for(Option::is_some);
    let seen = tokio::time::timeout(Duration::from_secs(30), seen).await;
    let said = seen.expect("it is looked for").unwrap().clone().unwrap_or_default();
    let (_, mends) = said.split_once("put it back by ").expect("what to do is said");
    let refused = store.provision_customer(customer("refused"), now).await.unwrap_err();
    assert!(refused.to_string().contains("could not commit"), "{refused}");
    assert!(store.trouble().borrow().as_ref().is_some_and(|why| why.contains(mends)));
    server.batch_execute(&format!("SET search_path = {schema}; {mends}")).await.unwrap();
    store.provision_customer(customer("later"), now).await.unwrap();
    assert!(store.trouble().borrow().is_none());
    assert_eq!(customers(&store).await, ["before", "later"]);
    store.close();
}
