//! `/customers`: who they are, found by any id or name.

use std::collections::HashMap;

use askama::Template;
use axum::Json;
use axum::extract::{Extension, Query, State};
use serde::Deserialize;

use super::choices::Choices;
use super::names::Names;
use super::parts::{self, Answer, Frame, When, next_page, render, some};
use super::session::Visitor;
use crate::domain::{Customer, CustomerId, PlanId, ProductId, Source, Status};
use crate::http::ApiState;
use crate::http::paging::ListPage;
use crate::store::{CustomerFilter, CustomerSearch, Holding};

/// The customers of a page.
const ROWS: &str = "50";

/// What is asked for.
#[derive(Clone, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    q: String,
    #[serde(default)]
    claimed: String,
    #[serde(default)]
    product_id: String,
    #[serde(default)]
    plan_id: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    source: String,
    cursor: Option<String>,
}

#[derive(Template)]
#[template(path = "customers.html")]
struct CustomersPage {
    frame: Frame,
    asked: Asked,
    statuses: [&'static str; 7],
    plans: Choices,
    products: Choices,
    names: Names,
    customers: Vec<(Customer, When)>,
    /// What each holds now.
    held: HashMap<CustomerId, Vec<Holding>>,
    next: Option<String>,
}

pub(super) async fn list(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Query(asked): Query<Asked>,
) -> Answer {
    let now = state.clock.now();
    let claimed = parts::choice("claimed", &asked.claimed, [("yes", true), ("no", false)])?;
    let search = CustomerSearch {
        filter: CustomerFilter { claimed, ..CustomerFilter::default() },
        text: some(&asked.q),
        product_id: some(&asked.product_id).map(ProductId::new),
        plan_id: some(&asked.plan_id).map(PlanId::new),
        status: parts::status(&asked.status)?,
        source: parts::source(&asked.source)?,
    };
    let (limit, cursor) = (Some(ROWS), asked.cursor.as_deref());
    let (customers, next) = if search.is_filter() {
        let page = ListPage::of("customers", limit, cursor)?;
        let rows = state.store.customers(search.filter, page.one_more()).await?;
        let Json(found) = page.items(rows, |customer| customer.id.to_string());
        (found.items, found.next_cursor)
    } else {
        let page = ListPage::of("customers found", limit, cursor)?;
        let found = state.store.search_customers(search, page.one_more()).await?;
        let keyed = found.rows.into_iter().map(|it| (it.customer, it.key));
        let Json(found) = page.listed_by(found.looked_until, keyed);
        (found.items, found.next_cursor)
    };
    let next = next.map(|it| next_page(&visitor, "cursor", &it));
    let ids = customers.iter().map(|it| it.id.clone()).collect();
    let held = state.store.live_holdings(ids).await?;
    let names = Names::of(&state).await?;
    let customers = customers.into_iter().map(|customer| {
        let created = When::of(customer.created_at, now);
        (customer, created)
    });
    let customers = customers.collect();
    let (frame, statuses) = (Frame::of(&visitor, "customers"), Status::ALL.map(Status::as_str));
    let plans = Choices::plans(&state, &asked.plan_id).await?;
    let products = Choices::products(&state, &asked.product_id).await?;
    Ok(render(&CustomersPage {
        frame,
        asked,
        statuses,
        plans,
        products,
        names,
        customers,
        held,
        next,
    }))
}

impl CustomersPage {
    /// Returns what a customer holds now.
    fn held(&self, id: &CustomerId) -> &[Holding] {
        self.held.get(id).map_or(&[], Vec::as_slice)
    }

    /// Reports whether a customer is AWS's buyer, now or before.
    fn is_buyer(&self, customer: &Customer) -> bool {
        !customer.aws.is_empty()
            || self.held(&customer.id).iter().any(|it| it.source == Source::Aws)
    }
}
