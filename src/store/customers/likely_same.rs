//! Customers who may be one buyer: AWS has told the one by its account, the other by its `CustomerIdentifier`, and both
//! bought the same product at the same time.
//!
//! Nothing is joined by that: two buyers may well buy within a minute. A person is told.

use crate::domain::{Customer, CustomerId};
use crate::store::customers::rows::customer_in;
use crate::store::engine::sql::Connection;
use crate::store::{During, Store, StoreError};

/// The time within which AWS tells one purchase in both ways.
const NEAR_MS: i64 = 15 * 60 * 1_000;
/// The most customers that are named.
const MOST: u32 = 5;

/// Those whom AWS has told by name, for one of whom it has told the account: of a licence that it has no subscription by.
const BY_NAME: &str =
    "SELECT DISTINCT s.customer_id FROM identities i
     JOIN licenses l ON l.account_id = i.value
     JOIN agreements a ON a.agreement_id = l.agreement_id
     JOIN products p ON p.code = l.product_code
     JOIN subscriptions s ON coalesce(s.starts_at_ms, s.created_at_ms) >= a.starts_at_ms - ?2
         AND coalesce(s.starts_at_ms, s.created_at_ms) <= a.starts_at_ms + ?2
         AND s.status <> 'failed' AND s.status <> 'pending'
     WHERE i.customer_id = ?1 AND i.kind = 'account_id'
       AND s.product_id = p.id AND s.customer_identifier IS NOT NULL AND s.customer_id <> ?1
       AND NOT EXISTS (SELECT 1 FROM identities o WHERE o.customer_id = s.customer_id AND o.kind = 'account_id')
       AND NOT EXISTS (SELECT 1 FROM identities o WHERE o.customer_id = ?1 AND o.kind = 'customer_identifier')
       AND NOT EXISTS (SELECT 1 FROM subscriptions o WHERE o.customer_id = ?1 AND o.product_id = p.id)
     LIMIT ?3";

/// The other way round. Whoever is known by an account alone and has no subscription is hardly ever claimed, and is among
/// the newest of the others.
const BY_ACCOUNT: &str =
    "SELECT DISTINCT i.customer_id FROM (SELECT id FROM customers WHERE claimed = 0
         ORDER BY created_at_ms DESC LIMIT 200) c
     JOIN identities i ON i.customer_id = c.id AND i.kind = 'account_id'
     JOIN licenses l ON l.account_id = i.value
     JOIN agreements a ON a.agreement_id = l.agreement_id
     JOIN products p ON p.code = l.product_code
     JOIN subscriptions s ON s.customer_id = ?1 AND s.product_id = p.id
     WHERE s.customer_identifier IS NOT NULL AND c.id <> ?1
       AND coalesce(s.starts_at_ms, s.created_at_ms) >= a.starts_at_ms - ?2
       AND coalesce(s.starts_at_ms, s.created_at_ms) <= a.starts_at_ms + ?2
       AND NOT EXISTS (SELECT 1 FROM identities o WHERE o.customer_id = ?1 AND o.kind = 'account_id')
       AND NOT EXISTS (SELECT 1 FROM identities o WHERE o.customer_id = c.id AND o.kind = 'customer_identifier')
       AND NOT EXISTS (SELECT 1 FROM subscriptions o WHERE o.customer_id = c.id AND o.product_id = p.id)
     LIMIT ?3";

impl Store {
    /// Lists customers who may be the same buyer as this one.
    pub async fn likely_same(&self, id: CustomerId) -> Result<Vec<Customer>, StoreError> {
        self.read(move |connection| {
            let mut found = Vec::new();
            for statement in [BY_NAME, BY_ACCOUNT] {
                for other in others_in(connection, statement, &id)? {
                    found.extend(customer_in(connection, &other)?);
                }
            }
            Ok(found)
        })
        .await
    }
}

fn others_in(
    connection: &Connection,
    statement: &str,
    id: &CustomerId,
) -> Result<Vec<CustomerId>, StoreError> {
    connection
        .prepare_cached(statement)
        .and_then(|mut select| {
            let other = |row: &crate::store::engine::sql::Row<'_>| {
                row.get::<_, String>(0).map(CustomerId::new)
            };
            select.query_map((id.as_str(), NEAR_MS, MOST), other)?.collect()
        })
        .during("look for customers who may be the same buyer")
}
