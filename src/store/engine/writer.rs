//! The one thread that writes.
//!
//! Callers hand it closures; it runs as many as are waiting inside one transaction, and answers them only after the
//! commit is on disk. One slow disk flush thus serves many small writes, and no caller is told of a write that could
//! still be lost. Where one of several fails, all are undone and run again, each behind a savepoint of its own: a
//! savepoint has SQLite copy every page that is written, which is too much to pay for what hardly ever fails.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use super::changes::{ChangeCapture, CommitNews, Rememberer, Stale, Watcher};
use super::error::{During as _, StoreError};
use super::other_writers::OtherWriters;
use super::pending::{JoinedWrite, PendingWrite, Settle, TransactionError, Write, WriteOutcome};
use super::place::Place;
use super::sql::{self, Connection, Transaction};
use super::trouble::Trouble;
use super::wakeups::Wakeups;

/// Enough to fill a transaction under load, small enough that nobody waits long for the commit.
const JOBS_PER_TRANSACTION: usize = 512;
/// The time that a stop waits for readers.
const FOLD_WITHIN: Duration = Duration::from_secs(1);
/// The interval at which another process's writes are noticed.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Callers beyond this many wait for room: pressure goes back to them, not into memory.
const QUEUED_JOBS: usize = 4_096;

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
    /// Starts the thread, which opens the database and ends with [`Writer::close`].
    pub(crate) fn start(place: &Place) -> Result<(Self, thread::JoinHandle<()>), StoreError> {
        let (watcher, wakeups) = (Watcher::default(), Arc::<Wakeups>::default());
        let (rememberer, trouble) = (Rememberer::default(), Trouble::default());
        let told = (Arc::clone(&watcher), Arc::clone(&wakeups), Arc::clone(&rememberer));
        let (jobs, queue) = mpsc::sync_channel(QUEUED_JOBS);
        let (opened, is_open) = mpsc::sync_channel(1);
        let (place, noted) = (place.clone(), trouble.clone());
        let open = move || {
            let connection = place.open_writer()?;
            let capture = ChangeCapture::install(&connection, told.0, told.1, told.2)
                .during("have changes noted")?;
            Ok((connection, capture))
        };
        // A server is waited for, which whoever calls this may not: a thread of a runtime's.
        let thread = thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || match open() {
                Ok((connection, capture)) => {
                    drop(opened.send(Ok(())));
                    write_until_closed(&connection, &capture, &noted, &queue);
                }
                Err(error) => drop(opened.send(Err(error))),
            })
            .map_err(|source| StoreError::Thread { source })?;
        is_open.recv().unwrap_or(Err(StoreError::Closed))?;
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

    /// Returns a writer that takes nothing.
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
        self.answered(|caller| Box::new(PendingWrite::new(work, caller))).await
    }

    /// Does the same with work that takes all of its kind that wait for the transaction: it is given what each is about, and
    /// returns what it came to for each, in that order.
    pub(crate) async fn run_joined<I, T, E>(
        &self,
        about: I,
        work: impl Fn(&Connection, &[&I]) -> Result<Vec<T>, E> + Send + 'static,
    ) -> Result<T, E>
    where
        I: Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + std::error::Error + Send + 'static,
    {
        self.answered(|caller| Box::new(JoinedWrite::new(work, about, caller))).await
    }

    /// Hands a write over, and waits for its answer.
    async fn answered<T, E: From<StoreError>>(
        &self,
        write: impl FnOnce(oneshot::Sender<Result<T, E>>) -> Box<dyn Write>,
    ) -> Result<T, E> {
        let last = match self
            .fuse
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
        {
            Ok(left) => left == 1,
            Err(_burnt) => return Err(StoreError::Closed.into()),
        };
        let (caller, answered) = oneshot::channel();
        self.hand_over(Job::Write(write(caller))).await?;
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
    connection: &Connection,
    capture: &ChangeCapture,
    trouble: &Trouble,
    queue: &mpsc::Receiver<Job>,
) {
    let mut closing = false;
    let mut others = OtherWriters::seen_by(connection);
    while !closing {
        let first = match queue.recv_timeout(LOOK_EVERY) {
            Ok(Job::Write(first)) => Some(first),
            Err(mpsc::RecvTimeoutError::Timeout) => None,
            Ok(Job::Close) | Err(mpsc::RecvTimeoutError::Disconnected) => break,
        };
        let Some(first) = first else {
            others.look(connection, capture, trouble);
            continue;
        };
        let mut writes = vec![first];
        let before = connection.total_changes();
        let begun = begin(connection, capture, &mut others);
        // By now others may wait too: a turn on a server may have taken long to come.
        closing = gather(queue, &mut writes);
        let ended = begun.map_err(Into::into).and_then(|transaction| {
            write_all(connection, transaction, capture, &mut others, &mut writes)
        });
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
    // No `PRAGMA optimize`: what it learns from tables that are small today makes plans that are slow tomorrow.
    // Every statement has the index that it needs, and SQLite prefers indexes as long as it knows no better.
    fold_in(connection);
}

/// Has everything in the database's own file, so that a copy of it is complete. Another process that reads at this
/// moment may keep it from that; then the rest stays beside the file, and is read from there.
fn fold_in(connection: &Connection) {
    let Some(file) = connection.as_sqlite() else { return };
    let folded = file.busy_timeout(FOLD_WITHIN).and_then(|()| {
        file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0))
    });
    match folded {
        Ok(false) => {}
        Ok(true) => tracing::warn!(
            "the database is in use by another process: a copy of its file alone would be incomplete"
        ),
        Err(error) => tracing::warn!(%error, "the last writes stay beside the database's file"),
    }
}

