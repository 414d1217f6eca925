//! Resolving a parked record by a person's decision.

use jiff::Timestamp;

use super::decisions::{Decision, Resolution, note_decision_in};
use super::open_records::{carry_into, tagged_in};
use super::record_rows::{RecordRow, record_in};
use super::records::{hour_left_in, later_record_in};
use super::roll_forward::{mark_moved, move_usage};
use super::slots::{MeteringTarget, OtherIdentityRecord, RecordKey, records_under_other_identity};
use crate::domain::allocation::Allocation;
use crate::domain::ledger::{AWS_WINDOW, Candidate, Tenure, deadline, is_out_of_time};
use crate::domain::{ClockHour, Holder, Source};
use crate::store::base::aliases::canonical_in;
use crate::store::base::columns::millis;
use crate::store::engine::sql::Connection;
use crate::store::subscriptions::holdings::holdings_in;
use crate::store::{During, Store, StoreError};

/// The reason why a record could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// There is no such record.
    #[error("there is no metering record {0}")]
    Unknown(String),
    /// The record is not parked: nobody has to decide on it.
    #[error("metering record {id} is {state}; only parked ones are for a person to decide")]
    NotParked {
        /// The record.
        id: String,
        /// Its state.
        state: String,
    },
    /// AWS may have billed it, so its units may not go anywhere else.
    #[error(
        "AWS may have honoured metering record {0} although its answer was lost: retry it, or write it off"
    )]
    MaybeHonoured(String),
    /// It was never frozen, so there is nothing to send.
    #[error(
        "metering record {0} was never ready to be sent: carry it forward to an hour that can be, or write it off"
    )]
    NeverFrozen(String),
    /// The customer's hour is on its way, or billed, in the other form.
    #[error(
        "the hour of metering record {0} is metered in the other form: carry it forward, or write it off"
    )]
    OtherForm(String),
    /// AWS takes the hour no more. (AWS Marketplace Metering Service API reference, `BatchMeterUsage`.)
    #[error(
        "AWS takes the hour of metering record {id} no more since {since}, and refuses the whole call with it: carry it forward, or write it off"
    )]
    OutOfTime {
        /// The record.
        id: String,
        /// The time from which on AWS refuses it.
        since: Timestamp,
    },
    /// AWS takes no more usage of its subscription.
    #[error(
        "the subscription of metering record {id} ended at {at}, and AWS takes no more usage of it: {}",
        in_its_place(.others)
    )]
    SubscriptionEnded {
        /// The record.
        id: String,
        /// The time at which it ended.
        at: Timestamp,
        /// The customer's holders that would take it.
        others: Vec<Holder>,
    },
    /// It is frozen with the names of a subscription of which AWS takes no more usage.
    #[error(
        "metering record {id} names a subscription that ended at {at}, and AWS takes no more usage of it: carry it forward, if the subscription went on as another, or write it off"
    )]
    NamesEnded {
        /// The record.
        id: String,
        /// The time at which it ended.
        at: Timestamp,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Returns what to do with usage that its own subscription takes no more.
fn in_its_place(others: &[Holder]) -> String {
    if others.is_empty() {
        return "write it off; the customer holds nothing else of the product".into();
    }
    let names: Vec<String> = others.iter().map(ToString::to_string).collect();
    format!("report it anew for what would take it ({}), and write it off", names.join(", "))
}

impl Store {
    /// Returns why a parked record cannot bear a decision; none if it can.
    pub async fn refusal_of(
        &self,
        id: String,
        resolution: Resolution,
        now: Timestamp,
    ) -> Result<Option<ResolveError>, StoreError> {
        self.read(move |connection| {
            let unknown = || ResolveError::Unknown(id.clone());
            let Ok(number) = id.parse() else { return Ok(Some(unknown())) };
            let Some(record) = record_in(connection, number)? else { return Ok(Some(unknown())) };
            match step_in(connection, number, &record, resolution, now) {
                Ok(_) => Ok(None),
                Err(ResolveError::Store(error)) => Err(error),
                Err(refusal) => Ok(Some(refusal)),
            }
        })
        .await
    }

    /// Carries out a person's decision about a parked record.
    pub async fn resolve_record(
        &self,
        id: String,
        resolution: Resolution,
        note: String,
        now: Timestamp,
    ) -> Result<RecordRow, ResolveError> {
        let decision = Decision::by_current_actor(resolution, note, now);
        let said = decision.clone();
        let resolved = self.write(move |connection| {
            let unknown = || ResolveError::Unknown(id.clone());
            let number: i64 = id.parse().map_err(|_| unknown())?;
            decision.say([number]);
            let record = record_in(connection, number)?.ok_or_else(unknown)?;
            let step = step_in(connection, number, &record, decision.resolution, now)?;
            Ok::<_, ResolveError>(carry_out_in(connection, number, &record, step, &decision)?)
        });
        let record = resolved.await?;
        tracing::info!(
            actor = said.actor,
            action = said.resolution.as_str(),
            record = record.id,
            "a parked record was resolved"
        );
        Ok(record)
    }
}

/// What becomes of a record by a decision that it can bear.
#[derive(Debug)]
pub(super) enum Step {
    /// It is sent again as it is.
    Retry,
    /// A later hour of this holder bears its units.
    CarryTo(Holder),
    /// Its usage waits for a subscription anew.
    ReportAnew,
    /// It is given up.
    WriteOff,
}

/// Checks whether a record can bear a decision, and changes nothing.
pub(super) fn step_in(
    connection: &Connection,
    number: i64,
    record: &RecordRow,
    resolution: Resolution,
    now: Timestamp,
) -> Result<Step, ResolveError> {
    let id = || record.id.clone();
    if record.state != "parked" {
        return Err(ResolveError::NotParked { id: id(), state: record.state.clone() });
    }
    let (holder, unanswered): (String, bool) = connection
        .prepare_cached(
            "SELECT holder, uncertain = 1 OR EXISTS (SELECT 1 FROM metering_attempts
                 WHERE record_id = ?1 AND outcome = 'unknown') FROM metering_records WHERE id = ?1",
        )
        .and_then(|mut select| select.query_row([number], |row| Ok((row.get(0)?, row.get(1)?))))
        .during("read a parked record")?;
    match resolution {
        Resolution::Retry if record.frozen_at.is_none() => Err(ResolveError::NeverFrozen(id())),
        Resolution::Retry if is_metered_otherwise(connection, record, &holder)? => {
            Err(ResolveError::OtherForm(id()))
        }
        Resolution::Retry => {
            refuse_late(record, now)?;
            // Where an answer was lost, AWS's next one tells whether it has billed the record.
            if let Some(holder) = Holder::parse(&holder).filter(|_| !unanswered) {
                refuse_over(connection, record, &holder, now)?;
            }
            Ok(Step::Retry)
        }
        Resolution::CarryForward if unanswered => Err(ResolveError::MaybeHonoured(id())),
        Resolution::CarryForward => match Holder::parse(&holder) {
            Some(holder) => {
                refuse_ended(connection, record, &holder, now)?;
                Ok(Step::CarryTo(holder))
            }
            None => Ok(Step::ReportAnew),
        },
        Resolution::WriteOff => Ok(Step::WriteOff),
    }
}

