//! `/products/{id}/remove`: a product that was imported by mistake, asked before it is removed.

use askama::Template;
use axum::Json;
use axum::extract::{Extension, Path, State};

use super::parts::{Answer, Frame, go_after, render};
use super::session::Visitor;
use crate::domain::ProductId;
use crate::domain::plan::Plan;
use crate::domain::product::Product;
use crate::http::ApiState;
use crate::http::extract::Path as ApiPath;
use crate::http::products as api;

#[derive(Template)]
#[template(path = "product_remove.html")]
struct RemovePage {
    frame: Frame,
    product: Product,
    /// What keeps it from being removed, if anything does.
    hanging: Option<&'static str>,
}

impl RemovePage {
    /// Returns the plans that go with it, or those that stay.
    fn plans(&self, going: bool) -> Vec<&Plan> {
        let goes = |plan: &Plan| {
            let elsewhere = plan.aws.iter().any(|sold| sold.entity_id != self.product.entity_id);
            plan.product_id.as_ref() == Some(&self.product.id)
                && plan.version.is_none()
                && !elsewhere
        };
        self.product.plans.iter().filter(|plan| goes(plan) == going).collect()
    }
}

/// Says what goes with a product and what stays, and asks.
pub(super) async fn ask(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<ProductId>,
) -> Answer {
    let Json(product) = api::product(State(state.clone()), ApiPath(id.clone())).await?;
    let hanging = state.store.hangs_on_product(id).await?;
    Ok(render(&RemovePage { frame: Frame::of(&visitor, "products"), product, hanging }))
}

pub(super) async fn remove(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<ProductId>,
) -> Answer {
    let removed = api::remove(State(state), ApiPath(id)).await;
    go_after(removed, &visitor, "/products?done=removed")
}
