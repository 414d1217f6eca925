//! What the seller's application does, as a visitor of `/sandbox` plays it: its sign-up page, and its reports of usage.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::parts::{Answer, Form, go, query, segment};
use super::sandbox_control::Control;
use super::sandbox_market::{Agreement, Buyer, Items, Product, names_of};
use super::session::Visitor;
use crate::domain::{Customer, ProductCode};
use crate::http::extract::Body;
use crate::http::registrations::{Register, register};
use crate::http::{ApiState, Problem, read_usage};
use crate::store::{CustomerSearch, Page};

/// The most features among which one is looked for that a dimension bills.
const FEATURES: u32 = 500;

/// Has the buyer of an agreement come by AWS's button to the seller's sign-up page, which registers them with their token.
pub(super) async fn sign_up(
    state: ApiState,
    visitor: &Visitor,
    control: &Control,
    account: &str,
    order: &Value,
) -> Answer {
    let place = format!("buyers/{}/register", segment(account));
    let outcome = control.act(&place, order).await?;
    let token = outcome["registration_token"].as_str().unwrap_or_default();
    let Json(it) = register(State(state), Body(Register::with_token(token.to_owned()))).await?;
    let id = it.customer.id.as_str();
    Ok(go(visitor, format_args!("/customers/{}?done=signed_up", segment(id))))
}

/// Usage of a buyer's.
#[derive(Deserialize)]
pub(super) struct Usage {
    /// The agreement and the dimension, with a slash between them.
    used: String,
    units: String,
}

/// Reports usage as the seller's application does: of the feature that the dimension bills, or else of the dimension.
pub(super) async fn use_up(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Extension(control): Extension<Arc<Control>>,
    Form(Usage { used, units }): Form<Usage>,
) -> Answer {
    let (id, dimension) = used.split_once('/').unwrap_or((&used, ""));
    let agreements: Items<Agreement> = control.read("agreements").await?;
    let found = agreements.items.into_iter().find(|it| it.agreement_id == id);
    let gone = || Problem::bad_field("used", "that agreement is not in force any more");
    let agreement = found.ok_or_else(gone)?;
    let customer = customer_of(&state, &control, &agreement).await?;
    let product = state.store.product_of_code(ProductCode::new(&agreement.product_code)).await?;
    let unknown = || Problem::bad_field("used", "that listing is not imported: import it first");
    let product = product.ok_or_else(unknown)?;
    let all = Page { after: None, limit: FEATURES };
    let features = state.store.features(all).await?;
    let billed = features
        .iter()
        .find(|it| it.dimensions.get(&product.id).is_some_and(|key| key.as_str() == dimension));
    let id = format!("sandbox-{}", Uuid::now_v7().simple());
    let mut event = json!({"id": id, "customer_id": customer.id, "quantity": units.trim()});
    if let Some(feature) = billed {
        event["feature_id"] = json!(feature.id);
    } else {
        event["product_id"] = json!(product.id);
        event["dimension"] = json!(dimension);
    }
    report(&state, &event).await?;
    let told = [("done", "used"), ("customer", customer.id.as_str())];
    Ok(go(&visitor, format_args!("/sandbox?{}", query(&told))))
}

/// Reports an event, as the API takes it.
async fn report(state: &ApiState, event: &Value) -> Result<(), Problem> {
    let body = json!({"events": [event]}).to_string();
    let read = read_usage("application/json", body.as_bytes())?;
    let mut rejected = read.rejected;
    let receipt =
        state.store.append_usage(read.events, state.usage_ages, state.clock.now()).await?;
    rejected.extend(receipt.rejected);
    match rejected.into_iter().next() {
        Some(it) => Err(Problem::bad_field("units", it.detail)),
        None => Ok(()),
    }
}

/// Finds the customer of an agreement, by whichever of its buyer's names is known.
async fn customer_of(
    state: &ApiState,
    control: &Control,
    agreement: &Agreement,
) -> Result<Customer, Problem> {
    let products: Items<Product> = control.read("products").await?;
    let buyers: Items<Buyer> = control.read("buyers").await?;
    let names = names_of(agreement, &products.items, &buyers.items);
    for name in names {
        if let Some(found) = known_by(state, name).await? {
            return Ok(found);
        }
    }
    let detail =
        "marketd does not know this buyer yet: import the listing, or have the buyer sign up";
    Err(Problem::bad_field("used", detail))
}

/// Returns the customer that is known by an id of AWS's.
pub(super) async fn known_by(state: &ApiState, name: &str) -> Result<Option<Customer>, Problem> {
    let search = CustomerSearch { text: Some(name.to_owned()), ..CustomerSearch::default() };
    let found = state.store.search_customers(search, Page { after: None, limit: 1 }).await?;
    Ok(found.rows.into_iter().next().map(|it| it.customer))
}
