//! Connecting to the seller's account, and making due what was put off until then.

use jiff::Timestamp;

use crate::store::base::integration::{IntegrationRow, save_in};
use crate::store::buyers::due::hasten_in;
use crate::store::metering::waiting::make_all_due_in;
use crate::store::{Store, StoreError};

impl Store {
    /// Keeps a connection, and makes due at once whatever was put off while AWS could not be called.
    /// Nobody is told of it yet: the connection is not in use.
    pub async fn connect(&self, row: IntegrationRow, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |connection| {
            save_in(connection, &row)?;
            hasten_in(connection, now)?;
            make_all_due_in(connection, now)?;
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::store::During;
    use crate::store::base::columns::millis;
    use crate::store::engine::sql::Connection;
    use crate::store::test_database::open_store;

    #[tokio::test]
    async fn what_was_put_off_is_due_by_the_same_commit_that_keeps_the_connection() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.db");
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let later = millis(now) + 3_600_000;
        let store = open_store(&path);
        let put_off = move |connection: &Connection| {
            let insert = format!(
                "INSERT INTO buyers (product_code, kind, value, due_at_ms, attempts, last_error)
                 VALUES ('abc', 'account_id', '1', {later}, 9, 'no role'),
                        ('abc', 'account_id', '2', {later}, 0, NULL)"
            );
            connection.execute_batch(&insert).during("put off")
        };
        store.write(put_off).await.unwrap();
        store.connect(IntegrationRow::of_role("marketd", now), now).await.unwrap();
        let due = |connection: &Connection| {
            let mut select =
                connection.prepare_cached("SELECT due_at_ms FROM buyers ORDER BY value");
            let due = select.as_mut().unwrap().query_map([], |row| row.get(0)).unwrap();
            due.collect::<Result<Vec<i64>, _>>().during("look")
        };
        assert_eq!(store.read(due).await.unwrap(), [millis(now), later]);
        store.close();
    }
}
