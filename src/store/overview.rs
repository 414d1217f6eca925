//! The overview: how much there is of everything, and what of it waits for a person.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::base::columns::{optional_timestamp, quantity};
use super::{During, Store, StoreError};
use crate::domain::{ClockHour, PlanId, ProductCode, ProductId, Quantity};
use crate::store::engine::sql::{self, Connection, Row, Transaction};

/// The counts of an overview, all of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Overview {
    /// The number of customers.
    pub customers: u64,
    /// Those of them whom nobody has claimed: AWS told of them, the seller has not.
    pub unclaimed: Waiting,
    /// Those of the unclaimed who may pay at AWS: a subscription of theirs has not ended. AWS may have told of others by an
    /// account alone, of whose licence it is not known yet whose it is.
    pub unclaimed_buyers: Waiting,
    /// The number of subscriptions by status.
    pub subscriptions: BTreeMap<String, u64>,
    /// The notifications in quarantine.
    pub quarantined: Waiting,
    /// The notifications that wait for the import of their product.
    pub pending_notifications: Waiting,
    /// The parked usage, by product and reason.
    pub parked: Vec<ParkedUsage>,
    /// The products of which buyers' news waits for the listing's import.
    pub awaited_imports: Vec<AwaitedImport>,
    /// The draft plans that live subscriptions are on: their customers have access to nothing by them.
    pub awaited_drafts: Vec<AwaitedDraft>,
}

/// Things that wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = WaitingCount)]
pub struct Waiting {
    /// Their number.
    pub count: u64,
    /// The time since when the first of them has waited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// The parked usage of a product for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ParkedUsage {
    /// The product.
    pub product_id: ProductId,
    /// The reason.
    pub reason: String,
    /// The number of records.
    pub records: u64,
    /// The units that are not billed.
    pub units: Quantity,
    /// The first hour of them.
    pub since: Option<Timestamp>,
}

/// A product whose listing is not imported, and of whose buyers AWS has told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AwaitedImport {
    /// The product's code, where the news names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product_code: Option<ProductCode>,
    /// The number of buyers that are known by now.
    pub buyers: u64,
    /// The notifications that wait.
    pub notifications: Waiting,
}

/// A draft plan that live subscriptions are on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AwaitedDraft {
    /// The plan.
    pub plan_id: PlanId,
    /// The number of its live subscriptions.
    pub subscriptions: u64,
}

impl Store {
    /// Counts the parked usage alone, by product and reason.
    pub async fn parked_usage(&self) -> Result<Vec<ParkedUsage>, StoreError> {
        self.read_at_length(|connection| parked_in(connection).during("count what is parked")).await
    }

    /// Lists the products of which buyers' news waits for the listing's import.
    pub async fn awaited_imports(&self) -> Result<Vec<AwaitedImport>, StoreError> {
        self.read(|connection| {
            awaited_imports_in(connection).during("count what waits for an import")
        })
        .await
    }

    /// Counts everything that an overview shows.
    pub async fn overview(&self) -> Result<Overview, StoreError> {
        self.read_at_length(|connection| {
            // All of one moment: a read transaction sees one.
            let whole = Transaction::of_reads(connection).during("begin an overview")?;
            let overview = overview_in(&whole).during("count for an overview")?;
            whole.commit().during("end an overview")?;
            Ok(overview)
        })
        .await
    }
}

const UNCLAIMED: &str = "SELECT count(*), min(created_at_ms) FROM customers WHERE claimed = 0";
const UNCLAIMED_BUYERS: &str =
    "SELECT count(*), min(created_at_ms) FROM customers c WHERE claimed = 0
     AND EXISTS (SELECT 1 FROM subscriptions s
         WHERE s.customer_id = c.id AND s.ended_at_ms IS NULL AND s.status <> 'failed')";
/// Said as its index has it.
const BY_STATUS: &str = "SELECT status || '', count(*) FROM subscriptions GROUP BY status || ''";

