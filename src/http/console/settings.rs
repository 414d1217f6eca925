//! `/settings`: every setting with its value and origin.

use askama::Template;
use axum::extract::{Extension, State};

use super::parts::{Answer, Frame, render};
use super::session::Visitor;
use crate::http::ApiState;

#[derive(Template)]
#[template(path = "settings.html")]
struct SettingsPage {
    frame: Frame,
    rows: Vec<(String, String, String)>,
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
) -> Answer {
    let (frame, rows) = (Frame::of(&visitor, "settings"), state.settings.clone());
    Ok(render(&SettingsPage { frame, rows }))
}
