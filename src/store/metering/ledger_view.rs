//! The ledger as people see it: records and every attempt at them.

use super::decisions::{DecisionRow, decisions_in};
use super::record_rows::{AttemptRow, RecordRow, record_in, record_row};
use super::record_usage::{RecordUsage, usage_of_record_in};
use super::standstills::say_what_keeps;
use crate::domain::{ClockHour, CustomerId, DimensionKey, Id, ProductId};
use crate::store::base::columns::timestamp;
use crate::store::base::filter::Conditions;
use crate::store::base::listing::Listing;
use crate::store::base::page::{Listed, Order, Page};
use crate::store::{During, Store, StoreError};

/// The filter of a list of records.
#[derive(Clone, Debug, Default)]
pub struct RecordFilter {
    /// The state of the records.
    pub state: Option<String>,
    /// The reason why the records are in it.
    pub reason: Option<String>,
    /// Whether a person moved their units on to a later hour: none of them, or only those.
    pub carried_forward: Option<bool>,
    /// The dimension of the records.
    pub dimension: Option<DimensionKey>,
    /// The product of the records.
    pub product_id: Option<ProductId>,
    /// The customer of the records.
    pub customer_id: Option<CustomerId>,
    /// The first hour of the records.
    pub from: Option<ClockHour>,
    /// The hour that all records are before.
    pub before: Option<ClockHour>,
}

/// A record's past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHistory {
    /// Every attempt at sending it.
    pub attempts: Vec<AttemptRow>,
    /// Every decision about it.
    pub decisions: Vec<DecisionRow>,
    /// The usage that it bears, as far as its events are kept.
    pub usage: Vec<RecordUsage>,
}

impl Store {
    /// Lists records, by their hour.
    pub async fn metering_records(
        &self,
        filter: RecordFilter,
        order: Order,
        page: Page,
    ) -> Result<Listed<RecordRow>, StoreError> {
        self.read(move |connection| {
            let listing = listing(filter, order, &page);
            let mut listed = listing
                .page(connection, page.limit, record_row, RecordRow::key)
                .during("list metering records")?;
            say_what_keeps(connection, &mut listed.rows)?;
            Ok(listed)
        })
        .await
    }

    /// Returns the ids of the records, at most two, to which AWS gave this id.
    pub async fn records_of_aws_id(&self, id: String) -> Result<Vec<String>, StoreError> {
        self.read(move |connection| {
            connection
                .prepare_cached(OF_AWS_ID)
                .and_then(|mut select| select.query_map([id.as_str()], |row| row.get(0))?.collect())
                .map(|ids: Vec<i64>| ids.iter().map(ToString::to_string).collect())
                .during("find a record by AWS's id")
        })
        .await
    }

    /// Returns the records of these ids, without their pasts, as far as there are such.
    pub async fn records_of_ids(&self, ids: Vec<String>) -> Result<Vec<RecordRow>, StoreError> {
        self.read(move |connection| {
            let numbers = ids.iter().filter_map(|id| id.parse().ok());
            numbers.filter_map(|id| record_in(connection, id).transpose()).collect()
        })
        .await
    }

    /// Returns one record and its past, if there is a record of this id.
    pub async fn metering_record(
        &self,
        id: String,
    ) -> Result<Option<(RecordRow, RecordHistory)>, StoreError> {
        self.read(move |connection| {
            let Some(number) = id.parse().ok() else {
                return Ok(None);
            };
            let Some(mut record) = record_in(connection, number)? else {
                return Ok(None);
            };
            say_what_keeps(connection, std::slice::from_mut(&mut record))?;
            let attempts = connection
                .prepare_cached(
                    "SELECT * FROM metering_attempts WHERE record_id = ?1 ORDER BY attempt",
                )
                .and_then(|mut select| {
                    select
                        .query_map([number], |row| {
                            Ok(AttemptRow {
                                attempt: row.get("attempt")?,
                                at: timestamp(row.get("at_ms")?),
                                outcome: row.get("outcome")?,
                                detail: row.get("detail")?,
                            })
                        })?
                        .collect()
                })
                .during("read a record's attempts")?;
            let decisions = decisions_in(connection, number)?;
            let usage = usage_of_record_in(connection, number)?;
            Ok(Some((record, RecordHistory { attempts, decisions, usage })))
        })
        .await
    }
}

const OF_AWS_ID: &str =
    "SELECT id FROM metering_records WHERE metering_record_id = ?1 ORDER BY id LIMIT 2";

