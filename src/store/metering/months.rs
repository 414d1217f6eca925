//! The months in which something was metered.

use crate::domain::ClockHour;
use crate::store::engine::sql::{Connection, OptionalExtension as _};
use crate::store::{During, Store, StoreError};

impl Store {
    /// Returns the first hours of the newest months before an hour in which something was metered, the newest first.
    pub async fn metered_months(
        &self,
        before: ClockHour,
        most: usize,
    ) -> Result<Vec<ClockHour>, StoreError> {
        self.read(move |connection| metered_months_in(connection, before, most)).await
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
