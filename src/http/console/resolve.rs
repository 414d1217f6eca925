//! `/metering/resolve`: one decision over all parked records that match, tried first.

use std::collections::BTreeMap;

use askama::Template;
use axum::Json;
use axum::extract::{Extension, Query, State};
use serde::Deserialize;

use super::choices::Choices;
use super::names::Names;
use super::parts::{Answer, Form, Frame, counted, go, render, some};
use super::session::Visitor;
use crate::diagnosis::Action as Remedy;
use crate::domain::Quantity;
use crate::domain::ledger::{CARRIED_FORWARD, ParkReason};
use crate::http::extract::Body;
use crate::http::metering_resolve::{self as api, Action, Filter, ResolveAll, ResolveOutcome};
use crate::http::{ApiState, Problem};
use crate::store::{Order, Page, ParkedUsage, RecordFilter, RecordRow};

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

/// The actions: the word of each, what it does, and what was done by it.
const ACTIONS: [(Remedy, &str, &str); 3] = [
    (Remedy::Retry, "Send them again as they are", "Sent again"),
    (
        Remedy::CarryForward,
        "Carry them forward: their units are billed with the open hour",
        "Carried forward",
    ),
    (Remedy::WriteOff, "Write them off: their units are never billed", "Written off"),
];

/// What a decision came to, as the page says it that it leads to.
pub(super) struct Decided {
    action: Remedy,
    pub(super) resolved: u64,
    pub(super) matched: u64,
    pub(super) units: Quantity,
}

impl Decided {
    /// Reads what was written into an address.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut next = || parts.next();
        let word = next()?;
        let (action, ..) = ACTIONS.into_iter().find(|(action, ..)| action.as_str() == word)?;
        let (resolved, matched) = (next()?.parse().ok()?, next()?.parse().ok()?);
        let units = next()?.parse().ok()?;
        (parts.next().is_none()).then_some(Self { action, resolved, matched, units })
    }

    /// Returns what was done.
    pub(super) fn deed(&self) -> &'static str {
        ACTIONS.iter().find(|(action, ..)| *action == self.action).map_or("", |(.., done)| done)
    }

    /// Returns the number of records that stay parked.
    pub(super) const fn left(&self) -> u64 {
        self.matched.saturating_sub(self.resolved)
    }

    /// Returns the state in which those are found that were decided on; none where they go on from there.
    pub(super) const fn state(&self) -> Option<&'static str> {
        match self.action {
            Remedy::CarryForward => Some(CARRIED_FORWARD),
            Remedy::WriteOff => Some("written_off"),
            _ => None,
        }
    }
}

impl std::fmt::Display for Decided {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { action, resolved, matched, units } = self;
        write!(f, "{}-{resolved}-{matched}-{units}", action.as_str())
    }
}

#[derive(Template)]
#[template(path = "resolve.html")]
struct ResolvePage {
    frame: Frame,
    asked: Asked,
    /// The actions that some record of the selection may bear, and what each does.
    actions: Vec<(&'static str, &'static str)>,
    reasons: Vec<String>,
    products: Choices,
    /// What the decision would come to, once one is chosen.
    outcome: Option<ResolveOutcome>,
    /// What it is about, by product and dimension: the records and their units; empty where they are too many to list.
    parts: Vec<(String, u64, Quantity)>,
    /// The first of the records that it is about.
    records: Vec<RecordRow>,
    names: Names,
}

/// The most records that are listed by product and dimension.
const LISTED: u32 = 500;
/// The most records that are named one by one.
const NAMED: usize = 20;

/// Sums what a decision is about by product and dimension, and names the records. Units of different things do not add up.
async fn parts(
    state: &ApiState,
    asked: &Asked,
    outcome: &ResolveOutcome,
) -> Result<(Vec<(String, u64, Quantity)>, Vec<RecordRow>, Names), Problem> {
    if outcome.matched > u64::from(LISTED) {
        return Ok((Vec::new(), Vec::new(), Names::default()));
    }
    let filter =
        RecordFilter { state: Some("parked".into()), ..api::filter(state, asked.filter()).await? };
    let page = Page { after: None, limit: LISTED };
    let mut records = state.store.metering_records(filter, Order::Newest, page).await?.rows;
    records.retain(|record| outcome.refused.iter().all(|it| it.id != record.id));
    let customers = records.iter().take(NAMED).map(|it| &it.customer_id);
    let names = Names::of(state).await?.and_customers(state, customers).await?;
    let mut parts: BTreeMap<String, (u64, Quantity)> = BTreeMap::new();
    for record in &records {
        let name = format!("{}, {}", names.product(&record.product_id), record.dimension);
        let (count, units) = parts.entry(name).or_default();
        *count += 1;
        *units = units.saturating_add(units_of(record));
    }
    records.truncate(NAMED);
    let parts = parts.into_iter().map(|(name, (count, units))| (name, count, units)).collect();
    Ok((parts, records, names))
}

