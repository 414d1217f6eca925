//! `/products`: imported listings, and what changed in them.

use askama::Template;
use axum::Json;
use axum::extract::{Extension, Path, Query, State};
use serde::Deserialize;

use super::names::Names;
use super::parts::{Answer, Frame, Told, When, go_after, next_page, render, segment};
use super::session::Visitor;
use crate::diagnosis::{Diagnosis, FindingKind};
use crate::domain::feature::Feature;
use crate::domain::product::Product;
use crate::domain::ungranted::{Ungranted, ungranted};
use crate::domain::word::Word as _;
use crate::domain::{DimensionKey, PlanId, ProductId};
use crate::http::extract::Path as ApiPath;
use crate::http::paging::ListPage;
use crate::http::{ApiState, Problem, products as api};
use crate::store::{Page, ProductChanges};

/// The products of a page.
const ROWS: &str = "50";
/// The most features that dimensions are looked for in.
const FEATURES: u32 = 500;

/// What is asked for.
#[derive(Default, Deserialize)]
pub(super) struct Asked {
    cursor: Option<String>,
    done: Option<String>,
}

#[derive(Template)]
#[template(path = "products.html")]
struct ProductsPage {
    frame: Frame,
    told: Told,
    products: Vec<(Product, When)>,
    next: Option<String>,
}

pub(super) async fn list(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Query(asked): Query<Asked>,
) -> Answer {
    let now = state.clock.now();
    let page = ListPage::of("products", Some(ROWS), asked.cursor.as_deref())?;
    let rows = state.store.products(page.one_more()).await?;
    let Json(found) = page.items(rows, |product| product.id.to_string());
    let dated = |product: Product| {
        let synced = When::of(product.synced_at, now);
        (product, synced)
    };
    Ok(render(&ProductsPage {
        frame: Frame::of(&visitor, "products"),
        told: Told::of(asked.done),
        products: found.items.into_iter().map(dated).collect(),
        next: found.next_cursor.map(|it| next_page(&visitor, "cursor", &it)),
    }))
}

#[derive(Template)]
#[template(path = "product.html")]
struct ProductPage {
    frame: Frame,
    told: Told,
    product: Product,
    imported: When,
    synced: When,
    held: Vec<String>,
    features: Vec<Feature>,
    /// What is billed although plans of the product do not grant it.
    ungranted: Vec<Ungranted>,
    /// The dimensions that are gone and that usage is billed by still, and what that means.
    lost: Vec<DimensionKey>,
    words: Diagnosis,
    /// The plans that belong to another product, with its title.
    shared: Vec<(PlanId, String)>,
    names: Names,
    /// Since when the first of its dimensions has been gone from the listing.
    gone_since: Option<When>,
    /// What the comparison that was just made has found.
    changes: Option<ProductChanges>,
}

impl ProductPage {
    /// Returns the number of dimensions that are gone from the listing.
    fn gone(&self) -> usize {
        self.product.dimensions.iter().filter(|it| it.removed_at.is_some()).count()
    }

    /// Reports whether usage of it can be billed: a dimension in its listing is metered.
    fn is_metered(&self) -> bool {
        self.product.dimensions.iter().any(|it| it.removed_at.is_none() && it.is_metered())
    }

    /// Reports whether one of its plans was never published.
    fn has_drafts(&self) -> bool {
        self.product.plans.iter().any(|it| it.version.is_none())
    }

    /// Returns the name of a plan of it.
    fn plan<'a>(&'a self, id: &'a PlanId) -> &'a str {
        let plan = self.product.plans.iter().find(|it| it.id == *id);
        plan.map_or(id.as_str(), |it| it.name.as_str())
    }

    /// Returns the features whose usage a dimension bills.
    fn billed_by(&self, key: &DimensionKey) -> Vec<&Feature> {
        let bills = |it: &&Feature| it.dimensions.get(&self.product.id) == Some(key);
        self.features.iter().filter(bills).collect()
    }
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<ProductId>,
    Query(asked): Query<Asked>,
) -> Answer {
    Ok(render(&product(&state, &visitor, id, asked.done).await?))
}

async fn product(
    state: &ApiState,
    visitor: &Visitor,
    id: ProductId,
    done: Option<String>,
) -> Result<ProductPage, Problem> {
    let now = state.clock.now();
    let Json(product) = api::product(State(state.clone()), ApiPath(id)).await?;
    let lost = state.store.lost_dimensions().await?.into_iter();
    let mut shared = Vec::new();
    for plan in &product.plans {
        let other = plan.product_id.clone().filter(|other| *other != product.id);
        if let Some(other) = other {
            let title = state.store.product(other.clone()).await?.map(|it| it.title);
            shared.push((plan.id.clone(), title.unwrap_or_else(|| other.to_string())));
        }
    }
    let features = state.store.features(Page { after: None, limit: FEATURES }).await?;
    let gone_since = product.dimensions.iter().filter_map(|it| it.removed_at).min();
    Ok(ProductPage {
        shared,
        frame: Frame::of(visitor, "products"),
        told: Told::of(done),
        imported: When::of(product.imported_at, now),
        synced: When::of(product.synced_at, now),
        held: product.held_endings.iter().map(|held| held.problem(&product.id)).collect(),
        ungranted: ungranted(&product, &features),
        features,
        lost: lost.filter(|(id, _)| *id == product.id).map(|(_, key)| key).collect(),
        words: FindingKind::DimensionLost.diagnosis(),
        names: Names::of(state).await?,
        gone_since: gone_since.map(|at| When::of(at, now)),
        product,
        changes: None,
    })
}

/// Compares a product with its listing, and shows what changed.
pub(super) async fn sync(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<ProductId>,
) -> Answer {
    let Json(changes) = api::sync(State(state.clone()), ApiPath(id.clone())).await?;
    let mut shown = product(&state, &visitor, id, None).await?;
    shown.changes = Some(changes);
    Ok(render(&shown))
}

pub(super) async fn confirm_endings(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<ProductId>,
) -> Answer {
    let done = api::confirm_endings(State(state), ApiPath(id.clone())).await;
    go_after(done, &visitor, format_args!("/products/{}?done=confirmed", segment(id.as_str())))
}
