//! Metering records with the subscriptions that bear them.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, Params};

use super::convert::{millis, optional_timestamp};
use super::records::{OpenRecord, open_record, open_record_row};
use super::{During, StoreError};
use crate::domain::ledger::deadline;
use crate::domain::reconciliation::FINAL_HOUR;
use crate::domain::{AccountId, ClockHour, LicenseArn, ProductCode};

/// How far back frozen hours are looked for, beyond any window that AWS gives.
const FROZEN_HOURS: i64 = 30;

/// A record, and the subscription that bears it.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "columns of a row, each by itself")]
pub(super) struct Borne {
    pub(super) record: OpenRecord,
    pub(super) product_code: ProductCode,
    pub(super) account_id: Option<AccountId>,
    pub(super) license_arn: Option<LicenseArn>,
    pub(super) licensed_from: Option<ClockHour>,
    pub(super) starts_at: Option<Timestamp>,
    /// Whether its deadline is that of a last hour.
    pub(super) hastened: bool,
    /// Whether the subscription is not in force yet, or turned out to be none: AWS is not to be told of it.
    pub(super) pending: bool,
    /// Whether it is of somebody who pays as they go, and has not gone on under another name.
    pub(super) alone: bool,
    /// Whether the subscription is ending or has ended.
    pub(super) leaving: bool,
    pub(super) ended_at: Option<Timestamp>,
    /// Until when AWS takes usage of a subscription that has ended, or whose end was announced.
    last_moment: Option<Timestamp>,
}

/// Where a list of records goes on: after this hour and id.
pub(super) type Place = (i64, i64);

impl Borne {
    pub(super) fn place(&self) -> Place {
        (self.record.hour.number(), self.record.id)
    }

    /// Until when AWS takes it, and whether that is the end of a last hour.
    pub(super) fn deadline(&self, window: SignedDuration) -> (Timestamp, bool) {
        let by_hour = deadline(self.record.hour, window);
        match self.last_moment.filter(|moment| *moment < by_hour) {
            Some(moment) => (moment, true),
            None => (by_hour, false),
        }
    }
}

/// Joins what names a subscription `s` of product `p` by licence. A legacy buyer's may have become a licence, which is
/// known by subscriptions of its own, of which `l` is one; or, where there are none, by `k`, what was told of the licence
/// itself. Either names it only if it is the one licence that it can be: to bill another is worse than to wait. What was
/// told is asked only where hours may be metered so.
///
/// When to look is said within what is looked for: SQLite finds the row first, and only then asks what else must hold.
macro_rules! naming {
    ($where:literal) => {
        concat!(
            " LEFT JOIN subscriptions l ON l.rowid = (
                 SELECT min(b.rowid) FROM subscriptions b
                 WHERE s.license_arn IS NULL AND b.customer_id = s.customer_id AND b.product_id = s.product_id
                   AND b.license_arn IS NOT NULL AND b.ended_at_ms IS NULL
                 HAVING min(b.license_arn) = max(b.license_arn))
             LEFT JOIN licenses k ON k.license_arn = CASE WHEN ",
            $where,
            " AND l.rowid IS NULL THEN ifnull(s.license_arn, (
                 SELECT min(f.license_arn) FROM identities i
                 JOIN licenses f ON f.account_id = i.value AND f.product_code = p.code
                 LEFT JOIN agreements a ON a.agreement_id = f.agreement_id
                 WHERE i.customer_id = s.customer_id AND i.kind = 'account_id' AND a.ended_status IS NULL
                   AND NOT EXISTS (SELECT 1 FROM subscriptions b
                       WHERE b.customer_id = s.customer_id AND b.product_id = s.product_id
                         AND b.license_arn IS NOT NULL AND b.ended_at_ms IS NULL)
                   AND f.change IS NOT 'deprovisioned'
                   AND ifnull(f.observed, '') NOT IN ('DEPROVISIONED', 'FAILED')
                 HAVING count(*) = 1)) END "
        )
    };
}
/// The account and the licence of what [`naming`] joins.
macro_rules! bearer_account {
    () => {
        "coalesce(s.account_id, l.account_id, k.account_id)"
    };
}
macro_rules! bearer_license {
    () => {
        "coalesce(s.license_arn, l.license_arn, k.license_arn)"
    };
}
pub(super) use {bearer_account, bearer_license, naming};

