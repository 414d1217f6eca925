//! The catalogue as a file: what it is, and what it is to become.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::extract::{Body, Params};
use super::{ApiState, Problem};
use crate::catalog;
use crate::domain::catalogue::Catalogue;
use crate::domain::plan::{Audience, Word};
use crate::store::Applying;

pub(super) async fn export(State(state): State<ApiState>) -> Result<Json<Catalogue>, Problem> {
    Ok(Json(state.store.catalogue().await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct How {
    dry_run: Option<bool>,
    to: Option<String>,
}

pub(super) async fn apply(
    State(state): State<ApiState>,
    Params(how): Params<How>,
    Body(file): Body<Catalogue>,
) -> Result<Json<Value>, Problem> {
    let audience = how.to.as_deref().map_or(Some(Audience::All), Audience::from_word);
    let audience = audience.ok_or_else(|| Problem::bad_request("to is all or new"))?;
    let mut listings = BTreeMap::new();
    for (id, entry) in &file.products {
        if state.store.product(id.clone()).await?.is_none() {
            let listing = catalog::listing(&state.aws.clients(), &entry.entity_id).await?;
            listings.insert(entry.entity_id.clone(), listing);
        }
    }
    let held = state.store.catalogue().await?;
    let unmanaged = json!({
        "products": held.products.keys().filter(|id| !file.products.contains_key(id)).collect::<Vec<_>>(),
        "features": held.features.keys().filter(|id| !file.features.contains_key(id)).collect::<Vec<_>>(),
        "plans": held.plans.keys().filter(|id| !file.plans.contains_key(id)).collect::<Vec<_>>(),
    });
    let dry_run = how.dry_run == Some(true);
    let applying = Applying { file, listings, audience, dry_run };
    let changes = state.store.apply_catalogue(applying, state.clock.now()).await?;
    Ok(Json(json!({"applied": !dry_run, "changes": changes, "unmanaged": unmanaged})))
}
