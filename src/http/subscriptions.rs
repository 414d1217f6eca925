//! Subscriptions: all are shown, those of the seller's own are written.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::customers::{List, canonical, known};
use super::extract::{Body, Params, Path, items, one_more, page};
use super::{ApiState, Problem};
use crate::domain::{
    CustomerId, PlanId, ProductId, Quantity, Status, Subscription, SubscriptionId,
};
use crate::store::{DirectSubscription, Page, SubscriptionFilter};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    limit: Option<String>,
    cursor: Option<String>,
    customer_id: Option<String>,
    product_id: Option<String>,
    plan_id: Option<String>,
    status: Option<String>,
}

pub(super) async fn list(
    State(state): State<ApiState>,
    Params(query): Params<Filter>,
) -> Result<Json<Value>, Problem> {
    let status = match &query.status {
        None => None,
        Some(word) => Some(Status::parse(word).ok_or_else(|| {
            let words: Vec<&str> = Status::ALL.into_iter().map(Status::as_str).collect();
            Problem::bad_request(format!("status is one of {}", words.join(", ")))
        })?),
    };
    let customer_id = canonical(&state, query.customer_id).await?;
    let filter = SubscriptionFilter {
        customer_id,
        product_id: query.product_id.map(ProductId::new),
        plan_id: query.plan_id.map(PlanId::new),
        status,
    };
    let page = page(query.limit.as_deref(), query.cursor.as_deref())?;
    listed(&state, filter, page).await
}

pub(super) async fn of_customer(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    Params(query): Params<List>,
) -> Result<Json<Value>, Problem> {
    let customer = known(&state, &id).await?;
    let filter =
        SubscriptionFilter { customer_id: Some(customer.id), ..SubscriptionFilter::default() };
    let page = page(query.limit.as_deref(), query.cursor.as_deref())?;
    listed(&state, filter, page).await
}

async fn listed(
    state: &ApiState,
    filter: SubscriptionFilter,
    page: Page,
) -> Result<Json<Value>, Problem> {
    let rows = state.store.subscriptions(filter, one_more(&page)).await?;
    Ok(Json(items(rows, page.limit, |subscription| subscription.id.to_string())))
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<Subscription>, Problem> {
    let found = state.store.subscription(SubscriptionId::new(&id)).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("subscription", &id))
}

/// A subscription that the seller sold.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PutSubscription {
    customer_id: CustomerId,
    plan_id: PlanId,
    quantity: Option<Quantity>,
    #[serde(default)]
    trial: bool,
    starts_at: Option<Timestamp>,
    ends_at: Option<Timestamp>,
}

pub(super) async fn put(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    Body(body): Body<PutSubscription>,
) -> Result<Json<Subscription>, Problem> {
    let PutSubscription { customer_id, plan_id, quantity, trial, starts_at, ends_at } = body;
    let id = SubscriptionId::new(id);
    let request =
        DirectSubscription { id, customer_id, plan_id, quantity, trial, starts_at, ends_at };
    Ok(Json(state.store.put_direct(request, state.clock.now()).await?))
}

/// When a subscription is to end.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cancel {
    at: Option<Timestamp>,
}

pub(super) async fn cancel(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    Body(body): Body<Cancel>,
) -> Result<Json<Subscription>, Problem> {
    let now = state.clock.now();
    Ok(Json(state.store.cancel_direct(SubscriptionId::new(id), body.at, now).await?))
}
