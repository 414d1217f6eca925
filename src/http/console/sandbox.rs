//! `/sandbox`: buyers, AWS and time at the visitor's command, where the daemon runs against the built-in sandbox.

use std::collections::HashSet;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Extension, Query, State};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::parts::{Answer, Frame, Told, When, render};
use super::sandbox_control::Control;
use super::sandbox_market::{Agreement, Buyer, Items, Offer, Product, names_of};
use super::sandbox_seller::known_by;
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
    customer: Option<String>,
}

#[derive(Template)]
#[template(path = "sandbox.html")]
struct SandboxPage {
    frame: Frame,
    told: Told,
    /// The buyer who has just acted, and the name by which marketd finds them.
    account: Option<String>,
    known_as: Option<String>,
    /// The customer whose usage was just reported.
    customer: Option<String>,
    /// What a buyer may use, and what a form sends for it.
    usable: Vec<Offer>,
    /// The dimensions that a listing may lose, and what a form sends for each.
    losable: Vec<Offer>,
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

/// An agreement that is in force.
struct Bought {
    agreement: Agreement,
    product: String,
    holds: String,
    ends: Option<When>,
    /// The name by which marketd finds the buyer.
    known_as: String,
    /// All names by which it may.
    names: Vec<String>,
    /// The dimensions that it may be upgraded to.
    dimensions: Vec<String>,
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

impl SandboxPage {
    /// Returns the name by which marketd finds the buyer who has just acted.
    fn known_as(&self) -> &str {
        self.known_as.as_deref().unwrap_or_default()
    }
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
    let (products, agreements, buyers): (Items<Product>, Items<Agreement>, Items<Buyer>) = tokio::try_join!(
        control.read("products"),
        control.read("agreements"),
        control.read("buyers"),
    )?;
    let (armed, roles): (Items<Fault>, Items<Role>) =
        tokio::try_join!(control.read("faults"), control.read("roles"))?;
    let (clock, delivery, metering): (Value, Value, Value) = tokio::try_join!(
        control.read("clock"),
        control.read("delivery"),
        control.read("metering"),
    )?;
    // The newest come first, and those that are over too: their buyers may still use something, and are looked for.
    let bought = |it: Agreement| Bought::of(it, &products.items, &buyers.items, now);
    let all: Vec<Bought> = agreements.items.into_iter().rev().map(bought).collect();
    let known_as = match &asked.account {
        Some(account) => Some(known_as(state, account, &all).await?),
        None => None,
    };
    let usable = usable(&all, &products.items);
    let mut agreements = all;
    agreements.retain(|it| it.agreement.is_in_force());
    let count = agreements.len();
    agreements.truncate(SHOWN);
    Ok(SandboxPage {
        frame: Frame::of(visitor, "sandbox"),
        told: Told::of(asked.done),
        known_as,
        account: asked.account,
        customer: asked.customer,
        usable,
        losable: products.items.iter().flat_map(Product::losable).collect(),
        url: control.url.clone(),
        now: clock["now"].as_str().unwrap_or_default().to_owned(),
        offers: products.items.iter().flat_map(Product::offers).collect(),
        agreements,
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
    /// Returns what its buyer may use.
    fn usable(&self, products: &[Product]) -> Vec<Offer> {
        let Agreement { agreement_id, account_id, product_code, .. } = &self.agreement;
        let product = products.iter().find(|it| it.product_code == *product_code);
        let over = if self.agreement.is_in_force() { "" } else { " (the agreement is over)" };
        let offer = |key: &String| Offer {
            word: format!("{agreement_id}/{key}"),
            name: format!("{account_id}: {key} of {}{over}", self.product),
        };
        product.map(|it| it.metered().map(offer).collect()).unwrap_or_default()
    }

    fn of(agreement: Agreement, products: &[Product], buyers: &[Buyer], now: Timestamp) -> Self {
        let product = products.iter().find(|it| it.product_code == agreement.product_code);
        let held = agreement.dimensions.iter().map(|(key, count)| format!("{count} × {key}"));
        let held: Vec<String> = held.collect();
        Self {
            product: product.map_or_else(|| agreement.product_code.clone(), |it| it.title.clone()),
            holds: if held.is_empty() { "pays as it goes".into() } else { held.join(", ") },
            ends: agreement.ends_at.map(|at| When::of(at, now)),
            names: names_of(&agreement, products, buyers).into_iter().map(str::to_owned).collect(),
            known_as: match names_of(&agreement, products, buyers).as_slice() {
                // A licence is the surest name of what was bought by it; people look for the account.
                [name, _, _] => (*name).to_owned(),
                _ => agreement.account_id.clone(),
            },
            dimensions: product.map(|it| it.sold().cloned().collect()).unwrap_or_default(),
            agreement,
        }
    }
}

/// Returns the name by which marketd finds a buyer who has acted: one that it knows, or else the surest of the newest
/// agreement, by which it will.
async fn known_as(state: &ApiState, account: &str, all: &[Bought]) -> Result<String, Problem> {
    let of_account = || all.iter().filter(|it| it.agreement.account_id == account);
    for name in of_account().flat_map(|it| &it.names) {
        if known_by(state, name).await?.is_some() {
            return Ok(name.clone());
        }
    }
    Ok(of_account().next().map_or_else(|| account.to_owned(), |it| it.known_as.clone()))
}

/// Returns what buyers may use, each by the newest of their agreements: when it is over, what was used before still counts.
fn usable(all: &[Bought], products: &[Product]) -> Vec<Offer> {
    let mut seen = HashSet::new();
    let newest = all
        .iter()
        .filter(|it| it.agreement.is_in_force())
        .chain(all.iter().filter(|it| !it.agreement.is_in_force()))
        .filter(|it| seen.insert((&it.agreement.account_id, &it.agreement.product_code)));
    newest.take(SHOWN).flat_map(|it| it.usable(products)).collect()
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
