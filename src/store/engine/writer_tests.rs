//! Writes that share a transaction, fail in it, and wake whom they should.

use std::sync::Mutex;

use rusqlite::ffi;

use super::super::connection::open_file;
use super::super::wakeups::Waiter;
use super::*;
use crate::store::test_database::place_on_server;

fn place(folder: &tempfile::TempDir) -> Place {
    folder.path().join("marketd.db").as_path().into()
}

/// A database on the tests' server; none where they have none.
fn server(folder: &tempfile::TempDir) -> Option<Place> {
    place_on_server(&folder.path().join("marketd.db")).map(Place::Server)
}

async fn total(writer: &Writer, product: String, fails: bool) -> Result<(), StoreError> {
    let write = move |connection: &Connection| {
        let insert = "INSERT INTO usage_totals (product_id, reported) VALUES (?1, 1)";
        connection
            .execute(insert, [&product])
            .map_err(|source| StoreError::Sql { operation: "test", source })?;
        if fails { Err(StoreError::Closed) } else { Ok(()) }
    };
    writer.run(write).await
}

#[tokio::test]
async fn a_write_that_fails_leaves_nothing_alone_and_in_company() {
    let folder = tempfile::tempdir().unwrap();
    let (writer, thread) = Writer::start(&place(&folder)).unwrap();
    for round in 0..20 {
        // Alone, then many at once, of which the writer takes together what is waiting.
        assert!(total(&writer, format!("alone-{round}"), true).await.is_err());
        let writes = (0..30).map(|at| {
            let writer = &writer;
            async move {
                let done = total(writer, format!("{round}-{at}"), at % 3 == 0).await;
                assert_eq!(done.is_err(), at % 3 == 0);
            }
        });
        futures::future::join_all(writes).await;
    }
    let count = |connection: &Connection| {
        connection
            .query_row("SELECT count(*) FROM usage_totals", [], |row| row.get::<_, i64>(0))
            .map_err(|source| StoreError::Sql { operation: "test", source })
    };
    assert_eq!(writer.run(count).await.unwrap(), 20 * 20);
    writer.close();
    thread.join().unwrap();
}

/// Keeps the writer busy until what this returns is dropped.
async fn hold_up(writer: &Writer) -> (tokio::task::JoinHandle<()>, mpsc::Sender<()>) {
    let (let_go, held) = mpsc::channel::<()>();
    let (begun, has_begun) = oneshot::channel();
    let (held, begun) = (Mutex::new(held), Mutex::new(Some(begun)));
    let writer = writer.clone();
    let hold = async move {
        let wait = move |_: &Connection| {
            begun.lock().unwrap().take().unwrap().send(()).unwrap();
            held.lock().unwrap().recv().unwrap_err();
            Ok::<_, StoreError>(())
        };
        writer.run(wait).await.unwrap();
    };
    let hold = tokio::spawn(hold);
    has_begun.await.unwrap();
    (hold, let_go)
}

/// Writes totals of one each for several at once, and counts how often it is called.
fn joined_total(
    calls: &Arc<AtomicU64>,
) -> impl Fn(&Connection, &[&String]) -> JoinedTotals + use<> {
    let calls = Arc::clone(calls);
    move |connection, products| {
        calls.fetch_add(1, Ordering::Relaxed);
        let insert = "INSERT INTO usage_totals (product_id, reported) VALUES (?1, 1)";
        let one = |product: &&String| {
            connection
                .execute(insert, [*product])
                .map_err(|source| StoreError::Sql { operation: "test", source })?;
            Ok((*product).clone())
        };
        products.iter().map(one).collect()
    }
}
type JoinedTotals = Result<Vec<String>, StoreError>;

#[tokio::test]
async fn what_waits_together_is_done_at_once_and_apart_where_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (writer, thread) = Writer::start(&place(&folder)).unwrap();
    for (fails, expected) in [(false, 1), (true, 1 + 30)] {
        let calls = Arc::new(AtomicU64::new(0));
        let (hold, let_go) = hold_up(&writer).await;
        let product = |at: u32| format!("{fails}-{}", if fails && at == 29 { 28 } else { at });
        let writes = (0..30).map(|at| writer.run_joined(product(at), joined_total(&calls)));
        // Every one waits by the time that the writer is let go.
        let (done, ()) = tokio::join!(futures::future::join_all(writes), async { drop(let_go) });
        hold.await.unwrap();
        let refused = done.iter().filter(|it| it.is_err()).count();
        assert_eq!(refused, usize::from(fails), "two of one name are refused, and only the second");
        for (at, done) in (0..).zip(done) {
            assert!(done.is_err() || done.unwrap() == product(at), "each has its own answer");
        }
        assert_eq!(calls.load(Ordering::Relaxed), expected);
    }
    writer.close();
    thread.join().unwrap();
}