/// Carries out a decision, keeps it with its note, and returns the record as it stands then.
pub(super) fn carry_out_in(
    connection: &Connection,
    number: i64,
    record: &RecordRow,
    step: Step,
    decision: &Decision,
) -> Result<RecordRow, StoreError> {
    let (note, now) = (decision.note.as_str(), decision.at);
    let update = |statement: &str| {
        connection
            .prepare_cached(statement)
            .and_then(|mut update| update.execute((number, note, millis(now))))
            .during("resolve a record")
    };
    match step {
        Step::Retry => {
            update(
                "UPDATE metering_records SET state = 'ready', reason = 'retried', note = ?2,
                     next_attempt_at_ms = ?3, deadline_ms = CAST(?3 AS BIGINT) + 3600000 WHERE id = ?1",
            )?;
        }
        Step::CarryTo(holder) => carry_forward_in(connection, number, record, holder, note, now)?,
        Step::ReportAnew => report_anew_in(connection, number, record, note, now)?,
        Step::WriteOff => {
            update(
                "UPDATE metering_records SET state = 'written_off', note = ?2, settled_at_ms = ?3 WHERE id = ?1",
            )?;
        }
    }
    note_decision_in(connection, number, decision)
}

fn is_metered_otherwise(
    connection: &Connection,
    record: &RecordRow,
    holder: &str,
) -> Result<bool, StoreError> {
    let key = key_of(connection, record, Holder::parse(holder), record.hour)?;
    let others = records_under_other_identity(connection, &key, record.hour)?;
    Ok(others.iter().any(OtherIdentityRecord::is_sent))
}

/// Refuses to send a record again whose hour AWS takes no more.
fn refuse_late(record: &RecordRow, now: Timestamp) -> Result<(), ResolveError> {
    if !is_out_of_time(record.hour, AWS_WINDOW, now) {
        return Ok(());
    }
    let since = deadline(record.hour, AWS_WINDOW);
    Err(ResolveError::OutOfTime { id: record.id.clone(), since })
}

