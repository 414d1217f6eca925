//! The month as a page of it shows it: all sums by product and dimension, and the customers' rows of one page; and which months
//! there are.

use std::collections::{BTreeMap, HashMap};

use super::report::{
    ReportFilter, ReportRow, Sums, name_customers, records_of, report_row, statement,
};
use crate::domain::{ClockHour, CustomerId, DimensionKey, NetQuantity, ProductId, Quantity};
use crate::store::base::columns::quantity;
use crate::store::base::tally::Names;
use crate::store::engine::sql::{self, Connection, OptionalExtension as _};
use crate::store::{During, Store, StoreError};

/// The place of a row among those of a report: its product, its customer and its dimension.
pub type ReportPlace = (String, String, String);

/// The sums of a product's dimension, over all customers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportTotal {
    /// The product.
    pub product_id: ProductId,
    /// The dimension.
    pub dimension: DimensionKey,
    /// The number of metering records.
    pub records: i64,
    /// The units that were used, without what plans include.
    pub usage: Quantity,
    /// The units that came from other hours, less those that went on to others.
    pub carried: NetQuantity,
    /// The units in all, accepted, pending, parked and written off: the first is the sum of the others, and of usage and
    /// what was carried.
    pub units: [Quantity; 5],
    /// The part of what is parked and written off that AWS may have billed all the same.
    pub uncertain: Quantity,
}

/// A part of a report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportPart {
    /// The sums of all of it.
    pub totals: Vec<ReportTotal>,
    /// The rows of the part.
    pub rows: Vec<ReportRow>,
    /// The place of the last of them, if more follow.
    pub next: Option<ReportPlace>,
}

impl Store {
    /// Sums the ledger by product and dimension, and by customer too for the first rows after a place.
    pub async fn metering_report_part(
        &self,
        filter: ReportFilter,
        after: Option<ReportPlace>,
        limit: usize,
    ) -> Result<ReportPart, StoreError> {
        self.read_at_length(move |connection| {
            part_in(connection, filter, FirstRows::of(after, limit)).during("sum a month's ledger")
        })
        .await
    }
}

/// The first rows after a place, of records that come in any order.
struct FirstRows {
    after: Option<ReportPlace>,
    /// The most rows, one more than are shown.
    most: usize,
    rows: BTreeMap<ReportPlace, Sums>,
}

impl FirstRows {
    fn of(after: Option<ReportPlace>, limit: usize) -> Self {
        Self { after, most: limit + 1, rows: BTreeMap::new() }
    }

    /// Returns the sums of a record's row, if it is one of the first as far as is known. Those that turn out not to be are
    /// let go, and none of them comes back: the last of the first only moves to the front.
    fn of_row(&mut self, product: &str, customer: &str, dimension: &str) -> Option<&mut Sums> {
        let place = (product, customer, dimension);
        if self.after.as_ref().is_some_and(|after| place <= words(after)) {
            return None;
        }
        let is_full = self.rows.len() >= self.most;
        let last = self.rows.last_key_value().map(|(last, _)| words(last));
        if is_full && last.is_some_and(|last| place > last) {
            return None;
        }
        let key = (product.to_owned(), customer.to_owned(), dimension.to_owned());
        if is_full && !self.rows.contains_key(&key) {
            self.rows.pop_last();
        }
        Some(self.rows.entry(key).or_default())
    }

    /// Returns the rows in their order, and the place of the last if there are more.
    fn into_rows(mut self) -> (Vec<ReportRow>, Option<ReportPlace>) {
        let more = self.rows.len() >= self.most && self.rows.pop_last().is_some();
        let next = self.rows.last_key_value().map(|(place, _)| place.clone()).filter(|_| more);
        let rows = self.rows.into_iter().map(|((product, customer, dimension), sums)| {
            let ids = (ProductId::new(product), DimensionKey::new(dimension));
            report_row(ids, CustomerId::new(customer), &sums)
        });
        (rows.collect(), next)
    }
}

