//! What the forms of `/sandbox` do: each is one call of the sandbox's control API.

use std::sync::Arc;

use axum::extract::{Extension, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::parts::{Answer, Form, go_after, query, segment, some};
use super::sandbox_control::Control;
use super::sandbox_seller::sign_up;
use super::session::Visitor;
use crate::http::{ApiState, Problem};

fn told<T>(visitor: &Visitor, word: &str, done: Result<T, Problem>) -> Answer {
    go_after(done, visitor, format_args!("/sandbox?done={word}"))
}

/// Puts the listings of the demo into the sandbox's catalog.
pub(super) async fn listings(
    Extension(visitor): Extension<Visitor>,
    Extension(control): Extension<Arc<Control>>,
) -> Answer {
    told(&visitor, "listed", control.act("demo", &json!({})).await)
}

/// A role that may be assumed from then on.
#[derive(Deserialize)]
pub(super) struct RoleForm {
    role_arn: String,
}

pub(super) async fn role(
    Extension(visitor): Extension<Visitor>,
    Extension(control): Extension<Arc<Control>>,
    Form(form): Form<RoleForm>,
) -> Answer {
    let role = json!({"role_arn": form.role_arn.trim()});
    told(&visitor, "role", control.act("roles", &role).await)
}

/// A purchase.
#[derive(Deserialize)]
pub(super) struct Purchase {
    account_id: String,
    offer: String,
    quantity: String,
    free_trial: Option<String>,
}

/// Buys as somebody does at AWS.
pub(super) async fn buy(
    Extension(visitor): Extension<Visitor>,
    Extension(control): Extension<Arc<Control>>,
    Form(form): Form<Purchase>,
) -> Answer {
    let account = form.account_id.trim();
    let (product, dimension) = form.offer.split_once('/').unwrap_or((&form.offer, ""));
    let mut order = json!({"product": product, "free_trial": form.free_trial.is_some()});
    let verb = if dimension.is_empty() { "subscribe" } else { "purchase" };
    if !dimension.is_empty() {
        order["dimensions"] = json!({dimension: quantity(&form.quantity)?});
    }
    act(&visitor, &control, account, (verb, "bought"), &order).await
}

fn quantity(text: &str) -> Result<u64, Problem> {
    let fault =
        || Problem::bad_field("quantity", format!("the quantity is a whole number, not {text:?}"));
    text.trim().parse().map_err(|_| fault())
}

/// Has a buyer do something, by the verb of the control API and the word that the page has for it once it is done.
async fn act(
    visitor: &Visitor,
    control: &Control,
    account: &str,
    (verb, word): (&str, &str),
    order: &Value,
) -> Answer {
    if account.is_empty() || !account.bytes().all(|it| it.is_ascii_digit()) {
        let detail = "the account is an AWS account's 12 digits";
        return Err(Problem::bad_field("account_id", detail).into());
    }
    let done = control.act(&format!("buyers/{account}/{verb}"), order).await;
    let acted = query(&[("done", word), ("account", account)]);
    go_after(done, visitor, format_args!("/sandbox?{acted}"))
}

/// What becomes of an agreement.
#[derive(Deserialize)]
pub(super) struct Change {
    account_id: String,
    product: String,
    agreement_id: String,
    verb: Verb,
    #[serde(default)]
    dimension: String,
    #[serde(default)]
    quantity: String,
}

/// What a buyer does with an agreement.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Verb {
    Upgrade,
    Renew,
    Cancel,
    SignUp,
}

pub(super) async fn change(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Extension(control): Extension<Arc<Control>>,
    Form(form): Form<Change>,
) -> Answer {
    let mut order = json!({"product": form.product, "agreement_id": form.agreement_id});
    let (verb, word) = match form.verb {
        Verb::Upgrade => {
            order["dimensions"] = json!({form.dimension: quantity(&form.quantity)?});
            ("upgrade", "upgraded")
        }
        Verb::Renew => ("renew", "renewed"),
        Verb::Cancel => ("cancel", "canceled"),
        Verb::SignUp => {
            let account = form.account_id.trim();
            return sign_up(state, &visitor, &control, account, &order).await;
        }
    };
    act(&visitor, &control, form.account_id.trim(), (verb, word), &order).await
}

