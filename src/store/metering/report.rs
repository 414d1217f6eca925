//! The month as finance closes it: units by product, customer and dimension.

use std::collections::HashMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::kind::Kind;
use crate::domain::{
    AccountId, ClockHour, CustomerId, CustomerIdentifier, DimensionKey, Id, NetQuantity,
    ProductCode, ProductId, Quantity,
};
use crate::store::base::columns::quantity;
use crate::store::base::filter::Conditions;
use crate::store::base::tally::Names;
use crate::store::engine::sql::{self, Connection, OptionalExtension as _, Statement};
use crate::store::{During, Store, StoreError};

/// The filter of a report.
#[derive(Clone, Debug)]
pub struct ReportFilter {
    /// The first hour.
    pub from: ClockHour,
    /// The hour that all hours are before.
    pub before: ClockHour,
    /// The product, where only one counts.
    pub product_id: Option<ProductId>,
    /// The customer, where only one counts.
    pub customer_id: Option<CustomerId>,
}

/// A customer's usage of a dimension in those hours, by its state. The hours are those that are billed:
/// usage that went on to a later hour counts there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ReportRow {
    /// The product.
    pub product_id: ProductId,
    /// The customer.
    pub customer_id: CustomerId,
    /// The dimension.
    pub dimension: DimensionKey,
    /// The number of metering records.
    pub records: i64,
    /// The units that were used, without what plans include.
    pub usage: Quantity,
    /// The units that came from other hours than these, less those that went on to others: below zero where more went.
    /// These are parts of a unit, what people carried forward, and what came to be owed of usage that had been billed.
    pub carried: NetQuantity,
    /// The units in all: the sum of the last two, and of the next four.
    pub reported: Quantity,
    /// The units that AWS has accepted.
    pub accepted: Quantity,
    /// The units on the way: open, frozen or being sent.
    pub pending: Quantity,
    /// The units that wait for a person's decision.
    pub parked: Quantity,
    /// The units that a person gave up.
    pub written_off: Quantity,
    /// The part of all this that came from an earlier hour, summed over the hours: what goes on through several of them
    /// counts in each.
    pub carried_in: Quantity,
    /// The part that a person moved on to a later hour; not part of the sum.
    pub carried_out: Quantity,
    /// The parts of a unit that went on by themselves, to a later hour that makes them whole; not part of the sum, and
    /// counted in each hour that they went through.
    pub remainder: Quantity,
    /// The part of `parked` and `written_off` that AWS may have billed all the same: an answer was lost.
    pub uncertain: Quantity,
    /// The product's code, by which AWS's own reports name it; a page of the month leaves it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product_code: Option<ProductCode>,
    /// The customer's AWS account, as far as AWS has told it; a page of the month leaves it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<AccountId>,
    /// AWS's older name of the customer, where that is known; a page of the month leaves it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_identifier: Option<CustomerIdentifier>,
    /// The customer's name, as the application has told it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_name: Option<String>,
}

impl Store {
    /// Sums the ledger by product, customer and dimension.
    pub async fn metering_report(
        &self,
        filter: ReportFilter,
    ) -> Result<Vec<ReportRow>, StoreError> {
        self.read_at_length(move |connection| {
            let during = "sum the ledger by customer";
            let mut rows = report_in(connection, filter).during(during)?;
            name_as_aws_does(connection, &mut rows).during(during)?;
            name_customers(connection, &mut rows).during(during)?;
            Ok(rows)
        })
        .await
    }
}

/// Gives the rows the names by which AWS knows their products and customers.
fn name_as_aws_does(connection: &Connection, rows: &mut [ReportRow]) -> sql::Result<()> {
    let mut codes =
        Known::new(connection.prepare_cached("SELECT code FROM products WHERE id = ?1")?);
    let mut accounts = Known::new(connection.prepare_cached(&identity_of("account_id"))?);
    let older = connection.prepare_cached(&identity_of("customer_identifier"))?;
    let mut older = Known::new(older);
    for row in rows {
        row.product_code = codes.of(&row.product_id)?.map(Id::new);
        row.account_id = accounts.of(&row.customer_id)?.map(Id::new);
        row.customer_identifier = older.of(&row.customer_id)?.map(Id::new);
    }
    Ok(())
}

