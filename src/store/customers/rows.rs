//! Customers as they are kept: provisioned by the seller, or known from AWS alone.

use jiff::Timestamp;

use super::identities::identities_in;
use crate::domain::{BuyerRef, Customer, CustomerId};
use crate::store::base::aliases::canonical_in;
use crate::store::base::columns::{millis, optional_timestamp, timestamp};
use crate::store::engine::sql::{Connection, OptionalExtension};
use crate::store::{During, Store, StoreError};

impl Store {
    /// Returns the customer with this id, or the one that an alias leads to.
    pub async fn customer(&self, id: CustomerId) -> Result<Option<Customer>, StoreError> {
        self.read(move |connection| {
            let Some(id) = canonical_in(connection, &id)? else {
                return Ok(None);
            };
            customer_in(connection, &id)
        })
        .await
    }

    /// Reports whether no look at AWS is outstanding for a customer.
    pub async fn customer_is_settled(
        &self,
        id: CustomerId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.read(move |connection| {
            let outstanding: bool = connection
                .prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM identities i
                     JOIN buyers b ON b.kind = i.kind AND b.value = i.value
                     WHERE i.customer_id = ?1 AND b.due_at_ms <= ?2)",
                )
                .and_then(|mut select| {
                    select.query_row((id.as_str(), millis(now)), |row| row.get(0))
                })
                .during("look for outstanding looks")?;
            Ok(!outstanding)
        })
        .await
    }
}

/// Reports whether the seller has named a customer.
pub(crate) fn is_claimed_in(connection: &Connection, id: &CustomerId) -> Result<bool, StoreError> {
    connection
        .prepare_cached("SELECT 1 FROM customers WHERE id = ?1 AND claimed = 1")
        .and_then(|mut select| select.exists([id.as_str()]))
        .during("see whether a customer is claimed")
}

pub(crate) fn customer_in(
    connection: &Connection,
    id: &CustomerId,
) -> Result<Option<Customer>, StoreError> {
    let found = connection
        .prepare_cached("SELECT * FROM customers WHERE id = ?1")
        .and_then(|mut select| {
            select
                .query_row([id.as_str()], |row| {
                    let metadata: String = row.get("metadata")?;
                    Ok(Customer {
                        id: id.clone(),
                        name: row.get("name")?,
                        email: row.get("email")?,
                        claimed: row.get("claimed")?,
                        aws: crate::domain::AwsIdentity::default(),
                        aliases: Vec::new(),
                        metadata: serde_json::from_str(&metadata).unwrap_or_default(),
                        created_at: timestamp(row.get("created_at_ms")?),
                        updated_at: timestamp(row.get("updated_at_ms")?),
                        erased_at: optional_timestamp(row.get("erased_at_ms")?),
                    })
                })
                .optional()
        })
        .during("read a customer")?;
    let Some(mut customer) = found else {
        return Ok(None);
    };
    for (kind, value) in identities_in(connection, id)? {
        match BuyerRef::from_parts(&kind, value) {
            Some(BuyerRef::Account(account)) => customer.aws.account_id = Some(account),
            Some(BuyerRef::CustomerIdentifier(it)) => customer.aws.customer_identifier = Some(it),
            Some(BuyerRef::License(arn)) => customer.aws.license_arns.push(arn),
            None => {}
        }
    }
    customer.aliases = connection
        .prepare_cached("SELECT alias FROM customer_aliases WHERE customer_id = ?1 ORDER BY alias")
        .and_then(|mut select| {
            select
                .query_map([id.as_str()], |row| row.get::<_, String>(0).map(CustomerId::new))?
                .collect()
        })
        .during("read a customer's aliases")?;
    Ok(Some(customer))
}
