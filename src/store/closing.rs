//! Closing hours: what is open and over becomes a frozen record, a chunk of them in one transaction.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension, named_params};

use super::assigning::assign_waiting;
use super::convert::{millis, optional_timestamp, timestamp};
use super::deadlines::follow_endings;
use super::records::{
    OpenRecord, Slot, carry_into, open_record_in, open_record_row, slot_in, tagged_in,
};
use super::usage::quantity;
use super::zero::open_zero_records;
use super::{During, Store, StoreError};
use crate::domain::allocation::{Apportioned, apportion};
use crate::domain::ledger::{
    IdentityGap, MeteredBuyer, Split, WireIdentity, deadline, is_over, split, wire_identity,
};
use crate::domain::reconciliation::FINAL_HOUR;
use crate::domain::{AccountId, ClockHour, CustomerIdentifier, LicenseArn, ProductCode, Quantity};

/// Records frozen in one transaction: enough to be fast, few enough that nobody waits long for the writer.
const CHUNK: usize = 5_000;

/// When and how hours close.
#[derive(Clone, Debug)]
pub struct Closing {
    /// How long after its end an hour closes.
    pub grace: SignedDuration,
    /// How long an hour is worth sending.
    pub window: SignedDuration,
    /// Where usage is metered.
    pub region: String,
    /// Whether an hour without usage gets a record of zero.
    pub zero_usage: bool,
}

/// What closing came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// Records frozen.
    pub frozen: usize,
    /// Records parked: nobody turned up who could bear them.
    pub parked: usize,
}

/// A record to freeze, and the subscription that bears it.
#[derive(Clone, Debug)]
struct Candidate {
    record: OpenRecord,
    product_code: ProductCode,
    account_id: Option<AccountId>,
    license_arn: Option<LicenseArn>,
    licensed_from: Option<ClockHour>,
    leaving: bool,
    ended_at: Option<Timestamp>,
    last_moment: Option<Timestamp>,
}

/// A record `r` with what bears it. Of several subscriptions under one holder, one that lives decides; a legacy
/// buyer's may have become a licence, which is known by a subscription of its own.
macro_rules! borne {
    ($which:literal) => {
        concat!(
            "SELECT r.*, p.code, p.licensed_from_hour, ifnull(s.account_id, l.account_id) AS bearer_account,
                 ifnull(s.license_arn, l.license_arn) AS bearer_license,
                 s.status = 'ending' OR s.ended_at_ms IS NOT NULL AS leaving, s.ended_at_ms,
                 CASE WHEN s.status = 'ending' AND s.dimension IS NULL THEN s.ends_at_ms END AS announced_ms
             FROM metering_records r
             CROSS JOIN products p ON p.id = r.product_id
             CROSS JOIN subscriptions s ON s.rowid = (
                 -- The least is one that is active, then one that is ending, then the one that ended last. SQLite
                 -- takes the row of the minimum, without the temporary table that an ORDER BY would make each time.
                 SELECT deciding FROM (
                     SELECT b.rowid AS deciding,
                         min(ifnull(-b.ended_at_ms, (b.status = 'ending') - 9000000000000000000))
                     FROM subscriptions b
                     WHERE b.product_id = r.product_id AND b.holder = r.holder AND b.status <> 'failed'))
             LEFT JOIN subscriptions l ON s.license_arn IS NULL AND l.rowid = (
                 SELECT b.rowid FROM subscriptions b
                 WHERE b.customer_id = s.customer_id AND b.product_id = s.product_id
                   AND b.license_arn IS NOT NULL AND b.ended_at_ms IS NULL LIMIT 1) ",
            $which
        )
    };
}

fn candidate_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Candidate> {
    let ended_at = optional_timestamp(row.get("ended_at_ms")?);
    let announced: Option<i64> = row.get("announced_ms")?;
    let licensed_from: Option<i64> = row.get("licensed_from_hour")?;
    Ok(Candidate {
        record: open_record_row(row)?,
        product_code: ProductCode::new(row.get::<_, String>("code")?),
        account_id: row.get::<_, Option<String>>("bearer_account")?.map(AccountId::new),
        license_arn: row.get::<_, Option<String>>("bearer_license")?.map(LicenseArn::new),
        licensed_from: licensed_from.map(ClockHour::from_number),
        leaving: row.get("leaving")?,
        ended_at,
        last_moment: last_moment(ended_at, announced.map(timestamp)),
    })
}

