//! The guard before each page: who opens it, whether they may, and whether a form is theirs.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use uuid::Uuid;

use super::parts::{Fault, query};
use super::session::Visitor;
use crate::domain::api_token::{Permission, Role};
use crate::http::{ApiState, Problem, browser};
use crate::store::{Actor, Door, acting};

/// The most bytes of a form.
const FORM_LONGEST: usize = 64 * 1_024;

/// The field that every form carries.
#[derive(Deserialize)]
struct FormToken {
    form_token: Option<String>,
}

/// Serves a page to those who may open it.
pub(super) async fn guard(
    State((state, permission)): State<(ApiState, Permission)>,
    mut request: Request,
    next: Next,
) -> Response {
    let place = request.uri().path_and_query().map_or("/", |it| it.as_str()).to_owned();
    let root = Arc::clone(&state.path_prefix);
    let Some(mut visitor) = state.sessions.visitor(&state.tokens, request.headers()) else {
        let sign_in = format!("{root}/sign-in?{}", query(&[("next", &place)]));
        return Redirect::to(&sign_in).into_response();
    };
    visitor.root = root;
    visitor.on_sandbox = state.aws.sandbox_url().is_some();
    place.trim_start_matches('/').clone_into(&mut visitor.place);
    if !visitor.role.may(permission) {
        return Fault::from(forbidden(&visitor, permission)).explain(&visitor);
    }
    if request.method() == Method::POST {
        request = match own_form(&visitor, request).await {
            Ok(request) => request,
            Err(problem) => return Fault::from(problem).explain(&visitor),
        };
    }
    let actor = actor(&state, &visitor, permission, &request);
    request.extensions_mut().insert(visitor.clone());
    let mut response = match actor {
        Some(actor) => acting(actor, next.run(request)).await,
        None => next.run(request).await,
    };
    match response.extensions_mut().remove::<Fault>() {
        Some(fault) => fault.explain(&visitor),
        None => response,
    }
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

/// Returns a form's request if the form is this visitor's, sent from a page of this origin.
async fn own_form(visitor: &Visitor, request: Request) -> Result<Request, Problem> {
    let (parts, body) = request.into_parts();
    browser::check_page(browser::Hosts::Any, &parts.uri, &parts.headers)
        .map_err(|foreign| Problem::new(foreign.status(), "cross-site", foreign.to_string()))?;
    let bytes = to_bytes(body, FORM_LONGEST)
        .await
        .map_err(|_| Problem::bad_request("the form is longer than 64 KiB, or was cut off"))?;
    let form: FormToken = serde_urlencoded::from_bytes(&bytes)
        .map_err(|_| Problem::bad_request("the form cannot be read"))?;
    if !form.form_token.is_some_and(|token| visitor.owns(&token)) {
        let detail = "the form is of another session, or has expired: go back, load the page anew, and send it again";
        return Err(Problem::new(StatusCode::FORBIDDEN, "foreign-form", detail));
    }
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

/// Returns the actor whose activity a request is, if it changes something.
fn actor(
    state: &ApiState,
    visitor: &Visitor,
    permission: Permission,
    request: &Request,
) -> Option<Actor> {
    if !permission.writes() {
        return None;
    }
    let path = request.extensions().get::<MatchedPath>()?.as_str().to_owned();
    Some(Actor {
        request: format!("act_{}", Uuid::now_v7().simple()),
        at: state.clock.now(),
        name: visitor.name.to_string(),
        door: Door::Console,
        operation: path,
        path: request.uri().path().to_owned(),
    })
}
