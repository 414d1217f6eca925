//! What a plan would bill to AWS, and nothing bills.

use super::features::feature_in;
use super::plan_rows::{PlanError, known_plan};
use super::products::product_in;
use crate::domain::plan::Plan;
use crate::domain::unbilled::{UnbilledGrant, unbilled};
use crate::domain::{PlanId, ProductId};
use crate::store::engine::sql::Connection;
use crate::store::{During, Store, StoreError};

impl Store {
    /// Returns the grants of a plan's newest version whose usage nothing bills, though their terms say that it is billed.
    pub async fn unbilled_grants(&self, id: PlanId) -> Result<Vec<UnbilledGrant>, PlanError> {
        self.read(move |connection| Ok(unbilled_in(connection, &known_plan(connection, &id)?)?))
            .await
    }
}

pub(crate) fn unbilled_in(
    connection: &Connection,
    plan: &Plan,
) -> Result<Vec<UnbilledGrant>, StoreError> {
    let sold: Vec<String> = connection
        .prepare_cached(
            "SELECT product_id FROM dimensions WHERE plan_id = ?1 AND removed_at_ms IS NULL
             UNION SELECT id FROM products WHERE usage_plan_id = ?1 ORDER BY 1",
        )
        .and_then(|mut select| select.query_map([plan.id.as_str()], |row| row.get(0))?.collect())
        .during("read with what a plan is sold")?;
    if sold.is_empty() {
        return Ok(Vec::new());
    }
    let mut products = Vec::with_capacity(sold.len());
    for id in sold {
        products.extend(product_in(connection, &ProductId::new(id))?);
    }
    let mut features = Vec::new();
    for grant in plan.newest() {
        features.extend(feature_in(connection, &grant.feature_id)?);
    }
    Ok(unbilled(plan.newest(), &features, &products))
}