/// Gives the rows the names of their customers.
pub(super) fn name_customers(connection: &Connection, rows: &mut [ReportRow]) -> sql::Result<()> {
    let statement =
        format!("SELECT name FROM customers WHERE id = {CUSTOMER} AND name IS NOT NULL");
    let mut names = Known::new(connection.prepare_cached(&statement)?);
    for row in rows {
        row.customer_name = names.of(&row.customer_id)?;
    }
    Ok(())
}

/// The customer of a record, which keeps the id that one had before two turned out to be one.
const CUSTOMER: &str = "coalesce((SELECT customer_id FROM customer_aliases WHERE alias = ?1), ?1)";

fn identity_of(kind: &str) -> String {
    format!(
        "SELECT value FROM identities WHERE kind = '{kind}' AND customer_id = {CUSTOMER}
         ORDER BY value LIMIT 1"
    )
}

/// The names that a statement has found so far, by the ids that they were asked of.
struct Known<'a, K: Kind> {
    select: Statement<'a>,
    names: HashMap<Id<K>, Option<String>>,
}

impl<'a, K: Kind> Known<'a, K> {
    fn new(select: Statement<'a>) -> Self {
        Self { select, names: HashMap::new() }
    }

    fn of(&mut self, id: &Id<K>) -> sql::Result<Option<String>> {
        if let Some(name) = self.names.get(id) {
            return Ok(name.clone());
        }
        let name = self.select.query_row([id.as_str()], |row| row.get(0)).optional()?;
        self.names.insert(id.clone(), name.clone());
        Ok(name)
    }
}

/// The sums of records. Each record is in one of four states, or on its way in one of three.
#[derive(Default)]
pub(super) struct Sums {
    pub(super) records: i64,
    usage: i64,
    pub(super) accepted: i64,
    pub(super) pending: i64,
    pub(super) parked: i64,
    pub(super) written_off: i64,
    carried_in: i64,
    carried_out: i64,
    remainder: i64,
    pub(super) uncertain: i64,
}

/// Sums by product and dimension, and therein by customer.
type ByCustomer = HashMap<(usize, usize), HashMap<String, Sums>>;

/// Returns the condition on a report's records, so that an index finds them.
pub(super) fn records_of(filter: ReportFilter) -> Conditions {
    let ReportFilter { from, before, product_id, customer_id } = filter;
    // A customer's records have an index, which finds fewer than the hours'.
    let hour = if customer_id.is_some() { "hour" } else { "hour + 0" };
    Conditions::of(
        &format!("{hour} >= :from AND {hour} < :before"),
        vec![(":from", from.number().into()), (":before", before.number().into())],
    )
    .with(":product", product_id.map(Id::into_string), "product_id = :product")
    .with(":customer", customer_id.map(Id::into_string), "customer_id = :customer")
}

pub(super) fn statement(which: &Conditions) -> String {
    format!(
        // What waited for a subscription when a person carried it forward has left with its usage.
        "SELECT product_id, dimension, customer_id, state, quantity, carried_in, carried_out, uncertain,
             remainder, CASE WHEN holder = '' THEN carried_out ELSE 0 END
         FROM metering_records WHERE {}",
        which.text()
    )
}

/// Reads the hours' records once, in the order in which they lie, and keeps nothing of them but the sums.
fn report_in(connection: &Connection, filter: ReportFilter) -> sql::Result<Vec<ReportRow>> {
    let which = records_of(filter);
    let mut select = connection.prepare_cached(&statement(&which))?;
    let mut rows = select.query(&*which.values())?;
    let (mut products, mut dimensions) = (Names::default(), Names::default());
    let mut sums = ByCustomer::new();
    while let Some(row) = rows.next()? {
        let product = products.place(row.get_ref(0)?.as_str()?);
        let dimension = dimensions.place(row.get_ref(1)?.as_str()?);
        let customers = sums.entry((product, dimension)).or_default();
        let customer = row.get_ref(2)?.as_str()?;
        match customers.get_mut(customer) {
            Some(sums) => sums.add(&row)?,
            None => customers.entry(customer.to_owned()).or_default().add(&row)?,
        }
    }
    Ok(in_order(sums, &products.into_vec(), &dimensions.into_vec()))
}

impl Sums {
    /// Returns the units in all.
    pub(super) fn reported(&self) -> i64 {
        let parts = [self.accepted, self.pending, self.parked, self.written_off];
        parts.into_iter().fold(0, i64::saturating_add)
    }

