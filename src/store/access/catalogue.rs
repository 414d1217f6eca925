//! The catalogue as access checks need it: features, and what each published version of a plan grants.

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::feature::{FeatureKind, WhenStale};
use crate::domain::plan::PlanEntitlement;
use crate::domain::terms::EntitlementTerms;
use crate::domain::word::Word;
use crate::domain::{ClockHour, CustomerId, FeatureId, PlanId, ProductId};
use crate::store::catalog::plan_rows::entitlement_row;
use crate::store::engine::sql::{self, Connection, OptionalExtension, Row, Transaction};
use crate::store::{During, Store, StoreError};

/// Every feature and every version of every plan.
#[derive(Debug, Default)]
pub struct CatalogueFacts {
    /// The features.
    pub features: HashMap<FeatureId, Arc<FeatureFacts>>,
    plans: HashMap<PlanId, PlanFacts>,
}

/// A product that bills a feature, and the hour from which on it is metered by licence.
pub type BilledBy = (ProductId, Option<ClockHour>);

/// A feature, as far as checks need it.
#[derive(Debug)]
pub struct FeatureFacts {
    /// The feature.
    pub id: FeatureId,
    /// The kind of feature.
    pub kind: FeatureKind,
    /// The answer where AWS has not been asked for too long.
    pub when_stale: WhenStale,
    /// The products by a dimension of which its usage is billed, each with the hour from which on the product is metered by
    /// licence.
    pub billed: Box<[BilledBy]>,
}

#[derive(Debug)]
struct PlanFacts {
    published: Option<i64>,
    unpublished: Arc<PlanVersion>,
    versions: HashMap<i64, Arc<PlanVersion>>,
}

/// A version of a plan.
#[derive(Debug)]
pub struct PlanVersion {
    /// The plan.
    pub id: PlanId,
    /// The features that it grants; none while the plan was never published.
    pub grants: Option<HashMap<FeatureId, EntitlementTerms>>,
}

impl Store {
    /// Returns every feature and plan.
    pub async fn catalogue_facts(&self) -> Result<CatalogueFacts, StoreError> {
        self.read(catalogue_in).await
    }
}

fn catalogue_in(connection: &Connection) -> Result<CatalogueFacts, StoreError> {
    let during = "read the catalogue";
    let view = Transaction::of_reads(connection).during(during)?;
    let mut catalogue = CatalogueFacts::default();
    let mut features: Vec<FeatureFacts> = view
        .prepare_cached("SELECT id, type, when_stale FROM features")
        .and_then(|mut select| select.query_map([], feature_row)?.collect())
        .during(during)?;
    let mut billed = billed_in(&view)?;
    for feature in &mut features {
        feature.billed = billed.remove(&feature.id).unwrap_or_default().into();
    }
    catalogue.features.extend(features.into_iter().map(|it| (it.id.clone(), Arc::new(it))));
    let granted = view
        .prepare_cached("SELECT * FROM plan_entitlements")
        .and_then(|mut select| select.query_map([], granted_row)?.collect())
        .during(during)?;
    let plans = view
        .prepare_cached("SELECT id, version, published_version FROM plans")
        .and_then(|mut select| select.query_map([], plan_row)?.collect())
        .during(during)?;
    catalogue.add_plans(plans, granted);
    Ok(catalogue)
}

/// Reads by which products each feature is billed.
fn billed_in(connection: &Connection) -> Result<HashMap<FeatureId, Vec<BilledBy>>, StoreError> {
    let rows: Vec<(String, String, Option<i64>)> = connection
        .prepare_cached(
            "SELECT f.feature_id, f.product_id, p.licensed_from_hour FROM feature_dimensions f
             JOIN products p ON p.id = f.product_id ORDER BY f.feature_id, f.product_id",
        )
        .and_then(|mut select| {
            select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
        })
        .during("read by what features are billed")?;
    let mut billed: HashMap<FeatureId, Vec<_>> = HashMap::new();
    for (feature, product, hour) in rows {
        let of_it = billed.entry(FeatureId::new(feature)).or_default();
        of_it.push((ProductId::new(product), hour.map(ClockHour::from_number)));
    }
    Ok(billed)
}

