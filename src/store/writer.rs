//! The one thread that writes.
//!
//! Callers hand it closures; it runs as many as are waiting inside one transaction, and answers them only after the
//! commit is on disk. One slow disk flush thus serves many small writes, and no caller is told of a write that could
//! still be lost. Where one of several fails, all are undone and run again, each behind a savepoint of its own: a
//! savepoint has SQLite copy every page that is written, which is too much to pay for what hardly ever fails.

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
/// How long a stop waits for whoever reads the database.
const FOLD_WITHIN: Duration = Duration::from_secs(1);
/// How soon somebody else's writes are noticed.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Callers beyond this many wait for room: pressure goes back to them, not into memory.
const QUEUED_JOBS: usize = 4_096;

/// A write with the caller who waits for it.
trait Write: Send {
    /// Runs inside the transaction, and once more if that one was undone; says whether it succeeded.
    fn run(&mut self, connection: &Connection) -> bool;
    /// Answers the caller once the transaction's outcome is known.
    fn answer(self: Box<Self>, ended: Result<(), String>);
}

struct Waiting<W, T, E> {
    work: W,
    outcome: Option<Result<T, E>>,
    caller: oneshot::Sender<Result<T, E>>,
}

impl<W, T, E> Write for Waiting<W, T, E>
where
    W: Fn(&Connection) -> Result<T, E> + Send,
    T: Send,
    E: From<StoreError> + Send,
{
    fn run(&mut self, connection: &Connection) -> bool {
        self.outcome.insert((self.work)(connection)).is_ok()
    }

    fn answer(self: Box<Self>, ended: Result<(), String>) {
        let answer = match (self.outcome, ended) {
            (Some(Err(error)), _) => Err(error),
            (_, Err(reason)) => Err(StoreError::Commit { reason }.into()),
            (Some(done), Ok(())) => done,
            (None, Ok(())) => Err(StoreError::Closed.into()),
        };
        // A caller who went away does not need the answer.
        drop(self.caller.send(answer));
    }
}

enum Job {
    Write(Box<dyn Write>),
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

    /// A writer that takes nothing.
    pub(super) fn closed() -> Self {
        let (jobs, _) = mpsc::sync_channel(0);
        Self { jobs, fuse: Arc::new(AtomicU64::new(u64::MAX)), watcher: Watcher::default() }
    }

    /// Has somebody told of every commit from now on; only the first to ask is.
    pub(super) fn watch(&self, watcher: impl Fn(News<'_>) + Send + Sync + 'static) {
        drop(self.watcher.set(Box::new(watcher)));
    }

    /// Runs `work` in a transaction and returns once it is on disk, or undone.
    pub(super) async fn run<T, E>(
        &self,
        work: impl Fn(&Connection) -> Result<T, E> + Send + 'static,
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
        let (caller, answered) = oneshot::channel();
        self.hand_over(Job::Write(Box::new(Waiting { work, outcome: None, caller }))).await?;
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
    fold_in(&connection);
}

/// Has everything in the database's own file, so that a copy of it is complete. Another process that reads at this
/// moment may keep it from that; then the rest stays beside the file, and is read from there.
fn fold_in(connection: &Connection) {
    let folded = connection.busy_timeout(FOLD_WITHIN).and_then(|()| {
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0))
    });
    match folded {
        Ok(false) => {}
        Ok(true) => tracing::warn!(
            "the database is in use by another process: a copy of its file alone would be incomplete"
        ),
        Err(error) => tracing::warn!(%error, "the last writes stay beside the database's file"),
    }
}

/// Changes when another process has written to the file, as `run --reconcile-once` beside a daemon does.
fn writes_of_others(connection: &Connection) -> Option<i64> {
    let mut version = connection.prepare_cached("PRAGMA data_version").ok()?;
    version.query_row([], |row| row.get(0)).ok()
}

fn write_together(connection: &mut Connection, notepad: &Notepad, mut writes: Vec<Box<dyn Write>>) {
    let ended = write_all(connection, notepad, &mut writes).map_err(|error| error.to_string());
    for write in writes {
        write.answer(ended.clone());
    }
}

fn write_all(
    connection: &mut Connection,
    notepad: &Notepad,
    writes: &mut [Box<dyn Write>],
) -> rusqlite::Result<()> {
    let start = notepad.mark();
    let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if !writes.iter_mut().all(|write| write.run(&transaction)) {
        notepad.back_to(&start);
        transaction.rollback()?;
        if writes.len() == 1 {
            return Ok(());
        }
        transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for write in writes {
            run_apart(&transaction, notepad, write.as_mut())?;
        }
    }
    let announced = notepad.announce();
    let ended = transaction.commit();
    announced.tell(ended.is_ok());
    ended
}

fn run_apart(
    connection: &Connection,
    notepad: &Notepad,
    write: &mut dyn Write,
) -> rusqlite::Result<()> {
    let sql = |statement| connection.prepare_cached(statement)?.execute([]);
    let mark = notepad.mark();
    sql("SAVEPOINT job")?;
    if !write.run(connection) {
        notepad.back_to(&mark);
        sql("ROLLBACK TO job")?;
    }
    sql("RELEASE job")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
