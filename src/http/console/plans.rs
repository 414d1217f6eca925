//! `/plans`: what each grants, its draft, and whom a new version reaches.

use std::borrow::Borrow;

use askama::Template;
use axum::Json;
use axum::extract::{Extension, Path, Query, State};
use serde::Deserialize;

use super::choices::{Choices, Grants};
use super::names::Names;
use super::parts::{self, Answer, Form, Frame, Told, go_after, next_page, render, segment, some};
use super::session::Visitor;
use crate::domain::feature::{Feature, FeatureKind};
use crate::domain::plan::{Audience, Plan, PlanStatus};
use crate::domain::rollout::Preview;
use crate::domain::terms::{Anchor, Bill, EntitlementTerms, ResetPeriod};
use crate::domain::unbilled::UnbilledGrant;
use crate::domain::word::Word;
use crate::domain::{FeatureId, Line, PlanId, ProductId, Source};
use crate::http::extract::{Body, Path as ApiPath};
use crate::http::paging::ListPage;
use crate::http::plans::{self as api, Publish, PutPlan};
use crate::http::{ApiState, Problem};
use crate::store::{Page, PlanFilter, PlanVersionRow};

/// The plans of a page.
const ROWS: &str = "50";
/// The most features that are offered to choose from.
const OFFERED: u32 = 500;

/// What a plan may be.
const STATUSES: [&str; 3] = ["draft", "published", "archived"];

/// What is asked for.
#[derive(Clone, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    status: String,
    #[serde(default)]
    product_id: String,
    /// The feature that is about to be granted.
    #[serde(default)]
    grant: String,
    cursor: Option<String>,
    done: Option<String>,
}

#[derive(Template)]
#[template(path = "plans.html")]
struct PlansPage {
    frame: Frame,
    asked: Asked,
    statuses: [&'static str; 3],
    products: Choices,
    names: Names,
    plans: Vec<Plan>,
    next: Option<String>,
}

pub(super) async fn list(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Query(asked): Query<Asked>,
) -> Answer {
    let filter = PlanFilter {
        status: parts::choice("status", &asked.status, STATUSES.map(|it| (it, it)))?
            .and_then(PlanStatus::from_word),
        product_id: some(&asked.product_id).map(ProductId::new),
    };
    let page = ListPage::of("plans", Some(ROWS), asked.cursor.as_deref())?;
    let rows = state.store.plans(filter, page.one_more()).await?;
    let Json(found) = page.items(rows, |plan| plan.id.to_string());
    let next = found.next_cursor.map(|it| next_page(&visitor, "cursor", &it));
    let (frame, plans) = (Frame::of(&visitor, "plans"), found.items);
    let products = Choices::products(&state, &asked.product_id).await?;
    let names = Names::of(&state).await?;
    Ok(render(&PlansPage { frame, asked, statuses: STATUSES, products, names, plans, next }))
}

/// A plan of the seller's own.
#[derive(Deserialize)]
pub(super) struct NewPlan {
    id: String,
    name: Line,
    /// Set where the id is meant to be one that no plan has yet; else a plan is renamed.
    #[serde(default)]
    fresh: String,
}

pub(super) async fn put(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Form(NewPlan { id, name, fresh }): Form<NewPlan>,
) -> Answer {
    // A new id is typed, and what stands around it is no part of it; one that is there is sent as it is.
    let id: PlanId = parts::id("id", if fresh.is_empty() { &id } else { id.trim() })?;
    let held = state.store.plan(id.clone()).await?;
    if let Some(held) = held.as_ref().filter(|_| !fresh.is_empty()) {
        return Err(parts::taken("plan", "plans", held.id.as_str(), &held.name).into());
    }
    let body = Body(PutPlan { name, product_id: None });
    let word = if held.is_some() { "renamed" } else { "saved" };
    told(&visitor, &id, word, api::put(State(state), ApiPath(id.clone()), body).await)
}

/// Sends the visitor to a plan's page with a word on what was done, or says why it was not.
fn told<T>(visitor: &Visitor, id: &PlanId, word: &str, done: Result<T, Problem>) -> Answer {
    go_after(done, visitor, format_args!("/plans/{}?done={word}", segment(id.as_str())))
}

#[derive(Template)]
#[template(path = "plan.html")]
struct PlanPage {
    frame: Frame,
    told: Told,
    plan: Plan,
    versions: Vec<PlanVersionRow>,
    features: Vec<Feature>,
    unbilled: Vec<UnbilledGrant>,
    words: Grants,
    names: Names,
    /// The feature that is about to be granted.
    chosen: Option<Feature>,
}

impl PlanPage {
    /// Reports whether somebody can buy the plan on AWS now.
    fn is_sold(&self) -> bool {
        self.plan.aws.iter().any(|sold| sold.removed_at.is_none())
    }

    /// Returns the features of a kind, to choose from.
    fn of_kind(&self, kind: impl Borrow<FeatureKind>) -> Vec<&Feature> {
        self.features.iter().filter(|it| it.kind == *kind.borrow()).collect()
    }

    /// Reports whether a feature is about to be granted.
    fn is_chosen(&self, id: &FeatureId) -> bool {
        self.chosen.as_ref().is_some_and(|it| it.id == *id)
    }

    /// Returns the terms on which the newest version grants a feature, if it does.
    fn held(&self, id: &FeatureId) -> Option<&EntitlementTerms> {
        let granted = self.plan.newest().iter().find(|it| it.feature_id == *id);
        granted.map(|it| &it.terms)
    }

    /// Returns the same, or what a form says that nobody has changed.
    fn terms(&self, id: &FeatureId) -> EntitlementTerms {
        self.held(id).cloned().unwrap_or_default()
    }

