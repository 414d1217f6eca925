//! The subscriptions of a licence whose id people have without the ARN around it.

use crate::domain::SubscriptionId;
use crate::store::engine::sql::{self, Connection, OptionalExtension};
use crate::store::{During, Store, StoreError};

/// The most subscriptions that are returned.
const MOST: u32 = 20;
/// The most beginnings of ARNs that are tried: AWS prints few, since the account in them is its own.
const BEGINNINGS: usize = 16;

impl Store {
    /// Returns the first subscriptions of a licence by the last part of its ARN, as `l-0123…`.
    pub async fn subscriptions_of_license_id(
        &self,
        id: String,
    ) -> Result<Vec<SubscriptionId>, StoreError> {
        self.read(move |connection| {
            let mut found = Vec::new();
            for beginning in beginnings_in(connection)? {
                found.extend(subscriptions_in(connection, &format!("{beginning}{id}"))?);
            }
            Ok(found)
        })
        .await
    }
}

/// Reads with what the licences' ARNs begin, up to their ids: a step of the index for each.
fn beginnings_in(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let mut beginnings = Vec::new();
    let mut after = String::new();
    while beginnings.len() < BEGINNINGS {
        let next: Option<String> = connection
            .prepare_cached(
                "SELECT license_arn FROM subscriptions
                 WHERE license_arn IS NOT NULL AND license_arn > ?1 ORDER BY license_arn LIMIT 1",
            )
            .and_then(|mut select| select.query_row([&after], |row| row.get(0)).optional())
            .during("look for the beginnings of licences")?;
        let Some(arn) = next else { break };
        let length = arn.rfind([':', '/']).map_or(0, |place| place + 1);
        if length == 0 {
            after = arn;
            continue;
        }
        // The last character there is: no ARN that begins so is behind it.
        after = format!("{}\u{10ffff}", &arn[..length]);
        beginnings.push(arn[..length].to_owned());
    }
    Ok(beginnings)
}

fn subscriptions_in(connection: &Connection, arn: &str) -> Result<Vec<SubscriptionId>, StoreError> {
    connection
        .prepare_cached("SELECT id FROM subscriptions WHERE license_arn = ?1 ORDER BY id LIMIT ?2")
        .and_then(|mut select| {
            let id = |row: &sql::Row<'_>| row.get::<_, String>(0);
            select.query_map((arn, MOST), id)?.collect::<Result<Vec<_>, _>>()
        })
        .map(|ids| ids.into_iter().map(SubscriptionId::new).collect())
        .during("look for a licence's subscriptions")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::test_database::open_store;

    #[tokio::test]
    async fn a_licence_is_found_by_its_id_in_whatever_form_aws_prints_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = open_store(&folder.path().join("m.db"));
        let arns = [
            "arn:aws:license-manager::294406891311:license:l-1",
            "arn:aws:license-manager::294406891311:license:l-11",
            "aws:license-manager:us-east-1:123456789012:l-2",
            "arn:aws:license-manager:us-east-1:123456789012:license/lic-3",
            "l-4",
        ];
        let rows = arns.iter().enumerate().map(|(number, arn)| {
            format!(
                "INSERT INTO subscriptions (id, customer_id, product_id, source, holder, license_arn, status,
                     created_at_ms, updated_at_ms)
                 VALUES ('sub-{number}', 'acme', 'p', 'aws', 'license:{arn}', '{arn}', 'active', 0, 0);"
            )
        });
        let customer = "INSERT INTO customers (id, claimed, created_at_ms, updated_at_ms) VALUES ('acme', 1, 0, 0);";
        let statements = format!("{customer}{}", rows.collect::<String>());
        store.write(move |it| it.execute_batch(&statements).during("test")).await.unwrap();
        for (id, expected) in [
            ("l-1", &["sub-0"] as &[&str]),
            ("l-11", &["sub-1"]),
            ("l-2", &["sub-2"]),
            ("lic-3", &["sub-3"]),
            ("l-3", &[]),
            ("", &[]),
        ] {
            let found = store.subscriptions_of_license_id(id.to_owned()).await.unwrap();
            let found: Vec<&str> = found.iter().map(SubscriptionId::as_str).collect();
            assert_eq!(found, expected, "{id}");
        }
        store.close();
    }
}
