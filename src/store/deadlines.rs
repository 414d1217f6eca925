//! Deadlines of frozen records: they move with the end of a subscription, and nearing them is said aloud.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, Row, named_params};
use serde::Serialize;

use super::closing::last_moment;
use super::convert::{millis, optional_timestamp, timestamp};
use super::events::append_event_in;
use super::usage::quantity;
use super::{During, Store, StoreError};
use crate::domain::ledger::{Stage, deadline, stage};
use crate::domain::reconciliation::FINAL_HOUR;
use crate::domain::{ClockHour, ProductId, Quantity};

/// What of a product's usage is not billed yet, hour by hour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DueHour {
    /// The product.
    pub product_id: ProductId,
    /// The hour.
    pub hour: ClockHour,
    /// Until when AWS takes it.
    pub deadline: Timestamp,
    /// Its records.
    pub records: i64,
    /// Their units.
    pub units: Quantity,
    /// Why it waits, where it is not for AWS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<&'static str>,
}

/// A warning: an hour has come close to its deadline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeadlineWarning {
    /// How close, `half` or `four_fifths` of the way.
    pub stage: &'static str,
    /// What is at stake.
    #[serde(flatten)]
    pub due: DueHour,
    /// How long it has.
    pub seconds_left: i64,
}

/// What is due, and what was said about it for the first time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deadlines {
    /// Hours that are over and not billed.
    pub due: Vec<DueHour>,
    /// Warnings that were not given before.
    pub warnings: Vec<DeadlineWarning>,
}

impl Store {
    /// Hours that are over and not billed yet, the nearest deadline first.
    pub async fn due_hours(
        &self,
        window: SignedDuration,
        now: Timestamp,
    ) -> Result<Vec<DueHour>, StoreError> {
        self.read(move |connection| due_hours(connection, window, now)).await
    }

    /// Looks at everything that is frozen or waits for a subscription, and warns once for each hour and stage.
    pub async fn watch_deadlines(
        &self,
        window: SignedDuration,
        now: Timestamp,
    ) -> Result<Deadlines, StoreError> {
        let due = self.due_hours(window, now).await?;
        let reached: Vec<(Stage, DueHour)> = due
            .iter()
            .filter_map(|it| Some((stage(it.hour, it.deadline, now)?, it.clone())))
            .collect();
        if reached.is_empty() {
            return Ok(Deadlines { due, warnings: Vec::new() });
        }
        let warnings = self.write(move |connection| warn(connection, reached, now)).await?;
        if !warnings.is_empty() {
            self.nudge_events();
        }
        Ok(Deadlines { due, warnings })
    }
}

fn due_hours(
    connection: &Connection,
    window: SignedDuration,
    now: Timestamp,
) -> Result<Vec<DueHour>, StoreError> {
    let mut due: Vec<DueHour> = connection
        .prepare_cached(
            "SELECT product_id, hour, deadline_ms, count(*), sum(quantity) FROM metering_records
             WHERE state IN ('ready', 'sending') GROUP BY product_id, hour, deadline_ms
             ORDER BY deadline_ms",
        )
        .and_then(|mut select| {
            select.query_map([], |row| due_row(row, optional_timestamp(row.get(2)?)))?.collect()
        })
        .during("sum what is due")?;
    // What waits for a subscription, and what should be frozen by now and lacks a name for its buyer.
    let waiting: Vec<DueHour> = connection
        .prepare_cached(
            "SELECT product_id, hour, holder = '', count(*), sum(quantity) FROM metering_records
             WHERE state = 'open' AND hour < ?1 - 2 * (holder <> '') GROUP BY product_id, hour, holder = ''",
        )
        .and_then(|mut select| {
            select
                .query_map([ClockHour::of(now).number()], |row| {
                    let hour = ClockHour::from_number(row.get(1)?);
                    let due = due_row(row, Some(deadline(hour, window)))?;
                    let unassigned: bool = row.get(2)?;
                    let waits_for = if unassigned { "subscription" } else { "identity" };
                    Ok(DueHour { waits_for: Some(waits_for), ..due })
                })?
                .collect()
        })
        .during("sum what waits")?;
    due.extend(waiting);
    due.sort_by_key(|due| due.deadline);
    Ok(due)
}

fn due_row(row: &Row<'_>, deadline: Option<Timestamp>) -> rusqlite::Result<DueHour> {
    Ok(DueHour {
        product_id: ProductId::new(row.get::<_, String>(0)?),
        hour: ClockHour::from_number(row.get(1)?),
        deadline: deadline.unwrap_or(Timestamp::MAX),
        records: row.get(3)?,
        units: quantity(row.get(4)?),
        waits_for: None,
    })
}

