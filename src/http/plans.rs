//! Plans and what they grant.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Body, Params, Path};
use super::paging::{Items, ListPage, whole};
use super::{ApiState, Problem, Problems};
use crate::domain::plan::{Audience, Plan, PlanStatus, SoldAs};
use crate::domain::rollout::Preview;
use crate::domain::terms::EntitlementTerms;
use crate::domain::{FeatureId, Line, PlanId, ProductId};
use crate::store::{IfArchived, PlanFilter, PlanVersionRow, Publishing};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    /// The most plans to return: 1 to 500, 100 if left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Option<String>,
    /// The previous page's `next_cursor`.
    cursor: Option<String>,
    /// Only plans in this status.
    #[param(inline)]
    status: Option<PlanStatus>,
    /// Only plans of this product: those that belong to it, and those that its dimensions map to.
    product_id: Option<String>,
}

/// Lists plans.
///
/// Includes plans that AWS sells and plans that you sell.
#[utoipa::path(get, path = "/v1/plans", tag = "plans", operation_id = "listPlans", params(List), responses((status = 200, body = Items<Plan>), Problems))]
pub(super) async fn list(
    State(state): State<ApiState>,
    Params(query): Params<List>,
) -> Result<Json<Items<Plan>>, Problem> {
    let page = ListPage::of("plans", query.limit.as_deref(), query.cursor.as_deref())?;
    let filter =
        PlanFilter { status: query.status, product_id: query.product_id.map(ProductId::new) };
    let rows = state.store.plans(filter, page.one_more()).await?;
    Ok(page.items(rows, |plan| plan.id.to_string()))
}

/// Returns a plan.
///
/// Includes what its published version grants, and its draft if it has one.
#[utoipa::path(get, path = "/v1/plans/{id}", tag = "plans", operation_id = "showPlan", params(("id" = String, Path)), responses((status = 200, body = Plan), Problems))]
pub(super) async fn show(
    State(state): State<ApiState>,
    Path(id): Path<PlanId>,
) -> Result<Json<Plan>, Problem> {
    let found = state.store.plan(id.clone()).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("plan", id.as_str()))
}

/// Lists the versions of a plan.
///
/// The newest comes first, with how many subscriptions have each.
#[utoipa::path(get, path = "/v1/plans/{id}/versions", tag = "plans", operation_id = "listPlanVersions", params(("id" = String, Path)), responses((status = 200, body = Items<PlanVersionRow>), Problems))]
pub(super) async fn versions(
    State(state): State<ApiState>,
    Path(id): Path<PlanId>,
) -> Result<Json<Items<PlanVersionRow>>, Problem> {
    Ok(whole(state.store.plan_versions(id).await?))
}

/// A plan that you sell.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PutPlan {
    pub(super) name: Line,
    pub(super) product_id: Option<ProductId>,
}

/// Creates a plan that AWS does not sell, or renames one.
///
/// Plans that AWS sells come from an import.
#[utoipa::path(put, path = "/v1/plans/{id}", tag = "plans", operation_id = "putPlan", params(("id" = String, Path)), request_body = PutPlan, responses((status = 200, body = Plan), Problems))]
pub(super) async fn put(
    State(state): State<ApiState>,
    Path(id): Path<PlanId>,
    Body(body): Body<PutPlan>,
) -> Result<Json<Plan>, Problem> {
    Ok(Json(
        state
            .store
            .put_plan(id, body.name.into_string(), body.product_id, state.clock.now())
            .await?,
    ))
}

/// Deletes a plan that nobody ever had.
///
/// It must never have been published, mapped to by a dimension or subscribed to; else 409. Returns the plan as it was.
#[utoipa::path(delete, path = "/v1/plans/{id}", tag = "plans", operation_id = "removePlan", params(("id" = String, Path)), responses((status = 200, body = Plan), Problems))]
pub(super) async fn remove(
    State(state): State<ApiState>,
    Path(id): Path<PlanId>,
) -> Result<Json<Plan>, Problem> {
    Ok(Json(state.store.remove_plan(id, state.clock.now()).await?))
}

/// The options of publishing a draft.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Publish {
    /// The subscribers who get the new version. If left out: everybody on the plan but those who are held to an older
    /// version, who keep it; `all` frees them. An archived plan stays archived if this is given: its subscribers get the
    /// version.
    pub(super) to: Option<Audience>,
    /// Set to sell an archived plan again. Publishing one is refused if neither this nor `to` is given.
    #[serde(default)]
    pub(super) reopen: bool,
}

