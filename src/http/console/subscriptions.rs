//! `/subscriptions`: who is on which plan, since when and until when.

use askama::Template;
use axum::Json;
use axum::extract::{Extension, Path, Query, State};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::choices::Choices;
use super::names::Names;
use super::parts::{
    self, Answer, Form, Frame, Told, When, go_after, grouped, next_page, render, segment, some,
};
use super::session::Visitor;
use crate::domain::{
    CustomerId, PlanId, PointInTime, ProductId, Source, Status, Subscription, SubscriptionId,
};
use crate::http::extract::{Body, Path as ApiPath};
use crate::http::paging::ListPage;
use crate::http::subscriptions::{self as api, Cancel, PutSubscription};
use crate::http::{ApiState, Problem};
use crate::store::SubscriptionFilter;

/// The subscriptions of a page.
const ROWS: &str = "50";
/// The shortest term: AWS tells of one beginning in several places, some moments apart.
const TERM: SignedDuration = SignedDuration::from_hours(1);

/// What is asked for.
#[derive(Clone, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    status: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    plan_id: String,
    #[serde(default)]
    product_id: String,
    #[serde(default)]
    ending_within: String,
    cursor: Option<String>,
    done: Option<String>,
}

#[derive(Template)]
#[template(path = "subscriptions.html")]
struct SubscriptionsPage {
    frame: Frame,
    asked: Asked,
    statuses: [&'static str; 7],
    rows: Vec<Row>,
    names: Names,
    plans: Choices,
    products: Choices,
    next: Option<String>,
}

/// A subscription as it is shown.
pub(super) struct Row {
    pub(super) it: Subscription,
    pub(super) status: &'static str,
    pub(super) starts: Option<When>,
    /// When it was first bought, where that was before the present term.
    pub(super) begun: Option<When>,
    pub(super) ends: Option<When>,
}

impl Row {
    /// Returns how many units were bought, if that is more than one plan.
    pub(super) fn units(&self) -> String {
        let quantity = self.it.terms.quantity.map(|it| it.to_string());
        quantity.filter(|it| it != "1").map(|it| format!("{} × ", grouped(it))).unwrap_or_default()
    }

    /// Reports whether it lasts until somebody ends it.
    pub(super) fn is_open(&self) -> bool {
        self.it.source == Source::Direct && self.ends.is_none() && !self.it.terms.status.is_over()
    }

    /// Says what is known of a free trial of what was bought on AWS; none while it makes no difference.
    pub(super) fn trial(&self) -> Option<&'static str> {
        let terms = &self.it.terms;
        let by_license = terms.holder.as_ref().is_some_and(|holder| !holder.is_legacy());
        match (self.it.source, terms.status, self.ends.is_some()) {
            (Source::Aws, Status::Trialing, true) => Some("yes, by AWS's message, until its end"),
            (Source::Aws, Status::Trialing, false) => {
                Some("yes, by AWS's message; its agreement at AWS says until when")
            }
            (Source::Aws, status, _) if status.is_live() && by_license => {
                Some("not known: of a licence AWS says it in the agreement alone")
            }
            _ => None,
        }
    }

    /// Makes the rows of subscriptions, with when each was first bought.
    pub(super) async fn all(
        state: &ApiState,
        subscriptions: Vec<Subscription>,
        now: Timestamp,
    ) -> Result<Vec<Self>, Problem> {
        let begun = state.store.first_begun(subscriptions.clone()).await?;
        let rows = subscriptions.into_iter().zip(begun).map(|(it, begun)| {
            let begun = begun
                .zip(it.terms.starts_at)
                .filter(|(begun, at)| at.duration_since(*begun) >= TERM);
            let begun = begun.map(|(begun, _)| begun);
            Self { begun: begun.map(|at| When::of(at, now)), ..Self::of(it, now) }
        });
        Ok(rows.collect())
    }

    pub(super) fn of(it: Subscription, now: Timestamp) -> Self {
        let ends = it.terms.ended_at.or(it.terms.ends_at);
        Self {
            status: it.status_at(now).as_str(),
            starts: it.terms.starts_at.map(|at| When::of(at, now)),
            begun: None,
            ends: ends.map(|at| When::of(at, now)),
            it,
        }
    }
}

