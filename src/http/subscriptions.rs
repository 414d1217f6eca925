//! Subscriptions: all are shown, direct ones are written.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::customers::{canonical, known};
use super::extract::{Body, Params, Path};
use super::openapi::GivenQuantity;
use super::paging::{Items, ListPage, Paging};
use super::{ApiState, Problem, Problems};
use crate::domain::{
    CustomerId, PlanId, PointInTime, ProductId, Quantity, Source, Status, Subscription,
    SubscriptionId,
};
use crate::store::{DirectSubscription, SubscriptionFilter};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    /// The most subscriptions to return: 1 to 500, 100 if left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Option<String>,
    /// The previous page's `next_cursor`.
    cursor: Option<String>,
    customer_id: Option<String>,
    product_id: Option<String>,
    plan_id: Option<String>,
    status: Option<Status>,
    /// Only subscriptions from this source.
    #[param(inline)]
    source: Option<Source>,
    /// Only subscriptions that last, and end within this time from now, as 30d.
    ending_within: Option<String>,
}

/// Lists subscriptions.
///
/// Includes those of all customers, ended ones too.
#[utoipa::path(get, path = "/v1/subscriptions", tag = "subscriptions", operation_id = "listSubscriptions", params(Filter), responses((status = 200, body = Items<Subscription>), Problems))]
pub(super) async fn list(
    State(state): State<ApiState>,
    Params(query): Params<Filter>,
) -> Result<Json<Items<Subscription>>, Problem> {
    let customer_id = canonical(&state, query.customer_id).await?;
    let filter = SubscriptionFilter {
        customer_id,
        product_id: query.product_id.map(ProductId::new),
        plan_id: query.plan_id.map(PlanId::new),
        status: query.status,
        source: query.source,
        ends_until: query
            .ending_within
            .as_deref()
            .map(|text| ends_until(&state, text))
            .transpose()?,
    };
    let page = ListPage::of("subscriptions", query.limit.as_deref(), query.cursor.as_deref())?;
    listed(&state, filter, page).await
}

/// Lists a customer's subscriptions.
///
/// Includes those from AWS and direct ones, ended ones too.
#[utoipa::path(get, path = "/v1/customers/{id}/subscriptions", tag = "subscriptions", operation_id = "listCustomerSubscriptions", params(("id" = String, Path), Paging), responses((status = 200, body = Items<Subscription>), Problems))]
pub(super) async fn of_customer(
    State(state): State<ApiState>,
    Path(id): Path<CustomerId>,
    Params(query): Params<Paging>,
) -> Result<Json<Items<Subscription>>, Problem> {
    let customer = known(&state, &id).await?;
    let filter =
        SubscriptionFilter { customer_id: Some(customer.id), ..SubscriptionFilter::default() };
    let page = query.page("subscriptions")?;
    listed(&state, filter, page).await
}

/// Parses how soon subscriptions end.
pub(super) fn ends_until(state: &ApiState, text: &str) -> Result<Timestamp, Problem> {
    crate::settings::duration(text)
        .and_then(|within| state.clock.now().checked_add(within).ok())
        .ok_or_else(|| Problem::bad_request("ending_within is a duration such as 12h or 30d"))
}

async fn listed(
    state: &ApiState,
    filter: SubscriptionFilter,
    page: ListPage,
) -> Result<Json<Items<Subscription>>, Problem> {
    let rows = state.store.subscriptions(filter, page.one_more()).await?;
    Ok(page.items(rows, |subscription| subscription.id.to_string()))
}

/// Returns a subscription.
///
/// It is one from AWS, or a direct one.
#[utoipa::path(get, path = "/v1/subscriptions/{id}", tag = "subscriptions", operation_id = "showSubscription", params(("id" = String, Path)), responses((status = 200, body = Subscription), Problems))]
pub(super) async fn show(
    State(state): State<ApiState>,
    Path(id): Path<SubscriptionId>,
) -> Result<Json<Subscription>, Problem> {
    let found = state.store.subscription(id.clone()).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("subscription", id.as_str()))
}

/// A subscription that the seller sold.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PutSubscription {
    pub(super) customer_id: CustomerId,
    pub(super) plan_id: PlanId,
    #[schema(value_type = Option<GivenQuantity>)]
    pub(super) quantity: Option<Quantity>,
    #[serde(default)]
    pub(super) trial: bool,
    /// The status to set: `active` if left out, `trialing`, or `canceled`, which ends it now. Its dates say the
    /// rest.
    pub(super) status: Option<Status>,
    #[schema(value_type = Option<Timestamp>)]
    pub(super) starts_at: Option<PointInTime>,
    #[schema(value_type = Option<Timestamp>)]
    pub(super) ends_at: Option<PointInTime>,
}

/// Subscribes a customer to a plan that you sell, or changes a direct subscription.
///
/// For a plan that AWS sells: 409, since AWS is where it is bought.
#[utoipa::path(put, path = "/v1/subscriptions/{id}", tag = "subscriptions", operation_id = "putSubscription", params(("id" = String, Path)), request_body = PutSubscription, responses((status = 200, body = Subscription), Problems))]
pub(super) async fn put(
    State(state): State<ApiState>,
    Path(id): Path<SubscriptionId>,
    Body(body): Body<PutSubscription>,
) -> Result<Json<Subscription>, Problem> {
    let PutSubscription { customer_id, plan_id, quantity, trial, status, starts_at, ends_at } =
        body;
    let trial = match status {
        None | Some(Status::Active) => trial,
        Some(Status::Trialing) => true,
        Some(Status::Canceled) => {
            return Ok(Json(state.store.cancel_direct(id, None, state.clock.now()).await?));
        }
        Some(other) => {
            let detail = format!(
                "status is active, trialing or canceled: a subscription is {} by its dates",
                other.as_str()
            );
            return Err(Problem::bad_request(detail));
        }
    };
    let (starts_at, ends_at) = (starts_at.map(Timestamp::from), ends_at.map(Timestamp::from));
    let request =
        DirectSubscription { id, customer_id, plan_id, quantity, trial, starts_at, ends_at };
    Ok(Json(state.store.put_direct(request, state.clock.now()).await?))
}

/// Ends a direct subscription now.
///
/// Does the same as `cancel` without a time.
#[utoipa::path(delete, path = "/v1/subscriptions/{id}", tag = "subscriptions",
    operation_id = "endSubscription", params(("id" = String, Path)),
    responses((status = 200, body = Subscription), Problems))]
pub(super) async fn end(
    State(state): State<ApiState>,
    Path(id): Path<SubscriptionId>,
) -> Result<Json<Subscription>, Problem> {
    let now = state.clock.now();
    Ok(Json(state.store.cancel_direct(id, None, now).await?))
}

/// The time at which a subscription is to end.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Cancel {
    #[schema(value_type = Option<Timestamp>)]
    pub(super) at: Option<PointInTime>,
}

/// Ends a direct subscription.
///
/// It ends now, or at the time given.
#[utoipa::path(post, path = "/v1/subscriptions/{id}/cancel", tag = "subscriptions", operation_id = "cancelSubscription", params(("id" = String, Path)), request_body = Cancel, responses((status = 200, body = Subscription), Problems))]
pub(super) async fn cancel(
    State(state): State<ApiState>,
    Path(id): Path<SubscriptionId>,
    Body(body): Body<Cancel>,
) -> Result<Json<Subscription>, Problem> {
    let now = state.clock.now();
    Ok(Json(state.store.cancel_direct(id, body.at.map(Timestamp::from), now).await?))
}