fn words((product, customer, dimension): &ReportPlace) -> (&str, &str, &str) {
    (product, customer, dimension)
}

/// Reads the hours' records once.
fn part_in(
    connection: &Connection,
    filter: ReportFilter,
    mut first: FirstRows,
) -> sql::Result<ReportPart> {
    let which = records_of(filter);
    let mut select = connection.prepare_cached(&statement(&which))?;
    let mut rows = select.query(&*which.values())?;
    let (mut products, mut dimensions) = (Names::default(), Names::default());
    let mut totals = HashMap::<(usize, usize), Sums>::new();
    while let Some(row) = rows.next()? {
        let (product, dimension) = (row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?);
        let place = (products.place(product), dimensions.place(dimension));
        totals.entry(place).or_default().add(&row)?;
        if let Some(sums) = first.of_row(product, row.get_ref(2)?.as_str()?, dimension) {
            sums.add(&row)?;
        }
    }
    let (products, dimensions) = (products.into_vec(), dimensions.into_vec());
    let mut totals: Vec<ReportTotal> = totals
        .into_iter()
        .filter_map(|((product, dimension), sums)| {
            Some(total(products.get(product)?, dimensions.get(dimension)?, &sums))
        })
        .collect();
    totals
        .sort_unstable_by(|a, b| (&a.product_id, &a.dimension).cmp(&(&b.product_id, &b.dimension)));
    let (mut rows, next) = first.into_rows();
    name_customers(connection, &mut rows)?;
    Ok(ReportPart { totals, rows, next })
}

fn total(product: &str, dimension: &str, sums: &Sums) -> ReportTotal {
    let parts = [sums.accepted, sums.pending, sums.parked, sums.written_off];
    let [accepted, pending, parked, written_off] = parts.map(quantity);
    ReportTotal {
        product_id: ProductId::new(product),
        dimension: DimensionKey::new(dimension),
        records: sums.records,
        usage: sums.usage(),
        carried: sums.carried(),
        units: [quantity(sums.reported()), accepted, pending, parked, written_off],
        uncertain: quantity(sums.uncertain),
    }
}

impl Store {
    /// Returns the first hours of the newest months before an hour in which something was metered, the newest first.
    pub async fn metered_months(
        &self,
        before: ClockHour,
        most: usize,
    ) -> Result<Vec<ClockHour>, StoreError> {
        self.read_at_length(move |connection| metered_months_in(connection, before, most)).await
    }
}

/// One look into the index for each month.
fn metered_months_in(
    connection: &Connection,
    mut before: ClockHour,
    most: usize,
) -> Result<Vec<ClockHour>, StoreError> {
    let mut select = connection.prepare_cached(LAST_HOUR).during("look for the months")?;
    let mut months = Vec::new();
    while months.len() < most {
        let last = select.query_row([before.number()], |row| row.get(0)).optional();
        let Some(last) = last.during("look for a month")? else { break };
        before = ClockHour::from_number(last).month_begin();
        months.push(before);
    }
    Ok(months)
}

