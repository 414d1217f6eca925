//! Listings and products.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::ToSchema;

use super::extract::{Body, Params, Path};
use super::paging::{Items, Paging};
use super::{ApiState, Problem, Problems};
use crate::aws::AwsErrorKind;
use crate::catalog::{self, CatalogError, ListingView};
use crate::domain::product::Product;
use crate::domain::{ClockHour, DimensionKey, EntityId, FeatureId, PlanId, PointInTime, ProductId};
use crate::store::{ImportProduct, LicensingView, ProductChanges};

/// Lists the SaaS products in AWS's catalog.
///
/// Asks AWS. Listings that were imported have a `product_id`.
#[utoipa::path(get, path = "/v1/listings", tag = "listings", operation_id = "listListings",
    params(Paging), responses((status = 200, body = Items<ListingView>), Problems))]
pub(super) async fn listings(
    State(state): State<ApiState>,
    Params(paging): Params<Paging>,
) -> Result<Json<Items<ListingView>>, Problem> {
    let page = paging.page("listings")?;
    let rows = catalog::listings(&state.aws.clients(), &state.store, page.one_more()).await?;
    Ok(page.items(rows, |listing| listing.entity_id.to_string()))
}

/// Returns a listing.
///
/// Asks AWS.
#[utoipa::path(get, path = "/v1/listings/{entity_id}", tag = "listings", operation_id = "showListing", params(("entity_id" = String, Path)), responses((status = 200, body = ListingView), Problems))]
pub(super) async fn listing(
    State(state): State<ApiState>,
    Path(id): Path<EntityId>,
) -> Result<Json<ListingView>, Problem> {
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

/// The options of importing a listing.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Import {
    /// The product's id: the listing's if left out. A listing that was imported keeps the id that it has.
    pub(super) product_id: Option<ProductId>,
    #[serde(default)]
    pub(super) plans: BTreeMap<DimensionKey, PlanId>,
    pub(super) usage_plan: Option<PlanId>,
    #[serde(default)]
    pub(super) features: BTreeMap<DimensionKey, FeatureId>,
}

/// Imports a listing, or changes its mapping.
///
/// `plans` maps entitled dimensions to plans. Plans that are new begin as drafts. What AWS told of the product's buyers
/// before is applied. A listing that shows none of the dimensions that were imported before is refused with 409
/// `endings-held` until `/v1/products/{id}/confirm-endings` says that it is right.
#[utoipa::path(post, path = "/v1/listings/{entity_id}/import", tag = "listings", operation_id = "importListing", params(("entity_id" = String, Path)), request_body = Import, responses((status = 200, body = Product), Problems))]
pub(super) async fn import(
    State(state): State<ApiState>,
    Path(entity_id): Path<EntityId>,
    Body(body): Body<Import>,
) -> Result<Json<Product>, Problem> {
    let listing = catalog::listing(&state.aws.clients(), &entity_id).await?;
    let import = ImportProduct {
        product_id: body.product_id,
        listing,
        plans: body.plans,
        usage_plan: body.usage_plan,
        features: body.features,
    };
    Ok(Json(state.store.import_product(import, state.clock.now()).await?))
}

/// Lists imported listings.
///
/// Includes their dimensions and the plans that these map to.
#[utoipa::path(get, path = "/v1/products", tag = "products", operation_id = "listProducts", params(Paging), responses((status = 200, body = Items<Product>), Problems))]
pub(super) async fn products(
    State(state): State<ApiState>,
    Params(paging): Params<Paging>,
) -> Result<Json<Items<Product>>, Problem> {
    let page = paging.page("products")?;
    let rows = state.store.products(page.one_more()).await?;
    Ok(page.items(rows, |product| product.id.to_string()))
}

/// Returns an imported listing.
///
/// Includes its dimensions and the plans that these map to.
#[utoipa::path(get, path = "/v1/products/{id}", tag = "products", operation_id = "showProduct", params(("id" = String, Path)), responses((status = 200, body = Product), Problems))]
pub(super) async fn product(
    State(state): State<ApiState>,
    Path(id): Path<ProductId>,
) -> Result<Json<Product>, Problem> {
    let found = state.store.product(id.clone()).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("product", id.as_str()))
}