pub(super) async fn list(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Query(asked): Query<Asked>,
) -> Answer {
    let now = state.clock.now();
    let within = some(&asked.ending_within);
    let filter = SubscriptionFilter {
        customer_id: None,
        product_id: some(&asked.product_id).map(ProductId::new),
        plan_id: some(&asked.plan_id).map(PlanId::new),
        status: parts::status(&asked.status)?,
        source: parts::source(&asked.source)?,
        ends_until: within.map(|text| api::ends_until(&state, &text)).transpose()?,
    };
    let page = ListPage::of("subscriptions", Some(ROWS), asked.cursor.as_deref())?;
    let rows = state.store.subscriptions(filter, page.one_more()).await?;
    let Json(found) = page.items(rows, |subscription| subscription.id.to_string());
    let next = found.next_cursor.map(|it| next_page(&visitor, "cursor", &it));
    let customers = found.items.iter().map(|it| &it.customer_id);
    let names = Names::of(&state).await?.and_customers(&state, customers).await?;
    Ok(render(&SubscriptionsPage {
        frame: Frame::of(&visitor, "subscriptions"),
        names,
        plans: Choices::plans(&state, &asked.plan_id).await?,
        products: Choices::products(&state, &asked.product_id).await?,
        asked,
        statuses: Status::ALL.map(Status::as_str),
        rows: found.items.into_iter().map(|it| Row::of(it, now)).collect(),
        next,
    }))
}

#[derive(Template)]
#[template(path = "subscription.html")]
struct SubscriptionPage {
    frame: Frame,
    told: Told,
    row: Row,
    names: Names,
    missing_since: Option<When>,
    created: When,
    updated: When,
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<SubscriptionId>,
    Query(asked): Query<Asked>,
) -> Answer {
    let now = state.clock.now();
    let Json(it) = api::show(State(state.clone()), ApiPath(id)).await?;
    let (missing_since, created, updated) = (it.terms.missing_since, it.created_at, it.updated_at);
    let rows = Row::all(&state, vec![it], now).await?;
    let row = rows.into_iter().next().ok_or_else(|| Problem::not_found("subscription", ""))?;
    let names = Names::of(&state).await?.and_customers(&state, [&row.it.customer_id]).await?;
    Ok(render(&SubscriptionPage {
        frame: Frame::of(&visitor, "subscriptions"),
        names,
        told: Told::of(asked.done),
        missing_since: missing_since.map(|at| When::of(at, now)),
        created: When::of(created, now),
        updated: When::of(updated, now),
        row,
    }))
}

/// A subscription that the seller sold.
#[derive(Deserialize)]
pub(super) struct NewSubscription {
    customer_id: CustomerId,
    plan_id: PlanId,
    trial: Option<String>,
    /// Its end; none if it is empty.
    #[serde(default)]
    ends_at: String,
}

/// Puts a customer on a plan of the seller's own.
pub(super) async fn put(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Form(form): Form<NewSubscription>,
) -> Answer {
    let ends_at = some(&form.ends_at).map(|text| PointInTime::parse(&text));
    let ends_at = ends_at.transpose().map_err(|_| {
        Problem::field_is("ends_at", "is a day such as 2026-12-31, or empty: then you end it")
    })?;
    // By what it is about: sent twice, it is one subscription.
    let id = SubscriptionId::new(format!("{}-{}", form.customer_id, form.plan_id));
    let body = PutSubscription {
        customer_id: form.customer_id,
        plan_id: form.plan_id,
        quantity: None,
        trial: form.trial.is_some(),
        status: None,
        starts_at: None,
        ends_at,
    };
    told(&visitor, &id, "saved", api::put(State(state), ApiPath(id.clone()), Body(body)).await)
}

pub(super) async fn cancel(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<SubscriptionId>,
) -> Answer {
    let canceled = api::cancel(State(state), ApiPath(id.clone()), Body(Cancel { at: None })).await;
    told(&visitor, &id, "canceled", canceled)
}

fn told<T>(visitor: &Visitor, id: &SubscriptionId, word: &str, done: Result<T, Problem>) -> Answer {
    go_after(done, visitor, format_args!("/subscriptions/{}?done={word}", segment(id.as_str())))
}
