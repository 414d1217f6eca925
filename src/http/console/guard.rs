//! The guard before each page: who opens it, whether they may, whether a form is theirs, and what becomes of one that is
//! refused.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use tower::ServiceExt as _;
use uuid::Uuid;

use super::acts;
use super::mistakes::Mistake;
use super::parts::{Fault, query, without};
use super::session::Visitor;
use crate::domain::api_token::{Permission, Role};
use crate::http::{ApiState, Problem, browser};
use crate::store::{Actor, Door, acting};

/// The most bytes of a form.
const FORM_LONGEST: usize = 64 * 1_024;

/// What the guard before a group of pages knows.
#[derive(Clone)]
pub(super) struct Guard {
    pub(super) state: ApiState,
    pub(super) permission: Permission,
    /// The pages that forms are on, guarded for themselves.
    pub(super) pages: Router,
}

/// What a form sent.
struct Sent {
    /// The route that it was sent to.
    route: String,
    fields: Vec<(String, String)>,
    cookie: Option<HeaderValue>,
    host: Option<HeaderValue>,
}

impl Sent {
    fn field(&self, name: &str) -> Option<&str> {
        let field = self.fields.iter().find(|(field, _)| field == name);
        field.map(|(_, value)| value.as_str())
    }
}

/// Serves a page to those who may open it.
pub(super) async fn guard(
    State(guard): State<Guard>,
    mut request: Request,
    next: Next,
) -> Response {
    let Guard { state, permission, .. } = &guard;
    let place = request.uri().path_and_query().map_or("/", |it| it.as_str()).to_owned();
    let root = Arc::clone(&state.path_prefix);
    let Some(mut visitor) = state.sessions.visitor(&state.tokens, request.headers()) else {
        let next = page_before(request).await.unwrap_or(place);
        let sign_in = format!("{root}/sign-in?{}", query(&[("next", &next)]));
        return Redirect::to(&sign_in).into_response();
    };
    visitor.root = root;
    visitor.on_sandbox = state.aws.sandbox_url().is_some();
    let place = place.trim_start_matches('/');
    visitor.mistake = request.extensions_mut().remove::<Mistake>();
    visitor.place = visitor.mistake.as_ref().map_or(place, Mistake::place).to_owned();
    visitor.page = without(place, "done");
    if !visitor.role.may(*permission) {
        return Fault::from(forbidden(&visitor, *permission)).explain(&visitor);
    }
    let mut sent = None;
    if request.method() == Method::POST {
        let form;
        (request, form) = match form_of(request).await {
            Ok(form) => form,
            Err(problem) => return Fault::from(problem).explain(&visitor),
        };
        form.field("form_page").unwrap_or_default().clone_into(&mut visitor.page);
        visitor.sends = true;
        if !form.field("form_token").is_some_and(|token| visitor.owns(token)) {
            let detail = "the form is of another session, or has expired: go back, load the page anew, and send it again";
            let fault = Fault::from(Problem::new(StatusCode::FORBIDDEN, "foreign-form", detail));
            let again = show_again(guard.pages, &visitor, &fault, form).await;
            return again.unwrap_or_else(|| fault.explain(&visitor));
        }
        sent = Some(form);
    }
    let actor = actor(state, &visitor, *permission, &request, sent.as_ref());
    request.extensions_mut().insert(visitor.clone());
    let mut response = match actor {
        Some(actor) => acting(actor, next.run(request)).await,
        None => next.run(request).await,
    };
    let Some(fault) = response.extensions_mut().remove::<Fault>() else { return response };
    let again = match sent {
        Some(sent) => show_again(guard.pages, &visitor, &fault, sent).await,
        None => None,
    };
    again.unwrap_or_else(|| fault.explain(&visitor))
}

/// Has the page of a refused form made anew, with what was typed and what was wrong with it; none if there is no such page
/// any more.
async fn show_again(
    pages: Router,
    visitor: &Visitor,
    fault: &Fault,
    sent: Sent,
) -> Option<Response> {
    if visitor.page.is_empty() && sent.field("form_page").is_none() {
        return None;
    }
    let mut request = Request::get(format!("/{}", visitor.page)).body(Body::empty()).ok()?;
    for (name, value) in [(header::COOKIE, sent.cookie), (header::HOST, sent.host)] {
        if let Some(value) = value {
            request.headers_mut().insert(name, value);
        }
    }
    let problem = fault.problem();
    let status = problem.status();
    let mistake = Mistake::new(problem, sent.route, sent.fields, visitor.place.clone());
    request.extensions_mut().insert(mistake);
    let mut page = pages.oneshot(request).await.ok()?;
    if page.status() != StatusCode::OK {
        return None;
    }
    *page.status_mut() = status;
    Some(page)
}

fn forbidden(visitor: &Visitor, permission: Permission) -> Problem {
    let roles: Vec<&str> = permission.roles().map(Role::as_str).collect();
    let detail = format!(
        "the token {:?} has the role {}, and this needs {}",
        visitor.name,
        visitor.role,
        roles.join(" or ")
    );
    Problem::new(StatusCode::FORBIDDEN, "forbidden", detail)
}

/// Returns the page that a form was on, for whoever has to sign in anew; none of what is no form.
async fn page_before(request: Request) -> Option<String> {
    if request.method() != Method::POST {
        return None;
    }
    let (_, sent) = form_of(request).await.ok()?;
    Some(format!("/{}", sent.field("form_page")?))
}

/// Returns a form's request, and what the form sent, if it was sent from a page of this origin.
async fn form_of(request: Request) -> Result<(Request, Sent), Problem> {
    let (parts, body) = request.into_parts();
    browser::check_page(browser::Hosts::Any, &parts.uri, &parts.headers)
        .map_err(|foreign| Problem::new(foreign.status(), "cross-site", foreign.to_string()))?;
    let bytes = to_bytes(body, FORM_LONGEST)
        .await
        .map_err(|_| Problem::bad_request("the form is longer than 64 KiB, or was cut off"))?;
    let fields: Vec<(String, String)> = serde_urlencoded::from_bytes(&bytes)
        .map_err(|_| Problem::bad_request("the form cannot be read"))?;
    let route = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str).to_owned();
    let header = |name| parts.headers.get(name).cloned();
    let sent = Sent { route, fields, cookie: header(header::COOKIE), host: header(header::HOST) };
    Ok((Request::from_parts(parts, Body::from(bytes)), sent))
}

/// Returns the actor whose activity a request is, if it changes something.
fn actor(
    state: &ApiState,
    visitor: &Visitor,
    permission: Permission,
    request: &Request,
    sent: Option<&Sent>,
) -> Option<Actor> {
    if !permission.writes() {
        return None;
    }
    let route = request.extensions().get::<MatchedPath>()?.as_str();
    Some(Actor {
        request: format!("act_{}", Uuid::now_v7().simple()),
        at: state.clock.now(),
        name: visitor.name.to_string(),
        door: Door::Console,
        operation: acts::operation(route).to_owned(),
        path: acts::path_of(request.uri().path(), |name| sent?.field(name)),
    })
}
