//! Listings, products, plans and features.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::ToSchema;

use super::extract::{Body, Items, Paging, Params, Path, items, one_more};
use super::{ApiState, Problem, Problems};
use crate::aws::AwsErrorKind;
use crate::catalog::{self, CatalogError, ListingView};
use crate::domain::plan::{
    Audience, EntitlementTerms, Feature, FeatureKind, Plan, Product, WhenStale,
};
use crate::domain::rollout::Preview;
use crate::domain::{ClockHour, DimensionKey, EntityId, FeatureId, PlanId, ProductId};
use crate::store::{ImportProduct, LicensingView, ProductChanges};

/// The account's SaaS products in AWS's catalog, those imported marked.
#[utoipa::path(get, path = "/v1/listings", tag = "listings", operation_id = "listListings",
    params(Paging), responses((status = 200, body = Items<ListingView>), Problems))]
pub(super) async fn listings(
    State(state): State<ApiState>,
    Params(paging): Params<Paging>,
) -> Result<Json<Items<ListingView>>, Problem> {
    let page = paging.page()?;
    let rows = catalog::listings(&state.aws.clients(), &state.store, one_more(&page)).await?;
    Ok(items(rows, page.limit, |listing| listing.entity_id.to_string()))
}

/// One listing.
#[utoipa::path(get, path = "/v1/listings/{entity_id}", tag = "listings", operation_id = "showListing", params(("entity_id" = String, Path)), responses((status = 200, body = ListingView), Problems))]
pub(super) async fn listing(
    State(state): State<ApiState>,
    Path(entity_id): Path<String>,
) -> Result<Json<ListingView>, Problem> {
    let id = EntityId::new(entity_id);
    let found = catalog::listing_view(&state.aws.clients(), &state.store, &id).await;
    let listing = found.map_err(|error| match error {
        // AWS refuses ids that no entity can have as it refuses those that none has.
        CatalogError::Aws(error) if error.kind == AwsErrorKind::Refused => {
            Problem::not_found("listing", id.as_str())
        }
        error => error.into(),
    })?;
    Ok(Json(listing))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Import {
    product_id: Option<ProductId>,
    #[serde(default)]
    plans: BTreeMap<DimensionKey, PlanId>,
    usage_plan: Option<PlanId>,
    #[serde(default)]
    features: BTreeMap<DimensionKey, FeatureId>,
}

/// Imports a listing, or maps it anew.
#[utoipa::path(post, path = "/v1/listings/{entity_id}/import", tag = "listings", operation_id = "importListing", params(("entity_id" = String, Path)), request_body = Import, responses((status = 200, body = Product), Problems))]
pub(super) async fn import(
    State(state): State<ApiState>,
    Path(entity_id): Path<String>,
    Body(body): Body<Import>,
) -> Result<Json<Product>, Problem> {
    let listing = catalog::listing(&state.aws.clients(), &EntityId::new(entity_id)).await?;
    let import = ImportProduct {
        product_id: body.product_id,
        listing,
        plans: body.plans,
        usage_plan: body.usage_plan,
        features: body.features,
    };
    Ok(Json(state.store.import_product(import, state.clock.now()).await?))
}

/// Imported listings.
#[utoipa::path(get, path = "/v1/products", tag = "products", operation_id = "listProducts", params(Paging), responses((status = 200, body = Items<Product>), Problems))]
pub(super) async fn products(
    State(state): State<ApiState>,
    Params(paging): Params<Paging>,
) -> Result<Json<Items<Product>>, Problem> {
    let page = paging.page()?;
    let rows = state.store.products(one_more(&page)).await?;
    Ok(items(rows, page.limit, |product| product.id.to_string()))
}

/// One imported listing.
#[utoipa::path(get, path = "/v1/products/{id}", tag = "products", operation_id = "showProduct", params(("id" = String, Path)), responses((status = 200, body = Product), Problems))]
pub(super) async fn product(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<Product>, Problem> {
    let found = state.store.product(ProductId::new(&id)).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("product", &id))
}

/// Takes over what changed in a listing.
#[utoipa::path(post, path = "/v1/products/{id}/sync", tag = "products", operation_id = "syncProduct", params(("id" = String, Path)), responses((status = 200, body = ProductChanges), Problems))]
pub(super) async fn sync(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<ProductChanges>, Problem> {
    let unknown = || Problem::not_found("product", &id);
    let product = state.store.product(ProductId::new(&id)).await?.ok_or_else(unknown)?;
    let clients = state.aws.clients();
    let changes =
        catalog::sync(&clients, &state.store, &product.entity_id, state.clock.now()).await?;
    Ok(Json(changes.ok_or_else(unknown)?))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Licensing {
    from: Option<Timestamp>,
}

/// What a product's move to licences would meet: who has no licence yet.
#[utoipa::path(get, path = "/v1/products/{id}/licensing", tag = "products",
    operation_id = "showLicensing", params(("id" = String, Path)),
    responses((status = 200, body = LicensingView), Problems))]
pub(super) async fn show_licensing(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<LicensingView>, Problem> {
    let found = state.store.licensing(ProductId::new(&id)).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("product", &id))
}

/// From which hour on a legacy product's buyers are metered by licence; null takes a move back that lies ahead.
#[utoipa::path(put, path = "/v1/products/{id}/licensing", tag = "products", operation_id = "licenseProduct", params(("id" = String, Path)), request_body = Licensing, responses((status = 200, body = Product), Problems))]
pub(super) async fn licensing(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    Body(body): Body<Licensing>,
) -> Result<Json<Product>, Problem> {
    let from = body.from.map(ClockHour::of);
    if from.is_some_and(|hour| Some(hour.start()) != body.from) {
        return Err(Problem::bad_request(
            "from is the start of a clock hour, such as 2026-12-01T00:00:00Z: AWS meters by the hour",
        ));
    }
    let product = ProductId::new(&id);
    state.store.set_licensed_from(product.clone(), from, state.clock.now()).await?;
    let found = state.store.product(product).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("product", &id))
}