#[tokio::test]
async fn what_is_remembered_is_forgotten_where_it_may_be_of_what_was_undone() {
    let folder = tempfile::tempdir().unwrap();
    let (writer, thread) = Writer::start(&place(&folder)).unwrap();
    let forgotten = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&forgotten);
    writer.forget_by(move |stale| {
        count.fetch_add(u64::from(matches!(stale, Stale::Everything)), Ordering::Relaxed);
    });
    for _ in 0..3 {
        let touched = |connection: &Connection| {
            connection
                .execute("UPDATE usage_totals SET reported = 2", [])
                .map_err(|source| StoreError::Sql { operation: "test", source })
        };
        writer.run(touched).await.unwrap();
    }
    assert_eq!(forgotten.load(Ordering::Relaxed), 0, "nothing was undone");
    assert!(total(&writer, "undone".into(), true).await.is_err());
    total(&writer, "next".into(), false).await.unwrap();
    assert_eq!(forgotten.load(Ordering::Relaxed), 1);
    writer.close();
    thread.join().unwrap();
}

#[tokio::test]
async fn after_a_rehearsed_crash_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("marketd.db");
    let (writer, thread) = Writer::start(&path.as_path().into()).unwrap();
    writer.stop_after(2);
    assert!(total(&writer, "first".into(), false).await.is_ok());
    assert!(total(&writer, "second".into(), false).await.is_err(), "its answer is lost");
    assert!(total(&writer, "third".into(), false).await.is_err());
    writer.close();
    thread.join().unwrap();
    let kept: i64 = open_file(&path)
        .unwrap()
        .query_row("SELECT count(*) FROM usage_totals", [], |row| row.get(0))
        .unwrap();
    assert_eq!(kept, 2, "what reached the disk stays");
}

fn pages(connection: &Connection, most: i64) -> Result<i64, StoreError> {
    connection
        .query_row(&format!("PRAGMA max_page_count = {most}"), [], |row| row.get(0))
        .map_err(|source| StoreError::Sql { operation: "test", source })
}

/// Fills pages with a name that is long.
async fn much(writer: &Writer, at: u32) -> Result<(), StoreError> {
    total(writer, format!("{at}-{}", "x".repeat(20_000)), false).await
}

#[tokio::test]
async fn a_full_disk_is_trouble_that_passes_alone_and_in_company() {
    for at_once in [1_u32, 30] {
        // A database of its own: pages that an earlier one had freed would have room for some of these.
        let folder = tempfile::tempdir().unwrap();
        let (writer, thread) = Writer::start(&place(&folder)).unwrap();
        let heard = writer.trouble().heard();
        writer.run(|connection| pages(connection, 1)).await.unwrap();
        let full = futures::future::join_all((0..at_once).map(|at| much(&writer, at))).await;
        for error in full.into_iter().map(Result::unwrap_err) {
            assert!(error.is_passing() && !error.is_broken(), "{error:?}");
        }
        assert!(heard.borrow().as_ref().is_some_and(|why| why.contains("full")), "{heard:?}");
        // Nothing is written by this, so it says nothing.
        writer.run(|_| Ok::<_, StoreError>(())).await.unwrap();
        assert!(heard.borrow().is_some());
        writer.run(|connection| pages(connection, 1_000_000)).await.unwrap();
        for done in futures::future::join_all((0..at_once).map(|at| much(&writer, at))).await {
            done.unwrap();
        }
        assert_eq!(*heard.borrow(), None);
        let emptied = |connection: &Connection| {
            connection
                .execute("DELETE FROM usage_totals", [])
                .map_err(|source| StoreError::Sql { operation: "test", source })
        };
        assert_eq!(writer.run(emptied).await.unwrap(), at_once as usize, "and nothing twice");
        writer.close();
        thread.join().unwrap();
    }
}

/// Appends an event; returns whether it was written.
async fn event(writer: &Writer, at: usize, fails: bool) -> bool {
    let write = move |connection: &Connection| {
        let insert = "INSERT INTO events (id, type, at_ms, data) VALUES (?1, 'x', 1, ?2)";
        connection
            .execute(insert, (at.to_string(), "x".repeat(1_000)))
            .map_err(|source| StoreError::Sql { operation: "test", source })?;
        if fails { Err(StoreError::Closed) } else { Ok(()) }
    };
    writer.run(write).await.is_ok()
}

