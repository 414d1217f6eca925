//! Customers whose features change by what is applied, by whatever way: by a plan's version, or by a mapping that
//! leads to another plan.

use std::collections::{BTreeMap, HashMap};

use super::plan_rows::entitlements_in;
use crate::domain::plan::PlanEntitlement;
use crate::domain::rollout::{Regranted, compare};
use crate::domain::{CustomerId, PlanId};
use crate::store::engine::sql::Connection;
use crate::store::{During, StoreError};

/// The most customers of a group that are named.
const NAMED: usize = 100;

/// A plan's version; none of a plan that is not published, which grants nothing, and no plan where none is mapped.
type Granting = (Option<PlanId>, Option<i64>);

/// The features that every subscription grants.
pub(crate) struct GrantedFeatures {
    /// By the subscriptions' rows.
    subscriptions: HashMap<i64, (CustomerId, Granting)>,
    grants: HashMap<Granting, Vec<PlanEntitlement>>,
}

impl GrantedFeatures {
    pub(crate) fn read(connection: &Connection) -> Result<Self, StoreError> {
        let subscriptions: HashMap<i64, (CustomerId, Granting)> = connection
            .prepare_cached(
                // Those who bought on AWS come to the plan that is mapped with the next look at them, and are held to a
                // version of the plan that they are on.
                "SELECT s.rowid, s.customer_id, s.mapped, CASE WHEN p.published_version IS NOT NULL THEN coalesce(
                     CASE WHEN s.mapped = s.plan_id THEN s.plan_version END, p.published_version) END
                 FROM (SELECT rowid, customer_id, plan_id, plan_version, CASE
                         WHEN source <> 'aws' THEN plan_id
                         WHEN dimension IS NULL THEN
                             (SELECT usage_plan_id FROM products WHERE id = subscriptions.product_id)
                         ELSE (SELECT d.plan_id FROM dimensions d
                             WHERE d.product_id = subscriptions.product_id AND d.key = subscriptions.dimension)
                         END AS mapped
                     FROM subscriptions WHERE ended_at_ms IS NULL AND status <> 'failed') s
                 LEFT JOIN plans p ON p.id = s.mapped",
            )
            .and_then(|mut select| {
                select
                    .query_map([], |row| {
                        let customer = CustomerId::new(row.get::<_, String>(1)?);
                        let plan = row.get::<_, Option<String>>(2)?.map(PlanId::new);
                        Ok((row.get(0)?, (customer, (plan, row.get(3)?))))
                    })?
                    .collect()
            })
            .during("read what subscriptions grant")?;
        let mut grants = HashMap::new();
        for (_, granting) in subscriptions.values() {
            if !grants.contains_key(granting) {
                let (plan, version) = granting;
                let granted = match (plan, version) {
                    (Some(plan), Some(version)) => entitlements_in(connection, plan, *version)?,
                    _ => Vec::new(),
                };
                grants.insert(granting.clone(), granted);
            }
        }
        Ok(Self { subscriptions, grants })
    }

    fn granted(&self, granting: &Granting) -> &[PlanEntitlement] {
        self.grants.get(granting).map(Vec::as_slice).unwrap_or_default()
    }

    /// Returns the customers whose features differ from before, group by group.
    pub(crate) fn since(&self, before: &Self) -> Vec<Regranted> {
        let mut groups: BTreeMap<(&Granting, &Granting), Vec<&CustomerId>> = BTreeMap::new();
        for (row, (customer, now)) in &self.subscriptions {
            if let Some((_, then)) = before.subscriptions.get(row) {
                groups.entry((then, now)).or_default().push(customer);
            }
        }
        let mut found = Vec::new();
        for ((then, now), mut customers) in groups {
            let differences = compare(before.granted(then), self.granted(now));
            if differences.is_empty() {
                continue;
            }
            customers.sort_unstable();
            let subscriptions = customers.len().try_into().unwrap_or(u64::MAX);
            customers.dedup();
            found.push(Regranted {
                plan_id: then.0.clone(),
                version: then.1,
                to_plan_id: now.0.clone(),
                to_version: now.1,
                subscriptions,
                customers: customers.into_iter().take(NAMED).cloned().collect(),
                differences,
            });
        }
        found
    }
}
