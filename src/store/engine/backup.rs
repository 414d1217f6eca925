//! An online copy of the database: whole, for its owner alone, and under its name only once it is complete.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags};

use super::connection::{is_database, open_reader};
use super::error::{During, StoreError};
use super::private_files::Draft;

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

/// Copies a database that may be in use; answers how many pages it has.
pub async fn back_up(from: &Path, into: &Path, now: Timestamp) -> Result<i32, BackupError> {
    let (from, into) = (from.to_owned(), into.to_owned());
    tokio::task::spawn_blocking(move || back_up_to(&from, &into, now))
        .await
        .unwrap_or(Err(BackupError::Store(StoreError::Closed)))
}

fn back_up_to(from: &Path, into: &Path, now: Timestamp) -> Result<i32, BackupError> {
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
    let pages = copy(&source, draft.path(), Some(now))?;
    draft.place_new(into).map_err(written)?;
    Ok(pages)
}

/// Copies a database into a file that is empty.
pub(crate) fn copy(
    source: &Connection,
    into: &Path,
    made_at: Option<Timestamp>,
) -> Result<i32, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut target = Connection::open_with_flags(into, flags)
        .map_err(|source| StoreError::Open { path: into.to_owned(), source })?;
    let pages = {
        let backup = Backup::new(source, &mut target).during("begin the copy")?;
        // In one go: a reader holds up no writer, and a copy in steps begins anew after each commit of a busy daemon.
        backup.run_to_completion(i32::MAX, PAUSE, None).during("copy the database")?;
        backup.progress().pagecount
    };
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
    target
        .close()
        .map_err(|(_, source)| StoreError::Sql { operation: "complete the copy", source })?;
    Ok(pages)
}