/// How far a chunk has come: the last record looked at.
type Place = (i64, i64);

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
                    let found = over(connection, &closing, after, now)?;
                    let last = found.last().map(|it| (it.record.hour.number(), it.record.id));
                    let next = last.filter(|_| found.len() == CHUNK);
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
    if closing.zero_usage {
        open_zero_records(connection, closing, now)?;
    }
    follow_endings(connection, closing.window, now)?;
    let leaving = leaving(connection, now)?;
    let last_hours = freeze_all(connection, closing, &leaving, now)?;
    closed.frozen += last_hours.frozen;
    closed.parked += last_hours.parked;
    Ok(closed)
}

/// The last hour that is over for everybody.
pub(super) fn last_over(closing: &Closing, now: Timestamp) -> ClockHour {
    let before = now.saturating_sub(closing.grace).unwrap_or(Timestamp::MIN);
    ClockHour::from_number(ClockHour::of(before).number() - 1)
}

fn over(
    connection: &Connection,
    closing: &Closing,
    after: Place,
    now: Timestamp,
) -> Result<Vec<Candidate>, StoreError> {
    connection
        .prepare_cached(borne!(
            "WHERE r.state = 'open' AND r.hour <= ?1 AND (r.hour, r.id) > (?2, ?3) AND r.holder <> ''
             ORDER BY r.hour, r.id LIMIT ?4"
        ))
        .and_then(|mut select| {
            let last = last_over(closing, now).number();
            let rows = i64::try_from(CHUNK).unwrap_or(i64::MAX);
            select.query_map((last, after.0, after.1, rows), candidate_row)?.collect()
        })
        .during("find hours that are over")
}

/// The open hours of subscriptions that are ending, or have just ended.
fn leaving(connection: &Connection, now: Timestamp) -> Result<Vec<Candidate>, StoreError> {
    connection
        .prepare_cached(borne!(
            "WHERE r.id IN (
                 SELECT o.id FROM (
                     SELECT product_id, holder FROM subscriptions WHERE status = 'ending'
                     UNION SELECT product_id, holder FROM subscriptions WHERE ended_at_ms > ?1
                 ) e
                 CROSS JOIN dimensions d ON d.product_id = e.product_id AND d.metered = 1
                 CROSS JOIN metering_records o ON o.holder = e.holder AND o.holder <> ''
                     AND o.product_id = e.product_id AND o.dimension = d.key AND o.hour BETWEEN ?2 AND ?3
                 WHERE o.state = 'open')
             ORDER BY r.hour, r.id"
        ))
        .and_then(|mut select| {
            let hour = ClockHour::of(now).number();
            let since = now.saturating_sub(FINAL_HOUR * 2).unwrap_or(Timestamp::MIN);
            select.query_map((millis(since), hour - 2, hour), candidate_row)?.collect()
        })
        .during("find the last hours of those who leave")
}

pub(super) fn park(
    connection: &Connection,
    record: i64,
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE metering_records SET state = 'parked', reason = ?2, settled_at_ms = ?3 WHERE id = ?1",
        )
        .and_then(|mut update| update.execute((record, reason, millis(now))))
        .during("park a record")?;
    super::sending::tell(connection, "metering.parked", record, now)
}

fn freeze_all(
    connection: &Connection,
    closing: &Closing,
    found: &[Candidate],
    now: Timestamp,
) -> Result<Closed, StoreError> {
    let mut freezer =
        Freezer { connection, closing, now, touched: HashSet::new(), closed: Closed::default() };
    for candidate in found {
        freezer.freeze(candidate)?;
    }
    Ok(freezer.closed)
}

/// Freezes a chunk of records.
struct Freezer<'a> {
    connection: &'a Connection,
    closing: &'a Closing,
    now: Timestamp,
    /// Records that were carried into or moved since they were listed, in this very transaction.
    touched: HashSet<i64>,
    closed: Closed,
}