/// Makes a page's list. Without statistics SQLite goes by the statement alone: it says the index of the state, of the
/// customer, of the product or else of the hours, whichever finds the fewest, and the hours as that index has them.
fn listing(filter: RecordFilter, order: Order, page: &Page) -> Listing<'static> {
    let in_state = filter.state.as_deref().and_then(indexed);
    let of_customer = filter.customer_id.is_some();
    let by_product = in_state.is_none() && !of_customer && filter.product_id.is_some();
    let by_hour = in_state.is_none() && !of_customer && !by_product;
    let hour = if by_hour { "hour + 0" } else { "hour" };
    let (after, id) = after(order, page);
    let (mut from, mut before) =
        (filter.from.map(ClockHour::number), filter.before.map(ClockHour::number));
    // Said as a bound besides, the place is one of the index.
    match order {
        Order::Newest => before = Some(before.unwrap_or(i64::MAX).min(after.saturating_add(1))),
        Order::Oldest => from = Some(from.unwrap_or(i64::MIN).max(after)),
    }
    let begins = format!("({hour}, id) {} (:hour, :id)", order.follows());
    let mut which = Conditions::of(&begins, vec![(":hour", after.into()), (":id", id.into())])
        .with(":from", from, &format!("{hour} >= :from"))
        .with(":before", before, &format!("{hour} < :before"))
        .with(":customer", filter.customer_id.map(Id::into_string), "customer_id = :customer");
    let mut fitting = Conditions::of("TRUE", Vec::new())
        .with(":reason", filter.reason, "reason = :reason")
        .with(":dimension", filter.dimension.map(Id::into_string), "dimension = :dimension");
    fitting = match filter.carried_forward {
        Some(true) => fitting.that("reason = 'carried_forward'"),
        Some(false) => fitting.that("reason IS DISTINCT FROM 'carried_forward'"),
        None => fitting,
    };
    let product = filter.product_id.map(Id::into_string);
    if by_product {
        which = which.with(":product", product, "product_id || '' = :product");
    } else {
        fitting = fitting.with(":product", product, "product_id = :product");
    }
    match in_state {
        Some(words) => which = which.that(words),
        None => fitting = fitting.with(":state", filter.state, "state = :state"),
    }
    let direction = order.direction();
    Listing {
        columns: "*",
        from: "metering_records",
        which,
        fitting,
        order: format!("{hour} {direction}, id {direction}"),
    }
}

/// Returns the condition for a state that has an index of its own, in the index's words.
fn indexed(state: &str) -> Option<&'static str> {
    match state {
        "open" => Some("state = 'open'"),
        "ready" => Some("state = 'ready' AND state IN ('ready', 'sending')"),
        "sending" => Some("state = 'sending' AND state IN ('ready', 'sending')"),
        "parked" => Some("state = 'parked'"),
        "written_off" => Some("state = 'written_off'"),
        _ => None,
    }
}

/// Returns the hour and the id that a page follows.
fn after(order: Order, page: &Page) -> (i64, i64) {
    let key = page.after.as_deref().and_then(|key| key.split_once(' '));
    let key = key.and_then(|(hour, id)| Some((hour.parse().ok()?, id.parse().ok()?)));
    key.unwrap_or((order.beginning(), order.beginning()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::engine::connection::open_writer;
    use crate::store::engine::statements::plan_of;

    #[test]
    fn a_page_is_read_in_the_order_of_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let connection = open_writer(&folder.path().join("marketd.db")).unwrap();
        let state = |state: &str| RecordFilter { state: Some(state.into()), ..Default::default() };
        let product = || Some(ProductId::new("p"));
        let customer = Some(CustomerId::new("c"));
        let rows = [
            (RecordFilter::default(), "metering_records_by_hour (<expr>"),
            (state("accepted"), "metering_records_by_hour (<expr>"),
            (state("open"), "metering_records_open (hour"),
            (state("parked"), "metering_records_parked_by_hour (hour"),
            (state("written_off"), "metering_records_written_off (hour"),
            (
                RecordFilter { product_id: product(), ..Default::default() },
                "metering_records_by_product (<expr>=? AND hour",
            ),
            (
                RecordFilter { product_id: product(), ..state("parked") },
                "metering_records_parked_by_hour (hour",
            ),
            // A customer's are few enough to be sorted.
            (
                RecordFilter { customer_id: customer, ..Default::default() },
                "sqlite_autoindex_metering_records_1 (customer_id=?",
            ),
        ];
        for (filter, index) in rows {
            for order in [Order::Newest, Order::Oldest] {
                let is_sorted = filter.customer_id.is_none();
                let page = Page { after: None, limit: 1 };
                let statement = listing(filter.clone(), order, &page).statement();
                let plan = plan_of(&connection, &statement);
                assert!(plan[0].contains(index), "{plan:?} of {statement}");
                assert_eq!(plan.len() == 1, is_sorted, "{plan:?} of {statement}");
            }
        }
    }
}
