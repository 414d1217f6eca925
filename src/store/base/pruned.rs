//! The place up to which each kind of history was pruned, kept in the transaction that prunes it.

use jiff::Timestamp;

use super::columns::{millis, timestamp};
use crate::store::engine::sql::{Connection, OptionalExtension, Row, named_params};
use crate::store::{During, Store, StoreError};

/// A kind of history that is pruned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum History {
    /// Notifications that were applied.
    Notifications,
    /// Events of the outbox.
    Events,
    /// Usage events whose records are settled.
    UsageEvents,
    /// Attempts at records that are settled.
    Attempts,
    /// The log of who changed what.
    Activity,
}

impl History {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Notifications, Self::Events, Self::UsageEvents, Self::Attempts, Self::Activity];

    /// Returns the word that the settings and the database have for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Notifications => "notifications",
            Self::Events => "events",
            Self::UsageEvents => "usage_events",
            Self::Attempts => "attempts",
            Self::Activity => "activity",
        }
    }
}

/// The history of one kind that was pruned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// The number of rows.
    pub rows: i64,
    /// The time of the newest of them.
    pub until: Timestamp,
    /// The place of the last of them, in the order of their table.
    pub until_seq: i64,
    /// The time at which the last of them were pruned.
    pub at: Timestamp,
}

impl Pruned {
    /// Adds rows that were pruned at a moment, with the newest of their times and the last of their places.
    pub(crate) fn add_in(self, connection: &Connection, of: History) -> Result<(), StoreError> {
        connection
            .prepare_cached(
                "INSERT INTO pruned (kind, row_count, until_ms, until_seq, at_ms)
                 VALUES (:kind, :rows, :until, :seq, :at)
                 ON CONFLICT (kind) DO UPDATE SET row_count = pruned.row_count + :rows,
                     until_ms = greatest(pruned.until_ms, :until),
                     until_seq = greatest(pruned.until_seq, :seq), at_ms = :at",
            )
            .and_then(|mut upsert| {
                upsert.post(named_params! {
                    ":kind": of.as_str(), ":rows": self.rows, ":until": millis(self.until),
                    ":seq": self.until_seq, ":at": millis(self.at),
                })
            })
            .during("note what was pruned")?;
        Ok(())
    }
}

const OF_KIND: &str = "SELECT * FROM pruned WHERE kind = ?1";

/// Asks ahead for what [`pruned_in`] reads.
pub(crate) fn ask_pruned(connection: &Connection, of: History) -> Result<(), StoreError> {
    connection.ask_ahead(OF_KIND, &[of.as_str()]).during("read what was pruned")
}

/// Returns what was pruned of a kind; none if nothing ever was.
pub(crate) fn pruned_in(
    connection: &Connection,
    of: History,
) -> Result<Option<Pruned>, StoreError> {
    let pruned = |row: &Row<'_>| {
        Ok(Pruned {
            rows: row.get("row_count")?,
            until: timestamp(row.get("until_ms")?),
            until_seq: row.get("until_seq")?,
            at: timestamp(row.get("at_ms")?),
        })
    };
    connection
        .prepare_cached(OF_KIND)
        .and_then(|mut select| select.query_row([of.as_str()], pruned).optional())
        .during("read what was pruned")
}

impl Store {
    /// Returns what was pruned of a kind; none if nothing ever was.
    pub async fn pruned(&self, of: History) -> Result<Option<Pruned>, StoreError> {
        self.read(move |connection| pruned_in(connection, of)).await
    }
}