impl Freezer<'_> {
    fn freeze(&mut self, bearing: &Candidate) -> Result<(), StoreError> {
        let record = &bearing.record;
        let Some(holder) = &record.holder else { return Ok(()) };
        if !bearing.leaving && !is_over(record.hour, self.now, self.closing.grace) {
            return Ok(());
        }
        let Some(held) = self.held(record)? else { return Ok(()) };
        let buyer = MeteredBuyer {
            holder,
            product_code: &bearing.product_code,
            account_id: bearing.account_id.as_ref(),
            license_arn: bearing.license_arn.as_ref(),
        };
        let identity = match wire_identity(&buyer, record.hour, bearing.licensed_from) {
            Ok(identity) => identity,
            Err(gap) => return self.wait_for(record, gap),
        };
        let parts = split(held);
        let may_be_tagged = record.tagged || self.touched.contains(&record.id);
        let tagged =
            if may_be_tagged { tagged_in(self.connection, record.id)? } else { Vec::new() };
        let dealt = apportion(held, &tagged);
        let zero = parts.whole == Quantity::ZERO;
        if parts.rest > Quantity::ZERO {
            if zero && bearing.ended_at.is_some() {
                // No later hour of this subscription will make it whole.
                self.closed.parked += 1;
                return park(self.connection, record.id, "fraction", self.now);
            }
            if zero && !self.closing.zero_usage {
                return self.put_off(record, self.later(record));
            }
            self.carry_rest(record, parts, &dealt)?;
        }
        let last = deadline(record.hour, self.closing.window);
        let hastened = bearing.last_moment.filter(|moment| *moment < last);
        let outcome = Outcome {
            // Nothing of zero is sent unless the seller wants every hour reported.
            state: if zero && !self.closing.zero_usage { "accepted" } else { "ready" },
            reason: match (zero && !self.closing.zero_usage, parts.rest > Quantity::ZERO) {
                (true, _) => Some("nothing_to_send"),
                (false, true) => Some("remainder_carried"),
                (false, false) => None,
            },
            deadline: hastened.unwrap_or(last),
            hastened: hastened.is_some(),
        };
        self.closed.frozen += usize::from(outcome.state == "ready");
        self.write(record.id, &identity, &dealt, &outcome)
    }

    /// The hour that less than a unit is put off to: not one by one through hours that are over.
    fn later(&self, record: &OpenRecord) -> ClockHour {
        let next = record.hour.next();
        let over = is_over(next, self.now, self.closing.grace);
        if over { ClockHour::of(self.now) } else { next }
    }

    /// What the record holds by now; nothing if it was put off.
    fn held(&self, record: &OpenRecord) -> Result<Option<Quantity>, StoreError> {
        if !self.touched.contains(&record.id) {
            return Ok(Some(quantity(record.quantity)));
        }
        self.connection
            .prepare_cached(
                "SELECT quantity FROM metering_records WHERE id = ?1 AND state = 'open' AND hour = ?2",
            )
            .and_then(|mut select| {
                select.query_row((record.id, record.hour.number()), |row| row.get(0)).optional()
            })
            .map(|held| held.map(quantity))
            .during("read a record's quantity")
    }

    fn carry_rest(
        &mut self,
        record: &OpenRecord,
        parts: Split,
        dealt: &Apportioned,
    ) -> Result<(), StoreError> {
        let key = record.key(record.holder.clone(), record.hour.next());
        let target = open_record_in(self.connection, &key)?;
        self.touched.insert(target.id);
        let rest = parts.rest.millionths();
        self.connection
            .prepare_cached(
                "UPDATE metering_records SET quantity = quantity - ?2, remainder = ?2 WHERE id = ?1",
            )
            .and_then(|mut update| update.execute((record.id, rest)))
            .during("carry a remainder")?;
        carry_into(self.connection, target.id, rest, &dealt.waits)
    }

    /// Less than a unit waits in a later hour, as the same record, for what makes it whole.
    fn put_off(&mut self, record: &OpenRecord, later: ClockHour) -> Result<(), StoreError> {
        let key = record.key(record.holder.clone(), later);
        self.touched.insert(record.id);
        match slot_in(self.connection, &key, later)? {
            Slot::Taken => return self.put_off(record, later.next()),
            Slot::Open(target) => {
                self.touched.insert(target);
                move_whole(self.connection, record.id, target)?;
            }
            Slot::Free => {
                self.connection
                    .prepare_cached("UPDATE metering_records SET hour = ?2 WHERE id = ?1")
                    .and_then(|mut update| update.execute((record.id, later.number())))
                    .during("put a fraction off")?;
                mark_moved(self.connection, record.id)?;
            }
        }
        Ok(())
    }

    /// Without a name for the buyer a call would be refused whole: it waits until AWS has told one.
    fn wait_for(&mut self, record: &OpenRecord, gap: IdentityGap) -> Result<(), StoreError> {
        if self.now < deadline(record.hour, self.closing.window) {
            return Ok(());
        }
        self.closed.parked += 1;
        park(self.connection, record.id, gap.as_str(), self.now)
    }

    fn write(
        &self,
        record: i64,
        identity: &WireIdentity,
        dealt: &Apportioned,
        outcome: &Outcome,
    ) -> Result<(), StoreError> {
        let allocations = (!dealt.sent.is_empty())
            .then(|| serde_json::to_string(&dealt.sent))
            .transpose()
            .map_err(|error| StoreError::Corrupt {
                what: "allocations",
                detail: error.to_string(),
            })?;
        self.connection
            .prepare_cached(
                "UPDATE OR FAIL metering_records SET state = :state, reason = :reason, product_code = :code,
                     customer_identifier = :identifier, account_id = :account, license_arn = :license,
                     region = :region, allocations = :allocations, frozen_at_ms = :now,
                     next_attempt_at_ms = :now, deadline_ms = :deadline, hastened = :hastened
                 WHERE id = :id",
            )
            .and_then(|mut update| {
                update.execute(named_params! {
                    ":id": record,
                    ":state": outcome.state,
                    ":reason": outcome.reason,
                    ":code": identity.product_code.as_ref().map(ProductCode::as_str),
                    ":identifier":
                        identity.customer_identifier.as_ref().map(CustomerIdentifier::as_str),
                    ":account": identity.account_id.as_ref().map(AccountId::as_str),
                    ":license": identity.license_arn.as_ref().map(LicenseArn::as_str),
                    ":region": self.closing.region,
                    ":allocations": allocations,
                    ":now": millis(self.now),
                    ":deadline": millis(outcome.deadline),
                    ":hastened": outcome.hastened,
                })
            })
            .during("freeze a record")?;
        Ok(())
    }
}