#[tokio::test]
async fn what_was_undone_wakes_nobody_alone_in_company_and_in_trouble() {
    let folder = tempfile::tempdir().unwrap();
    let (writer, thread) = Writer::start(&place(&folder)).unwrap();
    let mut woken = writer.wakeups().of(Waiter::Events);
    assert!(!event(&writer, 1, true).await);
    total(&writer, "alone".into(), false).await.unwrap();
    assert!(!woken.is_woken(), "it was undone alone");
    let company = (0..30).map(|at| {
        let writer = &writer;
        async move {
            if at % 3 == 0 {
                assert!(!event(writer, at, true).await);
            } else {
                total(writer, format!("company-{at}"), false).await.unwrap();
            }
        }
    });
    futures::future::join_all(company).await;
    assert!(!woken.is_woken(), "it was undone in company");
    writer.run(|connection| pages(connection, 1)).await.unwrap();
    let mut at = 1_000;
    while event(&writer, at, false).await {
        at += 1;
    }
    writer.run(|connection| pages(connection, 1_000_000)).await.unwrap();
    woken.arm();
    total(&writer, "trouble".into(), false).await.unwrap();
    assert!(!woken.is_woken(), "it was undone since there was no room");
    assert!(event(&writer, 0, false).await && woken.is_woken());
    writer.close();
    thread.join().unwrap();
}

#[test]
fn only_a_broken_database_is_beyond_waiting() {
    let told = |code: std::ffi::c_int| {
        let source = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        let error = StoreError::Sql { operation: "test", source: source.into() };
        (error.is_passing(), error.is_broken())
    };
    for code in [ffi::SQLITE_BUSY, ffi::SQLITE_FULL, ffi::SQLITE_IOERR, ffi::SQLITE_READONLY] {
        assert_eq!(told(code), (true, false), "{code}");
    }
    for code in [ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB] {
        assert_eq!(told(code), (false, true), "{code}");
    }
    // A mistake of ours: it ends nothing, and waiting is not what mends it.
    for code in [ffi::SQLITE_CONSTRAINT, ffi::SQLITE_ERROR, ffi::SQLITE_MISUSE] {
        assert_eq!(told(code), (false, false), "{code}");
    }
    assert!(StoreError::Closed.is_broken());
}

#[tokio::test]
async fn a_connection_to_a_server_that_was_lost_is_made_anew_and_notes_again() {
    let folder = tempfile::tempdir().unwrap();
    let Some(place) = server(&folder) else { return };
    let (writer, thread) = Writer::start(&place).unwrap();
    let mut woken = writer.wakeups().of(Waiter::Events);
    let cut = |connection: &Connection| {
        let itself = "SELECT pg_terminate_backend(pg_backend_pid())";
        connection.query_row(itself, [], |_| Ok(())).during("cut itself off")
    };
    let lost = writer.run(cut).await.unwrap_err();
    assert!(lost.is_passing(), "{lost:?}");
    woken.arm();
    assert!(event(&writer, 0, false).await && woken.is_woken());
    writer.close();
    thread.join().unwrap();
}

/// Posts a product's total, and may post it a second time, which its key refuses.
async fn posted(writer: &Writer, product: String, twice: bool) -> Result<(), StoreError> {
    let write = move |connection: &Connection| {
        let insert = "INSERT INTO usage_totals (product_id, reported) VALUES (?1, 1)";
        let mut insert = connection.prepare_cached(insert).during("test")?;
        for _ in 0..if twice { 2 } else { 1 } {
            insert.post([&product]).during("test")?;
        }
        Ok(())
    };
    writer.run(write).await
}

#[tokio::test]
async fn a_posted_statement_that_fails_fails_its_own_write_alone_and_in_company() {
    let folder = tempfile::tempdir().unwrap();
    let Some(place) = server(&folder) else { return };
    let (writer, thread) = Writer::start(&place).unwrap();
    for round in 0..5 {
        assert!(posted(&writer, format!("alone-{round}"), true).await.is_err());
        let writes = (0..30).map(|at| {
            let writer = &writer;
            async move {
                let done = posted(writer, format!("{round}-{at}"), at % 3 == 0).await;
                assert_eq!(done.is_err(), at % 3 == 0, "{done:?}");
            }
        });
        futures::future::join_all(writes).await;
    }
    let counted = |connection: &Connection| {
        let count = "SELECT count(*) FROM usage_totals";
        connection.query_row(count, [], |row| row.get::<_, i64>(0)).during("test")
    };
    assert_eq!(writer.run(counted).await.unwrap(), 5 * 20);
    writer.close();
    thread.join().unwrap();
}