/// Reads as much of the catalogue as decides over one customer's access to one feature.
pub(in crate::store) fn catalogue_of_in(
    connection: &Connection,
    customer: &CustomerId,
    feature: &FeatureId,
) -> Result<CatalogueFacts, StoreError> {
    let during = "read what decides over a feature";
    let mut catalogue = CatalogueFacts::default();
    let found = connection
        .prepare_cached("SELECT id, type, when_stale FROM features WHERE id = ?1")
        .and_then(|mut select| select.query_row([feature.as_str()], feature_row).optional())
        .during(during)?;
    catalogue.features.extend(found.map(|it| (it.id.clone(), Arc::new(it))));
    let granted = connection
        .prepare_cached(
            "SELECT * FROM plan_entitlements WHERE feature_id = ?2
                 AND plan_id IN (SELECT plan_id FROM subscriptions WHERE customer_id = ?1)",
        )
        .and_then(|mut select| {
            let ids = (customer.as_str(), feature.as_str());
            select.query_map(ids, granted_row)?.collect()
        })
        .during(during)?;
    let plans = connection
        .prepare_cached(
            "SELECT id, version, published_version FROM plans
             WHERE id IN (SELECT plan_id FROM subscriptions WHERE customer_id = ?1)",
        )
        .and_then(|mut select| select.query_map([customer.as_str()], plan_row)?.collect())
        .during(during)?;
    catalogue.add_plans(plans, granted);
    Ok(catalogue)
}

fn feature_row(row: &Row<'_>) -> sql::Result<FeatureFacts> {
    let (kind, when_stale): (String, String) = (row.get(1)?, row.get(2)?);
    Ok(FeatureFacts {
        id: FeatureId::new(row.get::<_, String>(0)?),
        kind: FeatureKind::from_word(&kind).unwrap_or(FeatureKind::Boolean),
        when_stale: WhenStale::from_word(&when_stale).unwrap_or_default(),
        // A consumption knows what bears it.
        billed: Box::default(),
    })
}

/// A plan, its newest version, and the published one.
type PlanRow = (String, i64, Option<i64>);
/// A plan, a version of it, and what that grants of a feature.
type GrantedRow = (String, i64, PlanEntitlement);

fn plan_row(row: &Row<'_>) -> sql::Result<PlanRow> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

fn granted_row(row: &Row<'_>) -> sql::Result<GrantedRow> {
    Ok((row.get("plan_id")?, row.get("version")?, entitlement_row(row)?))
}

impl CatalogueFacts {
    /// Adds plans, with what their published versions grant. A draft is nobody's.
    fn add_plans(&mut self, plans: Vec<PlanRow>, granted: Vec<GrantedRow>) {
        let mut grants: HashMap<(String, i64), HashMap<FeatureId, EntitlementTerms>> =
            HashMap::new();
        for (plan, version, entitlement) in granted {
            let of_it = grants.entry((plan, version)).or_default();
            of_it.insert(entitlement.feature_id, entitlement.terms);
        }
        for (id, newest, published) in plans {
            let last = published.map_or(0, |published| published.min(newest));
            let versions = (1..=last)
                .map(|version| {
                    let granted = grants.remove(&(id.clone(), version)).unwrap_or_default();
                    (version, Arc::new(PlanVersion { id: PlanId::new(&id), grants: Some(granted) }))
                })
                .collect();
            let unpublished = Arc::new(PlanVersion { id: PlanId::new(&id), grants: None });
            self.plans.insert(PlanId::new(id), PlanFacts { published, unpublished, versions });
        }
    }

    pub(super) fn plan(&self, id: &PlanId, version: Option<i64>) -> Arc<PlanVersion> {
        let Some(plan) = self.plans.get(id) else {
            return Arc::new(PlanVersion { id: id.clone(), grants: None });
        };
        let held = version.or(plan.published).and_then(|version| plan.versions.get(&version));
        Arc::clone(held.unwrap_or(&plan.unpublished))
    }
}
