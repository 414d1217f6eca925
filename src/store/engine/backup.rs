//! An online copy of the database: whole, for its owner alone, and under its name only once it is complete.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::OpenFlags;
use rusqlite::backup::{Backup, Progress, StepResult};

use super::connection::{is_database, open_reader};
use super::error::{During, StoreError};
use super::private_files::Draft;
use super::sql::Connection;

/// The pages that are copied between two reports: 16 MiB.
const PAGES_AT_ONCE: i32 = 4_096;
/// The pause before a locked database is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// The reason why a database could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Something has the copy's name.
    #[error("{} exists already: name a new file", path.display())]
    Exists {
        /// The name.
        path: PathBuf,
    },
    /// The copy could not be written.
    #[error("could not write {}", path.display())]
    Write {
        /// The place.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The database could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The part of a database that is copied so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The pages that are copied.
    pub pages: u64,
    /// The pages that there are.
    pub of: u64,
}

/// Copies a database that may be in use; answers how many pages it has. How far it is is reported meanwhile.
pub async fn back_up(
    from: &Path,
    into: &Path,
    now: Timestamp,
    mut report: impl FnMut(Copied) + Send + 'static,
) -> Result<i32, BackupError> {
    let (from, into) = (from.to_owned(), into.to_owned());
    tokio::task::spawn_blocking(move || back_up_to(&from, &into, now, &mut report))
        .await
        .unwrap_or(Err(BackupError::Store(StoreError::Closed)))
}

fn back_up_to(
    from: &Path,
    into: &Path,
    now: Timestamp,
    report: &mut dyn FnMut(Copied),
) -> Result<i32, BackupError> {
    let exists = || BackupError::Exists { path: into.to_owned() };
    let written = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => exists(),
        _ => BackupError::Write { path: into.to_owned(), source },
    };
    // Not even a link that leads nowhere.
    if into.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let source = open_reader(from)?;
    let draft = Draft::beside(into).map_err(written)?;
    let pages = copy(&source, draft.path(), Some(now), report)?;
    draft.place_new(into).map_err(written)?;
    Ok(pages)
}

/// Copies a database into a file that is empty.
pub(crate) fn copy(
    source: &Connection,
    into: &Path,
    made_at: Option<Timestamp>,
    report: &mut dyn FnMut(Copied),
) -> Result<i32, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut target = rusqlite::Connection::open_with_flags(into, flags)
        .map_err(|source| StoreError::Open { path: into.to_owned(), source: source.into() })?;
    let pages = copy_pages(
        source.as_sqlite().ok_or(StoreError::NoFile)?,
        &mut target,
        PAGES_AT_ONCE,
        report,
    )?;
    let target = Connection::Sqlite(target);
    // So that the copy is one file, and can be read where nothing can be written.
    target
        .execute_batch("PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL;")
        .during("complete the copy")?;
    if let Some(at) = made_at
        && is_database(&target, "copies")?
    {
        target
            .execute(
                "INSERT OR REPLACE INTO copies (id, made_at_ms) VALUES (1, ?1)",
                [at.as_millisecond()],
            )
            .during("say when the copy was made")?;
    }
    target.close().during("complete the copy")?;
    Ok(pages)
}

/// Copies all pages as they are at one moment, some at a time.
fn copy_pages(
    source: &rusqlite::Connection,
    target: &mut rusqlite::Connection,
    at_once: i32,
    report: &mut dyn FnMut(Copied),
) -> Result<i32, StoreError> {
    // A copy in steps would begin anew after each commit of a busy daemon. A transaction that reads holds up no writer,
    // and keeps what is copied as it is from the first step to the last.
    let reading = source.unchecked_transaction().during("begin the copy")?;
    reading
        .query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
        .during("begin the copy")?;
    let pages = {
        let backup = Backup::new(&reading, target).during("begin the copy")?;
        loop {
            match backup.step(at_once).during("copy the database")? {
                StepResult::Done => break,
                StepResult::More => {}
                // Somebody else has it, for a moment.
                _ => std::thread::sleep(PAUSE),
            }
            let Progress { remaining, pagecount } = backup.progress();
            let count = |pages: i32| u64::try_from(pages).unwrap_or_default();
            report(Copied { pages: count(pagecount - remaining), of: count(pagecount) });
        }
        backup.progress().pagecount
    };
    reading.finish().during("end the copy")?;
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_of_one_moment_and_goes_on_while_others_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("busy.db");
        let writer = rusqlite::Connection::open(&path).unwrap();
        writer.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (a TEXT)").unwrap();
        let write = || {
            writer.execute("INSERT INTO t VALUES (?1)", ["x".repeat(8_000)]).unwrap();
        };
        (0..100).for_each(|_| write());
        let source = rusqlite::Connection::open(&path).unwrap();
        let mut target = rusqlite::Connection::open(folder.path().join("copy.db")).unwrap();
        let mut seen = Vec::new();
        let mut report = |copied: Copied| {
            write();
            seen.push(copied);
            assert!(seen.len() < 1_000, "begun anew again and again");
        };
        let pages = copy_pages(&source, &mut target, 10, &mut report).unwrap();
        assert!(seen.len() > 10, "{seen:?}");
        assert!(seen.windows(2).all(|two| two[0].pages < two[1].pages), "begun anew: {seen:?}");
        assert!(seen.iter().all(|copied| copied.of == u64::try_from(pages).unwrap()), "{seen:?}");
        let rows: i64 = target.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 100, "what was committed before the copy began, and no more");
    }
}
