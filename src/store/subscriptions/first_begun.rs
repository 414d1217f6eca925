//! When a sale first began: a renewal moves the beginning of the subscription that it continues, or opens another.

use jiff::Timestamp;

use crate::domain::{AgreementId, Holder, ProductId, Subscription};
use crate::store::base::columns::timestamp;
use crate::store::engine::sql::{Connection, OptionalExtension as _};
use crate::store::{During, Store, StoreError};

/// The most links of a chain that are followed.
const LINKS: usize = 100;

impl Store {
    /// Returns when each of these was first bought, by what is known of the agreements and subscriptions that it continues.
    pub async fn first_begun(
        &self,
        subscriptions: Vec<Subscription>,
    ) -> Result<Vec<Option<Timestamp>>, StoreError> {
        self.read(move |connection| {
            subscriptions.iter().map(|it| first_begun_in(connection, it)).collect()
        })
        .await
    }
}

fn first_begun_in(
    connection: &Connection,
    subscription: &Subscription,
) -> Result<Option<Timestamp>, StoreError> {
    let terms = &subscription.terms;
    let mut first = terms.starts_at;
    let mut earlier = |at: Option<Timestamp>| first = [first, at].into_iter().flatten().min();
    earlier(of_agreements(connection, terms.agreement_id.as_ref())?);
    let mut holder = terms.holder.as_ref().map(Holder::to_string);
    for _ in 0..LINKS {
        let Some(follower) = holder.take() else { break };
        let before: Option<(String, Option<i64>, Option<String>)> = connection
            .prepare_cached(
                "SELECT holder, starts_at_ms, agreement_id FROM subscriptions
                 WHERE customer_id = ?1 AND product_id IS NOT DISTINCT FROM CAST(?2 AS TEXT) AND renewed_by = ?3
                     AND holder <> ?3
                 ORDER BY starts_at_ms LIMIT 1",
            )
            .and_then(|mut select| {
                let product = subscription.product_id.as_ref().map(ProductId::as_str);
                let key = (subscription.customer_id.as_str(), product, follower.as_str());
                select.query_row(key, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()
            })
            .during("find what a subscription continues")?;
        let Some((before, starts_at, agreement)) = before else { break };
        earlier(starts_at.map(timestamp));
        earlier(of_agreements(connection, agreement.map(AgreementId::new).as_ref())?);
        holder = Some(before);
    }
    Ok(first)
}

/// Returns when the first of the agreements that one continues began.
fn of_agreements(
    connection: &Connection,
    agreement: Option<&AgreementId>,
) -> Result<Option<Timestamp>, StoreError> {
    let mut first = None;
    let mut chain: Vec<String> = agreement.map(|it| it.as_str().to_owned()).into_iter().collect();
    let mut next = 0;
    while let Some(id) = chain.get(next).filter(|_| next < LINKS) {
        next += 1;
        let found: Option<(Option<i64>, Option<String>, Option<String>)> = connection
            .prepare_cached(
                "SELECT starts_at_ms, previous_agreement_id, initial_agreement_id FROM agreements
                 WHERE agreement_id = ?1",
            )
            .and_then(|mut select| {
                let read = |row: &crate::store::engine::sql::Row<'_>| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                };
                select.query_row([id.as_str()], read).optional()
            })
            .during("find what an agreement continues")?;
        let Some((starts_at, previous, initial)) = found else { continue };
        first = [first, starts_at].into_iter().flatten().min();
        for other in [previous, initial].into_iter().flatten() {
            if !chain.contains(&other) {
                chain.push(other);
            }
        }
    }
    Ok(first.map(timestamp))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::SubscriptionId;
    use crate::store::engine::connection::open_writer;
    use crate::store::subscriptions::rows::subscription_in;

    #[test]
    fn a_sale_began_with_the_first_of_what_it_continues() {
        let folder = tempfile::tempdir().unwrap();
        let connection = open_writer(&folder.path().join("marketd.db")).unwrap();
        connection
            .execute("INSERT INTO customers (id, claimed, created_at_ms, updated_at_ms) VALUES ('c', 1, 0, 0)", [])
            .unwrap();
        let agreements = [
            ("a1", None, None, Some(1_000)),
            ("a2", Some("a1"), Some("a1"), Some(2_000)),
            ("a3", Some("unheard"), Some("a1"), Some(3_000)),
            // One that names itself, and two that name each other.
            ("self", Some("self"), None, Some(4_000)),
            ("x", Some("y"), None, Some(6_000)),
            ("y", Some("x"), None, Some(5_000)),
        ];
        for (id, previous, initial, at) in agreements {
            connection
                .execute(
                    "INSERT INTO agreements (agreement_id, previous_agreement_id, initial_agreement_id, starts_at_ms)
                     VALUES (?1, ?2, ?3, ?4)",
                    (id, previous, initial, at),
                )
                .unwrap();
        }
        let held = [
            ("renewed", "license:2", "a2", None, 2_000),
            ("old", "license:old", "self", Some("license:new"), 4_000),
            ("new", "license:new", "x", None, 6_000),
            ("gap", "license:3", "a3", None, 3_000),
        ];
        for (id, holder, agreement, renewed_by, at) in held {
            connection
                .execute(
                    "INSERT INTO subscriptions (id, customer_id, product_id, source, holder, agreement_id, renewed_by,
                         status, starts_at_ms, created_at_ms, updated_at_ms, ended_at_ms)
                     VALUES (?1, 'c', 'p', 'aws', ?2, ?3, ?4, 'active', ?5, 0, 0, 9000)",
                    (id, holder, agreement, renewed_by, at),
                )
                .unwrap();
        }
        for (id, expected) in [("renewed", 1), ("old", 4), ("new", 4), ("gap", 1)] {
            let held = subscription_in(&connection, &SubscriptionId::new(id)).unwrap().unwrap();
            assert_eq!(held.product_id, Some(ProductId::new("p")));
            let first = first_begun_in(&connection, &held).unwrap().unwrap();
            assert_eq!(first.as_second(), expected, "{id}");
        }
    }
}
