//! The catalogue as a file: export and apply.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Body, Params};
use super::{ApiState, Problem, Problems};
use crate::catalog;
use crate::domain::manifest::{Catalogue, Change};
use crate::domain::plan::Audience;
use crate::domain::rollout::Regranted;
use crate::domain::{FeatureId, PlanId, ProductId};
use crate::store::{ManifestOutcome, ManifestRequest};

/// Returns the catalogue as a file.
///
/// Features, plans with their versions, and products with their mappings, in the form that `POST /v1/catalogue`
/// takes.
#[utoipa::path(get, path = "/v1/catalogue", tag = "catalogue", operation_id = "exportCatalogue", responses((status = 200, body = Catalogue), Problems))]
pub(super) async fn export(State(state): State<ApiState>) -> Result<Json<Catalogue>, Problem> {
    Ok(Json(state.store.catalogue().await?))
}

/// The result of applying a file.
#[derive(Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the API's word for it")]
pub(super) struct Applied {
    /// True if the changes were made; false after a dry run.
    applied: bool,
    changes: Vec<Change>,
    /// The number of changes that take something away.
    removals: usize,
    /// The customers whose features change, grouped by the plans and versions that they come from and to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    regranted: Vec<Regranted>,
    unmanaged: Unmanaged,
}

/// The items that exist and that the file does not name.
#[derive(Serialize, ToSchema)]
struct Unmanaged {
    products: Vec<ProductId>,
    features: Vec<FeatureId>,
    plans: Vec<PlanId>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct How {
    /// Shows what would change, and changes nothing.
    dry_run: Option<bool>,
    /// The subscribers that changes to published plans apply to: with `all` everybody gets the new version, with `new`
    /// present subscribers keep theirs. If it is left out, a change applies to everybody, and those who were held to an
    /// older version keep the rest of it.
    #[param(inline)]
    to: Option<Audience>,
}

/// Applies a catalogue file.
///
/// All changes are made, or none. With `dry_run=true` nothing changes, and the answer says what would.
#[utoipa::path(post, path = "/v1/catalogue", tag = "catalogue", operation_id = "applyCatalogue", params(How), request_body = Catalogue, responses((status = 200, body = Applied), Problems))]
pub(super) async fn apply(
    State(state): State<ApiState>,
    Params(how): Params<How>,
    Body(file): Body<Catalogue>,
) -> Result<Json<Applied>, Problem> {
    let mut listings = BTreeMap::new();
    for (id, entry) in &file.products {
        if state.store.product(id.clone()).await?.is_none() {
            let listing = catalog::listing(&state.aws.clients(), &entry.entity_id).await;
            let place = || ["products".to_owned(), id.to_string()];
            let listing = listing.map_err(|error| Problem::from(error).at(&place()))?;
            listings.insert(entry.entity_id.clone(), listing);
        }
    }
    let held = state.store.catalogue().await?;
    let unmanaged = Unmanaged {
        products: missing(held.products, &file.products),
        features: missing(held.features, &file.features),
        plans: missing(held.plans, &file.plans),
    };
    let dry_run = how.dry_run == Some(true);
    let applying = ManifestRequest { file, listings, audience: how.to, dry_run };
    let ManifestOutcome { changes, regranted } =
        state.store.apply_catalogue(applying, state.clock.now()).await?;
    let removals = changes.iter().filter(|change| change.after.is_none()).count();
    Ok(Json(Applied { applied: !dry_run, changes, removals, regranted, unmanaged }))
}

fn missing<K: Ord, V>(held: BTreeMap<K, V>, named: &BTreeMap<K, V>) -> Vec<K> {
    held.into_keys().filter(|id| !named.contains_key(id)).collect()
}
