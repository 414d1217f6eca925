//! The one thread that writes.
//!
//! Callers hand it closures; it runs as many as are waiting inside one transaction, each behind a
//! savepoint of its own, and answers them only after the commit is on disk. One slow disk flush thus
//! serves many small writes, and no caller is told of a write that could still be lost.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;

use super::StoreError;
use super::changes::{News, Notepad, Watcher};
use super::connection::open_writer;

/// Enough to fill a transaction under load, small enough that nobody waits long for the commit.
const JOBS_PER_TRANSACTION: usize = 512;
/// How soon somebody else's writes are noticed.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Callers beyond this many wait for room: pressure goes back to them, not into memory.
const QUEUED_JOBS: usize = 4_096;

/// Runs inside the transaction, or learns why there is none.
type Work = Box<dyn FnOnce(Result<Room<'_>, String>) -> Done + Send>;
/// Answers a caller once the commit's outcome is known.
type Answer = Box<dyn FnOnce(Result<(), String>) + Send>;

/// Where a write happens.
#[derive(Clone, Copy)]
struct Room<'a> {
    connection: &'a Connection,
    notepad: &'a Notepad,
    /// Whether the transaction holds nothing else: then it is undone whole if the write fails, and needs no
    /// savepoint, which would copy every page that is written.
    alone: bool,
}

/// What a write came to.
struct Done {
    answer: Answer,
    failed: bool,
}

enum Job {
    Write(Work),
    Close,
}

#[derive(Clone)]
pub(super) struct Writer {
    jobs: mpsc::SyncSender<Job>,
    /// How many more writes are taken before a rehearsed crash; beyond counting where none is rehearsed.
    fuse: Arc<AtomicU64>,
    watcher: Watcher,
}

impl Writer {
    /// Opens the database and starts the thread, which ends with [`Writer::close`].
    pub(super) fn start(path: &Path) -> Result<(Self, thread::JoinHandle<()>), StoreError> {
        let connection = open_writer(path)?;
        let watcher = Watcher::default();
        let notepad = Notepad::install(&connection, Arc::clone(&watcher))
            .map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
        let (jobs, queue) = mpsc::sync_channel(QUEUED_JOBS);
        let thread = thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || write_until_closed(connection, &notepad, &queue))
            .map_err(|source| StoreError::Thread { source })?;
        Ok((Self { jobs, fuse: Arc::new(AtomicU64::new(u64::MAX)), watcher }, thread))
    }

    /// Has somebody told of every commit from now on; only the first to ask is.
    pub(super) fn watch(&self, watcher: impl Fn(News<'_>) + Send + Sync + 'static) {
        drop(self.watcher.set(Box::new(watcher)));
    }

    /// Runs `work` in a transaction and returns once it is on disk, or undone.
    pub(super) async fn run<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let last = match self
            .fuse
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
        {
            Ok(left) => left == 1,
            Err(_burnt) => return Err(StoreError::Closed.into()),
        };
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |room| {
            let outcome = match room {
                Ok(Room { connection, alone: true, .. }) => work(connection),
                Ok(room) => in_savepoint(room, work),
                Err(reason) => Err(StoreError::Commit { reason }.into()),
            };
            let failed = outcome.is_err();
            let answer: Answer = Box::new(move |committed| {
                let settled = match committed {
                    Ok(()) => outcome,
                    Err(reason) => outcome.and_then(|_| Err(StoreError::Commit { reason }.into())),
                };
                // A caller who went away does not need the answer.
                drop(answer.send(settled));
            });
            Done { answer, failed }
        });
        self.hand_over(Job::Write(work)).await?;
        let answer = answered.await.unwrap_or_else(|_| Err(StoreError::Closed.into()));
        if last { Err(StoreError::Closed.into()) } else { answer }
    }

    pub(super) fn stop_after(&self, writes: u32) {
        self.fuse.store(u64::from(writes), Ordering::Relaxed);
    }

    /// Lets the thread finish what was handed over before this, and end.
    pub(super) fn close(&self) {
        // An error means that it has ended already.
        drop(self.jobs.send(Job::Close));
    }

    async fn hand_over(&self, job: Job) -> Result<(), StoreError> {
        match self.jobs.try_send(job) {
            Ok(()) => Ok(()),
            Err(mpsc::TrySendError::Disconnected(_)) => Err(StoreError::Closed),
            Err(mpsc::TrySendError::Full(job)) => {
                let jobs = self.jobs.clone();
                let sent = tokio::task::spawn_blocking(move || jobs.send(job).is_ok()).await;
                if sent.unwrap_or(false) { Ok(()) } else { Err(StoreError::Closed) }
            }
        }
    }
}

