//! The tokens of the API, and the permission that each route asks of their bearers.
//!
//! A route belongs to a group, and a group has one permission: there is no route without.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};
use std::task::{Context, Poll};

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio_util::either::Either;
use tower::{Layer, Service};
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::openapi::{self, Operations};
use super::{ApiState, Problem};
use crate::domain::api_token::{ApiToken, LOCAL, Permission, Role, find_token};
use crate::store::{Actor, Door, acting};

/// The beginning of the command line's `User-Agent`.
pub const CLI_AGENT: &str = "marketd-cli/";

/// The tokens that are good at the moment; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Tokens(Arc<RwLock<Arc<[ApiToken]>>>);

impl Tokens {
    /// Makes a set of these tokens.
    pub fn new(tokens: Vec<ApiToken>) -> Self {
        Self(Arc::new(RwLock::new(tokens.into())))
    }

    /// Takes these tokens in place of those before, for every request from now on.
    pub fn replace(&self, tokens: Vec<ApiToken>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = tokens.into();
    }

    /// Reports whether no token is set, so that whoever reaches the API may use it.
    pub fn is_empty(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Returns the number of tokens.
    pub fn len(&self) -> usize {
        self.now().len()
    }

    fn now(&self) -> Arc<[ApiToken]> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the token that this is, if it is one.
    pub(super) fn find(&self, given: &str) -> Option<ApiToken> {
        find_token(&self.now(), given).cloned()
    }

    /// Reports whether a token is still good, with the role that it had.
    pub(super) fn holds(&self, token: &ApiToken) -> bool {
        self.now().contains(token)
    }

    /// Returns who sent a request with these headers.
    pub(super) fn bearer(&self, headers: &HeaderMap) -> Result<Bearer, Refusal> {
        let known = self.now();
        if known.is_empty() {
            return Ok(Bearer { token: None, role: Role::Admin });
        }
        let given = given(headers).ok_or(Refusal::Missing)?;
        let token = find_token(&known, given).ok_or(Refusal::Wrong)?;
        Ok(Bearer { token: Some(Arc::clone(&token.name)), role: token.role })
    }
}

/// The sender of a request, by token.
#[derive(Clone, Debug)]
pub(super) struct Bearer {
    /// The token's name; none where the API has no token.
    token: Option<Arc<str>>,
    pub(super) role: Role,
}

impl Bearer {
    fn name(&self) -> &str {
        self.token.as_deref().unwrap_or(LOCAL)
    }
}

/// The reason why a request is not served.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(
        "send the token as `Authorization: Bearer …`; the command line takes it from MARKETD_TOKEN"
    )]
    Missing,
    #[error(
        "the bearer token is none of those that http.token, http.token_file and [[http.tokens]] set"
    )]
    Wrong,
    #[error("the token {:?} has the role {}, and this needs {}", .bearer.name(), .bearer.role, roles(*.needed))]
    Role { bearer: Bearer, needed: Permission },
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, kind) = match &self {
            Self::Missing | Self::Wrong => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::Role { .. } => (StatusCode::FORBIDDEN, "forbidden"),
        };
        let mut response = Problem::new(status, kind, self.to_string()).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// Names the roles that are enough for a permission.
fn roles(permission: Permission) -> String {
    permission.roles().map(Role::as_str).collect::<Vec<_>>().join(" or ")
}

fn given(headers: &HeaderMap) -> Option<&str> {
    headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
}

/// A group of routes that ask one permission.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    permission: Permission,
    /// Set if what its routes change is somebody's doing, which is noted.
    noted: bool,
}

impl Group {
    /// Makes a group whose routes ask this permission. What they change is noted.
    pub(super) const fn of(permission: Permission) -> Self {
        Self { permission, noted: permission.writes() }
    }

    /// Makes a group of routes by which an application reports what goes on, which nobody wants to see in a log of who
    /// did what.
    pub(super) const fn reports() -> Self {
        Self { permission: Permission::AppWrite, noted: false }
    }

    /// Returns these routes with this group's permission asked for, and described.
    pub(super) fn guard(
        self,
        guards: Option<Guards<'_>>,
        mut routes: OpenApiRouter<ApiState>,
    ) -> OpenApiRouter<ApiState> {
        openapi::describe_permission(routes.get_openapi_mut(), self.permission);
        match guards {
            Some((state, operations)) => {
                routes.route_layer(Guard { state: state.clone(), operations, group: self })
            }
            None => routes,
        }
    }
}

/// What guards need: the state, and the id of each operation, which is looked up when something is changed.
pub(super) type Guards<'a> = (&'a ApiState, &'static LazyLock<Operations>);

/// The layer that asks a group's permission.
#[derive(Clone)]
struct Guard {
    state: ApiState,
    operations: &'static LazyLock<Operations>,
    group: Group,
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, routes: S) -> Guarded<S> {
        Guarded { guard: self.clone(), routes }
    }
}

/// Routes behind a guard.
#[derive(Clone)]
struct Guarded<S> {
    guard: Guard,
    routes: S,
}

impl<S> Service<Request> for Guarded<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    /// What is only read costs no future more.
    type Future =
        Either<S::Future, Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.routes.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let bearer = match self.guard.admit(request.headers()) {
            Ok(bearer) => bearer,
            Err(refusal) => {
                let refusal = refusal.into_response();
                return Either::Right(Box::pin(async { Ok(refusal) }));
            }
        };
        match self.guard.actor(&bearer, &request) {
            Some(actor) => Either::Right(Box::pin(acting(actor, self.routes.call(request)))),
            None => Either::Left(self.routes.call(request)),
        }
    }
}

impl Guard {
    /// Returns who sent a request, if they may.
    fn admit(&self, headers: &HeaderMap) -> Result<Bearer, Refusal> {
        let bearer = self.state.tokens.bearer(headers)?;
        let needed = self.group.permission;
        if bearer.role.may(needed) { Ok(bearer) } else { Err(Refusal::Role { bearer, needed }) }
    }

    /// Returns the actor whose activity a request is, if it is one.
    fn actor(&self, bearer: &Bearer, request: &Request) -> Option<Actor> {
        if !self.group.noted {
            return None;
        }
        let path = request.extensions().get::<MatchedPath>()?.as_str().to_owned();
        let operation = self.operations.get(&(request.method().clone(), path.clone()));
        Some(Actor {
            request: format!("act_{}", Uuid::now_v7().simple()),
            at: self.state.clock.now(),
            name: bearer.name().to_owned(),
            door: door(request.headers()),
            operation: operation.cloned().unwrap_or(path),
            path: request.uri().path().to_owned(),
        })
    }
}

/// Returns the door by which a request came: the command line says so itself.
fn door(headers: &HeaderMap) -> Door {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    if agent.is_some_and(|agent| agent.starts_with(CLI_AGENT)) { Door::Cli } else { Door::Api }
}