/// A dimension that a listing loses: the product's code and the key, with a slash between them.
#[derive(Deserialize)]
pub(super) struct Loss {
    lost: String,
}

/// Has a listing lose a dimension, as a seller who changes it at AWS does.
pub(super) async fn lose(
    Extension(visitor): Extension<Visitor>,
    Extension(control): Extension<Arc<Control>>,
    Form(Loss { lost }): Form<Loss>,
) -> Answer {
    let gone = || Problem::bad_field("lost", "no listing has that dimension any more");
    let (code, key) = lost.split_once('/').ok_or_else(gone)?;
    let products: Value = control.read("products").await?;
    let mut products = products["items"].as_array().into_iter().flatten();
    let product = products.find(|it| it["product_code"] == code).ok_or_else(gone)?;
    let mut dimensions = product["dimensions"].as_array().cloned().unwrap_or_default();
    let before = dimensions.len();
    dimensions.retain(|it| it["key"] != key);
    if dimensions.len() == before {
        return Err(gone().into());
    }
    let change = json!({"dimensions": dimensions});
    let done = control.change(&format!("products/{}", segment(code)), &change).await;
    told(&visitor, "lost", done)
}

/// The time that passes.
#[derive(Deserialize)]
pub(super) struct Passing {
    by: Step,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    Hour,
    Day,
    Month,
}

/// Moves the clock that the sandbox and the daemon share.
pub(super) async fn pass_time(
    Extension(visitor): Extension<Visitor>,
    Extension(control): Extension<Arc<Control>>,
    Form(Passing { by }): Form<Passing>,
) -> Answer {
    let advance = match by {
        Step::Hour => "PT1H",
        Step::Day => "PT24H",
        Step::Month => "PT720H",
    };
    told(&visitor, "moved", control.act("clock", &json!({"advance": advance})).await)
}

/// How notifications come from then on.
#[derive(Deserialize)]
pub(super) struct Delivery {
    way: Way,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Way {
    Usual,
    Repeat,
    Lose,
    Hold,
}

pub(super) async fn deliver(
    Extension(visitor): Extension<Visitor>,
    Extension(control): Extension<Arc<Control>>,
    Form(Delivery { way }): Form<Delivery>,
) -> Answer {
    let delivery = match way {
        Way::Usual => json!({}),
        Way::Repeat => json!({"repeat_one_in": 1}),
        Way::Lose => json!({"lose": true}),
        Way::Hold => json!({"hold": true}),
    };
    told(&visitor, "delivery", control.act("delivery", &delivery).await)
}

/// A message that AWS never sent like this.
#[derive(Deserialize)]
pub(super) struct Message {
    body: String,
}

pub(super) async fn send(
    Extension(visitor): Extension<Visitor>,
    Extension(control): Extension<Arc<Control>>,
    Form(Message { body }): Form<Message>,
) -> Answer {
    let body = some(&body).ok_or_else(|| Problem::bad_field("body", "the message is empty"))?;
    told(&visitor, "sent", control.act("inject", &json!({"body": body})).await)
}

/// A fault that the next calls meet.
#[derive(Deserialize)]
pub(super) struct Disturbance {
    operation: String,
    kind: String,
    times: String,
}

pub(super) async fn disturb(
    Extension(visitor): Extension<Visitor>,
    Extension(control): Extension<Arc<Control>>,
    Form(form): Form<Disturbance>,
) -> Answer {
    let fault = || Problem::bad_field("times", format!("a number of calls, not {:?}", form.times));
    let times: u32 = form.times.trim().parse().map_err(|_| fault())?;
    let fault = json!({"operation": form.operation, "kind": form.kind, "times": times});
    told(&visitor, "disturbed", control.act("faults", &fault).await)
}

/// Lets every call through again.
pub(super) async fn calm(
    Extension(visitor): Extension<Visitor>,
    Extension(control): Extension<Arc<Control>>,
) -> Answer {
    told(&visitor, "calmed", control.take_back("faults").await)
}