fn in_savepoint<T, E: From<StoreError>>(
    room: Room<'_>,
    work: impl FnOnce(&Connection) -> Result<T, E>,
) -> Result<T, E> {
    let Room { connection, notepad, .. } = room;
    let sql = |statement| {
        connection
            .prepare_cached(statement)
            .and_then(|mut prepared| prepared.execute([]))
            .map_err(|source| StoreError::Sql { operation: statement, source })
    };
    let mark = notepad.mark();
    sql("SAVEPOINT job")?;
    match work(connection) {
        Ok(value) => {
            sql("RELEASE job")?;
            Ok(value)
        }
        Err(error) => {
            notepad.back_to(&mark);
            sql("ROLLBACK TO job")?;
            sql("RELEASE job")?;
            Err(error)
        }
    }
}

fn write_until_closed(mut connection: Connection, notepad: &Notepad, queue: &mpsc::Receiver<Job>) {
    let mut closing = false;
    let mut others = writes_of_others(&connection);
    while !closing {
        let first = match queue.recv_timeout(LOOK_EVERY) {
            Ok(Job::Write(first)) => Some(first),
            Err(mpsc::RecvTimeoutError::Timeout) => None,
            Ok(Job::Close) | Err(mpsc::RecvTimeoutError::Disconnected) => break,
        };
        let now = writes_of_others(&connection);
        if now != others {
            others = now;
            notepad.tell_everything();
        }
        let Some(first) = first else { continue };
        let mut jobs = vec![first];
        while jobs.len() < JOBS_PER_TRANSACTION {
            match queue.try_recv() {
                Ok(Job::Write(next)) => jobs.push(next),
                Ok(Job::Close) => closing = true,
                Err(_) => break,
            }
        }
        write_together(&mut connection, notepad, jobs);
    }
    // No `PRAGMA optimize`: what it learns from tables that are small today makes plans that are slow tomorrow.
    // Every statement has the index that it needs, and SQLite prefers indexes as long as it knows no better.
}

/// Changes when another process has written to the file, as `run --reconcile-once` beside a daemon does.
fn writes_of_others(connection: &Connection) -> Option<i64> {
    let mut version = connection.prepare_cached("PRAGMA data_version").ok()?;
    version.query_row([], |row| row.get(0)).ok()
}

fn write_together(connection: &mut Connection, notepad: &Notepad, jobs: Vec<Work>) {
    let transaction = match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
        Ok(transaction) => transaction,
        Err(error) => {
            let reason = error.to_string();
            for job in jobs {
                (job(Err(reason.clone())).answer)(Err(reason.clone()));
            }
            return;
        }
    };
    let alone = jobs.len() == 1;
    let room = Room { connection: &transaction, notepad, alone };
    let done: Vec<Done> = jobs.into_iter().map(|job| job(Ok(room))).collect();
    let undone = alone && done.iter().any(|done| done.failed);
    let announced = notepad.announce();
    let ended = if undone { transaction.rollback() } else { transaction.commit() };
    let ended = ended.map_err(|error| error.to_string());
    announced.tell(ended.is_ok() && !undone);
    for done in done {
        (done.answer)(ended.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn total(writer: &Writer, product: String, fails: bool) -> Result<(), StoreError> {
        let write = move |connection: &Connection| {
            let insert = "INSERT INTO usage_totals (product_id, reported) VALUES (?1, 1)";
            connection
                .execute(insert, [product])
                .map_err(|source| StoreError::Sql { operation: "test", source })?;
            if fails { Err(StoreError::Closed) } else { Ok(()) }
        };
        writer.run(write).await
    }

    #[tokio::test]
    async fn a_write_that_fails_leaves_nothing_alone_and_in_company() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, thread) = Writer::start(&folder.path().join("marketd.db")).unwrap();
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

    #[tokio::test]
    async fn after_a_rehearsed_crash_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("marketd.db");
        let (writer, thread) = Writer::start(&path).unwrap();
        writer.stop_after(2);
        assert!(total(&writer, "first".into(), false).await.is_ok());
        assert!(total(&writer, "second".into(), false).await.is_err(), "its answer is lost");
        assert!(total(&writer, "third".into(), false).await.is_err());
        writer.close();
        thread.join().unwrap();
        let kept: i64 = Connection::open(&path)
            .unwrap()
            .query_row("SELECT count(*) FROM usage_totals", [], |row| row.get(0))
            .unwrap();
        assert_eq!(kept, 2, "what reached the disk stays");
    }
}
