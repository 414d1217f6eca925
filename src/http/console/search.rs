//! `/search`: anything by any id, and customers and what is in the catalogue by a part of their names.

use std::collections::BTreeSet;

use askama::Template;
use axum::extract::{Extension, Query, State};
use serde::Deserialize;

use super::parts::{Answer, Frame, go, query, render, segment};
use super::session::Visitor;
use crate::domain::{
    AccountId, Customer, CustomerIdentifier, EntityId, FeatureId, PlanId, ProductCode, ProductId,
    SubscriptionId,
};
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
    id: String,
    place: String,
}

impl Hit {
    fn at(kind: &'static str, folder: &str, id: &str) -> Self {
        let name = id.to_owned();
        let place = format!("{folder}/{}", segment(&name));
        Self { kind, id: id.to_owned(), place, name }
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
    let (mut exact, customers) = customer_hits(state, text).await?;
    exact.extend(ledger_hits(state, text).await?);
    exact.extend(catalogue_hits(state, text).await?);
    // What is an id may be a part of names too: a record has a number.
    exact.extend(customers);
    for hit in named_hits(state, text).await? {
        if !exact.iter().any(|it| it.place == hit.place && it.kind == hit.kind) {
            exact.push(hit);
        }
    }
    Ok(exact)
}

/// Finds customers: whose id the text is, and who have it otherwise.
async fn customer_hits(state: &ApiState, text: &str) -> Result<(Vec<Hit>, Vec<Hit>), Problem> {
    let search = CustomerSearch { text: Some(text.to_owned()), ..CustomerSearch::default() };
    let page = Page { after: None, limit: CUSTOMERS };
    let (mut exact, mut others) = (Vec::new(), Vec::new());
    for Customer { id, name, aws, aliases, .. } in
        state.store.search_customers(search, page).await?.rows.into_iter().map(|it| it.customer)
    {
        let of_aws = [
            aws.account_id.as_ref().map(AccountId::as_str),
            aws.customer_identifier.as_ref().map(CustomerIdentifier::as_str),
        ];
        let is_id = id.as_str() == text
            || of_aws.contains(&Some(text))
            || aws.license_arns.iter().any(|arn| arn.as_str() == text)
            || aliases.iter().any(|alias| alias.as_str() == text);
        let mut hit = Hit::at("customer", "customers", id.as_str());
        hit.name = name.unwrap_or(hit.name);
        if is_id { exact.push(hit) } else { others.push(hit) }
    }
    Ok((exact, others))
}

/// Finds what has its id from AWS or from marketd.
async fn ledger_hits(state: &ApiState, text: &str) -> Result<Vec<Hit>, Problem> {
    let store = &state.store;
    let subscription = store.subscription(SubscriptionId::new(text)).await?;
    let mut subscriptions: BTreeSet<SubscriptionId> =
        subscription.map(|it| it.id).into_iter().collect();
    subscriptions.extend(store.subscriptions_of_agreement(text.to_owned()).await?);
    subscriptions.extend(store.subscriptions_of_license_id(text.to_owned()).await?);
    let mut hits: Vec<Hit> = subscriptions
        .iter()
        .map(|id| Hit::at("subscription", "subscriptions", id.as_str()))
        .collect();
    let records = store.records_of_ids(vec![text.to_owned()]).await?;
    hits.extend(records.iter().map(|it| Hit::at("metering record", "metering/records", &it.id)));
    let billed = store.records_of_aws_id(text.to_owned()).await?;
    hits.extend(billed.iter().map(|id| Hit::at("metering record", "metering/records", id)));
    let usage = store.usage_event(text.to_owned()).await?;
    hits.extend(usage.map(|it| match it.metering_record {
        Some(record) => Hit::at("record of a usage event", "metering/records", &record.id),
        None => Hit::at("customer of a usage event", "customers", it.customer_id.as_str()),
    }));
    let notification = store.notification(text.to_owned()).await?;
    hits.extend(notification.map(|it| Hit::at("notification", "notifications", &it.id)));
    Ok(hits)
}

/// Finds what of the catalogue has the text as its id.
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

/// Finds what of the catalogue has the text in its name or id.
async fn named_hits(state: &ApiState, text: &str) -> Result<Vec<Hit>, Problem> {
    let found = state.store.find_in_catalogue(text).await?;
    let products = found
        .products
        .iter()
        .map(|(id, title)| ("product", "products", id.as_str(), title.clone()));
    let plans = found.plans.iter().map(|(id, name)| ("plan", "plans", id.as_str(), name.clone()));
    let features =
        found.features.iter().map(|(id, name)| ("feature", "features", id.as_str(), name.clone()));
    let dimensions = found.dimensions.iter().map(|(key, product)| {
        ("dimension", "products", product.as_str(), format!("{key} of {product}"))
    });
    let all = products.chain(plans).chain(features).chain(dimensions);
    Ok(all.map(|(kind, folder, id, name)| Hit { name, ..Hit::at(kind, folder, id) }).collect())
}

impl SearchPage {
    /// Returns the query under which the list of customers goes on.
    fn more(&self) -> String {
        query(&[("q", &self.text)])
    }
}