/// Plans.
#[utoipa::path(get, path = "/v1/plans", tag = "plans", operation_id = "listPlans", params(Paging), responses((status = 200, body = Items<Plan>), Problems))]
pub(super) async fn plans(
    State(state): State<ApiState>,
    Params(paging): Params<Paging>,
) -> Result<Json<Items<Plan>>, Problem> {
    let page = paging.page()?;
    let rows = state.store.plans(one_more(&page)).await?;
    Ok(items(rows, page.limit, |plan| plan.id.to_string()))
}

/// One plan.
#[utoipa::path(get, path = "/v1/plans/{id}", tag = "plans", operation_id = "showPlan", params(("id" = String, Path)), responses((status = 200, body = Plan), Problems))]
pub(super) async fn plan(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<Plan>, Problem> {
    let found = state.store.plan(PlanId::new(&id)).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("plan", &id))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PutPlan {
    name: String,
    product_id: Option<ProductId>,
}

/// Makes a plan that AWS does not sell, or renames one.
#[utoipa::path(put, path = "/v1/plans/{id}", tag = "plans", operation_id = "putPlan", params(("id" = String, Path)), request_body = PutPlan, responses((status = 200, body = Plan), Problems))]
pub(super) async fn put_plan(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    Body(body): Body<PutPlan>,
) -> Result<Json<Plan>, Problem> {
    let now = state.clock.now();
    Ok(Json(state.store.put_plan(PlanId::new(id), body.name, body.product_id, now).await?))
}

#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Publish {
    #[serde(default)]
    to: Audience,
}

/// Gives customers what the plan's draft grants.
#[utoipa::path(post, path = "/v1/plans/{id}/publish", tag = "plans", operation_id = "publishPlan", params(("id" = String, Path)), request_body = Publish, responses((status = 200, body = Plan), Problems))]
pub(super) async fn publish(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    Body(body): Body<Publish>,
) -> Result<Json<Plan>, Problem> {
    let now = state.clock.now();
    Ok(Json(state.store.publish_plan(PlanId::new(id), body.to, now).await?))
}

