//! Closing hours: what is open and over, or cannot wait, is frozen, a chunk in one transaction.

use jiff::Timestamp;

use super::assign::assign_waiting;
use super::billable::{BEGINNING, open_of_leavers, open_until};
use super::deadlines::follow_endings;
use super::freeze::freeze_all;
use super::policy::{ClosedCounts, ClosingPolicy};
use super::side_records::park_beside_in;
use super::zero_usage::open_zero_records;
use crate::store::engine::sql::Connection;
use crate::store::{Store, StoreError};

/// Records without a bearer that are judged in one transaction: each asks for more than freezing one does.
const WAITING: usize = 500;
/// Records frozen in one transaction: enough to be fast, few enough that nobody waits long for the writer.
const CHUNK: usize = 5_000;

impl Store {
    /// Freezes every hour that is over, and of subscriptions that are ending the open hour too.
    pub async fn close_hours(
        &self,
        policy: ClosingPolicy,
        now: Timestamp,
    ) -> Result<ClosedCounts, StoreError> {
        let mut closed = ClosedCounts::default();
        let mut place = Some(BEGINNING);
        while let Some(after) = place {
            let policy = policy.clone();
            let (chunk, next) = self
                .write(move |connection| assign_waiting(connection, &policy, after, WAITING, now))
                .await?;
            closed.parked += chunk.parked;
            place = next;
        }
        let first = policy.clone();
        let prepared = self.write(move |connection| prepare(connection, &first, now)).await?;
        closed.frozen += prepared.frozen;
        closed.parked += prepared.parked;
        let mut place = Some(BEGINNING);
        while let Some(after) = place {
            let policy = policy.clone();
            let (chunk, next) = self
                .write(move |connection| {
                    let last = policy.timing().last_frozen(now);
                    let (found, next) = open_until(connection, last, after, CHUNK)?;
                    Ok::<_, StoreError>((freeze_all(connection, &policy, &found, now)?, next))
                })
                .await?;
            closed.frozen += chunk.frozen;
            closed.parked += chunk.parked;
            place = next;
        }
        Ok(closed)
    }
}

/// Makes the changes that decide which records there are to freeze, and freezes last hours, which cannot wait.
fn prepare(
    connection: &Connection,
    policy: &ClosingPolicy,
    now: Timestamp,
) -> Result<ClosedCounts, StoreError> {
    let mut closed = ClosedCounts::default();
    closed.parked += park_beside_in(connection, now)?;
    if policy.zero_usage {
        open_zero_records(connection, policy, now)?;
    }
    follow_endings(connection, policy.timing(), now)?;
    let last_hours = freeze_all(connection, policy, &open_of_leavers(connection, now)?, now)?;
    closed.frozen += last_hours.frozen;
    closed.parked += last_hours.parked;
    Ok(closed)
}
