//! Two workers on one server: each hears of what the other has changed, and of nothing else.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;

use super::super::changes::{CommitNews, Stale};
use super::super::error::{During as _, StoreError};
use super::super::noted::Notes;
use super::super::place::Place;
use super::super::postgres::turn_changes;
use super::super::sql::{Connection, Transaction};
use super::super::wakeups::Waiter;
use super::super::writer::Writer;
use crate::domain::event::Lane;
use crate::store::test_database::{open_store, place_on_server};

/// What a worker heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Heard {
    catalogue: bool,
    customers: Vec<String>,
    forgotten: Vec<String>,
}

struct Worker {
    writer: Writer,
    thread: std::thread::JoinHandle<()>,
    heard: Arc<Mutex<Heard>>,
}

impl Worker {
    fn start(place: &Place) -> Self {
        let (writer, thread) = Writer::start(place).unwrap();
        let heard = Arc::<Mutex<Heard>>::default();
        let (news, stale) = (Arc::clone(&heard), Arc::clone(&heard));
        writer.watch(move |of| {
            let CommitNews::Committed(changes) = of else { return };
            let mut heard = news.lock().unwrap();
            heard.catalogue |= changes.catalogue;
            heard.customers.extend(changes.customers.iter().map(ToString::to_string));
        });
        writer.forget_by(move |what| {
            stale.lock().unwrap().forgotten.push(match what {
                Stale::Customer(id) => id.to_owned(),
                Stale::Everything => "everything".to_owned(),
            });
        });
        Self { writer, thread, heard }
    }

    async fn write(&self, statement: &'static str) {
        let write = move |connection: &Connection| {
            connection.execute(statement, []).map(drop).during("test")
        };
        self.writer.run(write).await.unwrap();
    }

    /// Takes a turn, before which a worker hears of the turns of others; returns what it heard since the last call, and how
    /// many answers it waited for.
    async fn hears(&self) -> (Heard, u64) {
        let waited = |connection: &Connection| Ok::<_, StoreError>(connection.round_trips());
        let before = self.writer.run(waited).await.unwrap();
        let after = self.writer.run(waited).await.unwrap();
        (std::mem::take(&mut *self.heard.lock().unwrap()), after - before)
    }

    fn stop(self) {
        self.writer.close();
        self.thread.join().unwrap();
    }
}

fn workers() -> Option<(Worker, Worker, tempfile::TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Server(place_on_server(&folder.path().join("marketd.db"))?);
    Some((Worker::start(&place), Worker::start(&place), folder))
}

/// Returns the server's process that serves a connection.
fn process_of(connection: &Connection) -> Result<i64, StoreError> {
    connection.query_row("SELECT pg_backend_pid()", [], |row| row.get(0)).during("test")
}

/// Ends a process of the server's, and with it the connection; returns whether it was there.
fn end_process(connection: &Connection, process: i64) -> Result<bool, StoreError> {
    let end = "SELECT 1 WHERE pg_terminate_backend(CAST(CAST(?1 AS bigint) AS int))";
    connection.prepare_cached(end).and_then(|mut select| select.exists([process])).during("test")
}

/// Begins a transaction that has left word.
fn begin(connection: &Connection) -> Transaction<'_> {
    let Connection::Postgres(session) = connection else { unreachable!("it is on a server") };
    let transaction = Transaction::begin(connection).unwrap();
    turn_changes::write(connection, session, &Notes::default()).unwrap();
    transaction.settle().unwrap();
    transaction
}

#[test]
fn a_turn_that_was_lost_is_not_taken_for_another_that_has_its_number() {
    let folder = tempfile::tempdir().unwrap();
    let Some(place) = place_on_server(&folder.path().join("marketd.db")) else { return };
    let place = Place::Server(place);
    let (one, other) = (place.open_writer().unwrap(), place.open_writer().unwrap());
    let lost = begin(&one);
    assert!(end_process(&other, process_of(&lost).unwrap()).unwrap());
    begin(&other).commit().unwrap();
    lost.commit().unwrap_err();
    begin(&one).commit().unwrap();
}

fn heard(catalogue: bool, customers: &[&str], forgotten: &[&str]) -> Heard {
    let owned = |all: &[&str]| all.iter().map(ToString::to_string).collect();
    Heard { catalogue, customers: owned(customers), forgotten: owned(forgotten) }
}