/// Takes the writes that wait, as many as go together; returns whether it was told to close.
fn gather(queue: &mpsc::Receiver<Job>, writes: &mut Vec<Box<dyn Write>>) -> bool {
    while writes.len() < JOBS_PER_TRANSACTION {
        match queue.try_recv() {
            Ok(Job::Write(next)) => writes.push(next),
            Ok(Job::Close) => return true,
            Err(_) => break,
        }
    }
    false
}

/// Runs all of these in a transaction. Where one is refused, all are undone and run again apart from each other;
/// where the database can write nothing, none of them is tried again.
fn write_all<'a>(
    connection: &'a Connection,
    mut transaction: Transaction<'a>,
    capture: &ChangeCapture,
    others: &mut OtherWriters,
    writes: &mut [Box<dyn Write>],
) -> Result<(), TransactionError> {
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
    let announced = capture.announce(connection)?;
    let ended = transaction.commit();
    announced.tell(ended.is_ok());
    if ended.is_ok() {
        others.committed(connection);
    }
    Ok(ended?)
}

/// Begins a transaction, and its notes with it: those of one that was undone, however it ended, are never told.
fn begin<'a>(
    connection: &'a Connection,
    capture: &ChangeCapture,
    others: &mut OtherWriters,
) -> sql::Result<Transaction<'a>> {
    capture.begin();
    others.ask_ahead(connection);
    let transaction = Transaction::begin(connection)?;
    others.look_within(&transaction, capture);
    Ok(transaction)
}

/// Runs writes until one fails, and reports whether all went well.
fn run_all(
    connection: &Connection,
    writes: &mut [Box<dyn Write>],
) -> Result<bool, TransactionError> {
    // What was noted comes on the same way as the answers to what was posted.
    let settle = || {
        ChangeCapture::ask_ahead(connection)?;
        connection.settle()
    };
    let alone: Settle<'_> = if writes.len() == 1 { Some(&settle) } else { None };
    for place in 0..writes.len() {
        let Some((write, behind)) = writes[place..].split_first_mut() else { break };
        let outcome = match alone {
            Some(_) => write.run(connection, alone),
            None if write.was_joined() => WriteOutcome::Well,
            None => write.run_joined(connection, behind),
        };
        match outcome {
            WriteOutcome::Well => {}
            WriteOutcome::Refused => return Ok(false),
            WriteOutcome::Troubled(why) => return Err(why.into()),
        }
    }
    if alone.is_some() {
        return Ok(true);
    }
    match settle() {
        Err(error) if !error.kind().is_trouble() => Ok(false),
        settled => Ok(settled.map(|()| true)?),
    }
}

fn run_isolated(
    connection: &Connection,
    capture: &ChangeCapture,
    write: &mut dyn Write,
) -> Result<(), TransactionError> {
    let sql = |statement| connection.prepare_cached(statement)?.execute([]);
    let mark = capture.mark();
    sql("SAVEPOINT job")?;
    match write.run(connection, Some(&|| connection.settle())) {
        WriteOutcome::Well => {}
        WriteOutcome::Refused => {
            capture.back_to(&mark);
            // What it posted has failed with it.
            drop(connection.settle());
            sql("ROLLBACK TO job")?;
        }
        WriteOutcome::Troubled(why) => return Err(why.into()),
    }
    sql("RELEASE job")?;
    Ok(())
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
