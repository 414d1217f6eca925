//! `/customers/{id}`: what they bought, what they may use and why, what they used, and who they are.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use axum::Json;
use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::json;

use super::charts::{Chart, Meter};
use super::choices::{Choices, Grants, is_billed};
use super::events::Happened;
use super::names::Names;
use super::parts::{self, Answer, Form, Frame, Told, When, go, line, render, segment, some};
use super::session::Visitor;
use super::subscriptions::Row;
use crate::domain::access::{Access, Reason};
use crate::domain::feature::{Feature, FeatureKind};
use crate::domain::plan::{Plan, PlanEntitlement};
use crate::domain::series::{Step, series};
use crate::domain::ungranted::Ungranted;
use crate::domain::{Customer, CustomerId, PlanId, ProductId, Source, Subscription};
use crate::http::customers::{self as api, Aws, Provision, Waiting};
use crate::http::extract::{Body, Params, Path as ApiPath};
use crate::http::timeline::ids_of;
use crate::http::{ApiState, Problem};
use crate::store::{Order, Page, PlanFilter, RecordFilter, RecordRow, SubscriptionFilter};

/// The rows of each section, unless all are asked for, and the most of them then.
const FIRST: u32 = 5;
const MOST: u32 = 100;
/// The most features that are looked at.
const FEATURES: usize = 100;
/// The most charts, and their days.
const CHARTS: usize = 4;
const DAYS: SignedDuration = SignedDuration::from_hours(30 * 24);

/// What is asked for.
#[derive(Deserialize)]
pub(super) struct Asked {
    done: Option<String>,
    /// Set where whoever looks wants more than the first rows of each section.
    #[serde(default)]
    all: String,
}

/// The first rows of a section, and whether there are more.
struct First<T> {
    rows: Vec<T>,
    more: bool,
}

impl<T> First<T> {
    /// Takes the first rows, of which one more was asked for than are shown.
    fn of(rows: impl IntoIterator<Item = T>, most: u32) -> Self {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut rows: Vec<T> = rows.into_iter().take(most.saturating_add(1)).collect();
        let more = rows.len() > most;
        rows.truncate(most);
        Self { rows, more }
    }
}

#[derive(Template)]
#[template(path = "customer.html")]
struct CustomerPage {
    frame: Frame,
    told: Told,
    customer: Customer,
    metadata: String,
    created: When,
    /// Customers who may be the same buyer, and those of them that nobody has claimed.
    same: Vec<Customer>,
    joinable: Vec<Customer>,
    subscriptions: First<Row>,
    access: First<(Access, Option<Meter>)>,
    charts: Vec<(String, Chart)>,
    records: First<RecordRow>,
    timeline: First<Happened>,
    /// Set if nothing that was bought under its AWS ids is known: one of them may be mistyped.
    unknown_at_aws: bool,
    /// Set if more than the first rows are shown.
    whole: bool,
    /// The plans that the seller may put a customer on.
    plans: Choices,
    words: Grants,
    names: Names,
    /// The plans that decide on what they may use.
    deciding: Vec<Plan>,
    /// What is billed although the customer's plans do not grant it.
    ungranted: Vec<Ungranted>,
}

impl CustomerPage {
    /// Says how much of a feature they may use: on the terms of the plan that decides, where these say it.
    fn limit(&self, it: &Access) -> String {
        let Some(kind) = it.kind.filter(|kind| *kind != FeatureKind::Boolean) else {
            return String::new();
        };
        let plan = self.deciding.iter().find(|plan| it.plan_id.as_ref() == Some(&plan.id));
        let granted = plan.and_then(|plan| {
            plan.entitlements.iter().find(|grant| grant.feature_id == it.feature_id)
        });
        // Somebody who is held to an older version, or bought several units, has another limit than the plan says.
        let says = |grant: &&PlanEntitlement| grant.terms.limit == it.limit;
        let bills = |plan: &Plan| {
            plan.source == Source::Aws
                && kind == FeatureKind::Metered
                && self.words.feature(&it.feature_id).is_some_and(is_billed)
        };
        match (granted.filter(says), it.limit) {
            (Some(grant), _) => parts::terms(&grant.terms, plan.is_some_and(bills)),
            (None, Some(limit)) => parts::grouped(limit),
            (None, None) if it.unlimited => "unlimited".to_owned(),
            (None, None) => String::new(),
        }
    }
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
) -> Answer {
    Ok(render(&customer(&state, &visitor, &id, asked).await?))
}

