//! An online copy of the database.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::Backup;

use super::connection::open_reader;
use super::{During, StoreError};

/// Pages copied between two pauses, in which the daemon may write.
const PAGES_PER_STEP: i32 = 1_000;
const PAUSE: Duration = Duration::from_millis(5);

/// Copies a database that may be in use; answers how many pages it has.
pub async fn back_up(from: &Path, into: &Path) -> Result<i32, StoreError> {
    let (from, into) = (from.to_owned(), into.to_owned());
    tokio::task::spawn_blocking(move || copy(&from, &into)).await.unwrap_or(Err(StoreError::Closed))
}

fn copy(from: &Path, into: &PathBuf) -> Result<i32, StoreError> {
    let source = open_reader(from)?;
    let mut target =
        Connection::open(into).map_err(|source| StoreError::Open { path: into.clone(), source })?;
    let backup = Backup::new(&source, &mut target).during("begin the copy")?;
    backup.run_to_completion(PAGES_PER_STEP, PAUSE, None).during("copy the database")?;
    Ok(backup.progress().pagecount)
}
