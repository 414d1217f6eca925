//! `/listings`: the SaaS products in AWS's catalog, and the import of one.

use std::collections::BTreeMap;

use askama::Template;
use axum::Json;
use axum::extract::{Extension, Path, Query, State};
use serde::Deserialize;
use serde_json::json;

use super::parts::{Answer, Form, Frame, go, id, next_page, render, segment, some};
use super::session::Visitor;
use super::wording;
use crate::catalog::{self, ListingView};
use crate::domain::product::Dimension;
use crate::domain::ungranted::{Ungranted, ungranted};
use crate::domain::{DimensionKey, EntityId, FeatureId, PlanId, ProductCode, ProductId};
use crate::http::extract::{Body, Path as ApiPath};
use crate::http::paging::ListPage;
use crate::http::products::{self as api, Import};
use crate::http::{ApiState, Problem};
use crate::store::{Page, PlanFilter};

/// The listings of a page: each takes a call to AWS.
const ROWS: &str = "20";
/// The most plans and features that are offered to choose from.
const OFFERED: u32 = 500;

/// What is asked for.
#[derive(Deserialize)]
pub(super) struct Asked {
    cursor: Option<String>,
}

#[derive(Template)]
#[template(path = "listings.html")]
struct ListingsPage {
    frame: Frame,
    listings: Vec<ListingView>,
    /// The codes of products whose buyers wait for the import.
    awaited: Vec<ProductCode>,
    /// The products that bill what plans of theirs do not grant.
    ungranted: Vec<ProductId>,
    next: Option<String>,
    /// The reason why AWS could not be asked.
    fault: Option<String>,
}

pub(super) async fn list(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Query(asked): Query<Asked>,
) -> Answer {
    let page = ListPage::of("listings", Some(ROWS), asked.cursor.as_deref())?;
    let listed = catalog::listings(&state.aws.clients(), &state.store, page.one_more()).await;
    let (listings, next, fault) = match listed {
        Ok(rows) => {
            let Json(found) = page.items(rows, |listing| listing.entity_id.to_string());
            (found.items, found.next_cursor, None)
        }
        Err(error) => (Vec::new(), None, Some(wording::said(&Problem::from(error)))),
    };
    let next = next.map(|it| next_page(&visitor, "cursor", &it));
    let awaited = state.store.awaited_imports().await?;
    let awaited = awaited.into_iter().filter_map(|it| it.product_code).collect();
    let ungranted = ungranting(&state).await?;
    let frame = Frame::of(&visitor, "listings");
    Ok(render(&ListingsPage { frame, listings, awaited, ungranted, next, fault }))
}

/// Returns the products that bill what plans of theirs do not grant.
async fn ungranting(state: &ApiState) -> Result<Vec<ProductId>, Problem> {
    let all = || Page { after: None, limit: OFFERED };
    let features = state.store.features(all()).await?;
    let products = state.store.products(all()).await?.into_iter();
    Ok(products.filter(|it| !ungranted(it, &features).is_empty()).map(|it| it.id).collect())
}

impl ListingsPage {
    /// Reports whether usage of a listing's product is billed that its plans do not grant.
    fn is_ungranted(&self, listing: &ListingView) -> bool {
        listing.product_id.as_ref().is_some_and(|id| self.ungranted.contains(id))
    }

    /// Reports whether a buyer waits for the import of a listing.
    fn is_awaited(&self, listing: &ListingView) -> bool {
        listing.product_code.as_ref().is_some_and(|code| self.awaited.contains(code))
    }
}

#[derive(Template)]
#[template(path = "import.html")]
struct ImportPage {
    frame: Frame,
    listing: ListingView,
    rows: Vec<Row>,
    product_id: String,
    usage_plan: String,
    /// Set if somebody may buy usage alone.
    sells_usage: bool,
    plans: Vec<String>,
    features: Vec<String>,
    /// What is billed although plans of the product do not grant it.
    ungranted: Vec<Ungranted>,
}

impl ImportPage {
    /// Returns the plans that another product's buyers have too, each with that product.
    fn shared_plans(&self) -> Vec<(&str, &str)> {
        let mut plans: Vec<(&str, &str)> = Vec::new();
        for row in &self.rows {
            if let (plan, Some(title)) = (row.plan.as_str(), row.shared.as_deref())
                && !plans.contains(&(plan, title))
            {
                plans.push((plan, title));
            }
        }
        plans
    }
}

/// A dimension, and what it is mapped to.
struct Row {
    dimension: Dimension,
    plan: String,
    feature: String,
    /// The product whose plan it is, if it is another's.
    shared: Option<String>,
}

pub(super) async fn ask_import(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Path(entity): Path<EntityId>,
) -> Answer {
    Ok(render(&import_form(&state, &visitor, &entity).await?))
}

