//! `GET /v1/usage/series`: what a customer, or all of them, used over time, as a chart shows it.

use axum::Json;
use axum::extract::State;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use utoipa::IntoParams;

use super::customers::known;
use super::extract::Params;
use super::paging::{Items, whole};
use super::{ApiState, Problem, Problems};
use crate::domain::series::{Point, Step, series};
use crate::domain::{CustomerId, FeatureId, Moment, ProductId, Quantity};
use crate::store::UsageSumFilter;

/// The span by hour, and by day of one customer and of all, where `since` is left out.
const HOURS: SignedDuration = SignedDuration::from_hours(48);
const DAYS: SignedDuration = SignedDuration::from_hours(30 * 24);
const DAYS_OF_ALL: SignedDuration = SignedDuration::from_hours(14 * 24);

/// The series that is asked for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    /// The customer, with `feature_id`; an alias leads there too. All customers if left out.
    customer_id: Option<CustomerId>,
    /// The feature; of all customers, usage of every feature and of none if left out.
    feature_id: Option<FeatureId>,
    /// The product that bears the usage of all customers; every product, and none, if left out.
    product_id: Option<ProductId>,
    /// The step: a day if left out.
    #[param(inline)]
    by: Option<Step>,
    /// The first moment. If left out: the last 30 days, of all customers the last 14 days, by hour the last 48 hours.
    #[param(value_type = Option<String>)]
    since: Option<Moment>,
    /// The moment after the last; now if left out.
    #[param(value_type = Option<String>)]
    until: Option<Moment>,
}

/// Returns what a customer, or all of them, used over time.
///
/// One item a step, the oldest first, those without usage as zero: at most 31 days by hour, 400 by day. Usage counts at its
/// own time, whether it is billed or included. Without `customer_id` it is the usage of all customers, of a product or of
/// a feature if either is named.
#[utoipa::path(get, path = "/v1/usage/series", tag = "usage", operation_id = "usageSeries",
    params(Query), responses((status = 200, body = Items<Point>), Problems))]
pub(super) async fn show(
    State(state): State<ApiState>,
    Params(query): Params<Query>,
) -> Result<Json<Items<Point>>, Problem> {
    let step = query.by.unwrap_or_default();
    let now = state.clock.now();
    let until = query.until.map_or(now, |it| it.at(now));
    let span = match step {
        Step::Hour => HOURS,
        Step::Day if query.customer_id.is_none() => DAYS_OF_ALL,
        Step::Day => DAYS,
    };
    let earlier = || until.saturating_sub(span).unwrap_or(Timestamp::MIN);
    let since = query.since.map_or_else(earlier, |it| it.at(now));
    if since >= until {
        return Err(Problem::bad_request("since is before until"));
    }
    if until.duration_since(since) > step.length() * i32::try_from(step.most()).unwrap_or(i32::MAX)
    {
        return Err(Problem::bad_request(
            "a series is at most 31 days long by hour, and 400 days by day",
        ));
    }
    if let Some(feature) = &query.feature_id
        && state.store.feature(feature.clone()).await?.is_none()
    {
        return Err(Problem::not_found("feature", feature.as_str()));
    }
    let amounts = amounts(&state, query, step.begin(since), until).await?;
    Ok(whole(series(step, since, until, amounts)))
}

async fn amounts(
    state: &ApiState,
    query: Query,
    first: Timestamp,
    until: Timestamp,
) -> Result<Vec<(Timestamp, Quantity)>, Problem> {
    let Query { customer_id, feature_id, product_id, .. } = query;
    let Some(customer) = customer_id else {
        if let Some(product) = &product_id
            && state.store.product(product.clone()).await?.is_none()
        {
            return Err(Problem::not_found("product", product.as_str()));
        }
        let filter = UsageSumFilter { product_id, feature_id };
        return Ok(state.store.usage_sums(filter, first, until).await?);
    };
    if product_id.is_some() {
        let detail = "product_id is for the usage of all customers: leave out customer_id, or name a feature_id instead";
        return Err(Problem::bad_request(detail));
    }
    let Some(feature) = feature_id else {
        let detail = "feature_id says what of the customer's usage is meant: name one, or leave out customer_id";
        return Err(Problem::bad_request(detail));
    };
    let customer = known(state, &customer).await?;
    Ok(state.store.usage_amounts(customer.id, feature, first, until).await?)
}
