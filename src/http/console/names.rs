//! What things are called: products, plans, features and customers by their ids, which say little to people.

use std::collections::HashMap;

use super::parts::{grouped, words};
use crate::diagnosis::Surface;
use crate::domain::{CustomerId, FeatureId, Id, PlanId, ProductId};
use crate::http::{ApiState, Problem};

/// The names that a page may need.
#[derive(Default)]
pub(super) struct Names {
    products: HashMap<ProductId, String>,
    plans: HashMap<PlanId, String>,
    features: HashMap<FeatureId, String>,
    customers: HashMap<CustomerId, String>,
}

impl Names {
    /// Returns the names of the catalogue.
    pub(super) async fn of(state: &ApiState) -> Result<Self, Problem> {
        Ok(Self {
            products: state.store.product_names().await?.into_iter().collect(),
            plans: state.store.plan_names().await?.into_iter().collect(),
            features: state.store.feature_names().await?.into_iter().collect(),
            customers: HashMap::new(),
        })
    }

    /// Returns them with the names of these customers.
    pub(super) async fn and_customers<'a>(
        mut self,
        state: &ApiState,
        ids: impl IntoIterator<Item = &'a CustomerId>,
    ) -> Result<Self, Problem> {
        let ids = ids.into_iter().cloned().collect();
        self.customers.extend(state.store.customer_names(ids).await?);
        Ok(self)
    }

    /// Returns the title of a product.
    pub(super) fn product<'a>(&'a self, id: &'a ProductId) -> &'a str {
        called(&self.products, id)
    }

    /// Returns the name of a plan.
    pub(super) fn plan<'a>(&'a self, id: &'a PlanId) -> &'a str {
        called(&self.plans, id)
    }

    /// Returns the name of a feature.
    pub(super) fn feature<'a>(&'a self, id: &'a FeatureId) -> &'a str {
        called(&self.features, id)
    }

    /// Returns the name of a customer.
    pub(super) fn customer<'a>(&'a self, id: &'a CustomerId) -> &'a str {
        called(&self.customers, id)
    }
}

/// Returns the name of what has an id; the id itself where none is known.
fn called<'a, K>(names: &'a HashMap<Id<K>, String>, id: &'a Id<K>) -> &'a str {
    names.get(id).map_or(id.as_str(), String::as_str)
}

impl Surface for Names {
    fn product(&self, id: &ProductId) -> String {
        Self::product(self, id).to_owned()
    }

    fn title(&self, id: &ProductId) -> String {
        Self::product(self, id).to_owned()
    }

    fn plan(&self, id: &PlanId) -> String {
        format!("plan {}", Self::plan(self, id))
    }

    fn parked(&self, reason: &str) -> String {
        format!("parked ({})", words(reason))
    }

    fn number(&self, number: &str) -> String {
        grouped(number)
    }
}