#[tokio::test]
async fn an_answer_that_was_asked_for_ahead_is_what_the_same_transaction_has_written() {
    let folder = tempfile::tempdir().unwrap();
    let Some(place) = server(&folder) else { return };
    let (writer, thread) = Writer::start(&place).unwrap();
    let work = |connection: &Connection| -> sql::Result<Vec<Option<i64>>> {
        const READ: &str = "SELECT reported FROM usage_totals WHERE product_id = ?1";
        let read = |product: &str| {
            let mut select = connection.prepare_cached(READ)?;
            let mut rows = select.query([product])?;
            rows.next()?.map(|row| row.get(0)).transpose()
        };
        for product in ["a", "b"] {
            connection.ask_ahead(READ, &[product])?;
        }
        let mut seen = vec![read("a")?];
        let insert = "INSERT INTO usage_totals (product_id, reported) VALUES (?1, ?2)";
        connection.prepare_cached(insert)?.post(("a", 1))?;
        seen.push(read("a")?);
        connection.ask_ahead(READ, &["b"])?;
        connection.prepare_cached(insert)?.post(("b", 2))?;
        seen.push(read("b")?);
        let update = "UPDATE usage_totals SET reported = reported + ?2 WHERE product_id = ?1";
        for _ in 0..3 {
            connection.prepare_cached(update)?.post(("b", 10))?;
        }
        seen.push(read("b")?);
        Ok(seen)
    };
    let work = move |connection: &Connection| work(connection).during("test");
    let seen = writer.run(work).await.unwrap();
    assert_eq!(seen, [None, Some(1), Some(2), Some(32)]);
    writer.close();
    thread.join().unwrap();
}

/// Adds a total of `about`, and reads those that there are.
fn total_and_read(connection: &Connection, about: i64) -> sql::Result<i64> {
    let product = format!("p-{about}");
    let insert = "INSERT INTO usage_totals (product_id, reported) VALUES (?1, ?2)";
    connection.prepare_cached(insert)?.post((&*product, about))?;
    let own = "SELECT reported FROM usage_totals WHERE product_id = ?1";
    let own: i64 = connection.query_row(own, [&*product], |row| row.get(0))?;
    let update = "UPDATE usage_totals SET reported = reported + 1 WHERE product_id = ?1";
    assert_eq!(connection.execute(update, [&*product])?, 1);
    connection.alone()?;
    // Those in front have ended by now, and whatever they wrote is here.
    let before =
        "SELECT CAST(coalesce(sum(reported), 0) AS BIGINT) FROM usage_totals WHERE included = 1";
    let before: i64 = connection.query_row(before, [], |row| row.get(0))?;
    let included = "UPDATE usage_totals SET included = 1 WHERE product_id = ?1";
    connection.execute(included, [&*product])?;
    Ok(own + before)
}

#[tokio::test]
async fn pieces_of_work_see_what_they_wrote_and_once_alone_what_all_in_front_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let places = [Some(place(&folder)), server(&folder)];
    for place in places.into_iter().flatten() {
        let (writer, thread) = Writer::start(&place).unwrap();
        let work = |connection: &Connection| {
            let all: Vec<i64> = (1..=200).collect();
            connection
                .interleave(&all, |connection, about| total_and_read(connection, *about))
                .map_err(|source| StoreError::Sql { operation: "test", source })
        };
        let done = writer.run(work).await.unwrap();
        let expected = (1..=200).map(|about| {
            let in_front: i64 = (1..about).map(|it| it + 1).sum();
            about + in_front
        });
        assert_eq!(done, expected.collect::<Vec<_>>());
        writer.close();
        thread.join().unwrap();
    }
}

#[tokio::test]
async fn a_piece_of_work_that_fails_has_its_error_told_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let places = [Some(place(&folder)), server(&folder)];
    for place in places.into_iter().flatten() {
        let (writer, thread) = Writer::start(&place).unwrap();
        for posts in [false, true] {
            let work = move |connection: &Connection| {
                let one = |connection: &Connection, about: &i64| {
                    // The seventh takes the name of the first.
                    let product = format!("p-{}", if *about == 7 { 1 } else { *about });
                    let insert = "INSERT INTO usage_totals (product_id, reported) VALUES (?1, 1)";
                    if posts {
                        connection.prepare_cached(insert)?.post([&*product])?;
                    } else {
                        connection.execute(insert, [&*product])?;
                    }
                    connection.query_row("SELECT count(*) FROM usage_totals", [], |row| {
                        row.get::<_, i64>(0)
                    })
                };
                let all: Vec<i64> = (1..=20).collect();
                connection
                    .interleave(&all, one)
                    .map_err(|source| StoreError::Sql { operation: "test", source })
            };
            let error = writer.run(work).await.unwrap_err();
            assert!(error.is_refusal(), "{error:?}");
            let left = writer
                .run(|connection| {
                    connection
                        .query_row("SELECT count(*) FROM usage_totals", [], |row| {
                            row.get::<_, i64>(0)
                        })
                        .map_err(|source| StoreError::Sql { operation: "test", source })
                })
                .await;
            assert_eq!(left.unwrap(), 0);
        }
        writer.close();
        thread.join().unwrap();
    }
}
