//! Pruning: history that is old enough is let go, a few rows in one transaction.
//!
//! It stands above all rooms, as what reads access facts does. A table is walked in its own order, which is that of
//! time, up to the first row that is too young; so no index is kept for it, and a walk reads only what goes and what
//! stays for a reason. These stay, however old they are: what is not settled, what the webhook has not posted, and the
//! newest row, whose place is not to be given out again.

use jiff::Timestamp;

use super::base::columns::{millis, timestamp};
use super::base::pruned::{History, Pruned};
use super::{During, Store, StoreError};
use crate::store::engine::sql::{Connection, Row};

/// Rows looked at in one transaction: few enough that the writer is soon free for others.
const PIECE: usize = 500;

/// A place in a table's own order.
pub type PrunePlace = (i64, i64);

/// The place before every row.
pub const PRUNE_FROM: PrunePlace = (i64::MIN, i64::MIN);

/// The outcome of pruning a piece of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrunedPiece {
    /// The rows that were let go.
    pub rows: usize,
    /// The place where the next piece begins; none if all that is old was looked at.
    pub next: Option<PrunePlace>,
}

/// A row that is old.
struct OldRow {
    place: PrunePlace,
    /// Its own time.
    at_ms: i64,
    /// False if it stays for a reason.
    goes: bool,
}

/// The statements that walk a kind of history.
struct Walk {
    /// Selects so many rows (`?4`) after a place (`?1`, `?2`), each with its place, its time, whether it goes, and whether
    /// it is too young (`?3`), as all that follow it are.
    select: &'static str,
    /// Deletes the row at a place.
    delete: &'static str,
}

/// Pending and quarantined ones wait for an import or a person; discarded ones wait no more.
const NOTIFICATIONS: Walk = Walk {
    select: "SELECT seq, CAST(?2 AS BIGINT), received_at_ms,
                 state IN ('applied', 'discarded') AND seq < (SELECT max(seq) FROM notifications),
                 received_at_ms >= ?3
             FROM notifications WHERE seq > ?1 ORDER BY seq LIMIT ?4",
    delete: "DELETE FROM notifications WHERE seq = ?1 AND CAST(?2 AS BIGINT) IS NOT NULL",
};

/// A webhook that somebody has left begins at now when it comes back, and holds nothing.
const EVENTS: Walk = Walk {
    select: "SELECT seq, CAST(?2 AS BIGINT), at_ms, TRUE, at_ms >= ?3 OR seq > (
                 SELECT coalesce(min(seq), 9223372036854775807) FROM cursors WHERE left_at_ms IS NULL)
             FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?4",
    delete: "DELETE FROM events WHERE seq = ?1 AND CAST(?2 AS BIGINT) IS NOT NULL",
};

/// Usage that may yet be billed, or moved by a person, stays with its record. One that is said to have been used later than
/// it was received stays until that is long ago too.
const USAGE_EVENTS: Walk = Walk {
    select: "SELECT u.rowid, CAST(?2 AS BIGINT), u.at_ms, u.at_ms < ?3 AND u.rowid < (SELECT max(rowid) FROM usage_events)
                 AND (u.record_id IS NULL OR r.state = 'accepted' OR r.state = 'written_off'),
                 u.received_at_ms >= ?3
             FROM usage_events u LEFT JOIN metering_records r ON r.id = u.record_id
             WHERE u.rowid > ?1 ORDER BY u.rowid LIMIT ?4",
    delete: "DELETE FROM usage_events WHERE rowid = ?1 AND CAST(?2 AS BIGINT) IS NOT NULL",
};

/// Records are frozen about in the order in which they are made. What AWS may have billed though it was given up keeps its
/// attempts, which say why.
const ATTEMPTS: Walk = Walk {
    select: "SELECT a.record_id, a.attempt, a.at_ms, a.at_ms < ?3
                 AND (r.state = 'accepted' OR (r.state = 'written_off' AND r.uncertain = 0)),
                 r.frozen_at_ms >= ?3
             FROM metering_attempts a CROSS JOIN metering_records r ON r.id = a.record_id
             WHERE (a.record_id, a.attempt) > (?1, ?2) ORDER BY a.record_id, a.attempt LIMIT ?4",
    delete: "DELETE FROM metering_attempts WHERE record_id = ?1 AND attempt = ?2",
};