    /// Returns the limit that a form shows of a feature.
    fn limit(&self, id: &FeatureId) -> String {
        parts::or_empty(self.terms(id).limit.as_ref())
    }

    /// Returns the word of the period after which usage counts from zero.
    fn reset(&self, id: &FeatureId) -> String {
        self.terms(id).reset.map(|it| it.word()).unwrap_or_default()
    }
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<PlanId>,
    Query(asked): Query<Asked>,
) -> Answer {
    Ok(render(&plan(&state, &visitor, id, asked).await?))
}

async fn plan(
    state: &ApiState,
    visitor: &Visitor,
    id: PlanId,
    Asked { done, grant, .. }: Asked,
) -> Result<PlanPage, Problem> {
    let Json(plan) = api::show(State(state.clone()), ApiPath(id.clone())).await?;
    let features = state.store.features(Page { after: None, limit: OFFERED }).await?;
    let frame = Frame::of(visitor, "plans");
    let chosen = frame.form("/plans/{id}/entitlements").value("feature_id", grant);
    Ok(PlanPage {
        frame,
        chosen: features.iter().find(|it| it.id.as_str() == chosen).cloned(),
        names: Names::of(state).await?,
        told: Told::of(done),
        unbilled: state.store.unbilled_grants(id.clone()).await?,
        versions: state.store.plan_versions(id).await?,
        words: Grants::new(features.clone(), plan.source == Source::Aws),
        features,
        plan,
    })
}

/// The terms of an entitlement, as a form sends them: what is empty is left out.
#[derive(Deserialize)]
pub(super) struct TermsForm {
    feature_id: FeatureId,
    #[serde(default)]
    limit: String,
    unlimited: Option<String>,
    soft: Option<String>,
    per_unit: Option<String>,
    #[serde(default)]
    reset: String,
    #[serde(default)]
    anchor: String,
    #[serde(default)]
    bill: String,
}

impl TermsForm {
    fn terms(&self) -> Result<EntitlementTerms, Problem> {
        let limit = some(&self.limit).map(|text| {
            text.parse().map_err(|_| {
                Problem::field_is("limit", format!(
                    "is a number such as 1000 or 12.5: zero or more, with a point before at most six decimals and no sign between thousands, not “{text}”"
                ))
            })
        });
        Ok(EntitlementTerms {
            limit: limit.transpose()?,
            unlimited: self.unlimited.is_some(),
            soft: self.soft.is_some(),
            per_unit: self.per_unit.is_some(),
            reset: some(&self.reset).and_then(|word| ResetPeriod::from_word(&word)),
            anchor: Anchor::from_word(&self.anchor).unwrap_or_default(),
            bill: Bill::from_word(&self.bill).unwrap_or_default(),
        })
    }
}

pub(super) async fn entitle(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<PlanId>,
    Form(form): Form<TermsForm>,
) -> Answer {
    let (path, terms) = (ApiPath((id.clone(), form.feature_id.clone())), form.terms()?);
    told(&visitor, &id, "drafted", api::entitle(State(state), path, Body(terms)).await)
}

/// A feature that is taken out of a draft.
#[derive(Deserialize)]
pub(super) struct TakenOut {
    feature_id: FeatureId,
}

pub(super) async fn remove_entitlement(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<PlanId>,
    Form(TakenOut { feature_id }): Form<TakenOut>,
) -> Answer {
    let removed = api::remove_entitlement(State(state), ApiPath((id.clone(), feature_id))).await;
    told(&visitor, &id, "drafted", removed)
}

pub(super) async fn discard(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<PlanId>,
) -> Answer {
    told(&visitor, &id, "discarded", api::discard_draft(State(state), ApiPath(id.clone())).await)
}

#[derive(Template)]
#[template(path = "publish.html")]
struct PublishPage {
    frame: Frame,
    plan: Plan,
    preview: Preview,
    words: Grants,
    names: Names,
}

/// Says who would gain and lose what, and asks.
pub(super) async fn ask_publish(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<PlanId>,
) -> Answer {
    let Json(plan) = api::show(State(state.clone()), ApiPath(id.clone())).await?;
    let preview = state.store.preview_plan(id, None).await?;
    let words = Grants::of(&state, plan.source == Source::Aws).await?;
    let customers = preview.groups.iter().flat_map(|it| &it.customers);
    let names = Names::default().and_customers(&state, customers).await?;
    let frame = Frame::of(&visitor, "plans");
    Ok(render(&PublishPage { frame, plan, preview, words, names }))
}

/// Whom a draft is published to.
#[derive(Deserialize)]
pub(super) struct PublishForm {
    #[serde(default)]
    to: String,
    reopen: Option<String>,
}

pub(super) async fn publish(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<PlanId>,
    Form(form): Form<PublishForm>,
) -> Answer {
    let body = Publish { to: Audience::from_word(&form.to), reopen: form.reopen.is_some() };
    let published = api::publish(State(state), ApiPath(id.clone()), Body(body)).await;
    told(&visitor, &id, "published", published)
}

#[derive(Template)]
#[template(path = "archive.html")]
struct ArchivePage {
    frame: Frame,
    plan: Plan,
    /// The subscriptions that are on it.
    held: i64,
}

/// Says what archiving a plan means, and asks.
pub(super) async fn ask_archive(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<PlanId>,
) -> Answer {
    let Json(plan) = api::show(State(state.clone()), ApiPath(id.clone())).await?;
    let held = state.store.plan_versions(id).await?.iter().map(|it| it.subscriptions).sum();
    Ok(render(&ArchivePage { frame: Frame::of(&visitor, "plans"), plan, held }))
}

pub(super) async fn archive(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<PlanId>,
) -> Answer {
    told(&visitor, &id, "archived", api::archive(State(state), ApiPath(id.clone())).await)
}