/// Keeps the plan for those who have it.
#[utoipa::path(post, path = "/v1/plans/{id}/archive", tag = "plans", operation_id = "archivePlan", params(("id" = String, Path)), responses((status = 200, body = Plan), Problems))]
pub(super) async fn archive(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<Plan>, Problem> {
    Ok(Json(state.store.archive_plan(PlanId::new(id), state.clock.now()).await?))
}

/// What publishing would change, and for whom.
#[utoipa::path(get, path = "/v1/plans/{id}/preview", tag = "plans", operation_id = "previewPlan", params(("id" = String, Path)), responses((status = 200, body = Preview), Problems))]
pub(super) async fn preview(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<Preview>, Problem> {
    Ok(Json(state.store.preview_plan(PlanId::new(id)).await?))
}

/// Drops what was changed and not published.
#[utoipa::path(delete, path = "/v1/plans/{id}/draft", tag = "plans", operation_id = "discardPlanDraft", params(("id" = String, Path)), responses((status = 200, body = Plan), Problems))]
pub(super) async fn discard_draft(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<Plan>, Problem> {
    Ok(Json(state.store.discard_draft(PlanId::new(id), state.clock.now()).await?))
}

/// Grants a feature, in the plan's draft.
#[utoipa::path(put, path = "/v1/plans/{id}/entitlements/{feature_id}", tag = "plans", operation_id = "entitlePlan", params(("id" = String, Path), ("feature_id" = String, Path)), request_body = EntitlementTerms, responses((status = 200, body = Plan), Problems))]
pub(super) async fn entitle(
    State(state): State<ApiState>,
    Path((plan, feature)): Path<(String, String)>,
    Body(terms): Body<EntitlementTerms>,
) -> Result<Json<Plan>, Problem> {
    let now = state.clock.now();
    let (plan, feature) = (PlanId::new(plan), FeatureId::new(feature));
    Ok(Json(state.store.put_entitlement(plan, feature, terms, now).await?))
}

/// Takes a feature out of the plan's draft.
#[utoipa::path(delete, path = "/v1/plans/{id}/entitlements/{feature_id}", tag = "plans", operation_id = "unentitlePlan", params(("id" = String, Path), ("feature_id" = String, Path)), responses((status = 200, body = Plan), Problems))]
pub(super) async fn remove_entitlement(
    State(state): State<ApiState>,
    Path((plan, feature)): Path<(String, String)>,
) -> Result<Json<Plan>, Problem> {
    let now = state.clock.now();
    let (plan, feature) = (PlanId::new(plan), FeatureId::new(feature));
    Ok(Json(state.store.remove_entitlement(plan, feature, now).await?))
}

/// Features.
#[utoipa::path(get, path = "/v1/features", tag = "features", operation_id = "listFeatures", params(Paging), responses((status = 200, body = Items<Feature>), Problems))]
pub(super) async fn features(
    State(state): State<ApiState>,
    Params(paging): Params<Paging>,
) -> Result<Json<Items<Feature>>, Problem> {
    let page = paging.page()?;
    let rows = state.store.features(one_more(&page)).await?;
    Ok(items(rows, page.limit, |feature| feature.id.to_string()))
}

/// One feature.
#[utoipa::path(get, path = "/v1/features/{id}", tag = "features", operation_id = "showFeature", params(("id" = String, Path)), responses((status = 200, body = Feature), Problems))]
pub(super) async fn feature(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<Feature>, Problem> {
    let found = state.store.feature(FeatureId::new(&id)).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("feature", &id))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PutFeature {
    name: String,
    #[serde(rename = "type")]
    kind: FeatureKind,
    unit: Option<String>,
    #[serde(default)]
    dimensions: BTreeMap<ProductId, DimensionKey>,
    #[serde(default)]
    when_stale: WhenStale,
}

/// Makes or changes a feature.
#[utoipa::path(put, path = "/v1/features/{id}", tag = "features", operation_id = "putFeature", params(("id" = String, Path)), request_body = PutFeature, responses((status = 200, body = Feature), Problems))]
pub(super) async fn put_feature(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    Body(body): Body<PutFeature>,
) -> Result<Json<Feature>, Problem> {
    let PutFeature { name, kind, unit, dimensions, when_stale } = body;
    let feature = Feature { id: FeatureId::new(id), name, kind, unit, dimensions, when_stale };
    Ok(Json(state.store.put_feature(feature, state.clock.now()).await?))
}
