//! `/settings`: every setting with its value and origin.

use askama::Template;
use axum::extract::{Extension, State};
use axum::response::Response;

use super::parts::{Frame, made};
use super::session::Visitor;
use crate::http::{ApiState, Problem};

#[derive(Template)]
#[template(path = "settings.html")]
struct SettingsPage {
    frame: Frame,
    rows: Vec<(String, String, String)>,
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
) -> Response {
    let (frame, rows) = (Frame::of(&visitor, "settings"), state.settings.clone());
    made(&visitor, Ok::<_, Problem>(SettingsPage { frame, rows }))
}
