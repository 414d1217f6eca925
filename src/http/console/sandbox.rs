//! `/sandbox`: buyers, AWS and time at the visitor's command, where the daemon runs against the built-in sandbox.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Extension, Query, State};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::parts::{Answer, Frame, Told, When, render};
use super::sandbox_control::Control;
use super::session::Visitor;
use crate::http::{ApiState, Problem};

/// The most agreements that are shown.
const SHOWN: usize = 50;

/// The operations that can be disturbed.
const OPERATIONS: [&str; 10] = [
    "BatchMeterUsage",
    "GetEntitlements",
    "SearchAgreements",
    "DescribeAgreement",
    "ResolveCustomer",
    "ListEntities",
    "DescribeEntity",
    "ReceiveMessage",
    "DeleteMessageBatch",
    "AssumeRole",
];

/// The kinds of faults, and what each does to a call.
const FAULTS: [(&str, &str); 7] = [
    ("throttle", "throttle it"),
    ("deny", "refuse it for want of a permission"),
    ("error500", "fail with an internal error"),
    ("cut_before", "cut it before anything is done"),
    ("cut_after", "do it, and lose the answer"),
    ("garble", "do it, and garble the answer"),
    ("slow", "answer a second later"),
];

/// The ways in which notifications come, and the words for each.
const WAYS: [(&str, &str); 4] = [
    ("usual", "As usual"),
    ("repeat", "Each twice"),
    ("lose", "Not at all"),
    ("hold", "Held back, then in any order"),
];

/// What is asked for.
#[derive(Default, Deserialize)]
pub(super) struct Asked {
    done: Option<String>,
    account: Option<String>,
}

#[derive(Template)]
#[template(path = "sandbox.html")]
struct SandboxPage {
    frame: Frame,
    told: Told,
    /// The buyer who has just acted.
    account: Option<String>,
    url: String,
    now: String,
    offers: Vec<Offer>,
    agreements: Vec<Bought>,
    /// The agreements that are in force, those left out among them.
    in_force: usize,
    way: &'static str,
    ways: [(&'static str, &'static str); 4],
    armed: Vec<Fault>,
    operations: [&'static str; 10],
    faults: [(&'static str, &'static str); 7],
    roles: Vec<String>,
    billed: Vec<(String, String, String)>,
}

/// Something to buy: what a form sends for it, and what it is called.
struct Offer {
    word: String,
    name: String,
}

/// An agreement that is in force.
struct Bought {
    agreement: Agreement,
    product: String,
    holds: String,
    ends: Option<When>,
    /// The dimensions that it may be upgraded to.
    dimensions: Vec<String>,
}

#[derive(Deserialize)]
struct Items<T> {
    items: Vec<T>,
}

#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "the control API's names")]
struct Product {
    product_code: String,
    title: String,
    dimensions: Vec<Dimension>,
}

#[derive(Deserialize)]
struct Dimension {
    key: String,
    types: Vec<String>,
}

impl Product {
    /// Returns the dimensions that are bought in a contract.
    fn sold(&self) -> impl Iterator<Item = &String> {
        let entitled = |it: &&Dimension| it.types.iter().any(|word| word == "Entitled");
        self.dimensions.iter().filter(entitled).map(|it| &it.key)
    }

    fn offers(&self) -> Vec<Offer> {
        let contract = |key: &String| Offer {
            word: format!("{}/{key}", self.product_code),
            name: format!("{}: {key}", self.title),
        };
        let mut offers: Vec<Offer> = self.sold().map(contract).collect();
        if offers.is_empty() {
            let name = format!("{}: pay as you go", self.title);
            offers.push(Offer { word: self.product_code.clone(), name });
        }
        offers
    }
}

#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "the control API's names")]
struct Agreement {
    agreement_id: String,
    account_id: String,
    product_code: String,
    status: String,
    dimensions: BTreeMap<String, u64>,
    ends_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Fault {
    operation: String,
    kind: String,
    times: Option<u32>,
}

#[derive(Deserialize)]
struct Role {
    role_arn: String,
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Extension(control): Extension<Arc<Control>>,
    Query(asked): Query<Asked>,
) -> Answer {
    Ok(render(&sandbox(&state, &visitor, &control, asked).await?))
}

async fn sandbox(
    state: &ApiState,
    visitor: &Visitor,
    control: &Control,
    asked: Asked,
) -> Result<SandboxPage, Problem> {
    let now = state.clock.now();
    let (products, agreements, armed, roles): (
        Items<Product>,
        Items<Agreement>,
        Items<Fault>,
        Items<Role>,
    ) = tokio::try_join!(
        control.read("products"),
        control.read("agreements"),
        control.read("faults"),
        control.read("roles"),
    )?;
    let (clock, delivery, metering): (Value, Value, Value) = tokio::try_join!(
        control.read("clock"),
        control.read("delivery"),
        control.read("metering"),
    )?;
    let mut in_force = agreements.items;
    in_force.retain(|it| it.status == "ACTIVE");
    let count = in_force.len();
    let bought = |it: Agreement| Bought::of(it, &products.items, now);
    Ok(SandboxPage {
        frame: Frame::of(visitor, "sandbox"),
        told: Told::of(asked.done),
        account: asked.account,
        url: control.url.clone(),
        now: clock["now"].as_str().unwrap_or_default().to_owned(),
        offers: products.items.iter().flat_map(Product::offers).collect(),
        agreements: in_force.into_iter().rev().take(SHOWN).map(bought).collect(),
        in_force: count,
        way: way_of(&delivery),
        ways: WAYS,
        armed: armed.items,
        operations: OPERATIONS,
        faults: FAULTS,
        roles: roles.items.into_iter().map(|it| it.role_arn).collect(),
        billed: billed(&metering["totals"], &products.items),
    })
}

impl Bought {
    fn of(agreement: Agreement, products: &[Product], now: Timestamp) -> Self {
        let product = products.iter().find(|it| it.product_code == agreement.product_code);
        let held = agreement.dimensions.iter().map(|(key, count)| format!("{count} × {key}"));
        let held: Vec<String> = held.collect();
        Self {
            product: product.map_or_else(|| agreement.product_code.clone(), |it| it.title.clone()),
            holds: if held.is_empty() { "pays as it goes".into() } else { held.join(", ") },
            ends: agreement.ends_at.map(|at| When::of(at, now)),
            dimensions: product.map(|it| it.sold().cloned().collect()).unwrap_or_default(),
            agreement,
        }
    }
}

/// Returns the word for how notifications come.
fn way_of(delivery: &Value) -> &'static str {
    match (&delivery["hold"], &delivery["lose"], &delivery["repeat_one_in"]) {
        (Value::Bool(true), ..) => "hold",
        (_, Value::Bool(true), _) => "lose",
        (.., Value::Number(_)) => "repeat",
        _ => "usual",
    }
}

/// Returns the units in AWS's own ledger by product and dimension.
fn billed(totals: &Value, products: &[Product]) -> Vec<(String, String, String)> {
    let mut rows = Vec::new();
    for (code, dimensions) in totals.as_object().into_iter().flatten() {
        let title = products.iter().find(|it| it.product_code == *code).map(|it| &it.title);
        for (dimension, sum) in dimensions.as_object().into_iter().flatten() {
            let units = sum.as_str().unwrap_or_default().to_owned();
            rows.push((title.unwrap_or(code).clone(), dimension.clone(), units));
        }
    }
    rows
}
