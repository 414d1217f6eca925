//! `/features`: what the application gates, and the plans that grant it.

use std::collections::BTreeMap;

use askama::Template;
use axum::Json;
use axum::extract::{Extension, Path, Query, State};
use serde::Deserialize;

use super::choices::is_billed;
use super::names::Names;
use super::parts::{
    self, Answer, Form, Frame, Told, go_after, line, next_page, render, segment, some,
};
use super::session::Visitor;
use crate::domain::feature::{Feature, FeatureKind, WhenStale};
use crate::domain::plan::{Plan, PlanEntitlement};
use crate::domain::product::{Dimension, Product};
use crate::domain::word::Word;
use crate::domain::{DimensionKey, FeatureId, ProductId, Source};
use crate::http::extract::{Body, Path as ApiPath};
use crate::http::features::{self as api, PutFeature};
use crate::http::paging::ListPage;
use crate::http::{ApiState, Problem};
use crate::store::{Page, PlanFilter};

/// The features of a page.
const ROWS: &str = "50";
/// The most plans and products that are looked through.
const LOOKED_AT: u32 = 500;

/// What is asked for.
#[derive(Default, Deserialize)]
pub(super) struct Asked {
    cursor: Option<String>,
    done: Option<String>,
}

#[derive(Template)]
#[template(path = "features.html")]
struct FeaturesPage {
    frame: Frame,
    features: Vec<Feature>,
    names: Names,
    next: Option<String>,
}

pub(super) async fn list(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Query(asked): Query<Asked>,
) -> Answer {
    let page = ListPage::of("features", Some(ROWS), asked.cursor.as_deref())?;
    let rows = state.store.features(page.one_more()).await?;
    let Json(found) = page.items(rows, |feature| feature.id.to_string());
    Ok(render(&FeaturesPage {
        frame: Frame::of(&visitor, "features"),
        features: found.items,
        names: Names::of(&state).await?,
        next: found.next_cursor.map(|it| next_page(&visitor, "cursor", &it)),
    }))
}

#[derive(Template)]
#[template(path = "feature.html")]
struct FeaturePage {
    frame: Frame,
    told: Told,
    feature: Feature,
    granted: Vec<(Plan, PlanEntitlement)>,
    billed: Vec<Billed>,
}

impl FeaturePage {
    /// Describes how much of the feature a plan grants.
    fn terms(&self, plan: &Plan, grant: &PlanEntitlement) -> String {
        let is_billed = plan.source == Source::Aws && is_billed(&self.feature);
        parts::terms(&grant.terms, is_billed)
    }
}

/// A product with metered dimensions, and the one that bills the feature's usage.
struct Billed {
    product: Product,
    dimensions: Vec<Dimension>,
    dimension: String,
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<FeatureId>,
    Query(asked): Query<Asked>,
) -> Answer {
    Ok(render(&feature(&state, &visitor, id, asked.done).await?))
}

async fn feature(
    state: &ApiState,
    visitor: &Visitor,
    id: FeatureId,
    done: Option<String>,
) -> Result<FeaturePage, Problem> {
    let Json(feature) = api::show(State(state.clone()), ApiPath(id)).await?;
    let all = || Page { after: None, limit: LOOKED_AT };
    let grants = |plan: Plan| {
        let found = plan.newest().iter().find(|it| it.feature_id == feature.id).cloned();
        found.map(|it| (plan, it))
    };
    let plans = state.store.plans(PlanFilter::default(), all()).await?;
    let granted = plans.into_iter().filter_map(grants).collect();
    let billed = |product: Product| Billed {
        dimensions: product.dimensions.iter().filter(|it| it.is_metered()).cloned().collect(),
        dimension: feature.dimensions.get(&product.id).map(ToString::to_string).unwrap_or_default(),
        product,
    };
    let products = state.store.products(all()).await?;
    let billed: Vec<Billed> = products.into_iter().map(billed).collect();
    Ok(FeaturePage {
        frame: Frame::of(visitor, "features"),
        told: Told::of(done),
        granted,
        billed: billed.into_iter().filter(|it| !it.dimensions.is_empty()).collect(),
        feature,
    })
}

/// Creates or changes a feature: `dimension:PRODUCT` of the form names what bills its usage.
pub(super) async fn put(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Form(fields): Form<Vec<(String, String)>>,
) -> Answer {
    let field = |name: &str| fields.iter().find(|it| it.0 == name).and_then(|it| some(&it.1));
    // A new id is typed, and what stands around it is no part of it; one that is there is sent as it is.
    let sent = fields.iter().find(|it| it.0 == "id").map_or("", |it| it.1.as_str());
    let fresh = field("fresh").is_some();
    let id: FeatureId = parts::id("id", if fresh { sent.trim() } else { sent })?;
    if fresh && let Some(held) = state.store.feature(id.clone()).await? {
        return Err(parts::taken("feature", "features", held.id.as_str(), &held.name).into());
    }
    let kind = field("type").and_then(|word| FeatureKind::from_word(&word));
    let kind = kind.ok_or_else(|| Problem::bad_field("type", "choose one of the kinds"))?;
    let billed = fields.iter().filter_map(|(name, value)| {
        let product = ProductId::new(name.strip_prefix("dimension:")?);
        Some((product, DimensionKey::new(some(value)?)))
    });
    // Only the form of one feature's page names dimensions: that of a new one leaves them out.
    let names = fields.iter().any(|(name, _)| name.starts_with("dimension:"));
    let field_sent = fields.iter().any(|(name, _)| name == "unit");
    let body = PutFeature {
        name: line("name", field("name").unwrap_or_default())?,
        kind,
        // The page of a feature that is had or not had asks for none.
        unit: field_sent.then(|| line("unit", field("unit").unwrap_or_default())).transpose()?,
        dimensions: names.then(|| billed.collect::<BTreeMap<_, _>>()),
        when_stale: field("when_stale").and_then(|word| WhenStale::from_word(&word)),
    };
    let done = api::put(State(state), ApiPath(id.clone()), Body(body)).await;
    go_after(done, &visitor, format_args!("/features/{}?done=saved", segment(id.as_str())))
}
