//! `GET /v1/usage/series`: what a customer used over time, as a chart shows it.

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
use crate::domain::{CustomerId, FeatureId};

/// The span by hour and by day, where `since` is left out.
const HOURS: SignedDuration = SignedDuration::from_hours(48);
const DAYS: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The series that is asked for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    /// The customer; an alias leads there too.
    customer_id: CustomerId,
    /// The feature.
    feature_id: FeatureId,
    /// The step: a day if left out.
    #[param(inline)]
    by: Option<Step>,
    /// The first moment; the last 30 days, or 48 hours by hour, if left out.
    since: Option<Timestamp>,
    /// The moment after the last; now if left out.
    until: Option<Timestamp>,
}

/// Returns what a customer used of a feature over time.
///
/// One item a step, the oldest first, those without usage as zero: at most 31 days by hour, 400 by day. Usage counts at its
/// own time, whether it is billed or included.
#[utoipa::path(get, path = "/v1/usage/series", tag = "usage", operation_id = "usageSeries",
    params(Query), responses((status = 200, body = Items<Point>), Problems))]
pub(super) async fn show(
    State(state): State<ApiState>,
    Params(query): Params<Query>,
) -> Result<Json<Items<Point>>, Problem> {
    let step = query.by.unwrap_or_default();
    let until = query.until.unwrap_or_else(|| state.clock.now());
    let span = match step {
        Step::Hour => HOURS,
        Step::Day => DAYS,
    };
    let since = query.since.unwrap_or_else(|| until.saturating_sub(span).unwrap_or(Timestamp::MIN));
    if since >= until {
        return Err(Problem::bad_request("since is before until"));
    }
    if until.duration_since(since) > step.length() * i32::try_from(step.most()).unwrap_or(i32::MAX)
    {
        return Err(Problem::bad_request(
            "a series is at most 31 days long by hour, and 400 days by day",
        ));
    }
    let customer = known(&state, &query.customer_id).await?;
    let feature = query.feature_id;
    if state.store.feature(feature.clone()).await?.is_none() {
        return Err(Problem::not_found("feature", feature.as_str()));
    }
    let first = step.begin(since);
    let amounts = state.store.usage_amounts(customer.id, feature, first, until).await?;
    Ok(whole(series(step, since, until, amounts)))
}
