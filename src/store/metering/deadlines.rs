//! Deadlines of frozen records: they move with the end of a subscription, and nearing them is said aloud.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::billable::{frozen_for_final_hour, frozen_of_leavers};
use super::unknown_hours::unknown_hours_in;
use crate::domain::aws_limits::FINAL_HOUR;
use crate::domain::event::EventType;
use crate::domain::ledger::{Stage, Timing, deadline, record_deadline, stage};
use crate::domain::{ClockHour, ProductId, Quantity};
use crate::store::base::columns::{millis, quantity, timestamp};
use crate::store::base::outbox::append_event_in;
use crate::store::base::tally::Names;
use crate::store::engine::sql::{Connection, Params};
use crate::store::{During, Store, StoreError};

/// The usage of a product in one hour that is not billed yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct DueHour {
    /// The product.
    pub product_id: ProductId,
    /// The hour.
    pub hour: ClockHour,
    /// The time until which AWS takes it.
    pub deadline: Timestamp,
    /// Its records.
    pub records: i64,
    /// Their units.
    pub units: Quantity,
    /// The thing that it waits for, where that is not AWS: a `subscription`, the `identity` of its buyer, or `reports`
    /// that are sent again after a backup was put back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<&'static str>,
}

/// A warning: an hour has come close to its deadline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct DeadlineWarning {
    /// The stage of the way to the deadline, `half` or `four_fifths`.
    pub stage: &'static str,
    /// The usage at stake.
    #[serde(flatten)]
    pub due: DueHour,
    /// The seconds until the deadline.
    pub seconds_left: i64,
}

/// The hours that are due, and the warnings that are new.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deadlines {
    /// Hours that are over and not billed.
    pub due: Vec<DueHour>,
    /// Warnings that were not given before.
    pub warnings: Vec<DeadlineWarning>,
}

impl Store {
    /// Returns the hours that are over and not billed yet, the nearest deadline first.
    pub async fn due_hours(
        &self,
        timing: Timing,
        now: Timestamp,
    ) -> Result<Vec<DueHour>, StoreError> {
        self.read(move |connection| due_hours(connection, timing, now)).await
    }

    /// Looks at everything that is frozen or waits for a subscription, and warns once for each hour and stage.
    pub async fn watch_deadlines(
        &self,
        timing: Timing,
        now: Timestamp,
    ) -> Result<Deadlines, StoreError> {
        let due = self.due_hours(timing, now).await?;
        let reached: Vec<(Stage, DueHour)> = due
            .iter()
            .filter_map(|it| Some((stage(it.hour, timing.grace, it.deadline, now)?, it.clone())))
            .collect();
        if reached.is_empty() {
            return Ok(Deadlines { due, warnings: Vec::new() });
        }
        let warnings = self.write(move |connection| warn(connection, reached.clone(), now)).await?;
        Ok(Deadlines { due, warnings })
    }
}

fn due_hours(
    connection: &Connection,
    timing: Timing,
    now: Timestamp,
) -> Result<Vec<DueHour>, StoreError> {
    let mut due: Vec<DueHour> = sums_in(
        connection,
        "SELECT product_id, hour, deadline_ms, quantity FROM metering_records
         WHERE state IN ('ready', 'sending')",
        [],
    )?
    .map(|((hour, deadline), sum)| sum.due(hour, timestamp(deadline), None))
    .collect();
    let unknown = unknown_hours_in(connection)?;
    // What waits for a subscription, and what should have been frozen an hour ago and lacks a name for its buyer.
    let frozen = timing.last_frozen(now.saturating_sub(FINAL_HOUR).unwrap_or(Timestamp::MIN));
    let waiting = sums_in(
        connection,
        "SELECT product_id, hour, holder = '', quantity FROM metering_records
         WHERE state = 'open' AND hour < ?1 AND (holder = '' OR hour <= ?2)",
        [ClockHour::of(now).number(), frozen.number()],
    )?;
    due.extend(waiting.map(|((hour, unassigned), sum)| {
        let deadline = deadline(hour, timing.window);
        let waits_for = if unassigned == 1 {
            "subscription"
        } else if unknown.keeps_open(hour, deadline, now) {
            "reports"
        } else {
            "identity"
        };
        sum.due(hour, deadline, Some(waits_for))
    }));
    due.sort_by(|a, b| {
        let key = |it: &DueHour| (it.deadline, it.hour);
        key(a).cmp(&key(b)).then_with(|| a.product_id.cmp(&b.product_id))
    });
    Ok(due)
}

/// Records of a product that are due alike.
struct Sum {
    product: ProductId,
    records: i64,
    millionths: i64,
}

impl Sum {
    fn due(self, hour: ClockHour, deadline: Timestamp, waits_for: Option<&'static str>) -> DueHour {
        let (product_id, records) = (self.product, self.records);
        DueHour { product_id, hour, deadline, records, units: quantity(self.millionths), waits_for }
    }
}

/// Sums records by product, by hour, and by whatever else the statement's third column says.
fn sums_in(
    connection: &Connection,
    statement: &str,
    values: impl Params,
) -> Result<impl Iterator<Item = ((ClockHour, i64), Sum)>, StoreError> {
    let during = "sum what is due";
    let mut select = connection.prepare_cached(statement).during(during)?;
    let mut rows = select.query(values).during(during)?;
    let (mut names, mut sums) = (Names::default(), HashMap::<(usize, i64, i64), (i64, i64)>::new());
    while let Some(row) = rows.next().during(during)? {
        let place = row.get_ref(0).and_then(|name| Ok(names.place(name.as_str()?)));
        let number = |column| row.get::<_, i64>(column).during(during);
        let key = (place.during(during)?, number(1)?, number(2)?);
        let (records, units) = sums.entry(key).or_default();
        *records += 1;
        *units = units.saturating_add(number(3)?);
    }
    let names: Vec<ProductId> = names.into_vec().into_iter().map(ProductId::new).collect();
    Ok(sums.into_iter().filter_map(move |((place, hour, of), (records, millionths))| {
        let product = names.get(place)?.clone();
        Some(((ClockHour::from_number(hour), of), Sum { product, records, millionths }))
    }))
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
        append_event_in(connection, EventType::MeteringDeadlineNear, None, &warning, now)?;
        warnings.push(warning);
    }
    Ok(warnings)
}

/// Gives records of a subscription that is ending the deadline of its last hour, and takes it back where the
/// subscription turned out to live. A record that has that deadline keeps it while its subscription is ending: a
/// person may have given it another time since.
pub(crate) fn follow_endings(
    connection: &Connection,
    timing: Timing,
    now: Timestamp,
) -> Result<(), StoreError> {
    let leaving = frozen_of_leavers(connection, now)?;
    let came_back = frozen_for_final_hour(connection)?
        .into_iter()
        .filter(|billable| !billable.billed.subscription.tenure().is_leaving());
    for billable in leaving.into_iter().chain(came_back) {
        let tenure = billable.billed.subscription.tenure();
        let (deadline, final_hour_deadline) = record_deadline(billable.record.hour, tenure, timing);
        if final_hour_deadline == billable.final_hour_deadline {
            continue;
        }
        connection
            .prepare_cached(
                "UPDATE metering_records SET deadline_ms = ?2, hastened = ?3 WHERE id = ?1",
            )
            .and_then(|mut update| {
                update.post((billable.record.id, millis(deadline), final_hour_deadline))
            })
            .during("move a record's deadline")?;
    }
    Ok(())
}