fn warn(
    connection: &Connection,
    reached: Vec<(Stage, DueHour)>,
    now: Timestamp,
) -> Result<Vec<DeadlineWarning>, StoreError> {
    // Long past, said and done.
    let forgotten = now.saturating_sub(FINAL_HOUR * 48).unwrap_or(Timestamp::MIN);
    connection
        .prepare_cached("DELETE FROM metering_warnings WHERE deadline_ms < ?1")
        .and_then(|mut delete| delete.execute([millis(forgotten)]))
        .during("forget old warnings")?;
    let mut warnings = Vec::new();
    for (stage, due) in reached {
        let said = connection
            .prepare_cached(
                "INSERT INTO metering_warnings (product_id, hour, deadline_ms, stage)
                 VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            )
            .and_then(|mut insert| {
                let key = (due.product_id.as_str(), due.hour.number());
                insert.execute((key.0, key.1, millis(due.deadline), stage.as_str()))
            })
            .during("note a warning")?;
        if said == 0 {
            continue;
        }
        let seconds_left = due.deadline.duration_since(now).as_secs();
        let warning = DeadlineWarning { stage: stage.as_str(), due, seconds_left };
        append_event_in(connection, "metering.deadline_near", None, &warning, now)?;
        warnings.push(warning);
    }
    Ok(warnings)
}

/// Gives records of a subscription that is ending the deadline of its last hour, and takes it back where the
/// subscription turned out to live.
pub(super) fn follow_endings(
    connection: &Connection,
    window: SignedDuration,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut deadlines: BTreeMap<i64, (Timestamp, bool)> = BTreeMap::new();
    for (record, hour, last) in ending_records(connection, now)? {
        if last < deadline(hour, window) {
            deadlines.insert(record, (last, true));
        }
    }
    let revived: Vec<(i64, ClockHour)> = connection
        .prepare_cached(
            "SELECT r.id, r.hour FROM metering_records r
             WHERE r.hastened = 1 AND r.state IN ('ready', 'sending') AND EXISTS (
                 SELECT 1 FROM subscriptions s WHERE s.product_id = r.product_id AND s.holder = r.holder
                   AND s.ended_at_ms IS NULL AND s.status IN ('active', 'trialing'))",
        )
        .and_then(|mut select| {
            select
                .query_map([], |row| Ok((row.get(0)?, ClockHour::from_number(row.get(1)?))))?
                .collect()
        })
        .during("find records of those who came back")?;
    for (record, hour) in revived {
        deadlines.insert(record, (deadline(hour, window), false));
    }
    for (record, (at, hastened)) in deadlines {
        connection
            .prepare_cached(
                "UPDATE metering_records SET deadline_ms = ?2, hastened = ?3 WHERE id = ?1",
            )
            .and_then(|mut update| update.execute((record, millis(at), hastened)))
            .during("move a record's deadline")?;
    }
    Ok(())
}

/// Frozen records of subscriptions that are ending or have just ended, none of which lives under their holder.
fn ending_records(
    connection: &Connection,
    now: Timestamp,
) -> Result<Vec<(i64, ClockHour, Timestamp)>, StoreError> {
    let rows: Vec<(i64, ClockHour, Option<Timestamp>)> = connection
        .prepare_cached(
            "SELECT r.id, r.hour, max(ifnull(s.ended_at_ms, -1)),
                 max(CASE WHEN s.status = 'ending' AND s.dimension IS NULL THEN s.ends_at_ms END)
             FROM (
                 SELECT product_id, holder FROM subscriptions WHERE status = 'ending'
                 UNION SELECT product_id, holder FROM subscriptions WHERE ended_at_ms > :since
             ) ending
             CROSS JOIN subscriptions s ON s.product_id = ending.product_id AND s.holder = ending.holder
             CROSS JOIN dimensions d ON d.product_id = s.product_id AND d.metered = 1
             CROSS JOIN metering_records r ON r.holder = s.holder AND r.holder <> '' AND r.product_id = s.product_id
                 AND r.dimension = d.key AND r.hour BETWEEN :oldest AND :hour
             WHERE r.state IN ('ready', 'sending') AND r.hastened = 0
             GROUP BY r.id HAVING max(s.ended_at_ms IS NULL AND s.status IN ('active', 'trialing')) = 0",
        )
        .and_then(|mut select| {
            let hour = ClockHour::of(now).number();
            let since = now.saturating_sub(FINAL_HOUR * 2).unwrap_or(Timestamp::MIN);
            let values = named_params! {
                ":since": millis(since), ":oldest": hour - 30, ":hour": hour,
            };
            select
                .query_map(values, |row| {
                    let ended: i64 = row.get(2)?;
                    let announced: Option<i64> = row.get(3)?;
                    let ended = (ended >= 0).then(|| timestamp(ended));
                    let hour = ClockHour::from_number(row.get(1)?);
                    Ok((row.get(0)?, hour, last_moment(ended, announced.map(timestamp))))
                })?
                .collect()
        })
        .during("find records of those who leave")?;
    Ok(rows.into_iter().filter_map(|(id, hour, last)| Some((id, hour, last?))).collect())
}
