//! What pages share: the frame around them, times, and the page that says what went wrong.

use std::error::Error;
use std::sync::Arc;

use askama::Template;
use axum::extract::rejection::FormRejection;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::assets;
use super::mistakes::{Mistake, Shown};
use super::session::Visitor;
pub(super) use super::times::{When, hour, minute};
use super::wording;
pub(super) use super::wording::{phrase, prose, prose_at};
use crate::domain::api_token::Permission;
use crate::domain::counted::plural;
use crate::domain::kind::Kind;
use crate::domain::terms::{Anchor, Bill, EntitlementTerms};
use crate::domain::word::Word as _;
use crate::domain::{Id, Line, Source, Status};
use crate::http::Problem;

/// A link of the navigation: its path, its word, and its name.
type Link = (&'static str, &'static str, &'static str);
/// Links under a heading.
type Group = (&'static str, &'static [Link]);

/// The navigation.
const NAVIGATION: [Group; 3] = [
    (
        "Operate",
        &[
            ("./", "overview", "Overview"),
            ("customers", "customers", "Customers"),
            ("subscriptions", "subscriptions", "Subscriptions"),
            ("metering", "metering", "Metering"),
            ("notifications", "notifications", "Notifications"),
            ("events", "events", "Events"),
            ("activity", "activity", "Activity"),
        ],
    ),
    (
        "Catalogue",
        &[
            ("products", "products", "Products"),
            ("plans", "plans", "Plans"),
            ("features", "features", "Features"),
        ],
    ),
    (
        "Set up",
        &[
            ("integration", "integration", "Integration"),
            ("listings", "listings", "Listings"),
            ("settings", "settings", "Settings"),
        ],
    ),
];

/// What the navigation has besides where there is a sandbox.
const REHEARSAL: Group = ("Rehearse", &[("sandbox", "sandbox", "Sandbox")]);

/// The frame around a page. Its links are relative to the console's root, which may be a folder of a proxy's.
#[expect(clippy::struct_excessive_bools, reason = "independent answers about the visitor")]
pub(super) struct Frame {
    /// The path of the console's root, with a slash at its end.
    pub(super) root: String,
    /// The page's own path and query, from the root on.
    pub(super) place: String,
    /// The path and query that its forms lead back to: its own, unless it is what a form has led to.
    pub(super) page: String,
    /// The form that was refused, which the page shows again.
    pub(super) mistake: Option<Mistake>,
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
    /// Set if they may change the connection to AWS.
    pub(super) administers: bool,
    /// Set if they can sign out.
    pub(super) signed_in: bool,
    /// The token of their forms.
    pub(super) form_token: String,
    /// The place in the navigation.
    pub(super) here: &'static str,
    /// Set if the daemon runs against the built-in sandbox.
    pub(super) on_sandbox: bool,
}

impl Frame {
    pub(super) fn of(visitor: &Visitor, here: &'static str) -> Self {
        Self {
            root: format!("{}/", visitor.root),
            place: visitor.place.clone(),
            page: visitor.page.clone(),
            mistake: visitor.mistake.clone(),
            style: assets::style(),
            icon: assets::icon(),
            visitor: visitor.name.to_string(),
            role: visitor.role.as_str(),
            operates: visitor.role.may(Permission::Operate),
            administers: visitor.role.may(Permission::Administer),
            signed_in: visitor.signed_in,
            form_token: visitor.form_token.to_string(),
            here,
            on_sandbox: visitor.on_sandbox,
        }
    }

    /// Returns the form of a route, as the table of actions names it: as it was sent, if it was refused.
    pub(super) fn form(&self, route: &str) -> Shown<'_> {
        Shown::of(self.mistake.as_ref(), route)
    }

    /// Returns the navigation of those who may open all of it.
    pub(super) fn navigation(&self) -> impl Iterator<Item = Group> + use<> {
        NAVIGATION.into_iter().chain(self.on_sandbox.then_some(REHEARSAL))
    }
}

/// Returns a word of the API as people write it.
pub(super) fn words(word: impl AsRef<str>) -> String {
    word.as_ref().replace('_', " ")
}

/// What a form sends. One that cannot be read is refused, with the field that is at fault.
pub(super) struct Form<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Form<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, state: &S) -> Result<Self, Fault> {
        let read = axum::Form::from_request(request, state).await;
        let axum::Form(sent) = read.map_err(|rejection| unreadable(&rejection))?;
        Ok(Self(sent))
    }
}

