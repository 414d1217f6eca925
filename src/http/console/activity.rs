//! `/activity`: who changed what.

use askama::Template;
use axum::Json;
use axum::extract::{Extension, Query, State};
use serde::Deserialize;

use super::acts::{Object, done, object, operation};
use super::parts::{Answer, Frame, When, next_page, query, render, some};
use super::session::Visitor;
use crate::http::ApiState;
use crate::http::paging::ListPage;
use crate::store::{ActivityFilter, ActivityRow, Order};

/// The activities of a page.
const ROWS: &str = "50";

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
    rows: Vec<Row>,
    next: Option<String>,
}

/// What somebody did, and what it was done to.
struct Row {
    it: ActivityRow,
    at: When,
    what: String,
    object: Option<Object>,
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
    let rows = found.items.into_iter().map(|it| Row {
        at: When::of(it.at, now),
        // Older rows name a form by its route.
        what: done(operation(&it.operation), &it.path, it.detail.as_ref()),
        object: object(&it.path),
        it,
    });
    Ok(render(&ActivitiesPage {
        frame: Frame::of(&visitor, "activity"),
        asked,
        rows: rows.collect(),
        next: found.next_cursor.map(|it| next_page(&visitor, "cursor", &it)),
    }))
}

impl ActivitiesPage {
    /// Returns the query of what somebody did.
    #[expect(clippy::unused_self, reason = "a template calls it")]
    fn of_actor(&self, name: &str) -> String {
        query(&[("actor", name)])
    }
}
