//! Putting a backup back, and what the ledger knows of it: AWS may have been told more than the backup holds.

use std::io;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use super::unknown_hours::{SENT_BY_LOST, note_stretch_in, unknown_hours_in};
use crate::domain::ClockHour;
use crate::domain::ledger::{StretchCause, UnknownStretch};
use crate::store::base::columns::{millis, timestamp};
use crate::store::engine::backup::{Copied, copy};
use crate::store::engine::connection::{
    is_database, migrate, open_file, open_immutable, open_reader,
};
use crate::store::engine::lock::{DatabaseLock, LockError, LockPurpose};
use crate::store::engine::private_files::{
    Draft, belongs_as, make_folder, sync_folder_of, with_suffix,
};
use crate::store::engine::sql::{Connection, OptionalExtension, Transaction};
use crate::store::facts::listings::list_whole_in;
use crate::store::{During, Store, StoreError};

/// The time for which hours stay open after a restore, for usage that is reported again.
pub const REPLAY_TIME: SignedDuration = SignedDuration::from_hours(1);

/// The reason why a backup could not be put back. The database is then as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A daemon runs on the database.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The backup is the database itself.
    #[error("{} is the database itself", path.display())]
    Itself {
        /// The file.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("{} is not a database of marketd", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The backup is damaged.
    #[error("{} is damaged: {detail}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// SQLite's error.
        detail: String,
    },
    /// A file could not be written or moved.
    #[error("could not {operation} {}", path.display())]
    File {
        /// The operation.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The result of a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The last moment that the backup knows of; none if it is empty.
    pub last_commit: Option<Timestamp>,
    /// The hours of which AWS may know more.
    pub stretch: UnknownStretch,
    /// The number of records that were frozen, and are sent again since they may have been sent.
    pub frozen: usize,
    /// The number of records that wait for a person, who may have decided on them since.
    pub parked: usize,
    /// The path at which the database that was there before is kept.
    pub kept: Option<PathBuf>,
}

/// Puts a backup in the database's place: written aside, marked and renamed; the old database is kept under another
/// name. Nothing has changed if it fails. How far the copy is is reported meanwhile.
pub fn restore(
    backup: &Path,
    database: &Path,
    replay: SignedDuration,
    now: Timestamp,
    report: &mut dyn FnMut(Copied),
) -> Result<Restored, RestoreError> {
    // A link stays a link to what is replaced.
    let database = database.canonicalize().unwrap_or_else(|_| database.to_owned());
    let database = database.as_path();
    if backup.canonicalize().is_ok_and(|backup| backup == database) {
        return Err(RestoreError::Itself { path: backup.to_owned() });
    }
    let _lock = DatabaseLock::take(database, LockPurpose::Restore, now)?;
    let file = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| RestoreError::File { operation, path, source }
    };
    if let Some(folder) = database.parent() {
        make_folder(folder).map_err(file("make", folder))?;
    }
    let draft = Draft::beside(database).map_err(file("write beside", database))?;
    copy(&open_backup(backup)?, draft.path(), None, report)?;
    let mut marked = mark(backup, draft.path(), replay, now)?;
    let folder = database.parent().filter(|folder| !folder.as_os_str().is_empty());
    belongs_as(draft.path(), Some(database).filter(|it| it.exists()).or(folder));
    marked.kept = keep(database, now)?;
    draft.place_over(database).map_err(file("replace", database))?;
    Ok(marked)
}

fn open_backup(path: &Path) -> Result<Connection, RestoreError> {
    let foreign = || RestoreError::Foreign { path: path.to_owned() };
    path.metadata().map_err(|source| RestoreError::File {
        operation: "read",
        path: path.to_owned(),
        source,
    })?;
    let mut connection = open_reader(path)?;
    let mut known = is_database(&connection, "metering_records");
    if known.is_err() && !with_suffix(path, "-wal").exists() {
        // In WAL's format SQLite wants to write beside what it reads; where it may not, nobody else can either.
        connection = open_immutable(path)?;
        known = is_database(&connection, "metering_records");
    }
    if known.map_err(|_| foreign())? { Ok(connection) } else { Err(foreign()) }
}