fn overview_in(connection: &Connection) -> sql::Result<Overview> {
    let customers = connection
        .prepare_cached("SELECT count(*) FROM customers")?
        .query_row([], |row| row.get(0))?;
    Ok(Overview {
        customers: number(customers),
        unclaimed: connection
            .prepare_cached(UNCLAIMED)?
            .query_row([], waiting_row)?,
        unclaimed_buyers: connection
            .prepare_cached(UNCLAIMED_BUYERS)?
            .query_row([], waiting_row)?,
        subscriptions: rows(
            connection,
            BY_STATUS,
            |row| Ok((row.get(0)?, number(row.get(1)?))),
        )?
        .into_iter()
        .collect(),
        quarantined: waiting(connection, "quarantined")?,
        pending_notifications: waiting(connection, "pending")?,
        parked: parked_in(connection)?,
        awaited_imports: awaited_imports_in(connection)?,
        awaited_drafts: rows(
            connection,
            "SELECT id, held FROM (SELECT p.id,
                 (SELECT count(*) FROM subscriptions s WHERE s.plan_id = p.id AND s.ended_at_ms IS NULL) AS held
                 FROM plans p WHERE p.status = 'draft') AS drafts
             WHERE held > 0 ORDER BY id",
            |row| {
                let plan_id = PlanId::new(row.get::<_, String>(0)?);
                Ok(AwaitedDraft { plan_id, subscriptions: number(row.get(1)?) })
            },
        )?,
    })
}

fn parked_in(connection: &Connection) -> sql::Result<Vec<ParkedUsage>> {
    rows(
        connection,
        "SELECT product_id, reason, count(*), sum(quantity - carried_out), min(hour) FROM metering_records
         WHERE state = 'parked' GROUP BY product_id, reason ORDER BY product_id, reason",
        parked,
    )
}

fn awaited_imports_in(connection: &Connection) -> sql::Result<Vec<AwaitedImport>> {
    rows(
        connection,
        "SELECT product_code, count(DISTINCT buyer), count(*), min(received_at_ms) FROM notifications
         WHERE state = 'pending' AND state <> 'applied' AND reason = 'product_not_imported'
         GROUP BY product_code ORDER BY 4, 1",
        |row| {
            let since = optional_timestamp(row.get(3)?);
            Ok(AwaitedImport {
                product_code: row.get::<_, Option<String>>(0)?.map(ProductCode::new),
                buyers: number(row.get(1)?),
                notifications: Waiting { count: number(row.get(2)?), since },
            })
        },
    )
}

fn waiting(connection: &Connection, state: &str) -> sql::Result<Waiting> {
    connection
        .prepare_cached(
            "SELECT count(*), min(received_at_ms) FROM notifications WHERE state = ?1 AND state <> 'applied'",
        )?
        .query_row([state], waiting_row)
}

fn waiting_row(row: &Row<'_>) -> sql::Result<Waiting> {
    Ok(Waiting { count: number(row.get(0)?), since: optional_timestamp(row.get(1)?) })
}

fn parked(row: &Row<'_>) -> sql::Result<ParkedUsage> {
    Ok(ParkedUsage {
        product_id: ProductId::new(row.get::<_, String>(0)?),
        reason: row.get::<_, Option<String>>(1)?.unwrap_or_default(),
        records: number(row.get(2)?),
        units: quantity(row.get(3)?),
        since: row.get::<_, Option<i64>>(4)?.map(|hour| ClockHour::from_number(hour).start()),
    })
}

fn rows<T>(
    connection: &Connection,
    sql: &str,
    read: fn(&Row<'_>) -> sql::Result<T>,
) -> sql::Result<Vec<T>> {
    connection.prepare_cached(sql)?.query_map([], read)?.collect()
}

fn number(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::engine::connection::open_writer;
    use crate::store::engine::statements::plan_of;

    #[test]
    fn what_grows_with_customers_is_counted_by_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let connection = open_writer(&folder.path().join("marketd.db")).unwrap();
        for (statement, index) in
            [(UNCLAIMED, "customers_unclaimed"), (BY_STATUS, "subscriptions_by_status")]
        {
            let plan = plan_of(&connection, statement);
            assert!(plan.len() == 1 && plan[0].contains(index), "{plan:?} of {statement}");
        }
    }
}
