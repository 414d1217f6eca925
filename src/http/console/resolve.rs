//! `/metering/resolve`: one decision over all parked records that match, tried first.

use askama::Template;
use axum::Json;
use axum::extract::{Extension, Query, State};
use serde::Deserialize;

use super::parts::{Answer, Form, Frame, go_after, render, some};
use super::session::Visitor;
use crate::http::extract::Body;
use crate::http::metering_resolve::{self as api, Action, Filter, ResolveAll, ResolveOutcome};
use crate::http::{ApiState, Problem};

/// The records that are meant, and the decision over them.
#[derive(Clone, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    product_id: String,
    #[serde(default)]
    customer_id: String,
    #[serde(default)]
    action: String,
    #[serde(default)]
    note: String,
}

impl Asked {
    fn filter(&self) -> Filter {
        Filter {
            reason: some(&self.reason),
            product_id: some(&self.product_id),
            customer_id: some(&self.customer_id),
            ..Filter::default()
        }
    }

    fn action(&self) -> Option<Action> {
        match &*self.action {
            "retry" => Some(Action::Retry),
            "carry_forward" => Some(Action::CarryForward),
            "write_off" => Some(Action::WriteOff),
            _ => None,
        }
    }
}

/// The actions, and what each does.
const ACTIONS: [(&str, &str); 3] = [
    ("retry", "Send them again as they are"),
    ("carry_forward", "Bill their units with the open hour"),
    ("write_off", "Give them up: their units are never billed"),
];

#[derive(Template)]
#[template(path = "resolve.html")]
struct ResolvePage {
    frame: Frame,
    asked: Asked,
    actions: [(&'static str, &'static str); 3],
    reasons: Vec<String>,
    /// What the decision would come to, once one is chosen.
    outcome: Option<ResolveOutcome>,
}

impl ResolvePage {
    /// Returns what the chosen action does.
    fn deed(&self) -> &'static str {
        let chosen = self.actions.iter().find(|(word, _)| *word == self.asked.action);
        chosen.map_or("", |(_, deed)| deed)
    }
}

/// Shows what a decision would come to, and asks.
pub(super) async fn ask(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Query(asked): Query<Asked>,
) -> Answer {
    Ok(render(&tried(&state, &visitor, asked).await?))
}

async fn tried(state: &ApiState, visitor: &Visitor, asked: Asked) -> Result<ResolvePage, Problem> {
    let parked = state.store.parked_usage().await?;
    let mut reasons: Vec<String> = parked.into_iter().map(|it| it.reason).collect();
    reasons.sort_unstable();
    reasons.dedup();
    let outcome = match asked.action() {
        Some(action) => {
            let filter = asked.filter();
            let body = ResolveAll { filter, action, note: None, dry_run: true };
            let Json(outcome) = api::all(State(state.clone()), Body(body)).await?;
            Some(outcome)
        }
        None => None,
    };
    let frame = Frame::of(visitor, "metering");
    Ok(ResolvePage { frame, asked, actions: ACTIONS, reasons, outcome })
}

/// Decides.
pub(super) async fn resolve(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Form(asked): Form<Asked>,
) -> Answer {
    let Some(action) = asked.action() else {
        return Err(Problem::bad_request("action is retry, carry_forward or write_off").into());
    };
    let (filter, note) = (asked.filter(), Some(asked.note));
    let body = ResolveAll { filter, action, note, dry_run: false };
    let done = api::all(State(state), Body(body)).await;
    go_after(done, &visitor, "/metering?state=parked&done=resolved")
}