    /// Returns what was used in these hours.
    pub(super) fn usage(&self) -> Quantity {
        quantity(self.usage)
    }

    /// Returns what came from other hours, less what went on to others.
    pub(super) fn carried(&self) -> NetQuantity {
        NetQuantity::from_millionths(self.reported().saturating_sub(self.usage))
    }

    pub(super) fn add(&mut self, row: &sql::Row<'_>) -> sql::Result<()> {
        let (quantity, carried_out): (i64, i64) = (row.get(4)?, row.get(6)?);
        let units = quantity.saturating_sub(carried_out);
        let state = row.get_ref(3)?.as_str()?;
        let part = match state {
            "accepted" => &mut self.accepted,
            "parked" => &mut self.parked,
            "written_off" => &mut self.written_off,
            _ => &mut self.pending,
        };
        *part = part.saturating_add(units);
        if matches!(state, "parked" | "written_off") && row.get(7)? {
            self.uncertain = self.uncertain.saturating_add(units);
        }
        let (carried_in, remainder): (i64, i64) = (row.get(5)?, row.get(8)?);
        let left: i64 = row.get(9)?;
        self.records += 1;
        if left == 0 {
            let usage = quantity.saturating_add(remainder).saturating_sub(carried_in);
            self.usage = self.usage.saturating_add(usage);
        }
        self.carried_in = self.carried_in.saturating_add(carried_in);
        self.carried_out = self.carried_out.saturating_add(carried_out);
        self.remainder = self.remainder.saturating_add(remainder);
        Ok(())
    }
}

/// Returns the rows by product, customer and dimension.
fn in_order(sums: ByCustomer, products: &[String], dimensions: &[String]) -> Vec<ReportRow> {
    let mut rows: Vec<ReportRow> = sums
        .into_iter()
        .filter_map(|((product, dimension), customers)| {
            Some((products.get(product)?, dimensions.get(dimension)?, customers))
        })
        .flat_map(|(product, dimension, customers)| {
            customers.into_iter().map(move |(customer, sums)| {
                let ids = (ProductId::new(product), DimensionKey::new(dimension));
                report_row(ids, CustomerId::new(customer), &sums)
            })
        })
        .collect();
    rows.sort_unstable_by(|a, b| {
        (&a.product_id, &a.customer_id, &a.dimension).cmp(&(
            &b.product_id,
            &b.customer_id,
            &b.dimension,
        ))
    });
    rows
}

pub(super) fn report_row(
    (product_id, dimension): (ProductId, DimensionKey),
    customer_id: CustomerId,
    sums: &Sums,
) -> ReportRow {
    ReportRow {
        product_id,
        customer_id,
        dimension,
        records: sums.records,
        usage: sums.usage(),
        carried: sums.carried(),
        reported: quantity(sums.reported()),
        accepted: quantity(sums.accepted),
        pending: quantity(sums.pending),
        parked: quantity(sums.parked),
        written_off: quantity(sums.written_off),
        carried_in: quantity(sums.carried_in),
        carried_out: quantity(sums.carried_out),
        remainder: quantity(sums.remainder),
        uncertain: quantity(sums.uncertain),
        product_code: None,
        account_id: None,
        customer_identifier: None,
        customer_name: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::engine::connection::open_writer;
    use crate::store::engine::statements::plan_of;

    #[test]
    fn a_report_reads_its_own_hours_or_customer_alone() {
        let folder = tempfile::tempdir().unwrap();
        let connection = open_writer(&folder.path().join("marketd.db")).unwrap();
        let of = |product: Option<&str>, customer: Option<&str>| ReportFilter {
            from: ClockHour::from_number(1),
            before: ClockHour::from_number(2),
            product_id: product.map(ProductId::new),
            customer_id: customer.map(CustomerId::new),
        };
        let by_hour = "metering_records_by_hour (<expr>>? AND <expr><?)";
        let by_customer = "sqlite_autoindex_metering_records_1 (customer_id=?";
        let rows = [
            (of(None, None), by_hour),
            (of(Some("p"), None), by_hour),
            (of(None, Some("c")), by_customer),
            (of(Some("p"), Some("c")), by_customer),
        ];
        for (filter, index) in rows {
            let statement = statement(&records_of(filter));
            let plan = plan_of(&connection, &statement);
            assert!(plan.len() == 1 && plan[0].contains(index), "{plan:?} of {statement}");
        }
    }
}
