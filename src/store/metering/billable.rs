//! Metering records with the subscriptions that bear them.

use jiff::Timestamp;
use rusqlite::{Connection, Params};

use super::open_records::{OpenRecord, open_record, open_record_row};
use crate::domain::aws_limits::FINAL_HOUR;
use crate::domain::ledger::Tenure;
use crate::domain::{AccountId, ClockHour, Holder, LicenseArn, ProductCode, Status};
use crate::store::base::columns::{millis, optional_timestamp};
use crate::store::subscriptions::holdings::tenure;
use crate::store::{During, StoreError};

/// The number of hours back in which frozen records are looked for, beyond any window that AWS gives.
const FROZEN_HOURS: i64 = 30;

/// A record, and the subscription that bears it.
#[derive(Clone, Debug)]
pub(crate) struct BillableRecord {
    pub(crate) record: OpenRecord,
    pub(crate) product_code: ProductCode,
    pub(crate) account_id: Option<AccountId>,
    pub(crate) license_arn: Option<LicenseArn>,
    pub(crate) licensed_from: Option<ClockHour>,
    pub(crate) starts_at: Option<Timestamp>,
    /// True if its deadline is that of a last hour.
    pub(crate) hastened: bool,
    /// True if the subscription is not in force yet, or turned out to be none: AWS is not to be told of it.
    pub(crate) pending: bool,
    /// True if it is of somebody who pays as they go, and has not gone on under another name.
    pub(crate) alone: bool,
    /// The tenure of the subscription.
    pub(crate) tenure: Tenure,
    /// The holder that it went on as when it ended.
    pub(crate) renewed_by: Option<Holder>,
}

/// Where a list of records goes on: after this hour and id.
pub(crate) type Place = (i64, i64);

/// The place before every record.
pub(crate) const BEGINNING: Place = (i64::MIN, i64::MIN);

impl BillableRecord {
    pub(crate) fn place(&self) -> Place {
        (self.record.hour.number(), self.record.id)
    }
}

/// Joins what names a subscription `s` of product `p` by licence. A legacy buyer's may have become a licence, which is
/// known by subscriptions of its own, of which `l` is one; or, where there are none, by `k`, what was told of the
/// licence itself. Either names it only if it is the one licence that it can be: to bill another is worse than to wait.
/// What was told is asked only where hours may be metered so.
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
pub(crate) use {bearer_account, bearer_license, naming};

/// Records `r` with what bears them. Of several subscriptions under one holder, one that lives decides.
macro_rules! billable {
    ($($which:literal),+) => {
        concat!(
            // In the order in which `borne_row` reads them.
            "SELECT ", open_record!(), ", r.hastened, p.code, p.licensed_from_hour, ",
            bearer_account!(), ", ", bearer_license!(), ",
                 s.status, s.dimension IS NULL, s.starts_at_ms, s.ends_at_ms, s.ended_at_ms, s.renewed_by
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
        billable!(
            "r.id IN (
                 SELECT o.id FROM (
                     SELECT product_id, holder FROM subscriptions WHERE status = 'ending'
                     -- Twice is no harm here, and a mere UNION has SQLite read all subscriptions in the order of an
                     -- index to merge them.
                     UNION ALL SELECT product_id, holder FROM subscriptions WHERE ended_at_ms > ?1
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

const OPEN_OF_LEAVERS: &str = of_leavers!("o.state = 'open' AND o.beside = 0");
const FROZEN_OF_LEAVERS: &str = of_leavers!("o.state IN ('ready', 'sending') AND o.hastened = 0");

/// The open records up to an hour, so many of them, after a place.
pub(crate) fn open_until(
    connection: &Connection,
    last: ClockHour,
    after: Place,
    most: usize,
) -> Result<Vec<BillableRecord>, StoreError> {
    let statement = concat!(
        billable!(
            "r.state = 'open' AND r.hour <= ?1 AND (r.hour, r.id) > (?2, ?3) AND r.holder <> '' AND r.beside = 0"
        ),
        " LIMIT ?4"
    );
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    select(connection, statement, (last.number(), after.0, after.1, most))
}

/// The open hours of subscriptions that are ending, or have just ended.
pub(crate) fn open_of_leavers(
    connection: &Connection,
    now: Timestamp,
) -> Result<Vec<BillableRecord>, StoreError> {
    select(connection, OPEN_OF_LEAVERS, leavers_since(now, 2))
}

/// Frozen records of such subscriptions that have the deadline of their hour still.
pub(crate) fn frozen_of_leavers(
    connection: &Connection,
    now: Timestamp,
) -> Result<Vec<BillableRecord>, StoreError> {
    select(connection, FROZEN_OF_LEAVERS, leavers_since(now, FROZEN_HOURS))
}

/// Frozen records that have the deadline of a last hour.
pub(crate) fn hastened(connection: &Connection) -> Result<Vec<BillableRecord>, StoreError> {
    select(connection, billable!("r.hastened = 1 AND r.state IN ('ready', 'sending')"), [])
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
) -> Result<Vec<BillableRecord>, StoreError> {
    connection
        .prepare_cached(statement)
        .and_then(|mut select| select.query_map(values, billable_row)?.collect())
        .during("find records and what bears them")
}

fn billable_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<BillableRecord> {
    let time = |column: usize| row.get(column).map(optional_timestamp);
    let status = Status::parse(row.get_ref(13)?.as_str()?).unwrap_or(Status::Pending);
    let pays_as_they_go: bool = row.get(14)?;
    let renewed_by: Option<String> = row.get(18)?;
    Ok(BillableRecord {
        record: open_record_row(row)?,
        hastened: row.get(8)?,
        product_code: ProductCode::new(row.get::<_, String>(9)?),
        licensed_from: row.get::<_, Option<i64>>(10)?.map(ClockHour::from_number),
        account_id: row.get::<_, Option<String>>(11)?.map(AccountId::new),
        license_arn: row.get::<_, Option<String>>(12)?.map(LicenseArn::new),
        pending: matches!(status, Status::Pending | Status::Failed),
        alone: pays_as_they_go && renewed_by.is_none(),
        starts_at: time(15)?,
        tenure: tenure(status, pays_as_they_go, time(16)?, time(17)?),
        renewed_by: renewed_by.as_deref().and_then(Holder::parse),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::engine::connection::open_writer;

    /// Made once a pass, inside the writer's transaction: what has ended long ago must cost nothing.
    #[test]
    fn who_is_leaving_is_found_without_reading_who_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let connection = open_writer(&folder.path().join("marketd.db")).unwrap();
        for statement in [OPEN_OF_LEAVERS, FROZEN_OF_LEAVERS] {
            let plan: Vec<String> = connection
                .prepare(&format!("EXPLAIN QUERY PLAN {statement}"))
                .unwrap()
                .query_map((0, 0, 0), |row| row.get("detail"))
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            let of = |step: &&String| step.contains("subscriptions");
            let indexes = ["subscriptions_ending", "subscriptions_ended"];
            for index in indexes {
                assert!(plan.iter().any(|step| step.contains(index)), "{index}: {plan:#?}");
            }
            // Whoever is ending now is few, and all that its own index holds.
            let scans = plan.iter().filter(of).filter(|step| step.starts_with("SCAN"));
            let whole: Vec<_> = scans.filter(|step| !step.contains(indexes[0])).collect();
            assert!(whole.is_empty(), "{whole:?} of {plan:#?}");
        }
    }
}
