//! `/customers`: who they are, what they bought, and what they may use.

use askama::Template;
use axum::Json;
use axum::extract::{Extension, Path, Query, State};
use axum::response::Response;
use serde::Deserialize;

use super::parts::{Frame, When, made, query};
use super::session::Visitor;
use crate::domain::Customer;
use crate::domain::CustomerId;
use crate::domain::Subscription;
use crate::domain::access::Access;
use crate::http::paging::ListPage;
use crate::http::{ApiState, Problem};
use crate::store::{
    CustomerFilter, CustomerSearch, Order, Page, RecordFilter, RecordRow, SubscriptionFilter,
};

/// The customers of a page.
const ROWS: &str = "50";
/// The most features, subscriptions and records that a customer's page shows.
const SHOWN: u32 = 100;

/// What is asked for.
#[derive(Clone, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    q: String,
    #[serde(default)]
    claimed: String,
    cursor: Option<String>,
}

#[derive(Template)]
#[template(path = "customers.html")]
struct CustomersPage {
    frame: Frame,
    asked: Asked,
    customers: Vec<(Customer, When)>,
    next: Option<String>,
}

pub(super) async fn list(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Query(asked): Query<Asked>,
) -> Response {
    made(&visitor, found(&state, &visitor, asked).await)
}

async fn found(
    state: &ApiState,
    visitor: &Visitor,
    asked: Asked,
) -> Result<CustomersPage, Problem> {
    let now = state.clock.now();
    let claimed = match asked.claimed.as_str() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    };
    let text = Some(asked.q.trim().to_owned()).filter(|text| !text.is_empty());
    let search = CustomerSearch {
        filter: CustomerFilter { claimed, ..CustomerFilter::default() },
        text,
        ..CustomerSearch::default()
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
    let next =
        next.map(|it| query(&[("q", &asked.q), ("claimed", &asked.claimed), ("cursor", &it)]));
    let customers = customers.into_iter().map(|customer| {
        let created = When::of(customer.created_at, now);
        (customer, created)
    });
    let customers = customers.collect();
    Ok(CustomersPage { frame: Frame::of(visitor, "customers"), asked, customers, next })
}

#[derive(Template)]
#[template(path = "customer.html")]
struct CustomerPage {
    frame: Frame,
    customer: Customer,
    created: When,
    subscriptions: Vec<Held>,
    access: Vec<Access>,
    records: Vec<RecordRow>,
}

/// A subscription as it is shown.
struct Held {
    subscription: Subscription,
    status: &'static str,
    ends: Option<When>,
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
) -> Response {
    made(&visitor, customer(&state, &visitor, &id).await)
}

async fn customer(state: &ApiState, visitor: &Visitor, id: &str) -> Result<CustomerPage, Problem> {
    let now = state.clock.now();
    let found = state.store.customer(CustomerId::new(id)).await?;
    let customer = found.ok_or_else(|| Problem::not_found("customer", id))?;
    let part = Page { after: None, limit: SHOWN };
    let of_customer = SubscriptionFilter {
        customer_id: Some(customer.id.clone()),
        ..SubscriptionFilter::default()
    };
    let subscriptions = state.store.subscriptions(of_customer, part.clone()).await?;
    let filter = RecordFilter { customer_id: Some(customer.id.clone()), ..RecordFilter::default() };
    let held = |subscription: Subscription| Held {
        status: subscription.status_at(now).as_str(),
        ends: subscription.terms.ends_at.map(|at| When::of(at, now)),
        subscription,
    };
    Ok(CustomerPage {
        frame: Frame::of(visitor, "customers"),
        created: When::of(customer.created_at, now),
        subscriptions: subscriptions.into_iter().map(held).collect(),
        access: state.access.list(&customer.id, None, 100).await?,
        records: state.store.metering_records(filter, Order::Newest, part).await?.rows,
        customer,
    })
}
