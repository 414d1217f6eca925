//! Closing hours: what is open and over, or cannot wait, is frozen, a chunk in one transaction.

use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;

use super::assigning::assign_waiting;
use super::bearing::{Borne, open_of_leavers, open_until};
use super::beside::park_beside_in;
use super::convert::millis;
use super::deadlines::follow_endings;
use super::freezing::freeze_all;
use super::zero::open_zero_records;
use super::{During, Store, StoreError};
use crate::domain::ledger::Timing;

/// Records frozen in one transaction: enough to be fast, few enough that nobody waits long for the writer.
const CHUNK: usize = 5_000;

/// When and how hours close.
#[derive(Clone, Debug)]
pub struct Closing {
    /// How long after its end an hour closes, as long as that leaves time to send it.
    pub grace: SignedDuration,
    /// How long an hour is worth sending.
    pub window: SignedDuration,
    /// Where usage is metered.
    pub region: String,
    /// Whether an hour without usage gets a record of zero.
    pub zero_usage: bool,
}

impl Closing {
    /// When hours freeze and until when they are worth sending.
    pub const fn timing(&self) -> Timing {
        Timing { grace: self.grace, window: self.window }
    }
}

/// What closing came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// Records frozen.
    pub frozen: usize,
    /// Records parked: nobody turned up who could bear them.
    pub parked: usize,
}

impl Store {
    /// Freezes every hour that is over, and of subscriptions that are ending the open hour too.
    pub async fn close_hours(
        &self,
        closing: Closing,
        now: Timestamp,
    ) -> Result<Closed, StoreError> {
        let first = closing.clone();
        let mut closed = self.write(move |connection| prepare(connection, &first, now)).await?;
        let mut place = Some((i64::MIN, i64::MIN));
        while let Some(after) = place {
            let closing = closing.clone();
            let (chunk, next) = self
                .write(move |connection| {
                    let last = closing.timing().last_frozen(now);
                    let found = open_until(connection, last, after, CHUNK)?;
                    let next = found.last().filter(|_| found.len() == CHUNK).map(Borne::place);
                    Ok::<_, StoreError>((freeze_all(connection, &closing, &found, now)?, next))
                })
                .await?;
            closed.frozen += chunk.frozen;
            closed.parked += chunk.parked;
            place = next;
        }
        if closed.parked > 0 {
            self.nudge_events();
        }
        Ok(closed)
    }
}

/// What changes which records there are to freeze, and the last hours, which cannot wait.
fn prepare(
    connection: &Connection,
    closing: &Closing,
    now: Timestamp,
) -> Result<Closed, StoreError> {
    let mut closed = Closed::default();
    assign_waiting(connection, closing, now, &mut closed)?;
    closed.parked += park_beside_in(connection, now)?;
    if closing.zero_usage {
        open_zero_records(connection, closing, now)?;
    }
    follow_endings(connection, closing.window, now)?;
    let last_hours = freeze_all(connection, closing, &open_of_leavers(connection, now)?, now)?;
    closed.frozen += last_hours.frozen;
    closed.parked += last_hours.parked;
    Ok(closed)
}

/// Parks a record. AWS may have billed it where an attempt's answer was lost, whatever it said to others.
pub(super) fn park(
    connection: &Connection,
    record: i64,
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE metering_records SET state = 'parked', reason = ?2, settled_at_ms = ?3,
                 uncertain = max(uncertain, EXISTS (SELECT 1 FROM metering_attempts
                     WHERE record_id = ?1 AND outcome = 'unknown'))
             WHERE id = ?1",
        )
        .and_then(|mut update| update.execute((record, reason, millis(now))))
        .during("park a record")?;
    super::sending::tell(connection, "metering.parked", record, now)
}
