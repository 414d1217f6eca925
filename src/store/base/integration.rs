//! The connection to the seller's AWS account, as it was made.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, named_params};

use super::columns::{millis, timestamp};
use crate::domain::integration::{Identity, Role};
use crate::store::{During, Store, StoreError};

/// The connection as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntegrationRow {
    /// The role; none once it was removed.
    pub role_arn: Option<String>,
    /// The external id, which outlives the role so that connecting again needs no new trust policy.
    pub external_id: String,
    /// The account that the role led to.
    pub seller_account_id: Option<String>,
    /// `none`, `connected` or `removed`.
    pub state: String,
    /// The checks that were made, as JSON.
    pub checks: String,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl IntegrationRow {
    /// Returns the identity that calls are made with.
    pub fn into_identity(self) -> Identity {
        match self.role_arn {
            Some(arn) => Identity::Role(Role { arn, external_id: Some(self.external_id) }),
            None if self.state == "removed" => Identity::Removed,
            None => Identity::Environment,
        }
    }
}

impl Store {
    /// The connection, if one was ever made.
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

    /// Keeps the connection.
    pub async fn save_integration(&self, row: IntegrationRow) -> Result<(), StoreError> {
        self.write(move |connection| {
            connection
                .prepare_cached(
                    "INSERT INTO integration
                         (id, role_arn, external_id, seller_account_id, state, checks, updated_at_ms)
                     VALUES (1, :role, :external, :account, :state, :checks, :at)
                     ON CONFLICT DO UPDATE SET role_arn = :role, external_id = :external,
                         seller_account_id = :account, state = :state, checks = :checks,
                         updated_at_ms = :at",
                )
                .and_then(|mut upsert| {
                    upsert.execute(named_params! {
                        ":role": row.role_arn, ":external": row.external_id,
                        ":account": row.seller_account_id, ":state": row.state,
                        ":checks": row.checks, ":at": millis(row.updated_at),
                    })
                })
                .during("save the integration")?;
            Ok(())
        })
        .await
    }
}
