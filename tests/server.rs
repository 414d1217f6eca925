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
    let server = std::env::var("MARKETD_TEST_DATABASE_URL").ok()?;
    let wire = SlowWire::to(&server, Duration::ZERO);
    // What is encrypted cannot be told from other bytes on the way.
    let url = format!("{}?sslmode=disable", wire.url());
    let address: Address = url.parse().unwrap();
    let schema = format!("test_{:016x}", fastrand::u64(..));
    let place = ServerPlace::new(address.in_schema(&schema), 2);
    Some((Store::open_at(Place::Server(place)).unwrap(), wire))
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
