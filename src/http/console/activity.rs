//! `/activity`: who changed what.

use askama::Template;
use axum::Json;
use axum::extract::{Extension, Query, State};
use serde::Deserialize;

use super::parts::{Answer, Frame, When, next_page, render};
use super::session::Visitor;
use crate::http::ApiState;
use crate::http::paging::ListPage;
use crate::store::{ActivityFilter, ActivityRow, Order};

/// The activities of a page.
const ROWS: &str = "50";

/// What is asked for.
#[derive(Clone, Default, Deserialize)]
pub(super) struct Asked {
    cursor: Option<String>,
}

#[derive(Template)]
#[template(path = "activity.html")]
struct ActivitiesPage {
    frame: Frame,
    rows: Vec<(ActivityRow, When)>,
    next: Option<String>,
}

pub(super) async fn list(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Query(asked): Query<Asked>,
) -> Answer {
    let now = state.clock.now();
    let page = ListPage::in_order("activity", Order::Newest, Some(ROWS), asked.cursor.as_deref())?;
    let filter = ActivityFilter::default();
    let listed = state.store.activities(filter, Order::Newest, page.one_more()).await?;
    let Json(found) = page.listed(listed, |row| row.seq.to_string());
    let rows = found.items.into_iter().map(|row| {
        let at = When::of(row.at, now);
        (row, at)
    });
    Ok(render(&ActivitiesPage {
        frame: Frame::of(&visitor, "activity"),
        rows: rows.collect(),
        next: found.next_cursor.map(|it| next_page(&visitor, "cursor", &it)),
    }))
}
