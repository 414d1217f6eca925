//! The sandbox's control API: actions that sellers and buyers do by hand at AWS, over HTTP.
//!
//! Everything lives under `/_sandbox`. Answers give the ids that were made; refusals are
//! `{"error": "…"}` with 400, 404 or 409.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::market::{
    Action, ActionError, CallContext, ListingChange, Market, NewProduct, Options, Order, Service,
};
use super::shared::SharedMarket;

/// Returns the routes under `/_sandbox` that act on the market.
pub fn router(market: SharedMarket) -> Router {
    Router::new()
        .route("/_sandbox/products", get(list_products).post(add_product))
        .route("/_sandbox/products/{product}", axum::routing::patch(change_product))
        .route("/_sandbox/demo", post(load_demo))
        .route("/_sandbox/buyers", get(list_buyers).post(add_buyer))
        .route("/_sandbox/buyers/{account_id}/{verb}", post(act))
        .route("/_sandbox/options", get(show_options).post(change_options))
        .route("/_sandbox/metering", get(metering))
        .route("/_sandbox/entitlements", get(entitlements))
        .route("/_sandbox/agreements", get(agreements))
        .with_state(market)
}

/// A refusal of the control API.
struct Refusal {
    status: StatusCode,
    message: String,
}

impl Refusal {
    fn bad_request(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.into() }
    }
}

impl From<ActionError> for Refusal {
    fn from(error: ActionError) -> Self {
        let status = match &error {
            it if it.is_unknown() => StatusCode::NOT_FOUND,
            ActionError::AlreadySubscribed
            | ActionError::NotSubscribed
            | ActionError::ProductExists { .. }
            | ActionError::IdentifierTaken { .. } => StatusCode::CONFLICT,
            _ => StatusCode::BAD_REQUEST,
        };
        Self { status, message: error.to_string() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(json!({"error": self.message}))).into_response()
    }
}

type Answer = Result<Json<Value>, Refusal>;

/// Reads a body and says where it is wrong; an empty body is an empty object.
fn read<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, Refusal> {
    let body = if body.trim_ascii().is_empty() { b"{}" } else { body };
    let mut json = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut json)
        .map_err(|error| Refusal::bad_request(format!("in the body: {error}")))
}

async fn list_products(State(market): State<SharedMarket>) -> Json<Value> {
    let items = market.with(|market, _| json!(market.products().collect::<Vec<_>>()));
    Json(json!({"items": items}))
}

async fn add_product(State(market): State<SharedMarket>, body: axum::body::Bytes) -> Answer {
    let new: NewProduct = read(&body)?;
    market.with(|market, now| {
        let product = market.add_product(new, now)?;
        Ok(Json(json!(product)))
    })
}

async fn change_product(
    State(market): State<SharedMarket>,
    Path(product): Path<String>,
    body: axum::body::Bytes,
) -> Answer {
    let change: ListingChange = read(&body)?;
    market.with(|market, now| Ok(Json(json!(market.change_listing(&product, change, now)?))))
}

async fn load_demo(State(market): State<SharedMarket>) -> Json<Value> {
    let items = market.with(|market, now| json!(market.load_demo_catalog(now)));
    Json(json!({"items": items}))
}