/// Publishes a plan's draft.
///
/// Without `to` it applies to everybody on the plan but those who are held to an older version; with `"to": "all"` to
/// them too; with `"to": "new"` to those who subscribe from now on.
#[utoipa::path(post, path = "/v1/plans/{id}/publish", tag = "plans", operation_id = "publishPlan", params(("id" = String, Path)), request_body = Publish, responses((status = 200, body = Plan), Problems))]
pub(super) async fn publish(
    State(state): State<ApiState>,
    Path(id): Path<PlanId>,
    Body(body): Body<Publish>,
) -> Result<Json<Plan>, Problem> {
    let archived = match (body.reopen, body.to) {
        (true, _) => IfArchived::Reopen,
        (false, Some(_)) => IfArchived::Keep,
        (false, None) => IfArchived::Refuse,
    };
    let how = Publishing { archived, ..Publishing::from(body.to) };
    Ok(Json(state.store.publish_plan(id, how, state.clock.now()).await?))
}

/// An archived plan.
#[derive(Serialize, ToSchema)]
pub(super) struct Archived {
    #[serde(flatten)]
    pub(super) plan: Plan,
    /// The sales that archiving does not end.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

/// Archives a plan.
///
/// Subscribers keep it; nobody new gets it. Where AWS goes on selling it, `warnings` says so.
#[utoipa::path(post, path = "/v1/plans/{id}/archive", tag = "plans", operation_id = "archivePlan", params(("id" = String, Path)), responses((status = 200, body = Archived), Problems))]
pub(super) async fn archive(
    State(state): State<ApiState>,
    Path(id): Path<PlanId>,
) -> Result<Json<Archived>, Problem> {
    let plan = state.store.archive_plan(id, state.clock.now()).await?;
    let sold = plan.aws.iter().filter(|sold| sold.removed_at.is_none());
    let warn = |sold: &SoldAs| {
        let what = sold
            .dimension
            .as_ref()
            .map_or("to whoever pays as they go".into(), |key| format!("as dimension {key}"));
        format!(
            "AWS goes on selling it {what}, and whoever buys that there has the plan: take it out of listing {}, or map it to another plan",
            sold.entity_id
        )
    };
    let warnings = sold.map(warn).collect();
    Ok(Json(Archived { plan, warnings }))
}

/// The publishing that is previewed.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PreviewQuery {
    /// The subscribers who would get the new version, as in publishing.
    #[param(inline)]
    pub(super) to: Option<Audience>,
}

/// Previews what publishing a draft would change.
///
/// Groups customers by the version that they have: what they would gain, what they would lose, and who keeps it.
#[utoipa::path(get, path = "/v1/plans/{id}/preview", tag = "plans", operation_id = "previewPlan", params(("id" = String, Path), PreviewQuery), responses((status = 200, body = Preview), Problems))]
pub(super) async fn preview(
    State(state): State<ApiState>,
    Path(id): Path<PlanId>,
    Params(query): Params<PreviewQuery>,
) -> Result<Json<Preview>, Problem> {
    Ok(Json(state.store.preview_plan(id, query.to).await?))
}

/// Discards a plan's draft.
///
/// The changes that were not published are dropped.
#[utoipa::path(delete, path = "/v1/plans/{id}/draft", tag = "plans", operation_id = "discardPlanDraft", params(("id" = String, Path)), responses((status = 200, body = Plan), Problems))]
pub(super) async fn discard_draft(
    State(state): State<ApiState>,
    Path(id): Path<PlanId>,
) -> Result<Json<Plan>, Problem> {
    Ok(Json(state.store.discard_draft(id, state.clock.now()).await?))
}

/// Grants a feature in a plan's draft.
///
/// The terms replace those that the draft has. A boolean feature takes none, a numeric one a limit or `unlimited`,
/// a metered one a reset period and what to bill besides.
#[utoipa::path(put, path = "/v1/plans/{id}/entitlements/{feature_id}", tag = "plans", operation_id = "entitlePlan", params(("id" = String, Path), ("feature_id" = String, Path)), request_body = EntitlementTerms, responses((status = 200, body = Plan), Problems))]
pub(super) async fn entitle(
    State(state): State<ApiState>,
    Path((plan, feature)): Path<(PlanId, FeatureId)>,
    Body(terms): Body<EntitlementTerms>,
) -> Result<Json<Plan>, Problem> {
    Ok(Json(state.store.put_entitlement(plan, feature, terms, state.clock.now()).await?))
}

/// Removes a feature from a plan's draft.
///
/// Customers keep it until the draft is published.
#[utoipa::path(delete, path = "/v1/plans/{id}/entitlements/{feature_id}", tag = "plans", operation_id = "unentitlePlan", params(("id" = String, Path), ("feature_id" = String, Path)), responses((status = 200, body = Plan), Problems))]
pub(super) async fn remove_entitlement(
    State(state): State<ApiState>,
    Path((plan, feature)): Path<(PlanId, FeatureId)>,
) -> Result<Json<Plan>, Problem> {
    Ok(Json(state.store.remove_entitlement(plan, feature, state.clock.now()).await?))
}
