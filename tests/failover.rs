//! A server that is lost, and its standby, which takes over some time later: nothing that was acknowledged is missing there,
//! and nothing was done twice.
//!
//! Left out where `MARKETD_TEST_DATABASE_STANDBY` names no program that makes a standby; `.ci/postgres cargo test --test
//! failover` does. It is alone in its file: whoever else uses the server meanwhile loses it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use marketd::domain::{AwsIds, CustomerId};
use marketd::store::{Address, Place, ProvisionCustomer, ServerPlace, Store};
use tokio_postgres::{NoTls, connect};
use tokio_util::sync::CancellationToken;

/// Whoever waits this long has found a fault.
const PATIENCE: Duration = Duration::from_secs(60);
/// Writes between one step and the next.
const WRITES: usize = 20;

fn standby(does: &str) {
    let program = std::env::var("MARKETD_TEST_DATABASE_STANDBY").unwrap();
    let done = Command::new(program).arg(does).output().unwrap();
    assert!(done.status.success(), "{does}: {}", String::from_utf8_lossy(&done.stderr));
}

/// What became of the writes so far.
#[derive(Default)]
struct Writes {
    acknowledged: Vec<String>,
    failed: usize,
}

/// Makes one customer after the other until it is stopped. A write that fails does so as what may go well later.
async fn write(store: Store, writes: Arc<Mutex<Writes>>, stop: CancellationToken) {
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    for number in 0.. {
        if stop.is_cancelled() {
            return;
        }
        let (id, aws) = (CustomerId::new(format!("c-{number}")), AwsIds::default());
        let customer = ProvisionCustomer { id, name: None, email: None, metadata: None, aws };
        let id = customer.id.to_string();
        match store.provision_customer(customer, now).await {
            Ok(_) => writes.lock().unwrap().acknowledged.push(id),
            Err(error) => {
                assert!(error.to_string().contains("database"), "{error}");
                assert!(store.trouble().borrow().is_some(), "{error}");
                writes.lock().unwrap().failed += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_takes_over_has_all_that_was_acknowledged() {
    let Ok(port) = std::env::var("MARKETD_TEST_DATABASE_STANDBY_PORT") else { return };
    let url = std::env::var("MARKETD_TEST_DATABASE_URL").unwrap();
    let (server, name) = url.rsplit_once('/').unwrap();
    let schema = format!("test_{:016x}", fastrand::u64(..));
    let address: Address = format!("{server},127.0.0.1:{port}/{name}").parse().unwrap();
    let place = Place::Server(ServerPlace::new(address.in_schema(&schema), 2));
    let store = tokio::task::block_in_place(|| Store::open_at(place)).unwrap();
    let (writes, stop) = (Arc::<Mutex<Writes>>::default(), CancellationToken::new());
    let writing = tokio::spawn(write(store.clone(), Arc::clone(&writes), stop.clone()));
    let acknowledged = || writes.lock().unwrap().acknowledged.len();
    let more = async |what| {
        let before = acknowledged();
        until(what, || acknowledged() >= before + WRITES).await;
    };

    more("writes").await;
    tokio::task::block_in_place(|| standby("make"));
    more("writes with a standby").await;
    tokio::task::block_in_place(|| standby("lose-primary"));
    until("a write that fails", || writes.lock().unwrap().failed > 0).await;
    // The standby answers whoever only reads.
    let first = store.customer(CustomerId::new("c-0")).await.unwrap();
    assert!(first.is_some());
    let failed = writes.lock().unwrap().failed;
    until("another that fails on the standby", || writes.lock().unwrap().failed > failed).await;
    tokio::task::block_in_place(|| standby("promote"));
    more("writes on the standby").await;
    assert!(store.trouble().borrow().is_none());
    stop.cancel();
    writing.await.unwrap();
    store.close();

    let of_standby = format!("postgres://postgres@127.0.0.1:{port}/{name}");
    let (client, connection) = connect(&of_standby, NoTls).await.unwrap();
    tokio::spawn(connection);
    let kept = format!(
        "SELECT id, (SELECT count(*) FROM {schema}.events e WHERE e.customer_id = c.id) FROM {schema}.customers c"
    );
    let kept: Vec<(String, i64)> = client
        .query(&kept, &[])
        .await
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    for id in &writes.lock().unwrap().acknowledged {
        assert!(kept.contains(&(id.clone(), 1)), "{id} was acknowledged once");
    }
    assert!(kept.iter().all(|(_, events)| *events == 1), "{kept:?}");
    drop(client);
    standby("remove");
}
