//! `/events`: what the seller's application was told, and how its webhook stands.

use askama::Template;
use axum::Json;
use axum::extract::{Extension, Query, State};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::names::Names;
use super::parts::{Answer, Form, Frame, Told, When, go_after, grouped, next_page, render, some};
use super::session::Visitor;
use crate::domain::CustomerId;
use crate::http::extract::Body;
use crate::http::webhook::{self as api, Replay, WebhookView};
use crate::http::{ApiState, Problem};
use crate::store::Event;
use crate::webhook::WebhookTest;

/// The events of a page.
const ROWS: u32 = 50;

/// What is asked for.
#[derive(Clone, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    customer_id: String,
    before: Option<i64>,
    done: Option<String>,
}

#[derive(Template)]
#[template(path = "events.html")]
struct EventsPage {
    frame: Frame,
    told: Told,
    asked: Asked,
    webhook: WebhookView,
    lanes: Vec<(usize, Option<When>)>,
    delivered: Option<When>,
    refused: Option<When>,
    events: Vec<Happened>,
    names: Names,
    next: Option<String>,
    /// What the application said when it was just tried.
    tried: Option<String>,
}

/// An event as it is shown.
pub(super) struct Happened {
    pub(super) event: Event,
    pub(super) at: When,
    pub(super) data: String,
    /// Its type as people write it.
    pub(super) name: String,
    /// What it is about, where its data says it: plan, dimension, quantity.
    pub(super) facts: String,
}

impl Happened {
    pub(super) fn of(event: Event, now: Timestamp) -> Self {
        let data = serde_json::to_string_pretty(&event.data).unwrap_or_default();
        let name = event.kind.replace(['.', '_'], " ");
        let facts = facts(&event.kind, &event.data, None);
        Self { at: When::of(event.at, now), data, name, facts, event }
    }

    /// Shows events, of which the newest come first. A changed plan is told with the one before, where an older event of the
    /// same subscription is among them.
    pub(super) fn all(events: Vec<Event>, now: Timestamp) -> Vec<Self> {
        let mut all: Vec<Self> = events.into_iter().map(|it| Self::of(it, now)).collect();
        for place in 0..all.len() {
            let (newer, older) = all.split_at_mut(place + 1);
            let Some(it) = newer.last_mut().filter(|it| it.event.kind == PLAN_CHANGED) else {
                continue;
            };
            let same = |old: &&Self| {
                old.event.kind.starts_with("subscription.")
                    && old.event.data["id"] == it.event.data["id"]
            };
            let before = older.iter().find(same).and_then(|old| old.event.data["plan_id"].as_str());
            it.facts = facts(&it.event.kind, &it.event.data, before);
        }
        all
    }
}

/// The event of a subscription that is on another plan.
const PLAN_CHANGED: &str = "subscription.plan_changed";

/// Says what an event is about, in a few words.
fn facts(kind: &str, data: &Value, plan_before: Option<&str>) -> String {
    let text = |name: &str| match &data[name] {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let of = text("dimension").or_else(|| text("feature_id"));
    match (text("plan_id"), text("quantity"), of) {
        (Some(plan), quantity, _) if kind.starts_with("subscription.") => {
            let units = quantity.filter(|it| it != "1");
            let units = units.map(|it| format!("{} × ", grouped(it))).unwrap_or_default();
            let before = plan_before.filter(|before| *before != plan);
            let before = before.map(|before| format!("from {before} to ")).unwrap_or_default();
            format!("{before}{units}{plan}")
        }
        (_, Some(quantity), Some(what)) => format!("{} of {what}", grouped(quantity)),
        (_, None, Some(what)) => what,
        // Two customers who became one were made twice: their ids tell them apart.
        _ if kind == "customer.merged" => {
            text("merged").map(|id| format!("{id} is now this one")).unwrap_or_default()
        }
        _ if kind.starts_with("customer.") => text("id").unwrap_or_default(),
        _ => String::new(),
    }
}

pub(super) async fn list(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Query(asked): Query<Asked>,
) -> Answer {
    Ok(render(&found(&state, &visitor, asked).await?))
}

async fn found(state: &ApiState, visitor: &Visitor, asked: Asked) -> Result<EventsPage, Problem> {
    let now = state.clock.now();
    let Json(webhook) = api::show(State(state.clone())).await?;
    let customer = some(&asked.customer_id).map(CustomerId::new).into_iter().collect();
    let mut events = state.store.events_before(customer, asked.before, ROWS + 1).await?;
    let more = events.len() > ROWS as usize;
    events.truncate(ROWS as usize);
    let next = events
        .last()
        .filter(|_| more)
        .map(|last| next_page(visitor, "before", &last.seq.to_string()));
    let customers = events.iter().filter_map(|it| it.customer_id.as_ref());
    let names = Names::default().and_customers(state, customers).await?;
    let waiting = |(place, lane): (usize, &api::LaneView)| {
        (place, lane.oldest_waiting_at.map(|at| When::of(at, now)))
    };
    Ok(EventsPage {
        frame: Frame::of(visitor, "events"),
        told: Told::of(asked.done.clone()),
        asked,
        lanes: webhook.lanes.iter().enumerate().map(waiting).collect(),
        delivered: webhook.last_delivered_at.map(|at| When::of(at, now)),
        refused: webhook.last_refused_at.map(|at| When::of(at, now)),
        events: Happened::all(events, now),
        names,
        webhook,
        next,
        tried: None,
    })
}

fn told<T>(visitor: &Visitor, word: &str, done: Result<T, Problem>) -> Answer {
    go_after(done, visitor, format_args!("/events?done={word}"))
}

pub(super) async fn pause(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
) -> Answer {
    told(&visitor, "paused", api::pause(State(state)).await)
}

pub(super) async fn resume(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
) -> Answer {
    told(&visitor, "resumed", api::resume(State(state)).await)
}

/// The event after which all are posted again.
#[derive(Deserialize)]
pub(super) struct Point {
    after: String,
}

pub(super) async fn replay(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Form(Point { after }): Form<Point>,
) -> Answer {
    let after = after.trim().to_owned();
    if after.parse::<u64>().is_err() {
        return Err(Problem::field_is("after", "is the number of an event, or 0").into());
    }
    let body = Replay { after: Some(after), from: None, since: None };
    let replayed = api::replay(State(state), Body(body)).await;
    told(&visitor, "replayed", replayed.map_err(|problem| problem.with("field", json!("after"))))
}

/// Tries the webhook, and shows what the application said.
pub(super) async fn test(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
) -> Answer {
    let Json(answer) = api::test(State(state.clone())).await?;
    let mut shown = found(&state, &visitor, Asked::default()).await?;
    shown.tried = Some(said(&answer));
    Ok(render(&shown))
}

/// Says in a sentence what an application answered.
fn said(answer: &WebhookTest) -> String {
    match (answer.delivered, answer.status, &answer.error) {
        (true, Some(status), _) => {
            format!("The application took the test event: it answered {status}.")
        }
        (true, None, _) => "The application took the test event.".into(),
        (false, _, Some(error)) => format!("The application did not take the test event: {error}"),
        (false, _, None) => "The application did not take the test event.".into(),
    }
}