/// Removes a product that was imported by mistake.
///
/// Nobody must ever have bought it, and no usage of it be in the books; else 409. Plans of it that were never published go
/// with it, others stay as plans of your own. Features bill nothing of it any more. Returns the product as it was.
#[utoipa::path(delete, path = "/v1/products/{id}", tag = "products", operation_id = "removeProduct", params(("id" = String, Path)), responses((status = 200, body = Product), Problems))]
pub(super) async fn remove(
    State(state): State<ApiState>,
    Path(id): Path<ProductId>,
) -> Result<Json<Product>, Problem> {
    Ok(Json(state.store.remove_product(id, state.clock.now()).await?))
}

/// Applies the changes in a listing.
///
/// Asks AWS. Dimensions that are gone from the listing are kept and marked.
#[utoipa::path(post, path = "/v1/products/{id}/sync", tag = "products", operation_id = "syncProduct", params(("id" = String, Path)), responses((status = 200, body = ProductChanges), Problems))]
pub(super) async fn sync(
    State(state): State<ApiState>,
    Path(id): Path<ProductId>,
) -> Result<Json<ProductChanges>, Problem> {
    let unknown = || Problem::not_found("product", id.as_str());
    let product = state.store.product(id.clone()).await?.ok_or_else(unknown)?;
    let clients = state.aws.clients();
    let changes =
        catalog::sync(&clients, &state.store, &product.entity_id, state.clock.now()).await?;
    Ok(Json(changes.ok_or_else(unknown)?))
}

/// Confirms endings that are held back.
///
/// When AWS's answers would end more of a product at once than `reconcile.max_endings` allows, or take away every dimension
/// of its listing, nothing of that ends, and the product shows it as `held_endings`. This confirms it. AWS is
/// asked once more before anything ends.
#[utoipa::path(post, path = "/v1/products/{id}/confirm-endings", tag = "products", operation_id = "confirmEndings", params(("id" = String, Path)), responses((status = 200, body = Product), Problems))]
pub(super) async fn confirm_endings(
    State(state): State<ApiState>,
    Path(id): Path<ProductId>,
) -> Result<Json<Product>, Problem> {
    let unknown = || Problem::not_found("product", id.as_str());
    let now = state.clock.now();
    let product = state.store.product(id.clone()).await?.ok_or_else(unknown)?;
    state.store.confirm_endings(id.clone(), now).await?.ok_or_else(unknown)?;
    if product.held_endings.iter().any(|held| held.what == "dimensions") {
        catalog::sync(&state.aws.clients(), &state.store, &product.entity_id, now).await?;
    }
    let found = state.store.product(id.clone()).await?;
    Ok(Json(found.ok_or_else(unknown)?))
}

/// The time at which a product moves to licences.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Licensing {
    /// The start of a clock hour; null cancels a move that lies ahead.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(required, value_type = Option<Timestamp>)]
    from: Option<PointInTime>,
}

/// Lists the customers that have no licence yet.
///
/// Shows what a legacy product's move to licences would meet.
#[utoipa::path(get, path = "/v1/products/{id}/licensing", tag = "products",
    operation_id = "showLicensing", params(("id" = String, Path)),
    responses((status = 200, body = LicensingView), Problems))]
pub(super) async fn show_licensing(
    State(state): State<ApiState>,
    Path(id): Path<ProductId>,
) -> Result<Json<LicensingView>, Problem> {
    let found = state.store.licensing(id.clone()).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("product", id.as_str()))
}

/// Sets the hour from which a legacy product is metered by licence.
///
/// Null cancels a move that lies ahead.
#[utoipa::path(put, path = "/v1/products/{id}/licensing", tag = "products", operation_id = "licenseProduct", params(("id" = String, Path)), request_body = Licensing, responses((status = 200, body = Product), Problems))]
pub(super) async fn licensing(
    State(state): State<ApiState>,
    Path(id): Path<ProductId>,
    Body(body): Body<Licensing>,
) -> Result<Json<Product>, Problem> {
    let asked = body.from.map(Timestamp::from);
    let from = asked.map(ClockHour::of);
    if from.is_some_and(|hour| Some(hour.start()) != asked) {
        return Err(Problem::bad_request(
            "from is the start of a clock hour, such as 2026-12-01T00:00:00Z: AWS meters by the hour",
        ));
    }
    state.store.set_licensed_from(id.clone(), from, state.clock.now()).await?;
    let found = state.store.product(id.clone()).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("product", id.as_str()))
}
