//! Closing hours: finding what is open and over, or cannot wait, and having it frozen, a chunk in one transaction.

use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;

use super::assigning::assign_waiting;
use super::convert::{millis, optional_timestamp, timestamp};
use super::deadlines::follow_endings;
use super::freezing::freeze_all;
use super::records::{OpenRecord, open_record_row};
use super::zero::open_zero_records;
use super::{During, Store, StoreError};
use crate::domain::reconciliation::FINAL_HOUR;
use crate::domain::{AccountId, ClockHour, LicenseArn, ProductCode};

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
pub(super) struct Candidate {
    pub(super) record: OpenRecord,
    pub(super) product_code: ProductCode,
    pub(super) account_id: Option<AccountId>,
    pub(super) license_arn: Option<LicenseArn>,
    pub(super) licensed_from: Option<ClockHour>,
    pub(super) leaving: bool,
    pub(super) ended_at: Option<Timestamp>,
    pub(super) last_moment: Option<Timestamp>,
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
                     WHERE b.product_id = r.product_id AND b.holder = r.holder))
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

/// Until when AWS takes usage of a subscription that has ended, or whose end was announced.
pub(super) fn last_moment(
    ended_at: Option<Timestamp>,
    announced: Option<Timestamp>,
) -> Option<Timestamp> {
    ended_at.and_then(|ended| ended.saturating_add(FINAL_HOUR).ok()).or(announced)
}
