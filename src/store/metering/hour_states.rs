//! How each hour's usage stands, for a map of the hours.

use jiff::Timestamp;

use crate::domain::ClockHour;
use crate::domain::ledger::CARRIED_FORWARD;
use crate::store::base::columns::{millis, timestamp};
use crate::store::engine::sql::{self, Connection, OptionalExtension as _};
use crate::store::{During, Store, StoreError};

/// How the usage of an hour stands: the first of these of which it has any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HourState {
    /// Some is parked.
    Parked,
    /// Some is open, frozen or being sent.
    Pending,
    /// Some was given up.
    WrittenOff,
    /// Some went on to a later hour.
    CarriedForward,
    /// AWS has accepted all of it.
    Accepted,
}

impl HourState {
    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Parked => "parked",
            Self::Pending => "pending",
            Self::WrittenOff => "written_off",
            Self::CarriedForward => CARRIED_FORWARD,
            Self::Accepted => "accepted",
        }
    }
}

/// The most deadlines of frozen hours that are looked through: one an hour, and one for each subscription that ends.
const DEADLINES: usize = 2_000;

impl Store {
    /// Returns how each of these hours stands, one after the other; none where nothing was used. Costs some look-ups an hour,
    /// however many records there are.
    pub async fn hour_states(
        &self,
        first: ClockHour,
        hours: u32,
    ) -> Result<Vec<Option<HourState>>, StoreError> {
        self.read_at_length(move |connection| {
            let mut states = Vec::new();
            let mut hour = first;
            let frozen = frozen_hours(connection).during("look for hours that are frozen")?;
            for _ in 0..hours {
                let state = state_of(connection, hour).during("look at an hour")?;
                let state = if frozen.contains(&hour) {
                    state.map(|state| state.min(HourState::Pending))
                } else {
                    state
                };
                states.push(state);
                hour = hour.next();
            }
            Ok(states)
        })
        .await
    }
}

fn state_of(connection: &Connection, hour: ClockHour) -> sql::Result<Option<HourState>> {
    let rows = [
        ("SELECT 1 FROM metering_records WHERE state = 'parked' AND hour = ?1", HourState::Parked),
        ("SELECT 1 FROM metering_records WHERE state = 'open' AND hour = ?1", HourState::Pending),
        (
            "SELECT 1 FROM metering_records
             WHERE state = 'written_off' AND reason <> 'carried_forward' AND hour = ?1",
            HourState::WrittenOff,
        ),
        (
            "SELECT 1 FROM metering_records WHERE state = 'written_off' AND hour = ?1",
            HourState::CarriedForward,
        ),
        ("SELECT 1 FROM metering_records WHERE hour + 0 = ?1", HourState::Accepted),
    ];
    for (statement, state) in rows {
        if connection.prepare_cached(statement)?.exists([hour.number()])? {
            return Ok(Some(state));
        }
    }
    Ok(None)
}

/// Returns the hours with frozen records that are not settled: one record for each deadline tells.
fn frozen_hours(connection: &Connection) -> sql::Result<Vec<ClockHour>> {
    let mut next = connection.prepare_cached(
        "SELECT deadline_ms, hour FROM metering_records
         WHERE state IN ('ready', 'sending') AND deadline_ms > ?1 ORDER BY deadline_ms LIMIT 1",
    )?;
    let mut hours = Vec::new();
    let mut after = Timestamp::MIN;
    while hours.len() < DEADLINES {
        let found = next
            .query_row([millis(after)], |row| {
                Ok((timestamp(row.get(0)?), ClockHour::from_number(row.get(1)?)))
            })
            .optional()?;
        let Some((deadline, hour)) = found else { break };
        hours.push(hour);
        after = deadline;
    }
    Ok(hours)
}
