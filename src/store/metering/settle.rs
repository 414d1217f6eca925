//! Settling: what AWS's answers make of the records that were sent.

use jiff::Timestamp;

use super::parking::{emit_record_event, park};
use super::record_rows::identity_row;
use super::send::Attempt;
use super::side_records::note_conflict_in;
use super::standstills::standstill_until;
use super::unknown_hours::{SENT_BY_LOST, unknown_hours_in};
use crate::domain::aws_limits::FINAL_HOUR;
use crate::domain::event::EventType;
use crate::domain::ledger::{
    Answer, ParkReason, Settlement, SettlementFacts, SubscriptionStanding, UnknownStretch,
    WireIdentity, retry_at, settle,
};
use crate::domain::{BuyerKey, BuyerRef, ProductCode, ProductId};
use crate::store::base::columns::{millis, optional_timestamp, quantity, timestamp};
use crate::store::buyers::due::{MarkCause, mark_buyer_in};
use crate::store::engine::sql::{self, Connection, OptionalExtension};
use crate::store::{During, Store, StoreError};

/// The outcome of a batch of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendOutcome {
    /// The number of records billed.
    pub accepted: usize,
    /// The number of records parked.
    pub parked: usize,
    /// The number of records to be sent again.
    pub waiting: usize,
}

impl Store {
    /// Writes AWS's answers beside the attempts that they belong to.
    pub async fn record_outcomes(
        &self,
        answers: Vec<(Attempt, Answer)>,
        now: Timestamp,
    ) -> Result<SendOutcome, StoreError> {
        let (settled, noticed) = self
            .write(move |connection| {
                let mut settled = SendOutcome::default();
                let mut noticed = Vec::new();
                for (attempt, answer) in &answers {
                    let conflict =
                        write_answer(connection, *attempt, answer.clone(), now, &mut settled)?;
                    if conflict {
                        noticed.extend(note_conflict_in(connection, attempt.record, now)?);
                    }
                }
                Ok::<_, StoreError>((settled, noticed))
            })
            .await?;
        for UnknownStretch { from, until, .. } in noticed {
            tracing::warn!(
                stretch.from = %from,
                stretch.until = %until,
                "AWS was told of hours by something that this ledger never sent, as where an older copy of the database \
                 was put back: late usage of these hours is parked"
            );
        }
        Ok(settled)
    }

    /// Notes that AWS refused the call that these attempts were: none was done, and no record is settled.
    pub async fn record_refused_call(
        &self,
        attempts: Vec<Attempt>,
        error: String,
    ) -> Result<(), StoreError> {
        self.write(move |connection| {
            for attempt in &attempts {
                write_attempt(connection, *attempt, "refused_call", Some(&error))?;
            }
            Ok(())
        })
        .await
    }
}

fn write_attempt(
    connection: &Connection,
    attempt: Attempt,
    outcome: &str,
    detail: Option<&str>,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE metering_attempts SET outcome = ?3, detail = ?4 WHERE record_id = ?1 AND attempt = ?2",
        )
        .and_then(|mut update| update.post((attempt.record, attempt.number, outcome, detail)))
        .during("write an attempt's outcome")?;
    Ok(())
}

/// The record that an answer is about.
struct SentRecord {
    product_id: ProductId,
    frozen_at: Option<Timestamp>,
    attempts: u32,
    deadline: Option<Timestamp>,
    facts: SettlementFacts,
    buyer: Option<BuyerKey>,
}

