//! Taking reports: what they need is read ahead, then each event is taken.
//!
//! Reports that wait for the same transaction are taken as one, so that they cost as many statements as one, and each is
//! told of its own events alone.

use std::sync::Arc;

use jiff::Timestamp;

use super::ahead::ask_about;
use super::ingest::UsageReport;
use super::remembered::Remembered;
use crate::domain::ClockHour;
use crate::domain::ledger::AgeLimits;
use crate::domain::usage::{UsageEvent, UsageReceipt};
use crate::store::engine::sql::Connection;
use crate::store::{Store, StoreError};

/// The most events that are taken at once, unless one report has more.
const EVENTS_AT_ONCE: usize = 10_000;

/// A report as it came.
struct Reported {
    events: Vec<UsageEvent>,
    limits: AgeLimits,
    now: Timestamp,
}

impl Reported {
    /// Reports whether another can be taken at once with this one. Each is judged by its own time; what usage is attributed
    /// to is found for all of an hour at once.
    fn goes_with(&self, other: &Self) -> bool {
        self.limits == other.limits && ClockHour::of(self.now) == ClockHour::of(other.now)
    }
}

impl Store {
    /// Takes a report: each event once, whole or not at all. `Ok` means that it is on disk.
    pub async fn append_usage(
        &self,
        events: Vec<UsageEvent>,
        limits: AgeLimits,
        now: Timestamp,
    ) -> Result<UsageReceipt, StoreError> {
        let remembered = Arc::clone(&self.remembered);
        self.write_joined(Reported { events, limits, now }, move |connection, reports| {
            let mut receipts = Vec::with_capacity(reports.len());
            let mut rest = reports;
            while let Some(first) = rest.first() {
                let (together, others) = rest.split_at(count_at_once(first, rest));
                receipts.extend(take(connection, &remembered, together)?);
                rest = others;
            }
            Ok(receipts)
        })
        .await
    }
}

/// Returns the number of reports in front that are taken at once.
fn count_at_once(first: &Reported, reports: &[&Reported]) -> usize {
    let mut events = 0;
    let fits = |report: &&&Reported| {
        events += report.events.len();
        events <= EVENTS_AT_ONCE && first.goes_with(report)
    };
    reports.iter().take_while(fits).count().max(1)
}

/// Takes reports at once; returns a receipt for each.
fn take(
    connection: &Connection,
    remembered: &Remembered,
    reports: &[&Reported],
) -> Result<Vec<UsageReceipt>, StoreError> {
    let Some(last) = reports.iter().max_by_key(|report| report.now) else {
        return Ok(Vec::new());
    };
    let events = reports.iter().flat_map(|report| &report.events);
    ask_about(connection, remembered, events, last.now)?;
    let mut taken = UsageReport::new(connection, remembered, last.limits, last.now)?;
    taken.look_ahead(reports.iter().map(|report| (report.now, &*report.events)))?;
    let receipts = reports.iter().map(|report| taken.take(&report.events, report.now));
    let receipts = receipts.collect::<Result<_, _>>()?;
    taken.finish()?;
    Ok(receipts)
}
