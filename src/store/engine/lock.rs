//! The lock of a database in a file: an advisory lock on a file beside it. One daemon runs on it, or one pass is made, or
//! one backup is put back.

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
    /// Never read: closing it unlocks it. None where the file system has no locks.
    _file: Option<File>,
}

/// The purpose for which somebody takes the database for themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockPurpose {
    /// To run the daemon.
    Run,
    /// To make one pass, which does what a daemon would do at the same time.
    Pass,
    /// To put a backup in its place.
    Restore,
    /// To move it to a server.
    Move,
}

impl LockPurpose {
    const fn command(self) -> &'static str {
        match self {
            Self::Run => "marketd run",
            Self::Pass => "marketd run --reconcile-once",
            Self::Restore => "marketd restore",
            Self::Move => "marketd move",
        }
    }
}

const SUFFIX: &str = ".lock";

impl DatabaseLock {
    /// Takes the database for oneself: what a daemon, a pass and a restore do must not be done twice at once.
    pub fn take(database: &Path, purpose: LockPurpose, now: Timestamp) -> Result<Self, LockError> {
        let path = with_suffix(database, SUFFIX);
        let mut file = open(&path)?;
        match file.try_lock() {
            Ok(()) => {
                sign(&mut file, purpose.command(), now)
                    .map_err(|source| LockError::File { path, source })?;
                Ok(Self { _file: Some(file) })
            }
            Err(TryLockError::WouldBlock) => Err(held(database, &mut file)),
            Err(TryLockError::Error(source))
                if purpose != LockPurpose::Restore
                    && source.kind() == io::ErrorKind::Unsupported =>
            {
                tracing::warn!(
                    path = %path.display(),
                    "this file system has no locks: see to it yourself that only one marketd runs on the database"
                );
                Ok(Self { _file: None })
            }
            Err(TryLockError::Error(source)) => Err(LockError::File { path, source }),
        }
    }
}

fn open(path: &Path) -> Result<File, LockError> {
    let failed = |source| LockError::File { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        make_folder(folder).map_err(failed)?;
    }
    open_or_make(path).map_err(failed)
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
    fn one_has_the_database_and_whoever_comes_next_is_told_who() {
        use LockPurpose::{Pass, Restore, Run};
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("deep/marketd.db");
        for (first, command) in [
            (Run, "marketd run ("),
            (Pass, "marketd run --reconcile-once ("),
            (Restore, "marketd restore ("),
        ] {
            let taken = DatabaseLock::take(&database, first, now()).unwrap();
            let process = format!("process {}, since 2026-11-10T09:05:00Z", std::process::id());
            for second in [Run, Pass, Restore] {
                let words = refusal(DatabaseLock::take(&database, second, now()));
                assert!(words.contains(command) && words.contains(&process), "{words}");
            }
            drop(taken);
        }
    }
}
