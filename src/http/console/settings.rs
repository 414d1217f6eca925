//! `/settings`: every setting with its value, its origin and what it means.

use askama::Template;
use axum::extract::{Extension, State};

use super::parts::{Answer, Frame, render};
use super::session::Visitor;
use crate::http::ApiState;
use crate::settings::{DEFAULT_FILE, meaning};

#[derive(Template)]
#[template(path = "settings.html")]
struct SettingsPage {
    frame: Frame,
    rows: Vec<Row>,
    /// The file that was read.
    file: Option<String>,
}

/// A setting.
struct Row {
    key: String,
    value: String,
    origin: String,
    /// The first sentence of what it means, and the others.
    meaning: String,
    more: String,
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
) -> Answer {
    let row = |(key, value, origin): (String, String, String)| {
        let (meaning, more) = split(&meaning(&key).unwrap_or_default());
        Row { key, value, origin, meaning, more }
    };
    let (frame, file) = (Frame::of(&visitor, "settings"), state.settings_file.clone());
    let rows = state.settings.clone().into_iter().map(row).collect();
    Ok(render(&SettingsPage { frame, rows, file }))
}

/// Splits a text after its first sentence.
fn split(text: &str) -> (String, String) {
    let end = text.find(". ").map_or(text.len(), |place| place + 1);
    (text[..end].to_owned(), text[end..].trim().to_owned())
}