async fn list_buyers(State(market): State<SharedMarket>) -> Json<Value> {
    let items = market.with(|market, _| json!(market.buyers().collect::<Vec<_>>()));
    Json(json!({"items": items}))
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct NewBuyer {
    account_id: Option<String>,
    customer_identifier: Option<String>,
}

async fn add_buyer(State(market): State<SharedMarket>, body: axum::body::Bytes) -> Answer {
    let new: NewBuyer = read(&body)?;
    market.with(|market, _| {
        let buyer = market.add_buyer(new.account_id, new.customer_identifier)?;
        Ok(Json(json!(buyer)))
    })
}

async fn act(
    State(market): State<SharedMarket>,
    Path((account_id, verb)): Path<(String, String)>,
    body: axum::body::Bytes,
) -> Answer {
    let action = match verb.as_str() {
        "subscribe" => Action::Subscribe,
        "purchase" => Action::Purchase,
        "upgrade" => Action::Upgrade,
        "renew" => Action::Renew,
        "amend" => Action::Amend,
        "cancel" => Action::Cancel,
        "expire" => Action::Expire,
        "fail" => Action::Fail,
        "suspend" => Action::Suspend,
        "register" => Action::Register,
        other => {
            let message = format!(
                "a buyer cannot {other}; use subscribe, purchase, upgrade, renew, amend, cancel, \
                 expire, fail, suspend or register"
            );
            return Err(Refusal { status: StatusCode::NOT_FOUND, message });
        }
    };
    let order: Order = read(&body)?;
    market.with(|market, now| {
        let outcome = market.act(now, &account_id, action(order))?;
        Ok(Json(json!(outcome)))
    })
}

async fn show_options(State(market): State<SharedMarket>) -> Json<Value> {
    Json(market.with(|market, _| json!(market.options())))
}

/// Changes the options that the body names and leaves the others.
async fn change_options(State(market): State<SharedMarket>, body: axum::body::Bytes) -> Answer {
    let changes: serde_json::Map<String, Value> = read(&body)?;
    market.with(|market, _| {
        let mut merged = json!(market.options());
        for (name, value) in changes {
            merged[name] = value;
        }
        let options: Options = read(merged.to_string().as_bytes())?;
        market.set_options(options);
        Ok(Json(json!(market.options())))
    })
}

async fn metering(State(market): State<SharedMarket>) -> Json<Value> {
    Json(market.with(|market, _| {
        let ledger = market.ledger();
        let totals: Value = ledger
            .totals()
            .into_iter()
            .map(|(product, dimensions)| {
                let dimensions: Value = dimensions
                    .into_iter()
                    .map(|(dimension, sum)| (dimension, sum.normalize().to_string()))
                    .collect();
                (product, dimensions)
            })
            .collect();
        json!({
            "items": ledger.honoured(),
            "totals": totals,
            "refused": ledger.refused().collect::<Vec<_>>(),
            "refused_counts": ledger.refused_counts(),
        })
    }))
}

async fn entitlements(State(market): State<SharedMarket>) -> Answer {
    let items = market.with(|market, now| {
        let codes: Vec<String> = market.products().map(|it| it.product_code.clone()).collect();
        let mut items = Vec::new();
        for code in codes {
            items.append(&mut all_entitlements(market, now, &code)?);
        }
        Ok::<_, Refusal>(items)
    })?;
    Ok(Json(json!({"items": items})))
}

/// Pages through `GetEntitlements`, so that this shows what the API would.
fn all_entitlements(
    market: &mut Market,
    now: jiff::Timestamp,
    product_code: &str,
) -> Result<Vec<Value>, Refusal> {
    let context = CallContext { now, region: "us-east-1".to_owned(), unprocessed: None };
    let mut input = json!({"ProductCode": product_code});
    let mut rows = Vec::new();
    loop {
        let mut answer = market
            .call(&context, Service::Entitlement, "GetEntitlements", &input)
            .map_err(|error| Refusal::bad_request(error.to_string()))?;
        if let Some(Value::Array(page)) = answer.get_mut("Entitlements") {
            rows.append(page);
        }
        match answer.get("NextToken") {
            Some(token) => input["NextToken"] = token.clone(),
            None => return Ok(rows),
        }
    }
}

async fn agreements(State(market): State<SharedMarket>) -> Json<Value> {
    Json(market.with(|market, _| json!({"items": market.agreements()})))
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt as _;

    use super::*;
    use crate::sandbox::clock::SandboxClock;

    async fn send(router: &Router, method: &str, path: &str, body: &str) -> (u16, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(Body::from(body.to_owned()))
            .expect("a test's request is valid");
        let response = router.clone().oneshot(request).await.expect("infallible");
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), usize::MAX).await.expect("a whole body");
        (status, serde_json::from_slice(&body).expect("JSON"))
    }

    #[tokio::test]
    async fn a_buyer_can_be_driven_over_http() {
        let market = SharedMarket::new(Market::new(7), SandboxClock::new());
        let router = router(market);
        let (_, demo) = send(&router, "POST", "/_sandbox/demo", "").await;
        let contract = demo["items"][2]["product_code"].as_str().expect("a code").to_owned();
        let usage = demo["items"][1]["entity_id"].as_str().expect("an id").to_owned();
        let contract = |rest: &str| format!(r#"{{"product":"{contract}"{rest}}}"#);
        let usage = format!(r#"{{"product":"{usage}"}}"#);
        let bought = contract(r#","dimensions":{"pro":3},"term":"1y""#);
        let plain = contract("");
        // (verb, body, status, a member of the answer)
        let table = [
            ("purchase", bought.as_str(), 200, "customer_identifier"),
            ("purchase", &bought, 409, "error"),
            ("purchase", &plain, 400, "error"),
            ("subscribe", &plain, 400, "error"),
            ("subscribe", &usage, 200, "license_arn"),
            ("register", &plain, 200, "registration_token"),
            ("cancel", &usage, 200, "agreement_id"),
            ("cancel", &usage, 409, "error"),
            ("cancel", r#"{"product":"none"}"#, 404, "error"),
            ("cancel", r#"{"produkt":"none"}"#, 400, "error"),
            ("dance", "", 404, "error"),
        ];
        for (verb, body, status, member) in table {
            let path = format!("/_sandbox/buyers/123456789012/{verb}");
            let (answered, answer) = send(&router, "POST", &path, body).await;
            assert_eq!(answered, status, "{verb} {body}: {answer}");
            assert!(answer[member].is_string(), "{verb} {body}: {answer}");
        }
        let (_, rows) = send(&router, "GET", "/_sandbox/entitlements", "").await;
        assert_eq!(rows["items"][0]["Value"], json!({"IntegerValue": 3}));
        let change = r#"{"provisioning_delay":"90s","identical_retry":"duplicate"}"#;
        let (status, options) = send(&router, "POST", "/_sandbox/options", change).await;
        assert_eq!((status, &options["identical_retry"]), (200, &json!("duplicate")));
        let (status, _) = send(&router, "POST", "/_sandbox/options", r#"{"nonsense":1}"#).await;
        assert_eq!(status, 400);
        let (_, metering) = send(&router, "GET", "/_sandbox/metering", "").await;
        assert_eq!(metering["items"], json!([]));
    }
}
