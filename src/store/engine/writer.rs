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

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use super::changes::{ChangeCapture, CommitNews, Rememberer, Stale, Watcher};
use super::connection::open_writer;
use super::error::StoreError;
use super::trouble::{self, Trouble, TroubleCause};
use super::wakeups::Wakeups;

/// Enough to fill a transaction under load, small enough that nobody waits long for the commit.
const JOBS_PER_TRANSACTION: usize = 512;
/// The time that a stop waits for readers.
const FOLD_WITHIN: Duration = Duration::from_secs(1);
/// The interval at which another process's writes are noticed.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Callers beyond this many wait for room: pressure goes back to them, not into memory.
const QUEUED_JOBS: usize = 4_096;

/// A write with the caller who waits for it.
trait Write: Send {
    /// Runs inside the transaction, and once more if that one was undone.
    fn run(&mut self, connection: &Connection) -> WriteOutcome;
    /// Answers the caller once the transaction's outcome is known.
    fn answer(self: Box<Self>, ended: Result<(), TransactionError>);
}

/// The outcome of a write.
enum WriteOutcome {
    Well,
    /// It was refused, by what it was to write; others may go well.
    Refused,
    /// The database can write nothing at the moment.
    Troubled(TroubleCause),
}

/// Why a transaction came to nothing.
#[derive(Clone, Debug)]
struct TransactionError {
    said: String,
    code: Option<ErrorCode>,
}

impl From<rusqlite::Error> for TransactionError {
    fn from(error: rusqlite::Error) -> Self {
        Self { said: error.to_string(), code: error.sqlite_error_code() }
    }
}

impl From<TroubleCause> for TransactionError {
    fn from(TroubleCause { code, said }: TroubleCause) -> Self {
        Self { said, code: Some(code) }
    }
}

impl TransactionError {
    fn trouble(&self) -> Option<TroubleCause> {
        let code = self.code.filter(|code| trouble::is_passing(*code))?;
        Some(TroubleCause { code, said: self.said.clone() })
    }
}

struct PendingWrite<W, T, E> {
    work: W,
    outcome: Option<Result<T, E>>,
    caller: oneshot::Sender<Result<T, E>>,
}