#[tokio::test]
async fn a_worker_forgets_what_another_changed_and_wakes_whom_that_wakes() {
    let Some((one, other, _folder)) = workers() else { return };
    drop(one.hears().await);
    let mut events = one.writer.wakeups().of(Waiter::Events);
    let mut sweep = one.writer.wakeups().of(Waiter::Sweep);
    for (statement, expected) in [
        (
            "INSERT INTO customers (id, claimed, created_at_ms, updated_at_ms) VALUES ('c', 1, 1, 1)",
            heard(false, &["c"], &["c"]),
        ),
        (
            "INSERT INTO usage_hours (customer_id, feature_id, product_id, holder, from_ms, quantity, billed)
             VALUES ('u', 'f', '', '', 0, 1, 0)",
            heard(false, &["u"], &[]),
        ),
        (
            "INSERT INTO features (id, name, type, updated_at_ms) VALUES ('f', 'f', 'boolean', 1)",
            heard(true, &[], &[]),
        ),
        ("DELETE FROM licenses", heard(false, &[], &["everything"])),
        (
            "INSERT INTO events (id, type, at_ms, data) VALUES ('e', 'x', 1, '{}')",
            heard(false, &[], &[]),
        ),
    ] {
        events.arm();
        sweep.arm();
        other.write(statement).await;
        assert_eq!(one.hears().await.0, expected, "{statement}");
        assert_eq!(events.is_woken(), statement.contains("INTO events"), "{statement}");
        assert!(!sweep.is_woken(), "{statement}");
    }
    other.write("DELETE FROM agreement_listings").await;
    drop(one.hears().await);
    assert!(!sweep.is_woken(), "nothing was deleted");
    one.stop();
    other.stop();
}

#[tokio::test]
async fn where_a_turn_left_no_word_everything_is_forgotten() {
    let Some((one, other, _folder)) = workers() else { return };
    drop(one.hears().await);
    // As by a server that crashed, or a worker of a version that leaves none.
    let silent = |connection: &Connection| {
        connection.execute_batch("UPDATE turns SET n = n + 1").during("test")
    };
    other.writer.run(silent).await.unwrap();
    other.write("INSERT INTO events (id, type, at_ms, data) VALUES ('e', 'x', 1, '{}')").await;
    assert_eq!(one.hears().await.0, heard(true, &[], &["everything"]));
    other.write("INSERT INTO events (id, type, at_ms, data) VALUES ('f', 'x', 1, '{}')").await;
    assert_eq!(one.hears().await.0, heard(false, &[], &[]), "the next word is heard again");
    one.stop();
    other.stop();
}

#[tokio::test]
async fn hearing_of_others_takes_no_round_trip() {
    let Some((one, other, _folder)) = workers() else { return };
    let write = "UPDATE customers SET name = 'x' WHERE id = 'c'";
    let waited = |connection: &Connection| Ok::<_, StoreError>(connection.round_trips());
    let mut took = Vec::new();
    for others in [0, 0, 3] {
        let before = one.writer.run(waited).await.unwrap();
        for _ in 0..others {
            other.write(write).await;
        }
        took.push(one.writer.run(waited).await.unwrap() - before);
    }
    assert_eq!(took[1], took[2], "{took:?}");
    one.stop();
    other.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_the_outbox_takes_no_place_for_read_that_is_not_committed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("marketd.db");
    let Some(place) = place_on_server(&path) else { return };
    let (store, place) = (open_store(&path), Place::Server(place));
    tokio::task::block_in_place(|| {
        let other = place.open_writer().unwrap();
        let writing = Transaction::begin(&other).unwrap();
        let event = "INSERT INTO events (id, type, at_ms, data) VALUES ('e', 'x', 1, '{}')";
        writing.execute(event, []).unwrap();
        let before = Handle::current().block_on(store.newest_event()).unwrap();
        let seen = Handle::current().block_on(store.lane_after(Lane::Prompt, before, 10)).unwrap();
        assert_eq!((seen.events.len(), seen.read_to), (0, before), "it may come yet");
        writing.commit().unwrap();
        let seen = Handle::current().block_on(store.lane_after(Lane::Prompt, before, 10)).unwrap();
        assert_eq!((seen.events.len(), seen.read_to), (1, before + 1));
    });
    store.close();
}

#[tokio::test]
async fn a_worker_that_only_reads_hears_of_others_after_its_connection_was_cut() {
    let Some((one, other, _folder)) = workers() else { return };
    drop(one.hears().await);
    let process = one.writer.run(process_of).await.unwrap();
    let ends = move |connection: &Connection| end_process(connection, process);
    assert!(other.writer.run(ends).await.unwrap());
    let begun = std::time::Instant::now();
    while !one.heard.lock().unwrap().catalogue {
        assert!(begun.elapsed() < Duration::from_secs(10), "it looks by itself");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    one.stop();
    other.stop();
}