async fn customer(
    state: &ApiState,
    visitor: &Visitor,
    id: &str,
    Asked { done, all }: Asked,
) -> Result<CustomerPage, Problem> {
    let now = state.clock.now();
    let found = state.store.customer(CustomerId::new(id)).await?;
    let customer = found.ok_or_else(|| Problem::not_found("customer", id))?;
    let most = if all.is_empty() { FIRST } else { MOST };
    let part = Page { after: None, limit: most + 1 };
    let of_customer = SubscriptionFilter {
        customer_id: Some(customer.id.clone()),
        ..SubscriptionFilter::default()
    };
    let subscriptions = state.store.subscriptions(of_customer, part.clone()).await?;
    let filter = RecordFilter { customer_id: Some(customer.id.clone()), ..RecordFilter::default() };
    let access = state.access.list(&customer.id, None, FEATURES).await?;
    let words = Grants::of(state, false).await?;
    let charts = charts(state, &customer.id, &access, &words, now).await?;
    let ungranted = ungranted(state, &subscriptions, &access, &words, now).await?;
    let meter = |it: Access| {
        let limit = it.limit.filter(|_| !it.unlimited);
        let meter = it.usage.zip(limit).map(|(used, limit)| Meter::of(used, limit));
        (it, meter)
    };
    let mut deciding = Vec::new();
    for id in access.iter().filter_map(|it| it.plan_id.clone()).collect::<BTreeSet<_>>() {
        deciding.extend(state.store.plan(id).await?);
    }
    let timeline = state.store.events_before(ids_of(&customer), None, most + 1).await?;
    let same = state.store.likely_same(customer.id.clone()).await?;
    let plans = Page { after: None, limit: MOST };
    let plans = state.store.plans(PlanFilter::default(), plans).await?;
    let own = plans.into_iter().filter(|it| it.aws.is_empty() && it.version.is_some());
    let own: Vec<(PlanId, String)> = own.map(|it| (it.id, it.name)).collect();
    let buys = |it: &Subscription| it.source == Source::Aws;
    let bought = subscriptions.iter().any(buys) || subscriptions.len() > most as usize;
    Ok(CustomerPage {
        unknown_at_aws: customer.claimed && !customer.aws.is_empty() && !bought,
        frame: Frame::of(visitor, "customers"),
        told: Told::of(done),
        created: When::of(customer.created_at, now),
        joinable: same.iter().filter(|it| !it.claimed).cloned().collect(),
        same,
        subscriptions: First::of(Row::all(state, subscriptions, now).await?, most),
        access: First::of(access.into_iter().map(meter), most),
        charts,
        records: First::of(
            state.store.metering_records(filter, Order::Newest, part).await?.rows,
            most,
        ),
        timeline: First::of(Happened::all(timeline, now), most),
        whole: !all.is_empty(),
        plans: Choices::of(&own, ""),
        words,
        names: Names::of(state).await?,
        deciding,
        ungranted,
        metadata: serde_json::to_string_pretty(&customer.metadata).unwrap_or_default(),
        customer,
    })
}

/// Returns what is billed of what no plan of the customer's grants: the buyer of a product pays for whatever its dimensions
/// bill.
async fn ungranted(
    state: &ApiState,
    subscriptions: &[Subscription],
    access: &[Access],
    words: &Grants,
    now: Timestamp,
) -> Result<Vec<Ungranted>, Problem> {
    let denied = access.iter().filter(|it| it.reason == Reason::FeatureNotInPlan);
    let denied: Vec<&Feature> = denied.filter_map(|it| words.feature(&it.feature_id)).collect();
    let mut found = Vec::new();
    if denied.is_empty() {
        return Ok(found);
    }
    let mut held = BTreeMap::<&ProductId, BTreeSet<&PlanId>>::new();
    for it in subscriptions {
        let is_bought = it.source == Source::Aws && it.status_at(now).is_live();
        if let (true, Some(product), Some(plan)) = (is_bought, &it.product_id, &it.terms.plan_id) {
            held.entry(product).or_default().insert(plan);
        }
    }
    for (product, ids) in held {
        let mut plans = Vec::new();
        for id in ids {
            plans.extend(state.store.plan(id.clone()).await?);
        }
        let product = state.store.product(product.clone()).await?;
        let of = |it: &&Feature| Ungranted::of(product.as_ref()?, it, &plans);
        found.extend(denied.iter().filter_map(of));
    }
    Ok(found)
}

