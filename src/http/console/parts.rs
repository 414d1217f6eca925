//! What pages share: the frame around them, times, and the page that says what went wrong.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::assets;
use super::session::Visitor;
use crate::http::Problem;

/// The frame around a page.
pub(super) struct Frame {
    /// The path of the stylesheet.
    pub(super) style: String,
    /// The path of the icon.
    pub(super) icon: String,
    /// The visitor's name.
    pub(super) visitor: String,
    /// Their role.
    pub(super) role: &'static str,
    /// Set if they may change something.
    pub(super) operates: bool,
    /// Set if they can sign out.
    pub(super) signed_in: bool,
    /// The token of their forms.
    pub(super) form_token: String,
    /// The place in the navigation.
    pub(super) here: &'static str,
}

impl Frame {
    pub(super) fn of(visitor: &Visitor, here: &'static str) -> Self {
        Self {
            style: assets::style(),
            icon: assets::icon(),
            visitor: visitor.name.to_string(),
            role: visitor.role.as_str(),
            operates: visitor.role.may(crate::domain::api_token::Permission::Operate),
            signed_in: visitor.signed_in,
            form_token: visitor.form_token.to_string(),
            here,
        }
    }
}

/// A time, as people read it and as it is.
pub(super) struct When {
    pub(super) exact: String,
    pub(super) relative: String,
}

impl When {
    pub(super) fn of(at: Timestamp, now: Timestamp) -> Self {
        Self { exact: at.to_string(), relative: relative(at, now) }
    }
}

/// Returns how long ago a time was, or how far ahead it is, in one unit.
fn relative(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(at).as_secs();
    let length = seconds.unsigned_abs();
    let (count, unit) = match length {
        0..60 => (length, "s"),
        60..3_600 => (length / 60, "min"),
        3_600..172_800 => (length / 3_600, "h"),
        _ => (length / 86_400, "d"),
    };
    if seconds >= 0 { format!("{count} {unit} ago") } else { format!("in {count} {unit}") }
}

/// Returns a word of the API as people write it.
pub(super) fn words(word: impl AsRef<str>) -> String {
    word.as_ref().replace('_', " ")
}

/// Returns the query of these pairs.
pub(super) fn query(pairs: &[(&str, &str)]) -> String {
    serde_urlencoded::to_string(pairs).unwrap_or_default()
}

/// Returns a text as a segment of a path.
pub(super) fn segment(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Renders a page.
pub(super) fn page(template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => Html(text).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be made");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Renders a page that could be made, or the one that says why not.
pub(super) fn made(visitor: &Visitor, made: Result<impl Template, Problem>) -> Response {
    match made {
        Ok(template) => page(&template),
        Err(problem) => Trouble::new(visitor, problem).into_response(),
    }
}

/// A page that says what went wrong.
pub(super) struct Trouble {
    frame: Frame,
    problem: Problem,
}

#[derive(Template)]
#[template(path = "trouble.html")]
struct TroublePage<'a> {
    frame: &'a Frame,
    title: String,
    detail: &'a str,
}

impl Trouble {
    pub(super) fn new(visitor: &Visitor, problem: impl Into<Problem>) -> Self {
        Self { frame: Frame::of(visitor, ""), problem: problem.into() }
    }
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let mut response = page(&TroublePage {
            frame: &self.frame,
            title: self.problem.title(),
            detail: self.problem.detail(),
        });
        *response.status_mut() = self.problem.status();
        response
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn times_are_said_in_one_unit() {
        let now: Timestamp = "2026-11-10T09:00:00Z".parse().unwrap();
        let rows = [
            (0, "0 s ago"),
            (59, "59 s ago"),
            (60, "1 min ago"),
            (7_200, "2 h ago"),
            (172_800, "2 d ago"),
            (-3_600, "in 1 h"),
        ];
        for (seconds, said) in rows {
            assert_eq!(relative(now - SignedDuration::from_secs(seconds), now), said);
        }
    }
}