const LAST_HOUR: &str =
    "SELECT hour + 0 FROM metering_records WHERE hour + 0 < ?1 ORDER BY hour + 0 DESC LIMIT 1";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::engine::connection::open_writer;
    use crate::store::engine::statements::plan_of;

    /// Records of some customers, products, dimensions and hours, in no order.
    async fn filled(path: &std::path::Path) -> Store {
        let store = Store::open(path).unwrap();
        let mut random = fastrand::Rng::with_seed(7);
        let states = ["open", "ready", "accepted", "parked", "written_off"];
        let rows: Vec<(String, String, String, i64, &str, i64)> = (0..900)
            .map(|number| {
                let customer = format!("c{}", random.u32(0..40));
                let (product, dimension) = (random.u32(0..3), random.u32(0..2));
                let state = states[random.usize(0..states.len())];
                (format!("p{product}"), customer, format!("d{dimension}"), number, state, number)
            })
            .collect();
        let write = store.write(move |connection| {
            for (product, customer, dimension, hour, state, quantity) in &rows {
                connection
                    .execute(
                        "INSERT INTO metering_records (product_id, customer_id, holder, dimension, hour, quantity, state,
                             carried_in, carried_out, remainder)
                         VALUES (?1, ?2, 'agreement:a', ?3, ?4, ?5, ?6, ?5 % 5, ?5 % 3, ?5 % 7)",
                        (product, customer, dimension, hour, quantity, state),
                    )
                    .during("fill")?;
            }
            Ok::<_, StoreError>(())
        });
        write.await.unwrap();
        store
    }

    #[tokio::test]
    async fn the_parts_of_a_month_are_the_month() {
        let folder = tempfile::tempdir().unwrap();
        let store = filled(&folder.path().join("marketd.db")).await;
        let filter = ReportFilter {
            from: ClockHour::from_number(100),
            before: ClockHour::from_number(800),
            product_id: None,
            customer_id: None,
        };
        let whole = store.metering_report(filter.clone()).await.unwrap();
        assert!(whole.len() > 150, "{}", whole.len());
        for limit in [1, 7, 50, whole.len(), whole.len() + 1] {
            let (mut rows, mut after) = (Vec::new(), None);
            let totals = loop {
                let part = store.metering_report_part(filter.clone(), after, limit).await.unwrap();
                assert!(part.rows.len() <= limit);
                rows.extend(part.rows);
                after = part.next;
                if after.is_none() {
                    break part.totals;
                }
            };
            assert_eq!(rows, whole, "in parts of {limit}");
            let sum = |part: fn(&ReportRow) -> Quantity| whole.iter().map(part).sum::<Quantity>();
            let parts = [
                sum(|it| it.reported),
                sum(|it| it.accepted),
                sum(|it| it.pending),
                sum(|it| it.parked),
                sum(|it| it.written_off),
            ];
            for (place, part) in parts.into_iter().enumerate() {
                assert_eq!(totals.iter().map(|it| it.units[place]).sum::<Quantity>(), part);
            }
            let net = |it: &ReportTotal| it.usage.millionths() + it.carried.millionths();
            assert!(totals.iter().all(|it| net(it) == it.units[0].millionths()));
            let usage = sum(|it| it.usage);
            assert_ne!(usage, sum(|it| it.reported));
            assert_eq!(totals.iter().map(|it| it.usage).sum::<Quantity>(), usage);
            let carried = whole.iter().map(|it| it.carried.millionths()).sum::<i64>();
            assert_eq!(totals.iter().map(|it| it.carried.millionths()).sum::<i64>(), carried);
            assert_eq!(totals.iter().map(|it| it.records).sum::<i64>(), 700);
        }
        store.close();
    }

    #[test]
    fn each_month_with_a_record_is_found_by_one_look_into_the_index() {
        let folder = tempfile::tempdir().unwrap();
        let connection = open_writer(&folder.path().join("marketd.db")).unwrap();
        let plan = plan_of(&connection, LAST_HOUR);
        assert!(plan.len() == 1 && plan[0].contains("metering_records_by_hour"), "{plan:?}");
        let hour = |text: &str| ClockHour::of(text.parse().unwrap());
        for at in ["2025-12-31T23:00:00Z", "2026-09-30T23:00:00Z", "2026-09-01T00:00:00Z"] {
            connection
                .execute(
                    "INSERT INTO metering_records (product_id, customer_id, holder, dimension, hour, quantity, state)
                     VALUES ('p', 'c', '', 'd', ?1, 1, 'open')",
                    [hour(at).number()],
                )
                .unwrap();
        }
        let begin = |month: &str| hour(&format!("{month}-01T00:00:00Z"));
        let found = |most| metered_months_in(&connection, begin("2026-11"), most).unwrap();
        assert_eq!(found(10), [begin("2026-09"), begin("2025-12")]);
        assert_eq!(found(1), [begin("2026-09")]);
    }
}
