//! Plans as they are kept, with what each version grants.

use jiff::Timestamp;

use super::publications::publication_in;
use crate::domain::event::EventType;
use crate::domain::plan::{Plan, PlanDraft, PlanEntitlement, PlanStatus, SoldAs};
use crate::domain::terms::EntitlementTerms;
use crate::domain::word::Word;
use crate::domain::{
    DimensionKey, EntityId, FeatureId, PlanId, ProductCode, ProductId, Quantity, Source,
    TermsFault, UnfitId,
};
use crate::store::base::columns::{millis, optional_timestamp};
use crate::store::base::outbox::append_event_in;
use crate::store::engine::sql::{self, Connection, OptionalExtension};
use crate::store::{During, StoreError};

/// The reason why a plan could not be changed as asked.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// There is no such plan.
    #[error("there is no plan {0}")]
    UnknownPlan(PlanId),
    /// There is no such feature.
    #[error("there is no feature {0}")]
    UnknownFeature(FeatureId),
    /// There is no such product.
    #[error("there is no product {0}")]
    UnknownProduct(ProductId),
    /// AWS sells the plan: its name is ours, but whose it is and what it costs is not.
    #[error("plan {0} is sold by AWS and belongs to its product")]
    SoldByAws(PlanId),
    /// A new plan cannot have this id.
    #[error(transparent)]
    Unfit(#[from] UnfitId),
    /// The terms make no sense for the feature.
    #[error(transparent)]
    Terms(#[from] TermsFault),
    /// Nobody can be subscribed to it anew, and publishing would change that.
    #[error(
        "plan {0} is archived: publish it with \"reopen\": true to sell it again, or with \"to\": \"all\" to give those who have it the new version and keep it archived"
    )]
    Archived(PlanId),
    /// Somebody has or had it, or something means it.
    #[error("plan {id} is not removed: {reason}; archive it")]
    InUse {
        /// The plan.
        id: PlanId,
        /// The reference that stands in the way.
        reason: &'static str,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(crate) fn known_plan(connection: &Connection, id: &PlanId) -> Result<Plan, PlanError> {
    plan_in(connection, id)?.ok_or_else(|| PlanError::UnknownPlan(id.clone()))
}

/// Tells the outbox of a change to a plan, and returns the plan as it is after it.
pub(crate) fn changed_plan(
    connection: &Connection,
    id: &PlanId,
    event: EventType,
    now: Timestamp,
) -> Result<Plan, PlanError> {
    connection
        .prepare_cached("UPDATE plans SET updated_at_ms = ?2 WHERE id = ?1")
        .and_then(|mut update| update.post((id.as_str(), millis(now))))
        .during("touch a plan")?;
    let plan = known_plan(connection, id)?;
    append_event_in(connection, event, None, &plan, now)?;
    Ok(plan)
}

pub(crate) fn exists(
    connection: &Connection,
    statement: &str,
    id: &str,
) -> Result<bool, StoreError> {
    connection
        .prepare_cached(statement)
        .and_then(|mut select| select.exists([id]))
        .during("look up an id")
}

pub(crate) fn plan_in(connection: &Connection, id: &PlanId) -> Result<Option<Plan>, StoreError> {
    let found = connection
        .prepare_cached("SELECT * FROM plans WHERE id = ?1")
        .and_then(|mut select| {
            select
                .query_row([id.as_str()], |row| {
                    let (source, status): (String, String) =
                        (row.get("source")?, row.get("status")?);
                    let plan = Plan {
                        id: id.clone(),
                        name: row.get("name")?,
                        product_id: row.get::<_, Option<String>>("product_id")?.map(ProductId::new),
                        source: if source == "aws" { Source::Aws } else { Source::Direct },
                        aws: Vec::new(),
                        // The schema admits only these words.
                        status: PlanStatus::from_word(&status).unwrap_or(PlanStatus::Draft),
                        version: row.get("published_version")?,
                        publication: None,
                        pricing: "custom",
                        entitlements: Vec::new(),
                        draft: None,
                    };
                    Ok((plan, row.get("version")?))
                })
                .optional()
        })
        .during("read a plan")?;
    let Some((mut plan, newest)) = found else {
        return Ok(None);
    };
    if let Some(version) = plan.version {
        plan.publication = publication_in(connection, id, version)?;
    }
    plan.aws = sold_as_in(connection, id)?;
    plan.entitlements = entitlements_in(connection, id, plan.version.unwrap_or(newest))?;
    if plan.version.is_some_and(|published| published != newest) {
        let entitlements = entitlements_in(connection, id, newest)?;
        plan.draft = Some(PlanDraft { version: newest, entitlements });
    }
    Ok(Some(plan))
}

fn sold_as_in(connection: &Connection, id: &PlanId) -> Result<Vec<SoldAs>, StoreError> {
    connection
        .prepare_cached(
            "SELECT p.entity_id, p.code, d.key, d.removed_at_ms FROM dimensions d
             JOIN products p ON p.id = d.product_id WHERE d.plan_id = ?1
             UNION ALL SELECT entity_id, code, NULL, NULL FROM products WHERE usage_plan_id = ?1
             ORDER BY 1, 3",
        )
        .and_then(|mut select| {
            select
                .query_map([id.as_str()], |row| {
                    Ok(SoldAs {
                        entity_id: EntityId::new(row.get::<_, String>(0)?),
                        product_code: ProductCode::new(row.get::<_, String>(1)?),
                        dimension: row.get::<_, Option<String>>(2)?.map(DimensionKey::new),
                        removed_at: optional_timestamp(row.get(3)?),
                    })
                })?
                .collect()
        })
        .during("read as what a plan is sold")
}

/// Reads the entitlements of a plan's version.
pub(crate) fn entitlements_in(
    connection: &Connection,
    id: &PlanId,
    version: i64,
) -> Result<Vec<PlanEntitlement>, StoreError> {
    connection
        .prepare_cached(
            "SELECT * FROM plan_entitlements WHERE plan_id = ?1 AND version = ?2 ORDER BY feature_id",
        )
        .and_then(|mut select| select.query_map((id.as_str(), version), entitlement_row)?.collect())
        .during("read a plan's entitlements")
}

pub(crate) fn entitlement_row(row: &sql::Row<'_>) -> sql::Result<PlanEntitlement> {
    let reset: Option<String> = row.get("reset")?;
    let anchor: String = row.get("anchor")?;
    let bill: String = row.get("bill")?;
    Ok(PlanEntitlement {
        feature_id: FeatureId::new(row.get::<_, String>("feature_id")?),
        terms: EntitlementTerms {
            limit: row.get::<_, Option<i64>>("quota")?.and_then(Quantity::from_millionths),
            unlimited: row.get("unlimited")?,
            soft: row.get("soft")?,
            per_unit: row.get("per_unit")?,
            reset: reset.as_deref().and_then(Word::from_word),
            anchor: Word::from_word(&anchor).unwrap_or_default(),
            bill: Word::from_word(&bill).unwrap_or_default(),
        },
    })
}
