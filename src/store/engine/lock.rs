//! The database's lock: an advisory lock on a file beside it, so that no backup is put back under a running daemon.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::private_files::{make_folder, open_or_make, with_suffix};

/// The reason why the database could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("{} is in use by {holder}: stop that first", database.display())]
    Held {
        /// The database.
        database: PathBuf,
        /// The process that has it.
        holder: Holder,
    },
    /// The lock file cannot be used.
    #[error("could not lock {}", path.display())]
    File {
        /// The lock file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// The process that has the database, by its own words in the lock file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder(String);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("another marketd") } else { f.write_str(&self.0) }
    }
}

/// The database for oneself, as long as it lives. The system gives it back even if the process is killed.
#[derive(Debug)]
pub struct DatabaseLock {
    /// Never read: closing them unlocks them.
    _files: Vec<File>,
}

/// Held by a daemon, and by whoever puts a backup back.
const OF_DAEMONS: &str = ".lock";
/// Shared by passes that are made beside a daemon or without one.
const OF_PASSES: &str = ".pass.lock";

impl DatabaseLock {
    /// Takes the database for a daemon: there is one.
    pub fn for_daemon(database: &Path, now: Timestamp) -> Result<Self, LockError> {
        let path = with_suffix(database, OF_DAEMONS);
        let mut file = open(&path)?;
        let files = match file.try_lock() {
            Ok(()) => {
                sign(&mut file, "marketd run", now)
                    .map_err(|source| LockError::File { path, source })?;
                vec![file]
            }
            Err(refusal) => without(refusal, database, path, &mut file)?,
        };
        Ok(Self { _files: files })
    }

    /// Takes part in the database for one pass: others may, and a daemon, but no backup is put back meanwhile.
    pub fn for_pass(database: &Path, now: Timestamp) -> Result<Self, LockError> {
        let path = with_suffix(database, OF_PASSES);
        let mut file = open(&path)?;
        let files = match file.try_lock_shared() {
            Ok(()) => {
                sign(&mut file, "marketd run --reconcile-once", now)
                    .map_err(|source| LockError::File { path, source })?;
                vec![file]
            }
            Err(refusal) => without(refusal, database, path, &mut file)?,
        };
        Ok(Self { _files: files })
    }

    /// Takes the database from everybody, to put another in its place.
    pub fn for_restore(database: &Path, now: Timestamp) -> Result<Self, LockError> {
        let mut files = Vec::new();
        for suffix in [OF_DAEMONS, OF_PASSES] {
            let path = with_suffix(database, suffix);
            let mut file = open(&path)?;
            match file.try_lock() {
                Ok(()) => sign(&mut file, "marketd restore", now)
                    .map_err(|source| LockError::File { path, source })?,
                Err(TryLockError::WouldBlock) => return Err(held(database, &mut file)),
                Err(TryLockError::Error(source)) => return Err(LockError::File { path, source }),
            }
            files.push(file);
        }
        Ok(Self { _files: files })
    }
}

fn open(path: &Path) -> Result<File, LockError> {
    let failed = |source| LockError::File { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        make_folder(folder).map_err(failed)?;
    }
    open_or_make(path).map_err(failed)
}

/// Goes on without a lock where the file system has none, and says so.
fn without(
    refusal: TryLockError,
    database: &Path,
    path: PathBuf,
    file: &mut File,
) -> Result<Vec<File>, LockError> {
    match refusal {
        TryLockError::WouldBlock => Err(held(database, file)),
        TryLockError::Error(source) if source.kind() == io::ErrorKind::Unsupported => {
            tracing::warn!(
                path = %path.display(),
                "this file system has no locks: see to it yourself that only one marketd runs on the database"
            );
            Ok(Vec::new())
        }
        TryLockError::Error(source) => Err(LockError::File { path, source }),
    }
}

fn held(database: &Path, file: &mut File) -> LockError {
    let mut holder = String::new();
    // Whoever has it may be about to write who they are.
    if file.read_to_string(&mut holder).is_err() {
        holder.clear();
    }
    LockError::Held { database: database.to_owned(), holder: Holder(holder.trim().to_owned()) }
}

fn sign(file: &mut File, who: &str, now: Timestamp) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    let since = now.round(jiff::Unit::Second).unwrap_or(now);
    writeln!(file, "{who} (process {}, since {since})", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-10T09:05:00Z".parse().unwrap()
    }

    fn refusal(taken: Result<DatabaseLock, LockError>) -> String {
        taken.unwrap_err().to_string()
    }

    #[test]
    fn one_daemon_has_the_database_and_passes_are_made_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("deep/marketd.db");
        let daemon = DatabaseLock::for_daemon(&database, now()).unwrap();
        let words = refusal(DatabaseLock::for_daemon(&database, now()));
        let process = format!("process {}, since 2026-11-10T09:05:00Z", std::process::id());
        assert!(words.contains("marketd run (") && words.contains(&process), "{words}");
        assert!(refusal(DatabaseLock::for_restore(&database, now())).contains(&process));
        let passes = [
            DatabaseLock::for_pass(&database, now()).unwrap(),
            DatabaseLock::for_pass(&database, now()).unwrap(),
        ];
        drop(daemon);
        let words = refusal(DatabaseLock::for_restore(&database, now()));
        assert!(words.contains("--reconcile-once"), "{words}");
        drop(passes);
        let restore = DatabaseLock::for_restore(&database, now()).unwrap();
        for words in [
            refusal(DatabaseLock::for_daemon(&database, now())),
            refusal(DatabaseLock::for_pass(&database, now())),
            refusal(DatabaseLock::for_restore(&database, now())),
        ] {
            assert!(words.contains("marketd restore"), "{words}");
        }
        drop(restore);
        drop(DatabaseLock::for_daemon(&database, now()).unwrap());
    }
}