/// Returns the units of a record that nobody has decided on yet.
fn units_of(record: &RecordRow) -> Quantity {
    record.quantity.saturating_sub(record.carried_out)
}

impl ResolvePage {
    /// Reports whether more records are decided on than are named.
    fn is_cut(&self, records: u64) -> bool {
        records > u64::try_from(self.records.len()).unwrap_or(u64::MAX)
    }

    /// Returns the units of a record that the decision is about.
    #[expect(clippy::unused_self, reason = "a template calls it")]
    fn units_of(&self, record: &RecordRow) -> Quantity {
        units_of(record)
    }

    /// Returns what the chosen action does.
    fn deed(&self) -> &'static str {
        let chosen = self.actions.iter().find(|(word, _)| *word == self.asked.action);
        chosen.map_or("", |(_, deed)| deed)
    }

    /// Returns what the button says: what is done to how many records.
    fn verdict(&self, records: u64) -> String {
        let records = counted(records, "record");
        match self.asked.action() {
            Some(Action::Retry) => format!("Send {records} again"),
            Some(Action::CarryForward) => format!("Carry {records} forward"),
            Some(Action::WriteOff) | None => format!("Write off {records}"),
        }
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
    let actions = offered(&parked, &asked);
    let mut reasons: Vec<String> = parked.into_iter().map(|it| it.reason).collect();
    reasons.sort_unstable();
    reasons.dedup();
    let is_offered = actions.iter().any(|(word, _)| *word == asked.action);
    let outcome = match asked.action().filter(|_| is_offered) {
        Some(action) => {
            let filter = asked.filter();
            let body = ResolveAll { filter, action, note: None, dry_run: true };
            let Json(outcome) = api::all(State(state.clone()), Body(body)).await?;
            Some(outcome)
        }
        None => None,
    };
    let (parts, records, names) = match &outcome {
        Some(outcome) => parts(state, &asked, outcome).await?,
        None => (Vec::new(), Vec::new(), Names::default()),
    };
    let frame = Frame::of(visitor, "metering");
    let products = Choices::products(state, &asked.product_id).await?;
    Ok(ResolvePage { frame, asked, actions, reasons, products, outcome, parts, records, names })
}

/// Returns the actions that may mend what is asked for, by the reasons for which it is parked.
fn offered(parked: &[ParkedUsage], asked: &Asked) -> Vec<(&'static str, &'static str)> {
    let is_meant = |it: &&ParkedUsage| {
        let fits = |wanted: &str, held: &str| wanted.trim().is_empty() || wanted.trim() == held;
        fits(&asked.reason, &it.reason) && fits(&asked.product_id, it.product_id.as_str())
    };
    let may_mend = |action: Remedy| {
        parked.iter().filter(is_meant).any(|it| {
            ParkReason::parse(&it.reason)
                .is_none_or(|reason| reason.diagnosis().actions.contains(&action))
        })
    };
    let actions = ACTIONS.into_iter().filter(|(action, ..)| may_mend(*action));
    actions.map(|(action, deed, _)| (action.as_str(), deed)).collect()
}

/// Decides.
pub(super) async fn resolve(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Form(asked): Form<Asked>,
) -> Answer {
    let chosen = ACTIONS.into_iter().find(|(action, ..)| action.as_str() == asked.action);
    let (Some(action), Some((remedy, ..))) = (asked.action(), chosen) else {
        return Err(Problem::bad_request("action is retry, carry_forward or write_off").into());
    };
    let (filter, note) = (asked.filter(), Some(asked.note));
    let body = ResolveAll { filter, action, note, dry_run: false };
    let Json(done) = api::all(State(state), Body(body)).await?;
    let decided = Decided {
        action: remedy,
        resolved: done.resolved,
        matched: done.matched,
        units: done.units,
    };
    Ok(go(&visitor, format_args!("/metering?state=parked&done={decided}")))
}
