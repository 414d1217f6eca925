//! `/notifications`: what AWS has told, and what of it could not be read.

use askama::Template;
use axum::Json;
use axum::extract::{Extension, Path, Query, State};
use serde::Deserialize;

use super::parts::{Answer, Form, Frame, Told, When, go_after, next_page, render, segment, some};
use super::session::Visitor;
use crate::diagnosis::{Action, Diagnosis};
use crate::http::extract::Body;
use crate::http::notifications::{self, DiscardNote, STATES};
use crate::http::paging::ListPage;
use crate::http::{ApiState, Problem};
use crate::store::{NotificationFilter, NotificationRow, Order};

/// The notifications of a page.
const ROWS: &str = "50";
/// The kinds that say something of buyers, to choose from; any other can be typed.
const KINDS: [&str; 10] = [
    "subscribe-success",
    "subscribe-fail",
    "unsubscribe-pending",
    "unsubscribe-success",
    "entitlement-updated",
    "Purchase Agreement Created - Proposer",
    "Purchase Agreement Amended - Proposer",
    "Purchase Agreement Ended - Proposer",
    "License Updated - Manufacturer",
    "License Deprovisioned - Manufacturer",
];

/// What is asked for.
#[derive(Clone, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    state: String,
    #[serde(default)]
    kind: String,
    cursor: Option<String>,
}

#[derive(Template)]
#[template(path = "notifications.html")]
struct NotificationsPage {
    frame: Frame,
    asked: Asked,
    states: [&'static str; 4],
    kinds: [&'static str; 10],
    rows: Vec<(NotificationRow, When)>,
    next: Option<String>,
}

pub(super) async fn list(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Query(asked): Query<Asked>,
) -> Answer {
    let now = state.clock.now();
    let state_word = Some(asked.state.clone()).filter(|word| STATES.contains(&word.as_str()));
    let filter = NotificationFilter {
        state: state_word,
        kind: some(&asked.kind),
        ..NotificationFilter::default()
    };
    let page =
        ListPage::in_order("notifications", Order::Newest, Some(ROWS), asked.cursor.as_deref())?;
    let listed = state.store.notifications(filter, Order::Newest, page.one_more()).await?;
    let Json(found) = page.listed(listed, |row| row.seq.to_string());
    let next = found.next_cursor.map(|it| next_page(&visitor, "cursor", &it));
    let rows = found.items.into_iter().map(|row| {
        let received = When::of(row.received_at, now);
        (row, received)
    });
    let rows = rows.collect();
    Ok(render(&NotificationsPage {
        frame: Frame::of(&visitor, "notifications"),
        asked,
        states: STATES,
        kinds: KINDS,
        rows,
        next,
    }))
}

#[derive(Template)]
#[template(path = "notification.html")]
struct NotificationPage {
    frame: Frame,
    told: Told,
    row: NotificationRow,
    at: When,
    received: When,
    body: String,
    diagnosis: Option<Diagnosis>,
    /// When it was discarded, if it was.
    discarded: Option<When>,
}

impl NotificationPage {
    /// Reports whether an import is what it waits for.
    fn awaits_import(&self) -> bool {
        self.diagnosis.is_some_and(|it| it.actions.contains(&Action::Import))
    }
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    Query(done): Query<Done>,
) -> Answer {
    let mut shown = notification(&state, &visitor, &id).await?;
    shown.told = Told::of(done.done);
    Ok(render(&shown))
}

async fn notification(
    state: &ApiState,
    visitor: &Visitor,
    id: &str,
) -> Result<NotificationPage, Problem> {
    let now = state.clock.now();
    let found = state.store.notification(id.to_owned()).await?;
    let row = found.ok_or_else(|| Problem::not_found("notification", id))?;
    let body = match &row.body {
        serde_json::Value::String(text) => text.clone(),
        document => serde_json::to_string_pretty(document).unwrap_or_default(),
    };
    Ok(NotificationPage {
        frame: Frame::of(visitor, "notifications"),
        told: Told::of(None),
        at: When::of(row.at, now),
        received: When::of(row.received_at, now),
        body,
        diagnosis: Diagnosis::of_notification(&row),
        discarded: row.discard.as_ref().map(|it| When::of(it.at, now)),
        row,
    })
}

pub(super) async fn replay(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
) -> Answer {
    let path = crate::http::extract::Path(id.clone());
    let replayed = notifications::replay(State(state), path).await;
    go_after(replayed, &visitor, format_args!("/notifications/{}?done=replayed", segment(&id)))
}

/// What was just done.
#[derive(Deserialize)]
pub(super) struct Done {
    done: Option<String>,
}

/// Why a message is discarded.
#[derive(Deserialize)]
pub(super) struct Reason {
    note: String,
}

pub(super) async fn discard(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    Form(Reason { note }): Form<Reason>,
) -> Answer {
    let path = crate::http::extract::Path(id.clone());
    let discarded = notifications::discard(State(state), path, Body(DiscardNote { note })).await;
    go_after(discarded, &visitor, format_args!("/notifications/{}?done=discarded", segment(&id)))
}