/// Brings the copy up to date, and marks in it the hours of which AWS may know more.
fn mark(
    backup: &Path,
    draft: &Path,
    replay: SignedDuration,
    now: Timestamp,
) -> Result<Restored, RestoreError> {
    let connection = open_file(draft)?;
    let said: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|error| {
            RestoreError::Damaged { path: backup.to_owned(), detail: error.to_string() }
        })?;
    if said != "ok" {
        return Err(RestoreError::Damaged { path: backup.to_owned(), detail: said });
    }
    migrate(&connection, backup)?;
    let transaction = Transaction::begin(&connection).during("mark what is unknown")?;
    let marked = mark_in(&transaction, StretchCause::Restored, replay, now)?;
    transaction.commit().during("mark what is unknown")?;
    connection.close().during("mark what is unknown")?;
    Ok(marked)
}

impl Store {
    /// Notices that the database is a copy that `back_up` made and that somebody put back by hand: it is marked as a
    /// restored one.
    pub async fn mark_put_back_copy(&self, now: Timestamp) -> Result<Option<Restored>, StoreError> {
        let marked = self
            .write(move |connection| {
                if made_at(connection)?.is_none() {
                    return Ok(None);
                }
                mark_in(connection, StretchCause::PutBack, REPLAY_TIME, now).map(Some)
            })
            .await?;
        Ok(marked)
    }
}

/// Marks a database that goes on from an older state: the hours since are unknown, and what was frozen may have been
/// sent.
fn mark_in(
    connection: &Connection,
    cause: StretchCause,
    replay: SignedDuration,
    now: Timestamp,
) -> Result<Restored, StoreError> {
    let last_commit = last_commit_in(connection)?;
    let this_hour = ClockHour::of(now);
    let from = last_commit.map_or(this_hour, |at| ClockHour::of(at).min(this_hour));
    let stretch = UnknownStretch {
        from,
        until: this_hour.next(),
        cause,
        replay_until: Some(now.saturating_add(replay).unwrap_or(Timestamp::MAX)),
        noticed_at: now,
    };
    let frozen = doubt_what_was_frozen(connection, last_commit, now)?;
    let parked = connection
        .prepare_cached("SELECT count(*) FROM metering_records WHERE state = 'parked'")
        .and_then(|mut select| select.query_row([], |row| row.get::<_, i64>(0)))
        .during("count what is parked")?;
    connection.execute("DELETE FROM copies", []).during("forget that it was a copy")?;
    // An older mark would miss nothing, since it is AWS's own time: what changed since is listed again. But whoever puts
    // a database back wants all of it held against AWS.
    list_whole_in(connection, None)?;
    note_stretch_in(connection, &stretch)?;
    let parked = usize::try_from(parked).unwrap_or(0);
    Ok(Restored { last_commit, stretch, frozen, parked, kept: None })
}

/// Marks frozen records as perhaps sent: as after an answer that was lost, the same is sent again, and AWS's word
/// that it has it counts for it. What was parked may have been tried again, as long as AWS took its hour.
fn doubt_what_was_frozen(
    connection: &Connection,
    last_commit: Option<Timestamp>,
    now: Timestamp,
) -> Result<usize, StoreError> {
    const DOUBTED: &str = "(state IN ('ready', 'sending')
         OR (state = 'parked' AND frozen_at_ms IS NOT NULL AND deadline_ms >= ?2))";
    let since = last_commit.map_or(0, millis);
    // What was frozen in hours that were unknown before may differ from what a ledger still older has sent.
    let unknown = unknown_hours_in(connection)?.through.map_or(i64::MIN, ClockHour::number);
    let during = "doubt what was frozen";
    connection
        .execute(
            &format!(
                "INSERT INTO metering_attempts (record_id, attempt, at_ms, outcome, detail)
                 SELECT id, 1 + (SELECT coalesce(max(a.attempt), 0) FROM metering_attempts a WHERE a.record_id = r.id),
                     ?1, 'unknown', CASE
                     WHEN hour > ?3 OR EXISTS (SELECT 1 FROM metering_attempts a
                         WHERE a.record_id = r.id AND a.outcome = 'unknown' AND a.detail = ?4) THEN ?4
                     ELSE 'it may have been sent before a backup was put back' END
                 FROM metering_records r WHERE {DOUBTED}"
            ),
            (millis(now), since, unknown, SENT_BY_LOST),
        )
        .during(during)?;
    connection
        .execute(
            &format!(
                "UPDATE OR FAIL metering_records SET attempts = attempts + 1,
                     state = CASE state WHEN 'parked' THEN 'parked' ELSE 'sending' END,
                     uncertain = CASE WHEN state = 'parked' THEN 1 ELSE uncertain END
                 WHERE {DOUBTED}"
            ),
            (millis(now), since),
        )
        .during(during)
}