async fn import_form(
    state: &ApiState,
    visitor: &Visitor,
    entity: &EntityId,
) -> Result<ImportPage, Problem> {
    let listing = catalog::listing_view(&state.aws.clients(), &state.store, entity).await?;
    let all = || Page { after: None, limit: OFFERED };
    let product = state.store.product_of_entity(entity.clone()).await?;
    let features = state.store.features(all()).await?;
    let billed = |key: &DimensionKey| {
        let product = product.as_ref()?;
        let bills = |it: &&crate::domain::feature::Feature| {
            it.dimensions.get(&product.id).is_some_and(|dimension| dimension == key)
        };
        features.iter().find(bills).map(|it| it.id.to_string())
    };
    let plans = state.store.plans(PlanFilter::default(), all()).await?;
    let titles = state.store.products(all()).await?;
    // A plan may be another product's: whoever buys either then has the same.
    let shared = |id: &str| {
        let plan = plans.iter().find(|it| it.id.as_str() == id)?;
        let owner = plan.product_id.as_ref()?;
        let other = product.as_ref().is_none_or(|it| it.id != *owner);
        let title = titles.iter().find(|it| it.id == *owner).map(|it| it.title.clone());
        other.then(|| title.unwrap_or_else(|| owner.to_string()))
    };
    let row = |dimension: &Dimension| {
        let suggested = || PlanId::fitting(&dimension.key.as_str().to_lowercase()).into_string();
        let mapped = dimension.plan_id.as_ref().map(ToString::to_string);
        let plan =
            mapped.unwrap_or_else(|| if product.is_some() { String::new() } else { suggested() });
        Row {
            shared: shared(&plan),
            plan,
            feature: billed(&dimension.key).unwrap_or_default(),
            dimension: dimension.clone(),
        }
    };
    let usage_plan = product.as_ref().and_then(|it| it.usage_plan_id.as_ref());
    Ok(ImportPage {
        frame: Frame::of(visitor, "listings"),
        rows: listing.dimensions.iter().map(row).collect(),
        product_id: product.as_ref().map_or_else(|| entity.to_string(), |it| it.id.to_string()),
        usage_plan: usage_plan.map(ToString::to_string).unwrap_or_default(),
        sells_usage: listing.dimensions.iter().any(Dimension::is_metered),
        plans: plans.iter().map(|it| it.id.to_string()).collect(),
        features: features.iter().map(|it| it.id.to_string()).collect(),
        ungranted: product.as_ref().map(|it| ungranted(it, &features)).unwrap_or_default(),
        listing,
    })
}

/// Imports a listing: `plan:KEY` and `feature:KEY` of the form name what a dimension is mapped to.
pub(super) async fn import(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Path(entity): Path<EntityId>,
    Form(fields): Form<Vec<(String, String)>>,
) -> Answer {
    let of = |kind: &str| -> BTreeMap<DimensionKey, String> {
        let named = fields.iter().filter_map(|(name, value)| {
            Some((DimensionKey::new(name.strip_prefix(kind)?), some(value)?))
        });
        named.collect()
    };
    let field = |name: &str| fields.iter().find(|it| it.0 == name).and_then(|it| some(&it.1));
    let ids = |kind: &str| of(kind).into_iter();
    let plan = |(key, text): (DimensionKey, String)| {
        let plan: PlanId = id(&format!("plan:{key}"), &text)?;
        Ok((key, plan))
    };
    let feature = |(key, text): (DimensionKey, String)| {
        let feature: FeatureId = id(&format!("feature:{key}"), &text)?;
        Ok((key, feature))
    };
    let body = Import {
        product_id: field("product_id").map(|text| id("product_id", &text)).transpose()?,
        plans: ids("plan:").map(plan).collect::<Result<_, Problem>>()?,
        usage_plan: field("usage_plan").map(|text| id("usage_plan", &text)).transpose()?,
        features: ids("feature:").map(feature).collect::<Result<_, Problem>>()?,
    };
    let before = state.store.product_of_entity(entity.clone()).await?;
    let imported = api::import(State(state), ApiPath(entity), Body(body)).await;
    let Json(product) = imported.map_err(of_form)?;
    let word = if before.is_some() { "mapped" } else { "imported" };
    Ok(go(&visitor, format_args!("/products/{}?done={word}", segment(product.id.as_str()))))
}

/// Names a field of the API as the form has it: `plans.KEY` is `plan:KEY` there.
fn of_form(problem: Problem) -> Problem {
    let field: Option<String> = problem.member("field");
    let named = |(of_api, of_form): (&str, &str)| {
        Some(format!("{of_form}{}", field.as_deref()?.strip_prefix(of_api)?))
    };
    match [("plans.", "plan:"), ("features.", "feature:")].into_iter().find_map(named) {
        Some(field) => problem.with("field", json!(field)),
        None => problem,
    }
}
