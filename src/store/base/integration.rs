//! The connection to the seller's AWS account, as it was made.

use jiff::Timestamp;

use super::columns::{millis, timestamp};
use crate::domain::integration::{Identity, Role};
use crate::store::engine::sql::{Connection, OptionalExtension, named_params};
use crate::store::{During, Store, StoreError};

/// The connection as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntegrationRow {
    /// The role; that of before once it was removed, which is offered when it is connected again.
    pub role_arn: Option<String>,
    /// The external id, which outlives the role so that connecting again needs no new trust policy.
    pub external_id: String,
    /// The account that the role led to.
    pub seller_account_id: Option<String>,
    /// `none`, `connected` or `removed`.
    pub state: String,
    /// The checks that were made, as JSON.
    pub checks: String,
    /// The time at which it last changed.
    pub updated_at: Timestamp,
}

impl IntegrationRow {
    /// Reports whether the integration was removed: nothing is called until it is connected again.
    pub fn is_removed(&self) -> bool {
        self.state == "removed"
    }

    /// Reports whether calls are made with its role: one that was removed keeps it only to be offered.
    pub fn is_connected(&self) -> bool {
        self.role_arn.is_some() && !self.is_removed()
    }

    /// Returns the identity that calls are made with.
    pub fn into_identity(self) -> Identity {
        if self.is_removed() {
            return Identity::Removed;
        }
        match self.role_arn {
            Some(arn) => {
                let external_id = Some(self.external_id).filter(|id| !id.is_empty());
                Identity::Role(Role { arn, external_id })
            }
            None => Identity::Environment,
        }
    }

    /// Returns a connection by the role of this name, with an external id of the seller's.
    #[cfg(test)]
    pub(crate) fn of_role(name: &str, now: Timestamp) -> Self {
        Self {
            role_arn: Some(format!("arn:aws:iam::111122223333:role/{name}")),
            external_id: "theirs".into(),
            seller_account_id: None,
            state: "connected".into(),
            checks: "[]".into(),
            updated_at: now,
        }
    }
}

impl Store {
    /// Returns the connection, if one was ever made.
    pub async fn integration(&self) -> Result<Option<IntegrationRow>, StoreError> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT * FROM integration WHERE id = 1")
                .and_then(|mut select| {
                    select
                        .query_row([], |row| {
                            Ok(IntegrationRow {
                                role_arn: row.get("role_arn")?,
                                external_id: row.get("external_id")?,
                                seller_account_id: row.get("seller_account_id")?,
                                state: row.get("state")?,
                                checks: row.get("checks")?,
                                updated_at: timestamp(row.get("updated_at_ms")?),
                            })
                        })
                        .optional()
                })
                .during("read the integration")
        })
        .await
    }

    /// Keeps that there is no connection any more.
    pub async fn disconnect(&self, row: IntegrationRow) -> Result<(), StoreError> {
        self.write(move |connection| save_in(connection, &row)).await
    }

    /// Returns the external id, which is this one from now on where there was none.
    ///
    /// That is nobody's doing, even if somebody asked for it: a role that is refused has changed nothing.
    pub async fn external_id(&self, made: String, now: Timestamp) -> Result<String, StoreError> {
        let keep = move |connection: &Connection| {
            connection
                .prepare_cached(
                    "INSERT INTO integration (id, external_id, state, checks, updated_at_ms)
                     VALUES (1, :made, 'none', '[]', :at)
                     ON CONFLICT (id) DO UPDATE SET
                         external_id = coalesce(nullif(integration.external_id, ''), :made)
                     RETURNING external_id",
                )
                .and_then(|mut upsert| {
                    upsert.query_row(named_params! {":made": made, ":at": millis(now)}, |row| {
                        row.get(0)
                    })
                })
                .during("keep the external id")
        };
        self.writer.run(keep).await
    }
}

pub(in crate::store) fn save_in(
    connection: &Connection,
    row: &IntegrationRow,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO integration
                 (id, role_arn, external_id, seller_account_id, state, checks, updated_at_ms)
             VALUES (1, :role, :external, :account, :state, :checks, :at)
             ON CONFLICT (id) DO UPDATE SET role_arn = :role, external_id = :external,
                 seller_account_id = :account, state = :state, checks = :checks,
                 updated_at_ms = :at",
        )
        .and_then(|mut upsert| {
            upsert.post(named_params! {
                ":role": row.role_arn, ":external": row.external_id,
                ":account": row.seller_account_id, ":state": row.state,
                ":checks": row.checks, ":at": millis(row.updated_at),
            })
        })
        .during("save the integration")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::test_database::open_store;

    #[tokio::test]
    async fn the_external_id_is_made_once_and_changes_no_connection() {
        let folder = tempfile::tempdir().unwrap();
        let store = open_store(&folder.path().join("m.db"));
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let made = (0..8).map(|number| store.external_id(format!("made-{number}"), now));
        let made: Vec<String> = futures::future::try_join_all(made).await.unwrap();
        assert!(made.iter().all(|id| *id == made[0]), "{made:?}");
        let connected = IntegrationRow::of_role("marketd", now);
        store.connect(connected.clone(), now).await.unwrap();
        assert_eq!(store.external_id("late".into(), now).await.unwrap(), "theirs");
        assert_eq!(store.integration().await.unwrap(), Some(connected.clone()));
        // As it was kept for a role of the settings that asks for none.
        let without = IntegrationRow { external_id: String::new(), ..connected };
        store.connect(without.clone(), now).await.unwrap();
        let Identity::Role(role) = without.into_identity() else { panic!() };
        assert_eq!(role.external_id, None, "STS takes no empty one");
        assert_eq!(store.external_id("late".into(), now).await.unwrap(), "late");
    }
}