/// Refuses to send a record again whose subscriptions are over: what is frozen names one of them.
fn refuse_over(
    connection: &Connection,
    record: &RecordRow,
    holder: &Holder,
    now: Timestamp,
) -> Result<(), ResolveError> {
    let key = key_of(connection, record, Some(holder.clone()), record.hour)?;
    let holdings = holdings_in(connection, &key.customer)?;
    let its = holdings.of(&record.product_id).filter(|it| it.holder.as_ref() == Some(holder));
    let tenures: Vec<Tenure> = its.map(|it| it.tenure).collect();
    if tenures.iter().any(|it| it.is_taken_at(now)) {
        return Ok(());
    }
    // What we do not know to have ended AWS decides on.
    let ended_at = tenures.iter().filter_map(|it| it.end()).max();
    let Some(at) = ended_at else { return Ok(()) };
    Err(ResolveError::NamesEnded { id: record.id.clone(), at })
}

/// Refuses to carry a record to a subscription that has ended, unless it went on as one that has not: what is carried to
/// it goes there.
fn refuse_ended(
    connection: &Connection,
    record: &RecordRow,
    holder: &Holder,
    now: Timestamp,
) -> Result<(), ResolveError> {
    let key = key_of(connection, record, Some(holder.clone()), ClockHour::of(now))?;
    let holdings = holdings_in(connection, &key.customer)?;
    let held: Vec<&Candidate> = holdings.of(&record.product_id).collect();
    let takes = |one: &Candidate| -> Result<bool, StoreError> {
        let target = MeteringTarget { holder: one.holder.clone(), ..key.target.clone() };
        let key = RecordKey { target, ..key.clone() };
        Ok(one.tenure.is_taken_at(now) && hour_left_in(connection, &key, one.tenure)?.is_some())
    };
    let mut bearer = holder;
    let mut ended_at = None;
    // No chain of renewals has more links than there are subscriptions.
    for _ in 0..=held.len() {
        let its: Vec<&Candidate> =
            held.iter().copied().filter(|it| it.holder.as_ref() == Some(bearer)).collect();
        for one in &its {
            if takes(one)? {
                return Ok(());
            }
        }
        ended_at = ended_at.or(its.iter().filter_map(|it| it.tenure.end()).max());
        match its.iter().find_map(|it| it.renewed_by.as_ref()) {
            Some(next) => bearer = next,
            None => break,
        }
    }
    // What we do not know to have ended AWS decides on.
    let Some(at) = ended_at else { return Ok(()) };
    let mut others = Vec::new();
    for one in held.into_iter().filter(|it| it.source == Source::Aws) {
        if takes(one)? {
            others.extend(one.holder.clone());
        }
    }
    Err(ResolveError::SubscriptionEnded { id: record.id.clone(), at, others })
}

/// Makes the key of a record's usage in some hour. A record that was settled before two customers became one has the id
/// of then.
fn key_of(
    connection: &Connection,
    record: &RecordRow,
    holder: Option<Holder>,
    hour: ClockHour,
) -> Result<RecordKey, StoreError> {
    let customer = canonical_in(connection, &record.customer_id)?;
    let target = MeteringTarget {
        product_id: record.product_id.clone(),
        dimension: record.dimension.clone(),
        holder,
    };
    Ok(RecordKey { target, customer: customer.unwrap_or_else(|| record.customer_id.clone()), hour })
}

/// Lets usage of a record wait for a subscription anew, in the open hour: no plan has rated it yet, and the one
/// that turns up says what it includes. So its events go with it.
fn report_anew_in(
    connection: &Connection,
    number: i64,
    record: &RecordRow,
    note: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let key = key_of(connection, record, None, ClockHour::of(now))?;
    let later = later_record_in(connection, &key)?;
    mark_moved(connection, number, "carried_forward")?;
    move_usage(connection, number, later.id)?;
    write_off_carried(connection, number, note, now)
}

/// Lets a later hour bear a record's units, as they were rated. Only for what AWS cannot have honoured.
pub(crate) fn carry_forward_in(
    connection: &Connection,
    number: i64,
    record: &RecordRow,
    holder: Holder,
    note: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let key = key_of(connection, record, Some(holder), ClockHour::of(now))?;
    let later = later_record_in(connection, &key)?;
    // What was never frozen was never dealt to its tags.
    let parts = match record.frozen_at {
        Some(_) => record.allocations.clone(),
        None => tagged_in(connection, number)?,
    };
    let tagged: Vec<Allocation> = parts.into_iter().filter(|it| !it.tags.is_empty()).collect();
    carry_into(connection, later.id, record.quantity.millionths(), &tagged)?;
    write_off_carried(connection, number, note, now)
}

fn write_off_carried(
    connection: &Connection,
    number: i64,
    note: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE metering_records SET state = 'written_off', reason = 'carried_forward', note = ?2,
                 carried_out = quantity, settled_at_ms = ?3 WHERE id = ?1",
        )
        .and_then(|mut update| update.post((number, note, millis(now))))
        .during("carry a record forward")?;
    Ok(())
}
