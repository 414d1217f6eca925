//! `/activity`: who changed what.

use std::collections::HashMap;

use askama::Template;
use axum::Json;
use axum::extract::{Extension, Query, State};
use serde::Deserialize;

use super::acts::{Object, done, object, operation};
use super::choices::Grants;
use super::names::Names;
use super::parts::{Answer, Frame, When, next_page, query, render, some};
use super::session::Visitor;
use crate::domain::{ClockHour, CustomerId, EntityId, FeatureId, PlanId, ProductId};
use crate::http::ApiState;
use crate::http::paging::ListPage;
use crate::store::{ActivityFilter, ActivityRow, Order, RecordRow};

/// The activities of a page.
const ROWS: &str = "50";
/// The most records of a decision that are named.
const RECORDS: usize = 3;

/// What is asked for.
#[derive(Clone, Default, Deserialize)]
pub(super) struct Asked {
    /// The name of the token by which it was done.
    #[serde(default)]
    actor: String,
    cursor: Option<String>,
}

#[derive(Template)]
#[template(path = "activity.html")]
struct ActivitiesPage {
    frame: Frame,
    asked: Asked,
    names: Names,
    rows: Vec<Row>,
    next: Option<String>,
}

/// What somebody did, and what it was done to.
struct Row {
    it: ActivityRow,
    at: When,
    what: String,
    object: Option<Object>,
    /// What the object is called, where it has a name.
    called: String,
    /// Whose records were decided on, and of which hours: the first of them.
    records: Vec<(CustomerId, ClockHour)>,
}

pub(super) async fn list(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Query(asked): Query<Asked>,
) -> Answer {
    let now = state.clock.now();
    let page = ListPage::in_order("activity", Order::Newest, Some(ROWS), asked.cursor.as_deref())?;
    let filter = ActivityFilter { actor: some(&asked.actor), ..ActivityFilter::default() };
    let listed = state.store.activities(filter, Order::Newest, page.one_more()).await?;
    let Json(found) = page.listed(listed, |row| row.seq.to_string());
    let words = Grants::of(&state, false).await?;
    let decided = found.items.iter().flat_map(decided).collect();
    let decided = state.store.records_of_ids(decided).await?;
    let decided: HashMap<String, RecordRow> =
        decided.into_iter().map(|it| (it.id.clone(), it)).collect();
    let row = |it: ActivityRow| Row {
        at: When::of(it.at, now),
        // Older rows name a form by its route.
        what: done(operation(&it.operation), &it.path, it.detail.as_ref(), &words),
        object: object(&it.path),
        called: String::new(),
        records: records(&it, &decided),
        it,
    };
    let mut rows: Vec<Row> = found.items.into_iter().map(row).collect();
    let named = rows.iter().filter_map(|row| row.object.as_ref());
    let named = named.filter(|it| it.kind == "customer").map(|it| CustomerId::new(&*it.name));
    let decided = rows.iter().flat_map(|row| row.records.iter().map(|it| it.0.clone()));
    let ids: Vec<CustomerId> = named.chain(decided).collect();
    let names = Names::of(&state).await?.and_customers(&state, &ids).await?;
    for row in &mut rows {
        let Some(it) = &row.object else { continue };
        row.called = called(it, &names);
        if it.kind == "listing" {
            let product = state.store.product_of_entity(EntityId::new(&*it.name)).await?;
            row.called = product.map_or_else(|| it.name.clone(), |it| it.title);
        }
    }
    Ok(render(&ActivitiesPage {
        frame: Frame::of(&visitor, "activity"),
        asked,
        names,
        rows,
        next: found.next_cursor.map(|it| next_page(&visitor, "cursor", &it)),
    }))
}

/// Returns what is called by an id in a path.
fn called(it: &Object, names: &Names) -> String {
    match it.kind {
        "customer" => names.customer(&CustomerId::new(&*it.name)).to_owned(),
        "feature" => names.feature(&FeatureId::new(&*it.name)).to_owned(),
        "plan" => names.plan(&PlanId::new(&*it.name)).to_owned(),
        "product" => names.product(&ProductId::new(&*it.name)).to_owned(),
        _ => it.name.clone(),
    }
}

/// Returns the first few records that a decision was about.
fn decided(row: &ActivityRow) -> Vec<String> {
    let ids: Option<Vec<String>> =
        row.detail.as_ref().and_then(|it| serde_json::from_value(it["records"].clone()).ok());
    ids.unwrap_or_default().into_iter().take(RECORDS).collect()
}

/// Returns whose they are, and of which hours.
fn records(row: &ActivityRow, known: &HashMap<String, RecordRow>) -> Vec<(CustomerId, ClockHour)> {
    let found = decided(row).into_iter().filter_map(|id| known.get(&id));
    found.map(|it| (it.customer_id.clone(), it.hour)).collect()
}

impl Row {
    /// Reports whether records were decided on that are not named.
    fn has_others(&self) -> bool {
        let all =
            self.it.detail.as_ref().and_then(|it| it["records"].as_array()).map_or(0, Vec::len);
        all > self.records.len()
    }
}

impl ActivitiesPage {
    /// Returns the query of what somebody did.
    #[expect(clippy::unused_self, reason = "a template calls it")]
    fn of_actor(&self, name: &str) -> String {
        query(&[("actor", name)])
    }
}