/// Nothing rests on what somebody did once.
const ACTIVITY: Walk = Walk {
    select:
        "SELECT seq, CAST(?2 AS BIGINT), at_ms, seq < (SELECT max(seq) FROM activity), at_ms >= ?3
             FROM activity WHERE seq > ?1 ORDER BY seq LIMIT ?4",
    delete: "DELETE FROM activity WHERE seq = ?1 AND CAST(?2 AS BIGINT) IS NOT NULL",
};

impl Walk {
    const fn of(history: History) -> &'static Self {
        match history {
            History::Notifications => &NOTIFICATIONS,
            History::Events => &EVENTS,
            History::UsageEvents => &USAGE_EVENTS,
            History::Attempts => &ATTEMPTS,
            History::Activity => &ACTIVITY,
        }
    }

    /// Returns the old rows of a piece, and where the next begins.
    fn rows_in(
        &self,
        connection: &Connection,
        after: PrunePlace,
        before: Timestamp,
    ) -> Result<(Vec<OldRow>, Option<PrunePlace>), StoreError> {
        let piece = i64::try_from(PIECE).unwrap_or(i64::MAX);
        let old = |row: &Row<'_>| {
            let is_young = row.get::<_, Option<bool>>(4)?.unwrap_or(true);
            let (place, at_ms) = ((row.get(0)?, row.get(1)?), row.get(2)?);
            Ok((!is_young).then_some(OldRow { place, at_ms, goes: row.get(3)? }))
        };
        let found: Vec<Option<OldRow>> = connection
            .prepare_cached(self.select)
            .and_then(|mut select| {
                select.query_map((after.0, after.1, millis(before), piece), old)?.collect()
            })
            .during("look for what is old")?;
        let is_full = found.len() == PIECE;
        let rows: Vec<OldRow> = found.into_iter().map_while(|row| row).collect();
        let next = rows.last().filter(|_| is_full && rows.len() == PIECE).map(|row| row.place);
        Ok((rows, next))
    }

    /// Deletes the rows that go, and notes them as pruned.
    fn delete_in(
        &self,
        connection: &Connection,
        history: History,
        rows: &[OldRow],
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let mut delete = connection.prepare_cached(self.delete).during("prune")?;
        let mut pruned: Option<Pruned> = None;
        for row in rows.iter().filter(|row| row.goes) {
            delete.execute(row.place).during("prune")?;
            let (rows, until) = pruned.map_or((0, Timestamp::MIN), |it| (it.rows, it.until));
            let until = until.max(timestamp(row.at_ms));
            pruned = Some(Pruned { rows: rows + 1, until, until_seq: row.place.0, at: now });
        }
        let Some(pruned) = pruned else { return Ok(0) };
        pruned.add_in(connection, history)?;
        Ok(usize::try_from(pruned.rows).unwrap_or(usize::MAX))
    }
}

impl Store {
    /// Lets go of what is older than a moment among the rows of one piece of a kind of history.
    pub async fn prune(
        &self,
        history: History,
        before: Timestamp,
        after: PrunePlace,
        now: Timestamp,
    ) -> Result<PrunedPiece, StoreError> {
        let walk = Walk::of(history);
        // Where nothing goes, the writer is not asked.
        let (rows, next) =
            self.read(move |connection| walk.rows_in(connection, after, before)).await?;
        if !rows.iter().any(|row| row.goes) {
            return Ok(PrunedPiece { rows: 0, next });
        }
        self.write(move |connection| {
            let (rows, next) = walk.rows_in(connection, after, before)?;
            Ok(PrunedPiece { rows: walk.delete_in(connection, history, &rows, now)?, next })
        })
        .await
    }
}
