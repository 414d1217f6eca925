//! Subscriptions over time: how many were in force at the end of each day, and how many began and ended on it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::domain::series::Step;
use crate::store::base::columns::{millis, timestamp};
use crate::store::engine::sql::{self, Connection};
use crate::store::{During, Store, StoreError};

/// The subscriptions of a day. Those that failed were never in force, and are not among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionDay {
    /// The day's beginning.
    pub at: Timestamp,
    /// The number in force at its end, or now.
    pub in_force: u64,
    /// The number that began on it.
    pub began: u64,
    /// The number that ended on it, by the status that they ended with.
    pub ended: BTreeMap<String, u64>,
}

impl Store {
    /// Counts the subscriptions of the last days, today among them, the first day first.
    pub async fn subscription_days(
        &self,
        days: u32,
        now: Timestamp,
    ) -> Result<Vec<SubscriptionDay>, StoreError> {
        self.read_at_length(move |connection| {
            days_in(connection, days, now).during("count subscriptions over time")
        })
        .await
    }
}

const IN_FORCE: &str =
    "SELECT count(*) FROM subscriptions WHERE status || '' IN ('trialing', 'active', 'ending')";
const BEGAN: &str = "SELECT count(*) FROM subscriptions
    WHERE coalesce(starts_at_ms, created_at_ms) >= ?1 AND coalesce(starts_at_ms, created_at_ms) < ?2
        AND status <> 'failed' AND status <> 'pending'";
const ENDED: &str = "SELECT status, ended_at_ms FROM subscriptions
    WHERE ended_at_ms IS NOT NULL AND ended_at_ms >= ?1 AND ended_at_ms < ?2
        AND status <> 'failed' AND status <> 'pending'";

/// Goes back from now: what began on a day was not in force before it, and what ended on it was.
fn days_in(
    connection: &Connection,
    days: u32,
    now: Timestamp,
) -> sql::Result<Vec<SubscriptionDay>> {
    let length = Step::Day.length();
    let mut at = Step::Day.begin(now);
    let count = |sql: &str, values: (i64, i64)| -> sql::Result<i64> {
        connection.prepare_cached(sql)?.query_row(values, |row| row.get(0))
    };
    let mut in_force: i64 = connection.prepare_cached(IN_FORCE)?.query_row([], |row| row.get(0))?;
    let mut found = Vec::new();
    for _ in 0..days {
        let (first, end) = (millis(at), millis(at.saturating_add(length).unwrap_or(at)));
        let began = count(BEGAN, (first, end))?;
        let ended = ended_in(connection, first, end)?;
        let gone: u64 = ended.values().sum();
        let (shown, begun) = (number(in_force), number(began));
        found.push(SubscriptionDay { at: timestamp(first), in_force: shown, began: begun, ended });
        in_force = in_force - began + i64::try_from(gone).unwrap_or(0);
        at = at.saturating_sub(length).unwrap_or(at);
    }
    found.reverse();
    Ok(found)
}

fn ended_in(connection: &Connection, first: i64, end: i64) -> sql::Result<BTreeMap<String, u64>> {
    let mut ended = BTreeMap::new();
    let mut select = connection.prepare_cached(ENDED)?;
    let mut rows = select.query((first, end))?;
    while let Some(row) = rows.next()? {
        *ended.entry(row.get(0)?).or_default() += 1;
    }
    Ok(ended)
}

fn number(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::engine::connection::open_writer;
    use crate::store::engine::statements::plan_of;

    fn day(number: i64) -> i64 {
        // The 1st of November 2026 is the first of these days.
        (20_758 + number) * 86_400_000
    }

    #[tokio::test]
    async fn each_day_is_the_one_before_with_what_began_and_without_what_ended() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("marketd.db")).unwrap();
        let rows = [
            // status, when it was sold to begin, when it was known, when it ended
            ("active", None, day(-9), None),
            ("active", Some(day(1) + 1), day(0), None),
            ("canceled", Some(day(1) + 5), day(1) + 5, Some(day(2) + 7)),
            ("expired", None, day(-20), Some(day(2))),
            ("failed", Some(day(1)), day(1), Some(day(1) + 1)),
            ("pending", None, day(2), None),
            ("trialing", None, day(3) + 1, None),
        ];
        let fill = store.write(move |connection| {
            connection
                .execute_batch("INSERT INTO customers (id, claimed, created_at_ms, updated_at_ms) VALUES ('c', 1, 0, 0)")
                .during("fill")?;
            for (number, (status, starts, created, ended)) in rows.iter().enumerate() {
                connection
                    .execute(
                        "INSERT INTO subscriptions (id, customer_id, source, holder, status, starts_at_ms, created_at_ms,
                             ended_at_ms, updated_at_ms) VALUES (?1, 'c', 'direct', '', ?2, ?3, ?4, ?5, 0)",
                        (number.to_string(), status, starts, created, ended),
                    )
                    .during("fill")?;
            }
            Ok::<_, StoreError>(())
        });
        fill.await.unwrap();
        let now = timestamp(day(3) + 1_000);
        let days = store.subscription_days(4, now).await.unwrap();
        let shown: Vec<(String, u64, u64, u64)> = days
            .iter()
            .map(|it| {
                (it.at.strftime("%d").to_string(), it.in_force, it.began, it.ended.values().sum())
            })
            .collect();
        let expected = [("01", 2, 0, 0), ("02", 4, 2, 0), ("03", 2, 0, 2), ("04", 3, 1, 0)];
        assert_eq!(shown, expected.map(|(day, a, b, c)| (day.to_owned(), a, b, c)));
        let of_third = [("canceled".to_owned(), 1), ("expired".to_owned(), 1)];
        assert_eq!(days[2].ended, BTreeMap::from(of_third));
        store.close();
    }

    #[test]
    fn it_reads_the_days_alone_by_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let connection = open_writer(&folder.path().join("marketd.db")).unwrap();
        for (statement, index) in [
            (IN_FORCE, "subscriptions_by_status"),
            (BEGAN, "subscriptions_begun"),
            (ENDED, "subscriptions_ended"),
        ] {
            let plan = plan_of(&connection, statement);
            assert!(plan[0].starts_with("SEARCH") && plan[0].contains(index), "{plan:?}");
        }
    }
}