/// Records `r` with what bears them. Of several subscriptions under one holder, one that lives decides.
macro_rules! borne {
    ($($which:literal),+) => {
        concat!(
            // In the order in which `borne_row` reads them.
            "SELECT ", open_record!(), ", r.hastened, p.code, p.licensed_from_hour, ",
            bearer_account!(), ", ", bearer_license!(), ",
                 s.status IN ('pending', 'failed'),
                 s.dimension IS NULL AND s.renewed_by IS NULL,
                 s.status = 'ending' OR s.ended_at_ms IS NOT NULL, s.ended_at_ms,
                 CASE WHEN s.status = 'ending' AND s.dimension IS NULL THEN s.ends_at_ms END, s.starts_at_ms
             FROM metering_records r
             CROSS JOIN products p ON p.id = r.product_id
             CROSS JOIN subscriptions s ON s.rowid = (
                 -- The least is one that is active, then one that is ending, then one that is pending, then the one
                 -- that ended last. SQLite takes the row of the minimum, without the temporary table that an ORDER BY
                 -- would make each time.
                 SELECT deciding FROM (
                     SELECT b.rowid AS deciding,
                         min(ifnull(-b.ended_at_ms,
                             (b.status = 'ending') + 2 * (b.status = 'pending') - 9000000000000000000))
                     FROM subscriptions b
                     WHERE b.product_id = r.product_id AND b.holder = r.holder))",
            naming!("p.licensed_from_hour IS NOT NULL"),
            "WHERE ", $($which),+, " ORDER BY r.hour, r.id"
        )
    };
}

/// The same for those whose subscriptions are ending or have just ended: their ids, in so many hours.
macro_rules! of_leavers {
    ($which:literal) => {
        borne!(
            "r.id IN (
                 SELECT o.id FROM (
                     SELECT product_id, holder FROM subscriptions WHERE status = 'ending'
                     UNION SELECT product_id, holder FROM subscriptions WHERE ended_at_ms > ?1
                 ) e
                 CROSS JOIN dimensions d ON d.product_id = e.product_id AND d.metered = 1
                 CROSS JOIN metering_records o ON o.holder = e.holder AND o.holder <> ''
                     AND o.product_id = e.product_id AND o.dimension = d.key AND o.hour BETWEEN ?2 AND ?3
                 WHERE ",
            $which,
            ")"
        )
    };
}

/// The open records up to an hour, so many of them, after a place.
pub(super) fn open_until(
    connection: &Connection,
    last: ClockHour,
    after: Place,
    most: usize,
) -> Result<Vec<Borne>, StoreError> {
    let statement = concat!(
        borne!(
            "r.state = 'open' AND r.hour <= ?1 AND (r.hour, r.id) > (?2, ?3) AND r.holder <> '' AND r.beside = 0"
        ),
        " LIMIT ?4"
    );
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    select(connection, statement, (last.number(), after.0, after.1, most))
}

/// The open hours of subscriptions that are ending, or have just ended.
pub(super) fn open_of_leavers(
    connection: &Connection,
    now: Timestamp,
) -> Result<Vec<Borne>, StoreError> {
    select(connection, of_leavers!("o.state = 'open' AND o.beside = 0"), leavers_since(now, 2))
}

/// Frozen records of such subscriptions that have the deadline of their hour still.
pub(super) fn frozen_of_leavers(
    connection: &Connection,
    now: Timestamp,
) -> Result<Vec<Borne>, StoreError> {
    let statement = of_leavers!("o.state IN ('ready', 'sending') AND o.hastened = 0");
    select(connection, statement, leavers_since(now, FROZEN_HOURS))
}

/// Frozen records that have the deadline of a last hour.
pub(super) fn hastened(connection: &Connection) -> Result<Vec<Borne>, StoreError> {
    select(connection, borne!("r.hastened = 1 AND r.state IN ('ready', 'sending')"), [])
}

/// From when on subscriptions have just ended, and which hours are looked at.
fn leavers_since(now: Timestamp, hours_back: i64) -> (i64, i64, i64) {
    let hour = ClockHour::of(now).number();
    let since = now.saturating_sub(FINAL_HOUR * 2).unwrap_or(Timestamp::MIN);
    (millis(since), hour - hours_back, hour)
}

fn select(
    connection: &Connection,
    statement: &str,
    values: impl Params,
) -> Result<Vec<Borne>, StoreError> {
    connection
        .prepare_cached(statement)
        .and_then(|mut select| select.query_map(values, borne_row)?.collect())
        .during("find records and what bears them")
}

fn borne_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Borne> {
    let time = |column: usize| row.get(column).map(optional_timestamp);
    let ended_at = time(16)?;
    let last_moment = ended_at.and_then(|ended| ended.saturating_add(FINAL_HOUR).ok());
    Ok(Borne {
        record: open_record_row(row)?,
        hastened: row.get(8)?,
        product_code: ProductCode::new(row.get::<_, String>(9)?),
        licensed_from: row.get::<_, Option<i64>>(10)?.map(ClockHour::from_number),
        account_id: row.get::<_, Option<String>>(11)?.map(AccountId::new),
        license_arn: row.get::<_, Option<String>>(12)?.map(LicenseArn::new),
        pending: row.get(13)?,
        alone: row.get(14)?,
        leaving: row.get(15)?,
        starts_at: time(18)?,
        ended_at,
        last_moment: last_moment.or(time(17)?),
    })
}