fn sent_record_in(
    connection: &Connection,
    attempt: Attempt,
    now: Timestamp,
) -> Result<Option<SentRecord>, StoreError> {
    connection
        .prepare_cached(
            "SELECT r.product_id, r.frozen_at_ms, r.attempts, r.deadline_ms, r.quantity, r.holder, r.product_code, r.customer_identifier, r.account_id,
                 r.license_arn, p.code,
                 (SELECT max(coalesce(s.ended_at_ms, 9223372036854775807)) FROM subscriptions s
                  WHERE s.product_id = r.product_id AND s.holder = r.holder) AS ended_at_ms,
                 EXISTS (SELECT 1 FROM subscriptions s
                  WHERE s.product_id = r.product_id AND s.holder = r.holder
                    AND s.status IN ('active', 'trialing')) AS live,
                 EXISTS (SELECT 1 FROM metering_attempts a
                  WHERE a.record_id = r.id AND a.outcome = 'unknown' AND a.attempt <> ?2) AS unanswered
             FROM metering_records r JOIN products p ON p.id = r.product_id
             WHERE r.id = ?1 AND r.state = 'sending'",
        )
        .and_then(|mut select| {
            let key = (attempt.record, attempt.number);
            select.query_row(key, |row| sent_record_row(row, now)).optional()
        })
        .during("read a record that was sent")
}

fn sent_record_row(row: &sql::Row<'_>, now: Timestamp) -> sql::Result<SentRecord> {
    let WireIdentity { customer_identifier, account_id, license_arn, .. } = identity_row(row)?;
    let buyer = customer_identifier
        .map(BuyerRef::CustomerIdentifier)
        .or_else(|| account_id.map(BuyerRef::Account))
        .or_else(|| license_arn.map(BuyerRef::License));
    let code = ProductCode::new(row.get::<_, String>("code")?);
    let ended: Option<i64> = row.get("ended_at_ms")?;
    let ended = ended.filter(|ended| *ended != i64::MAX).map(timestamp);
    let over = ended.is_some_and(|at| at.saturating_add(FINAL_HOUR).is_ok_and(|last| last <= now));
    let standing = match (row.get("live")?, over) {
        (true, _) => SubscriptionStanding::Live,
        (false, true) => SubscriptionStanding::Over,
        (false, false) => SubscriptionStanding::Leaving,
    };
    Ok(SentRecord {
        product_id: ProductId::new(row.get::<_, String>("product_id")?),
        frozen_at: optional_timestamp(row.get("frozen_at_ms")?),
        attempts: row.get("attempts")?,
        deadline: optional_timestamp(row.get("deadline_ms")?),
        facts: SettlementFacts {
            quantity: quantity(row.get("quantity")?),
            maybe_honoured: row.get("unanswered")?,
            standing,
        },
        buyer: buyer.map(|buyer| BuyerKey { product_code: code, buyer }),
    })
}

/// Reports whether a duplicate may be of what a ledger that was lost has sent for the hour, however often this one
/// tried: unless the record is that ledger's own.
fn may_be_anothers(connection: &Connection, record: i64) -> Result<bool, StoreError> {
    let Some(last) = unknown_hours_in(connection)?.through else { return Ok(false) };
    connection
        .prepare_cached(
            "SELECT 1 FROM metering_records r WHERE id = ?1 AND hour <= ?2
               AND NOT EXISTS (SELECT 1 FROM metering_attempts a
                   WHERE a.record_id = r.id AND a.outcome = 'unknown' AND a.detail = ?3)",
        )
        .and_then(|mut select| select.exists((record, last.number(), SENT_BY_LOST)))
        .during("see whose duplicate it is")
}