/// What freezing makes of a record.
struct Outcome {
    state: &'static str,
    reason: Option<&'static str>,
    deadline: Timestamp,
    hastened: bool,
}

fn mark_moved(connection: &Connection, record: i64) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE usage_events SET moved = ifnull(moved, 'fraction') WHERE record_id = ?1",
        )
        .and_then(|mut update| update.execute([record]))
        .during("mark moved usage")?;
    Ok(())
}

/// Everything of an open record becomes another one's, its events too.
fn move_whole(connection: &Connection, from: i64, into: i64) -> Result<(), StoreError> {
    mark_moved(connection, from)?;
    for statement in [
        "UPDATE usage_events SET record_id = ?2 WHERE record_id = ?1",
        "UPDATE metering_records SET quantity = quantity + moved.units, carried_in = carried_in + moved.carried,
             tagged = max(tagged, moved.split)
         FROM (SELECT quantity AS units, carried_in AS carried, tagged AS split
               FROM metering_records WHERE id = ?1) AS moved
         WHERE id = ?2",
        "INSERT INTO metering_tags (record_id, tags, quantity)
             SELECT ?2, tags, quantity FROM metering_tags WHERE record_id = ?1
             ON CONFLICT DO UPDATE SET quantity = quantity + excluded.quantity",
        "DELETE FROM metering_tags WHERE record_id = ?1 AND ?2 <> ?1",
        "DELETE FROM metering_records WHERE id = ?1 AND ?2 <> ?1",
    ] {
        connection
            .prepare_cached(statement)
            .and_then(|mut update| update.execute((from, into)))
            .during("move an open record's usage")?;
    }
    Ok(())
}

/// Until when AWS takes usage of a subscription that has ended, or whose end was announced.
pub(super) fn last_moment(
    ended_at: Option<Timestamp>,
    announced: Option<Timestamp>,
) -> Option<Timestamp> {
    ended_at.and_then(|ended| ended.saturating_add(FINAL_HOUR).ok()).or(announced)
}