/// The error of a field, as axum's forms are read.
type FieldError = serde_path_to_error::Error<serde_urlencoded::de::Error>;

fn unreadable(rejection: &FormRejection) -> Problem {
    let mut cause: Option<&(dyn Error + 'static)> = Some(rejection);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<FieldError>() {
            return Problem::bad_field(&found.path().to_string(), found.inner().to_string());
        }
        cause = error.source();
    }
    Problem::bad_request(rejection.body_text())
}

/// What was just done, as the page says it that a form leads to.
pub(super) struct Told(Option<String>);

impl Told {
    pub(super) const fn of(word: Option<String>) -> Self {
        Self(word)
    }

    /// Returns the word for it; empty if nothing was done.
    pub(super) fn word(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

/// Returns what a field of a form holds; none if it is empty.
pub(super) fn some(text: &str) -> Option<String> {
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Returns what a field shows of something that may not be there.
pub(super) fn or_empty<T: std::fmt::Display>(value: Option<&T>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

/// Returns the line that a field of a form holds.
pub(super) fn line(name: &str, text: String) -> Result<Line, Problem> {
    serde_json::from_value(text.into()).map_err(|error| Problem::bad_field(name, error.to_string()))
}

/// Returns the id that a field of a form holds, if it is one that the API takes.
pub(super) fn id<K: Kind>(name: &str, text: &str) -> Result<Id<K>, Problem> {
    serde_json::from_value(text.into()).map_err(|error| Problem::bad_field(name, error.to_string()))
}

/// Reads the status of subscriptions that a filter names.
pub(super) fn status(text: &str) -> Result<Option<Status>, Problem> {
    choice("status", text, Status::ALL.map(|it| (it.as_str(), it)))
}

/// Reads the source of subscriptions that a filter names.
pub(super) fn source(text: &str) -> Result<Option<Source>, Problem> {
    choice("source", text, [Source::Aws, Source::Direct].map(|it| (it.as_str(), it)))
}

/// Reads the word of a filter; none if it is empty. A word that the filter does not know is refused with those that it does.
pub(super) fn choice<T>(
    name: &str,
    text: &str,
    known: impl IntoIterator<Item = (&'static str, T)>,
) -> Result<Option<T>, Problem> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let mut words = Vec::new();
    for (word, meant) in known {
        if word == text.trim() {
            return Ok(Some(meant));
        }
        words.push(word);
    }
    let detail = format!("“{}” is none of {}", text.trim(), words.join(", "));
    Err(Problem::bad_field(name, detail))
}

/// Refuses an id under which there is something already: a form that makes something new changes nothing else.
pub(super) fn taken(kind: &str, folder: &str, id: &str, name: &str) -> Problem {
    let detail = format!("there is a {kind} {id} already, {name}: open it, or choose another id");
    Problem::new(StatusCode::CONFLICT, "id-taken", detail)
        .with("field", json!("id"))
        .with("held_by", json!([format!("{kind} {id}"), format!("{folder}/{}", segment(id))]))
}

/// Returns the month of a time, as 2026-11.
pub(super) fn month_of(at: Timestamp) -> String {
    at.strftime("%Y-%m").to_string()
}

/// Returns a number with its thousands apart.
pub(super) fn grouped(number: impl std::fmt::Display) -> String {
    let text = number.to_string();
    let (whole, fraction) =
        text.split_once('.').map_or((&*text, ""), |(whole, _)| (whole, &text[whole.len()..]));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut parts: Vec<&str> = Vec::new();
    let mut rest = digits;
    while rest.len() > 3 {
        let (before, part) = rest.split_at(rest.len() - 3);
        parts.push(part);
        rest = before;
    }
    parts.push(rest);
    parts.reverse();
    format!("{sign}{}{fraction}", parts.join(","))
}

/// Returns a number with its thousands apart, and its noun.
pub(super) fn counted(count: impl std::fmt::Display, noun: &str) -> String {
    let count = count.to_string();
    let noun = plural(u64::from(count == "1"), noun);
    format!("{} {noun}", grouped(count))
}

/// Describes what an entitlement grants, of a feature whose usage is billed or not.
pub(super) fn terms(terms: &EntitlementTerms, is_billed: bool) -> String {
    if *terms == EntitlementTerms::default() {
        return "access".into();
    }
    let mut text = match terms.limit {
        Some(limit) if !terms.unlimited => grouped(limit),
        _ => "unlimited".into(),
    };
    if let Some(reset) = terms.reset {
        text.push_str(" a ");
        text.push_str(&reset.word());
        if terms.anchor == Anchor::Subscription {
            text.push_str(" of the subscription");
        }
    }
    for (holds, words) in [
        (terms.per_unit, ", for each unit bought"),
        (terms.soft, ", warns only"),
        (is_billed && terms.bill == Bill::All, ", all of it billed"),
        (terms.bill == Bill::Overage, ", billed beyond that"),
        (terms.bill == Bill::None, ", not billed"),
    ] {
        if holds {
            text.push_str(words);
        }
    }
    text
}

/// Returns the query of these pairs.
pub(super) fn query(pairs: &[(&str, &str)]) -> String {
    serde_urlencoded::to_string(pairs).unwrap_or_default()
}

/// Returns a page's path, and the pairs of its query without those of a name.
fn split(page: &str, without: &str) -> (String, Vec<(String, String)>) {
    let (path, asked) = page.split_once('?').unwrap_or((page, ""));
    let mut pairs: Vec<(String, String)> = serde_urlencoded::from_str(asked).unwrap_or_default();
    pairs.retain(|(name, value)| name != without && !value.is_empty());
    (path.to_owned(), pairs)
}

/// Returns a page's path and query without the pair of a name.
pub(super) fn without(page: &str, name: &str) -> String {
    let (path, pairs) = split(page, name);
    match serde_urlencoded::to_string(pairs) {
        Ok(rest) if !rest.is_empty() => format!("{path}?{rest}"),
        _ => path,
    }
}

/// Returns the query under which a list goes on from a place: what the page was asked with, whatever that is, and the place.
pub(super) fn next_page(visitor: &Visitor, name: &str, place: &str) -> String {
    let (_, mut pairs) = split(&visitor.page, name);
    pairs.push((name.to_owned(), place.to_owned()));
    serde_urlencoded::to_string(pairs).unwrap_or_default()
}

/// Returns a text as a segment of a path.
pub(super) fn segment(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Sends the visitor on to a page, whose path begins at the console's root with a slash.
pub(super) fn go(visitor: &Visitor, place: impl std::fmt::Display) -> Response {
    Redirect::to(&format!("{}{place}", visitor.root)).into_response()
}

/// Renders a page.
pub(super) fn render(template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => Html(text).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be made");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// What a page's handler answers.
pub(super) type Answer = Result<Response, Fault>;

/// Sends the visitor on to a page once something is done.
pub(super) fn go_after<T>(
    done: Result<T, Problem>,
    visitor: &Visitor,
    place: impl std::fmt::Display,
) -> Answer {
    done?;
    Ok(go(visitor, place))
}

/// A problem that a handler met with. The guard, which knows the visitor, makes the page that says so.
#[derive(Clone)]
pub(super) struct Fault(Arc<Problem>);

impl<E: Into<Problem>> From<E> for Fault {
    fn from(error: E) -> Self {
        Self(Arc::new(error.into()))
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut response = self.0.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

#[derive(Template)]
#[template(path = "trouble.html")]
struct TroublePage<'a> {
    frame: Frame,
    title: String,
    detail: String,
    /// The page that the visitor came from, if they sent a form.
    back: &'a str,
}

impl Fault {
    /// Returns what went wrong.
    pub(super) fn problem(&self) -> Arc<Problem> {
        Arc::clone(&self.0)
    }

    /// Makes the page that says what went wrong.
    pub(super) fn explain(&self, visitor: &Visitor) -> Response {
        let problem = &*self.0;
        let mut response = render(&TroublePage {
            frame: Frame::of(visitor, ""),
            title: wording::title(problem),
            detail: wording::said(problem),
            back: if visitor.sends { &visitor.page } else { "" },
        });
        *response.status_mut() = problem.status();
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        let rows = [
            ("0", "0"),
            ("999", "999"),
            ("1000", "1,000"),
            ("-1234567.5", "-1,234,567.5"),
            ("12345.678901", "12,345.678901"),
        ];
        for (number, expected) in rows {
            assert_eq!(grouped(number), expected);
        }
    }
}
