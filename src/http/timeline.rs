//! `GET /v1/customers/{id}/timeline`: all that happened to a customer.

use axum::Json;
use axum::extract::State;

use super::customers::known;
use super::extract::{Params, Path};
use super::paging::{Items, Paging};
use super::{ApiState, Problem, Problems};
use crate::domain::{Customer, CustomerId};
use crate::store::Event;

/// Returns what happened to a customer.
///
/// Its events, the newest first: what it bought and what became of that, what was billed, parked and decided, who it turned out
/// to be. Includes those under ids that it had before. As far back as `retention.events` keeps them.
#[utoipa::path(get, path = "/v1/customers/{id}/timeline", tag = "customers", operation_id = "customerTimeline", params(("id" = String, Path), Paging), responses((status = 200, body = Items<Event>), Problems))]
pub(super) async fn show(
    State(state): State<ApiState>,
    Path(id): Path<CustomerId>,
    Params(paging): Params<Paging>,
) -> Result<Json<Items<Event>>, Problem> {
    let page = paging.page("timeline")?;
    let customer = known(&state, &id).await?;
    let asked = page.one_more();
    let before = asked.after.map(|text| text.parse()).transpose().map_err(|_| {
        Problem::field_is("cursor", "is what the page before answered with as next_cursor")
    })?;
    let events = state.store.events_before(ids_of(&customer), before, asked.limit).await?;
    Ok(page.items(events, |event| event.seq.to_string()))
}

/// Returns every id that a customer has had.
pub(super) fn ids_of(customer: &Customer) -> Vec<CustomerId> {
    std::iter::once(&customer.id).chain(&customer.aliases).cloned().collect()
}
