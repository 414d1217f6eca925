//! `/search`: anything by any id, or customers by a part of their names.

use askama::Template;
use axum::extract::{Extension, Query, State};
use serde::Deserialize;

use super::parts::{Answer, Frame, go, query, render, segment};
use super::session::Visitor;
use crate::domain::{EntityId, FeatureId, PlanId, ProductCode, ProductId, SubscriptionId};
use crate::http::{ApiState, Problem};
use crate::store::{CustomerSearch, Page};

/// The most customers that are shown.
const CUSTOMERS: u32 = 20;

/// What is asked for.
#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    q: String,
}

#[derive(Template)]
#[template(path = "search.html")]
struct SearchPage {
    frame: Frame,
    text: String,
    hits: Vec<Hit>,
}

/// A thing that was found: its kind, its name, and its page.
struct Hit {
    kind: &'static str,
    name: String,
    place: String,
}

impl Hit {
    fn at(kind: &'static str, folder: &str, id: &str) -> Self {
        let name = id.to_owned();
        Self { kind, place: format!("{folder}/{}", segment(&name)), name }
    }
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Query(asked): Query<Asked>,
) -> Answer {
    let text = asked.q.trim().to_owned();
    let hits = find(&state, &text).await?;
    Ok(match hits.as_slice() {
        [only] => go(&visitor, format_args!("/{}", only.place)),
        _ => render(&SearchPage { frame: Frame::of(&visitor, "search"), text, hits }),
    })
}

async fn find(state: &ApiState, text: &str) -> Result<Vec<Hit>, Problem> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let store = &state.store;
    let mut hits = Vec::new();
    let search = CustomerSearch { text: Some(text.to_owned()), ..CustomerSearch::default() };
    let found = store.search_customers(search, Page { after: None, limit: CUSTOMERS }).await?;
    hits.extend(found.rows.into_iter().map(|it| {
        let mut hit = Hit::at("customer", "customers", it.customer.id.as_str());
        hit.name = it.customer.name.unwrap_or(hit.name);
        hit
    }));
    let subscription = store.subscription(SubscriptionId::new(text)).await?;
    hits.extend(subscription.map(|it| Hit::at("subscription", "subscriptions", it.id.as_str())));
    let of_agreement = store.subscriptions_of_agreement(text.to_owned()).await?;
    hits.extend(
        of_agreement.into_iter().map(|id| Hit::at("subscription", "subscriptions", id.as_str())),
    );
    hits.extend(catalogue_hits(state, text).await?);
    let record = store.metering_record(text.to_owned()).await?;
    hits.extend(record.map(|(it, _)| Hit::at("metering record", "metering/records", &it.id)));
    let usage = store.usage_event(text.to_owned()).await?;
    hits.extend(usage.map(|it| match it.metering_record {
        Some(record) => Hit::at("record of a usage event", "metering/records", &record.id),
        None => Hit::at("customer of a usage event", "customers", it.customer_id.as_str()),
    }));
    let notification = store.notification(text.to_owned()).await?;
    hits.extend(notification.map(|it| Hit::at("notification", "notifications", &it.id)));
    Ok(hits)
}

async fn catalogue_hits(state: &ApiState, text: &str) -> Result<Vec<Hit>, Problem> {
    let store = &state.store;
    let mut product = store.product(ProductId::new(text)).await?;
    if product.is_none() {
        product = store.product_of_entity(EntityId::new(text)).await?;
    }
    if product.is_none() {
        product = store.product_of_code(ProductCode::new(text)).await?;
    }
    let mut hits: Vec<Hit> =
        product.into_iter().map(|it| Hit::at("product", "products", it.id.as_str())).collect();
    let plan = store.plan(PlanId::new(text)).await?;
    hits.extend(plan.map(|it| Hit::at("plan", "plans", it.id.as_str())));
    let feature = store.feature(FeatureId::new(text)).await?;
    hits.extend(feature.map(|it| Hit::at("feature", "features", it.id.as_str())));
    Ok(hits)
}

impl SearchPage {
    /// Returns the query under which the list of customers goes on.
    fn more(&self) -> String {
        query(&[("q", &self.text)])
    }
}