/// Writes what an answer makes of a record; reports whether AWS knows of its hour what the ledger never sent.
fn write_answer(
    connection: &Connection,
    attempt: Attempt,
    answer: Answer,
    now: Timestamp,
    settled: &mut SendOutcome,
) -> Result<bool, StoreError> {
    let record = attempt.record;
    let Some(subject) = sent_record_in(connection, attempt, now)? else {
        // Another attempt has settled the record meanwhile. What came of this one is known all the same.
        write_attempt(connection, attempt, answer.outcome(), None)?;
        return Ok(false);
    };
    let mut facts = subject.facts;
    if matches!(answer, Answer::Duplicate { .. }) && may_be_anothers(connection, record)? {
        facts.maybe_honoured = false;
    }
    let outcome = answer.outcome();
    let settlement = settle(answer, facts);
    match settlement {
        Settlement::Accepted { metering_record_id } => {
            settled.accepted += 1;
            write_attempt(connection, attempt, outcome, metering_record_id.as_deref())?;
            connection
                .prepare_cached(
                    "UPDATE OR FAIL metering_records SET state = 'accepted', metering_record_id = ?2, uncertain = 0,
                         last_error = NULL, settled_at_ms = ?3 WHERE id = ?1",
                )
                .and_then(|mut update| update.post((record, metering_record_id, millis(now))))
                .during("settle a record")?;
            emit_record_event(connection, EventType::MeteringAccepted, record, now)?;
            Ok(false)
        }
        Settlement::Retry { error, ask_about_buyer } => {
            settled.waiting += 1;
            write_attempt(connection, attempt, outcome, Some(&error))?;
            postpone(
                connection,
                record,
                &error,
                retry_at(subject.attempts, subject.deadline, now),
            )?;
            if let Some(buyer) = subject.buyer.filter(|_| ask_about_buyer) {
                mark_buyer_in(connection, &buyer, MarkCause::News, now)?;
            }
            Ok(false)
        }
        Settlement::StaysDue { error } => {
            settled.waiting += 1;
            give_attempt_back(connection, attempt)?;
            postpone(connection, record, &error, now)?;
            Ok(false)
        }
        Settlement::Parked { reason, error, ask_about_buyer } => {
            settled.parked += 1;
            write_attempt(connection, attempt, outcome, Some(&error))?;
            let error = with_what_kept(connection, &subject, reason, error)?;
            connection
                .prepare_cached("UPDATE metering_records SET last_error = ?2 WHERE id = ?1")
                .and_then(|mut update| update.execute((record, &error)))
                .during("settle a record")?;
            park(connection, record, reason, now)?;
            if let Some(buyer) = subject.buyer.filter(|_| ask_about_buyer) {
                // At once the first time, since access follows; then ever more seldom.
                let at = match subject.attempts {
                    0 | 1 => now,
                    attempts => retry_at(attempts, None, now),
                };
                mark_buyer_in(connection, &buyer, MarkCause::News, at)?;
            }
            Ok(reason == ParkReason::DuplicateConflict)
        }
    }
}

/// Returns the error of a record that came too late, with what kept it where nothing of its product's went through before.
fn with_what_kept(
    connection: &Connection,
    subject: &SentRecord,
    reason: ParkReason,
    error: String,
) -> Result<String, StoreError> {
    let times = subject.frozen_at.zip(subject.deadline);
    let Some((frozen_at, deadline)) = times.filter(|_| reason == ParkReason::OutOfWindow) else {
        return Ok(error);
    };
    let kept = standstill_until(connection, &subject.product_id, frozen_at, deadline)?;
    Ok(kept.map_or(error.clone(), |kept| format!("{kept}; then: {error}")))
}

fn postpone(
    connection: &Connection,
    record: i64,
    error: &str,
    at: Timestamp,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE metering_records SET last_error = ?2, next_attempt_at_ms = ?3 WHERE id = ?1",
        )
        .and_then(|mut update| update.post((record, error, millis(at))))
        .during("put a record off")?;
    Ok(())
}

/// Takes back an attempt of which nothing went out.
fn give_attempt_back(connection: &Connection, attempt: Attempt) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM metering_attempts WHERE record_id = ?1 AND attempt = ?2")
        .and_then(|mut delete| delete.execute((attempt.record, attempt.number)))
        .during("take an attempt back")?;
    connection
        .prepare_cached(
            "UPDATE metering_records SET attempts = attempts - 1,
                 state = CASE WHEN attempts = 1 THEN 'ready' ELSE 'sending' END WHERE id = ?1",
        )
        .and_then(|mut update| update.post([attempt.record]))
        .during("take an attempt back")?;
    Ok(())
}