fn made_at(connection: &Connection) -> Result<Option<Timestamp>, StoreError> {
    connection
        .query_row("SELECT made_at_ms FROM copies", [], |row| row.get(0))
        .optional()
        .map(|at: Option<i64>| at.map(timestamp))
        .during("see whether it is a copy")
}

/// Returns the last moment that a database knows of: the copy's own, or the newest of what it took in, sent or told.
fn last_commit_in(connection: &Connection) -> Result<Option<Timestamp>, StoreError> {
    if let Some(made) = made_at(connection)? {
        return Ok(Some(made));
    }
    connection
        .query_row(
            "SELECT max(at_ms) FROM (
                 SELECT max(received_at_ms) AS at_ms FROM usage_events
                 UNION ALL SELECT max(received_at_ms) FROM notifications
                 UNION ALL SELECT max(at_ms) FROM events
                 UNION ALL SELECT max(at_ms) FROM metering_attempts
                 UNION ALL SELECT max(frozen_at_ms) FROM metering_records
                 UNION ALL SELECT max(updated_at_ms) FROM customers
                 UNION ALL SELECT max(synced_at_ms) FROM products) AS known",
            [],
            |row| row.get(0),
        )
        .map(|at: Option<i64>| at.map(timestamp))
        .during("find the last commit")
}

/// Keeps the database that is there under another name, and leaves its own name in place until it is replaced.
fn keep(database: &Path, now: Timestamp) -> Result<Option<PathBuf>, RestoreError> {
    if !database.exists() {
        return Ok(None);
    }
    fold_in(database);
    let kept = free_name(database, now);
    let failed = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| RestoreError::File { operation, path, source }
    };
    if std::fs::hard_link(database, &kept).is_err() {
        // A file system without links: for a moment there is none under the name.
        std::fs::rename(database, &kept).map_err(failed("keep", database))?;
    }
    // What could not be folded in goes with it: beside another database it would be taken for that one's.
    for suffix in ["-wal", "-shm", "-journal"] {
        let beside = with_suffix(database, suffix);
        if beside.exists() {
            std::fs::rename(&beside, with_suffix(&kept, suffix))
                .map_err(failed("keep", &beside))?;
        }
    }
    sync_folder_of(&kept).map_err(failed("keep", &kept))?;
    Ok(Some(kept))
}

/// Folds the old database into one file. One that is broken is kept as it is.
fn fold_in(database: &Path) {
    let folded = open_file(database).and_then(|connection| {
        let fold = "PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = DELETE;";
        connection.execute_batch(fold).during("fold the old database into one file")
    });
    if let Err(error) = folded {
        tracing::warn!(database.path = %database.display(), %error, "the old database is kept as it is");
    }
}

fn free_name(database: &Path, now: Timestamp) -> PathBuf {
    let second = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let mut number = 1;
    loop {
        let more = if number == 1 { String::new() } else { format!("-{number}") };
        let name = with_suffix(database, &format!(".before-restore-{second}{more}"));
        if name.symlink_metadata().is_err() {
            return name;
        }
        number += 1;
    }
}