impl<W, T, E> Write for PendingWrite<W, T, E>
where
    W: Fn(&Connection) -> Result<T, E> + Send,
    T: Send,
    E: From<StoreError> + std::error::Error + Send + 'static,
{
    fn run(&mut self, connection: &Connection) -> WriteOutcome {
        match self.outcome.insert((self.work)(connection)) {
            Ok(_) => WriteOutcome::Well,
            Err(error) => {
                trouble::found_in(error).map_or(WriteOutcome::Refused, WriteOutcome::Troubled)
            }
        }
    }

    fn answer(self: Box<Self>, ended: Result<(), TransactionError>) {
        let answer = match (self.outcome, ended) {
            (Some(Err(error)), _) => Err(error),
            (_, Err(TransactionError { said: reason, code })) => {
                Err(StoreError::Commit { reason, code }.into())
            }
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
pub(crate) struct Writer {
    jobs: mpsc::SyncSender<Job>,
    /// The number of writes that are taken before a rehearsed crash; beyond counting where none is rehearsed.
    fuse: Arc<AtomicU64>,
    watcher: Watcher,
    wakeups: Arc<Wakeups>,
    rememberer: Rememberer,
    trouble: Trouble,
}

impl Writer {
    /// Opens the database and starts the thread, which ends with [`Writer::close`].
    pub(crate) fn start(path: &Path) -> Result<(Self, thread::JoinHandle<()>), StoreError> {
        let connection = open_writer(path)?;
        let (watcher, wakeups) = (Watcher::default(), Arc::<Wakeups>::default());
        let rememberer = Rememberer::default();
        let told = (Arc::clone(&watcher), Arc::clone(&wakeups), Arc::clone(&rememberer));
        let capture = ChangeCapture::install(&connection, told.0, told.1, told.2)
            .map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
        let (jobs, queue) = mpsc::sync_channel(QUEUED_JOBS);
        let trouble = Trouble::default();
        let noted = trouble.clone();
        let thread = thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || write_until_closed(connection, &capture, &noted, &queue))
            .map_err(|source| StoreError::Thread { source })?;
        let fuse = Arc::new(AtomicU64::new(u64::MAX));
        Ok((Self { jobs, fuse, watcher, wakeups, rememberer, trouble }, thread))
    }

    /// Returns the wake-ups that its commits give.
    pub(crate) fn wakeups(&self) -> &Wakeups {
        &self.wakeups
    }

    /// Returns the database's trouble, if it has any.
    pub(crate) const fn trouble(&self) -> &Trouble {
        &self.trouble
    }

    /// A writer that takes nothing.
    pub(crate) fn closed() -> Self {
        let (jobs, _) = mpsc::sync_channel(0);
        let fuse = Arc::new(AtomicU64::new(u64::MAX));
        let (watcher, wakeups, rememberer, trouble) = Default::default();
        Self { jobs, fuse, watcher, wakeups, rememberer, trouble }
    }

    /// Has somebody told of every commit from now on; only the first to ask is.
    pub(crate) fn watch(&self, watcher: impl Fn(CommitNews<'_>) + Send + Sync + 'static) {
        drop(self.watcher.set(Box::new(watcher)));
    }

    /// Has somebody told at once of what may hold no longer of what they remember; only the first to ask is.
    pub(crate) fn forget_by(&self, forget: impl Fn(Stale<'_>) + Send + Sync + 'static) {
        drop(self.rememberer.set(Box::new(forget)));
    }

    /// Runs `work` in a transaction and returns once it is on disk, or undone.
    pub(crate) async fn run<T, E>(
        &self,
        work: impl Fn(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + std::error::Error + Send + 'static,
    {
        let last = match self
            .fuse
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
        {
            Ok(left) => left == 1,
            Err(_burnt) => return Err(StoreError::Closed.into()),
        };
        let (caller, answered) = oneshot::channel();
        self.hand_over(Job::Write(Box::new(PendingWrite { work, outcome: None, caller }))).await?;
        let answer = answered.await.unwrap_or_else(|_| Err(StoreError::Closed.into()));
        if last { Err(StoreError::Closed.into()) } else { answer }
    }

    pub(crate) fn stop_after(&self, writes: u32) {
        self.fuse.store(u64::from(writes), Ordering::Relaxed);
    }

    /// Lets the thread finish what was handed over before this, and end.
    pub(crate) fn close(&self) {
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

fn write_until_closed(
    mut connection: Connection,
    capture: &ChangeCapture,
    trouble: &Trouble,
    queue: &mpsc::Receiver<Job>,
) {
    let mut closing = false;
    let mut others = OtherWriters::seen_by(&connection);
    while !closing {
        let first = match queue.recv_timeout(LOOK_EVERY) {
            Ok(Job::Write(first)) => Some(first),
            Err(mpsc::RecvTimeoutError::Timeout) => None,
            Ok(Job::Close) | Err(mpsc::RecvTimeoutError::Disconnected) => break,
        };
        let Some(first) = first else {
            others.look(&connection, capture);
            continue;
        };
        let mut jobs = vec![first];
        while jobs.len() < JOBS_PER_TRANSACTION {
            match queue.try_recv() {
                Ok(Job::Write(next)) => jobs.push(next),
                Ok(Job::Close) => closing = true,
                Err(_) => break,
            }
        }
        write_together(&mut connection, capture, &mut others, trouble, jobs);
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

/// The writes of other processes, as `run --reconcile-once` makes them beside a daemon.
struct OtherWriters {
    /// Changes when another process has written to the file.
    version: Option<i64>,
}

impl OtherWriters {
    fn seen_by(connection: &Connection) -> Self {
        let version = || {
            let mut version = connection.prepare_cached("PRAGMA data_version").ok()?;
            version.query_row([], |row| row.get(0)).ok()
        };
        Self { version: version() }
    }

    /// Tells whoever keeps something of the database if another process has written. Within a transaction that may write
    /// nobody else can, so that it holds until its end.
    fn look(&mut self, connection: &Connection, capture: &ChangeCapture) {
        let now = Self::seen_by(connection);
        if now.version != self.version {
            *self = now;
            capture.tell_everything();
        }
    }
}

fn write_together(
    connection: &mut Connection,
    capture: &ChangeCapture,
    others: &mut OtherWriters,
    trouble: &Trouble,
    mut writes: Vec<Box<dyn Write>>,
) {
    let before = connection.total_changes();
    let ended = write_all(connection, capture, others, &mut writes);
    match &ended {
        // A commit of nothing needs no room on the disk.
        Ok(()) if connection.total_changes() > before => trouble.is_over(),
        Ok(()) => {}
        Err(undone) => {
            if let Some(why) = undone.trouble() {
                trouble.begin(&why);
            }
        }
    }
    for write in writes {
        write.answer(ended.clone());
    }
}

/// Runs all of these in one transaction. Where one is refused, all are undone and run again apart from each other;
/// where the database can write nothing, none of them is tried again.
fn write_all(
    connection: &mut Connection,
    capture: &ChangeCapture,
    others: &mut OtherWriters,
    writes: &mut [Box<dyn Write>],
) -> Result<(), TransactionError> {
    let mut transaction = begin(connection, capture, others)?;
    if !run_all(&transaction, writes)? {
        transaction.rollback()?;
        if writes.len() == 1 {
            return Ok(());
        }
        transaction = begin(connection, capture, others)?;
        for write in writes {
            run_isolated(&transaction, capture, write.as_mut())?;
        }
    }
    let announced = capture.announce();
    let ended = transaction.commit();
    announced.tell(ended.is_ok());
    Ok(ended?)
}

/// Begins a transaction, and its notes with it: those of one that was undone, however it ended, are never told.
fn begin<'a>(
    connection: &'a mut Connection,
    capture: &ChangeCapture,
    others: &mut OtherWriters,
) -> rusqlite::Result<Transaction<'a>> {
    capture.begin();
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    others.look(&transaction, capture);
    Ok(transaction)
}

/// Runs writes until one fails, and reports whether all went well.
fn run_all(
    connection: &Connection,
    writes: &mut [Box<dyn Write>],
) -> Result<bool, TransactionError> {
    for write in writes {
        match write.run(connection) {
            WriteOutcome::Well => {}
            WriteOutcome::Refused => return Ok(false),
            WriteOutcome::Troubled(why) => return Err(why.into()),
        }
    }
    Ok(true)
}

fn run_isolated(
    connection: &Connection,
    capture: &ChangeCapture,
    write: &mut dyn Write,
) -> Result<(), TransactionError> {
    let sql = |statement| connection.prepare_cached(statement)?.execute([]);
    let mark = capture.mark();
    sql("SAVEPOINT job")?;
    match write.run(connection) {
        WriteOutcome::Well => {}
        WriteOutcome::Refused => {
            capture.back_to(&mark);
            sql("ROLLBACK TO job")?;
        }
        WriteOutcome::Troubled(why) => return Err(why.into()),
    }
    sql("RELEASE job")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::super::wakeups::Waiter;
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
    async fn what_is_remembered_is_forgotten_where_it_may_be_of_what_was_undone() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, thread) = Writer::start(&folder.path().join("marketd.db")).unwrap();
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
            let (writer, thread) = Writer::start(&folder.path().join("marketd.db")).unwrap();
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
        let (writer, thread) = Writer::start(&folder.path().join("marketd.db")).unwrap();
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
            let error = StoreError::Sql { operation: "test", source };
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
}
