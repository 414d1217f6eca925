//! The control API's other half: faults, the clock, calls, roles, queues and the delivery of messages.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::fanout::Delivery;
use super::faults::Fault;
use super::reset::Part;
use super::sts::RoleGrant;
use super::trust::Demands;
use super::{Parts, QUEUE, control};

pub(super) fn router(parts: Parts) -> Router {
    Router::new()
        .route("/_sandbox/faults", get(faults).post(arm).delete(disarm))
        .route("/_sandbox/clock", get(clock).post(move_clock))
        .route("/_sandbox/calls", get(calls))
        .route("/_sandbox/calls/summary", get(call_summary))
        .route("/_sandbox/roles", get(roles).post(add_role))
        .route("/_sandbox/trust", post(demand))
        .route("/_sandbox/queues", get(queues))
        .route("/_sandbox/delivery", get(delivery).post(set_delivery))
        .route("/_sandbox/inject", post(inject))
        .route("/_sandbox/reset", post(reset))
        .with_state(parts.clone())
        .merge(control::router(parts.market))
}

type Refusal = (StatusCode, Json<Value>);

fn refuse(message: impl std::fmt::Display) -> Refusal {
    (StatusCode::BAD_REQUEST, Json(json!({"error": message.to_string()})))
}

fn parse<T: for<'de> Deserialize<'de>>(body: &str) -> Result<T, Refusal> {
    serde_json::from_str(body).map_err(|error| refuse(format!("the body cannot be read: {error}")))
}

async fn faults(State(parts): State<Parts>) -> Json<Value> {
    Json(json!({"items": parts.faults.list()}))
}

async fn arm(State(parts): State<Parts>, body: String) -> Result<Json<Value>, Refusal> {
    let fault: Fault = parse(&body)?;
    parts.faults.arm(fault);
    Ok(Json(json!({"items": parts.faults.list()})))
}

async fn disarm(State(parts): State<Parts>) -> Json<Value> {
    parts.faults.clear();
    Json(json!({"items": []}))
}

async fn clock(State(parts): State<Parts>) -> Json<Value> {
    let clock = parts.market.clock();
    Json(json!({"now": clock.now(), "frozen": clock.is_frozen()}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MoveClock {
    advance: Option<SignedDuration>,
    set: Option<Timestamp>,
    freeze: Option<bool>,
}

async fn move_clock(State(parts): State<Parts>, body: String) -> Result<Json<Value>, Refusal> {
    let order: MoveClock = parse(&body)?;
    let clock = parts.market.clock();
    if let Some(frozen) = order.freeze {
        clock.freeze(frozen);
    }
    if let Some(to) = order.set {
        clock.set(to);
    }
    if let Some(by) = order.advance {
        clock.advance(by).map_err(refuse)?;
    }
    Ok(Json(json!({"now": clock.now(), "frozen": clock.is_frozen()})))
}

#[derive(Deserialize)]
struct Recent {
    operation: Option<String>,
    limit: Option<usize>,
}

async fn calls(State(parts): State<Parts>, Query(query): Query<Recent>) -> Json<Value> {
    let recent = parts.calls.recent(query.operation.as_deref(), query.limit.unwrap_or(100));
    Json(json!({"items": recent}))
}

async fn call_summary(State(parts): State<Parts>) -> Json<Value> {
    Json(json!({"items": parts.calls.summary()}))
}

async fn roles(State(parts): State<Parts>) -> Json<Value> {
    Json(json!({"items": parts.sts.roles()}))
}

async fn add_role(State(parts): State<Parts>, body: String) -> Result<Json<Value>, Refusal> {
    let role: RoleGrant = parse(&body)?;
    let answer = json!({"role_arn": role.role_arn});
    parts.sts.add_role(role);
    Ok(Json(answer))
}

async fn demand(State(parts): State<Parts>, body: String) -> Result<Json<Value>, Refusal> {
    let demands: Demands = parse(&body)?;
    let answer = json!(demands);
    parts.trust.demand(demands, parts.sts.session_keys());
    Ok(Json(answer))
}

async fn queues(State(parts): State<Parts>) -> Json<Value> {
    Json(parts.queues.summary())
}

async fn delivery(State(parts): State<Parts>) -> Json<Value> {
    Json(json!(parts.fanout.delivery()))
}

async fn set_delivery(State(parts): State<Parts>, body: String) -> Result<Json<Value>, Refusal> {
    let order: Delivery = parse(&body)?;
    parts.fanout.set_delivery(&parts, order);
    Ok(Json(json!(parts.fanout.delivery())))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Inject {
    queue_url: Option<String>,
    body: String,
}

async fn inject(State(parts): State<Parts>, body: String) -> Result<Json<Value>, Refusal> {
    let order: Inject = parse(&body)?;
    let name = match &order.queue_url {
        None => QUEUE.to_owned(),
        Some(url) => {
            parts.queues.name_of(url).ok_or_else(|| refuse(format!("there is no queue {url}")))?
        }
    };
    let message_id = parts.queues.deliver(&name, order.body);
    Ok(Json(json!({"message_id": message_id})))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Reset {
    keep: Vec<Part>,
}

async fn reset(State(parts): State<Parts>, body: String) -> Result<Json<Value>, Refusal> {
    let order: Reset = if body.trim().is_empty() { Reset::default() } else { parse(&body)? };
    let kept = json!(order.keep);
    // Whoever asked may go away; what was begun is finished all the same.
    let done = tokio::spawn(async move { parts.reset(order.keep).await }).await;
    let failed =
        |message: String| (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({"error": message})));
    done.map_err(|panicked| failed(panicked.to_string()))?.map_err(failed)?;
    Ok(Json(json!({"reset": true, "kept": kept})))
}
