//! `/customers/{id}/erase`: what is erased of a customer and what stays, asked before it is done.

use askama::Template;
use axum::Json;
use axum::extract::{Extension, Path, State};
use serde::Deserialize;

use super::parts::{Answer, Form, Frame, go, render, segment};
use super::session::Visitor;
use crate::domain::{Customer, CustomerId};
use crate::http::customers::{self as api, Erase};
use crate::http::extract::{Params, Path as ApiPath};
use crate::http::{ApiState, Problem};
use crate::store::{Page, SubscriptionFilter};

/// The most live subscriptions that are named.
const SHOWN: u32 = 100;

#[derive(Template)]
#[template(path = "erase.html")]
struct ErasePage {
    frame: Frame,
    customer: Customer,
    /// The subscriptions that live.
    live: Vec<String>,
}

/// Says what erasing takes and leaves, and asks.
pub(super) async fn ask(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
) -> Answer {
    Ok(render(&page(&state, &visitor, &id).await?))
}

async fn page(state: &ApiState, visitor: &Visitor, id: &str) -> Result<ErasePage, Problem> {
    let customer = api::known(state, &CustomerId::new(id)).await?;
    let filter = SubscriptionFilter {
        customer_id: Some(customer.id.clone()),
        ..SubscriptionFilter::default()
    };
    let held = state.store.subscriptions(filter, Page { after: None, limit: SHOWN }).await?;
    let live = held.into_iter().filter(|it| it.terms.ended_at.is_none());
    Ok(ErasePage {
        frame: Frame::of(visitor, "customers"),
        live: live.map(|it| it.id.to_string()).collect(),
        customer,
    })
}

/// The answer to the question.
#[derive(Deserialize)]
pub(super) struct Decision {
    #[serde(default)]
    force: String,
}

pub(super) async fn erase(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    Form(decision): Form<Decision>,
) -> Answer {
    let query = Params(Erase { force: Some(decision.force == "yes") });
    let path = ApiPath(CustomerId::new(id));
    let Json(left) = api::erase(State(state), path, query).await?;
    Ok(go(&visitor, format_args!("/customers/{}?done=erased", segment(left.id.as_str()))))
}
