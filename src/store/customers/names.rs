//! What a list of customers shows of each: the name, and what it holds now.

use std::collections::HashMap;

use crate::domain::{CustomerId, PlanId, ProductId, Source};
use crate::store::engine::sql::OptionalExtension;
use crate::store::{During, Store, StoreError};

/// The most subscriptions of a customer that are named.
const HELD: u32 = 4;

/// A live subscription of a customer, as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The plan, where there is one.
    pub plan_id: Option<PlanId>,
    /// The product that was bought.
    pub product_id: Option<ProductId>,
    /// Where it was bought.
    pub source: Source,
}

impl Store {
    /// Returns the names of customers who have one.
    pub async fn customer_names(
        &self,
        ids: Vec<CustomerId>,
    ) -> Result<HashMap<CustomerId, String>, StoreError> {
        self.read(move |connection| {
            let mut select = connection
                .prepare_cached("SELECT name FROM customers WHERE id = ?1")
                .during("read the names of customers")?;
            let mut names = HashMap::new();
            for id in &ids {
                let name: Option<Option<String>> = select
                    .query_row([id.as_str()], |row| row.get(0))
                    .optional()
                    .during("read the names of customers")?;
                names.extend(name.flatten().map(|name| (id.clone(), name)));
            }
            Ok(names)
        })
        .await
    }

    /// Returns what customers hold now, the first few of each.
    pub async fn live_holdings(
        &self,
        ids: Vec<CustomerId>,
    ) -> Result<HashMap<CustomerId, Vec<Holding>>, StoreError> {
        self.read(move |connection| {
            let mut select = connection
                .prepare_cached(
                    "SELECT plan_id, product_id, source FROM subscriptions
                     WHERE customer_id = ?1 AND ended_at_ms IS NULL AND status <> 'failed' ORDER BY id LIMIT ?2",
                )
                .during("list what customers hold")?;
            let mut held = HashMap::new();
            for id in ids {
                let holdings: Vec<Holding> = select
                    .query_map((id.as_str(), HELD), |row| {
                        let source: String = row.get(2)?;
                        Ok(Holding {
                            plan_id: row.get::<_, Option<String>>(0)?.map(PlanId::new),
                            product_id: row.get::<_, Option<String>>(1)?.map(ProductId::new),
                            source: if source == "aws" { Source::Aws } else { Source::Direct },
                        })
                    })
                    .and_then(Iterator::collect)
                    .during("list what customers hold")?;
                held.insert(id, holdings);
            }
            Ok(held)
        })
        .await
    }
}