/// Returns what was used of the first metered features, day by day.
async fn charts(
    state: &ApiState,
    customer: &CustomerId,
    access: &[Access],
    words: &Grants,
    now: Timestamp,
) -> Result<Vec<(String, Chart)>, Problem> {
    let since = now.saturating_sub(DAYS).unwrap_or(now);
    let first = Step::Day.begin(since);
    let mut charts = Vec::new();
    for it in access.iter().filter(|it| it.kind == Some(FeatureKind::Metered)).take(CHARTS) {
        let (customer, feature) = (customer.clone(), it.feature_id.clone());
        let amounts = state.store.usage_amounts(customer, feature, first, now).await?;
        if !amounts.is_empty() {
            let points = series(Step::Day, since, now, amounts);
            charts.push((words.name(&it.feature_id).to_owned(), Chart::of(&points)));
        }
    }
    Ok(charts)
}

/// A customer's details: what is empty stays as it is.
#[derive(Deserialize)]
pub(super) struct Details {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    email: String,
    #[serde(default)]
    account_id: String,
    #[serde(default)]
    customer_identifier: String,
    #[serde(default)]
    license_arn: String,
    /// Set where the id is meant to be one that no customer has yet.
    #[serde(default)]
    fresh: String,
    /// Set by a person who knows that the id is a customer's, and means that one.
    #[serde(default)]
    same: String,
}

/// Refuses an id that a customer has, unless a person says that they mean that customer: two would become one.
async fn check_id(state: &ApiState, id: &CustomerId, details: &Details) -> Result<(), Problem> {
    if details.fresh.is_empty() || !details.same.is_empty() {
        return Ok(());
    }
    let Some(held) = state.store.customer(id.clone()).await? else { return Ok(()) };
    let name = held.name.as_deref().map(|name| format!(", {name}")).unwrap_or_default();
    let detail = format!(
        "{}{name} is a customer already. Choose another id; or check that this is the same customer, and both become one for good",
        held.id
    );
    Err(Problem::new(StatusCode::CONFLICT, "customer-exists", detail).with("field", json!("id")))
}

/// Provisions, claims or changes a customer.
pub(super) async fn put(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Form(details): Form<Details>,
) -> Answer {
    // A new id is typed, and what stands around it is no part of it; one that is there is sent as it is.
    let id = if details.fresh.is_empty() { details.id.as_str() } else { details.id.trim() };
    let id: CustomerId = parts::id("id", id)?;
    check_id(&state, &id, &details).await?;
    let before = state.store.customer(id.clone()).await?;
    let body = Provision {
        name: some(&details.name).map(|text| line("name", text)).transpose()?,
        email: some(&details.email).map(|text| line("email", text)).transpose()?,
        aws: Aws {
            customer_identifier: some(&details.customer_identifier),
            account_id: some(&details.account_id),
            license_arn: some(&details.license_arn),
        },
        metadata: None,
    };
    let query = Params(Waiting { wait: None });
    let Json(it) = api::provision(State(state), ApiPath(id), query, Body(body)).await?;
    let same = |old: &Customer| {
        (old.claimed, &old.name, &old.email, &old.aws) == (it.claimed, &it.name, &it.email, &it.aws)
    };
    let word = if before.as_ref().is_some_and(same) { "unchanged" } else { "saved" };
    Ok(go(&visitor, format_args!("/customers/{}?done={word}", segment(it.id.as_str()))))
}

/// Parts a customer from the AWS buyer that was claimed for it by mistake.
pub(super) async fn unlink(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<CustomerId>,
) -> Answer {
    let Json(_) = api::unlink(State(state), ApiPath(id.clone())).await?;
    Ok(go(&visitor, format_args!("/customers/{}?done=unlinked", segment(id.as_str()))))
}
