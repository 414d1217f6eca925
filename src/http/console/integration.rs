//! `/integration`: the connection to the seller's AWS account, from the first step to its removal.

use askama::Template;
use axum::Json;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse as _;
use serde::Deserialize;

use super::parts::{Answer, Form, Frame, Told, When, go_after, render, some};
use super::session::Visitor;
use super::wording;
use crate::aws::{Check, Topics};
use crate::domain::Quantity;
use crate::http::extract::{Body, Params, Path as ApiPath};
use crate::http::integration::{self as api, Confirm, Connect, For, IntegrationView};
use crate::http::{ApiState, Problem};
use crate::store::{Balance, Page};

/// The operation by which a role is assumed.
const ASSUME_ROLE: &str = "AssumeRole";
/// The error of a call that is said at the top of the page.
const SAID_ABOVE: &str = "said above";
/// The most products whose topics are shown.
const PRODUCTS: u32 = 100;

/// What is asked for.
#[derive(Clone, Default, Deserialize)]
pub(super) struct Asked {
    /// Set if the steps are to be shown although there is a connection.
    steps: Option<String>,
    /// The account that marketd runs in, where AWS does not say.
    #[serde(default)]
    account_id: String,
    done: Option<String>,
}

#[derive(Template)]
#[template(path = "integration.html")]
struct IntegrationPage {
    frame: Frame,
    told: Told,
    connection: IntegrationView,
    steps: Option<Steps>,
    calls: Vec<Call>,
    last_message: Option<When>,
    topics: Vec<(String, Topics)>,
    queue_policy: Document,
    news: News,
    role_arn: String,
    /// What the role that was just tried may not do.
    refused: Vec<Check>,
}

/// The documents that the role is made with.
struct Steps {
    account_id: String,
    trust_policy: Document,
    iam_policy: Document,
}

/// A document to copy, or the reason why there is none.
struct Document(Result<String, String>);

/// The ways by which AWS's news may come.
struct News {
    /// None where no queue is set.
    queue: Option<Queue>,
    /// The address that AWS reaches marketd at, without a slash at its end.
    address: String,
    /// Set if that is the one under which the page was opened.
    guessed: bool,
    /// Set if buyers whom AWS sends are led to a sign-up page.
    signs_up: bool,
}

/// The queue, and how reading it goes.
struct Queue {
    url: String,
    ok: bool,
    detail: Option<String>,
    read: Option<When>,
}

impl News {
    fn of(
        state: &ApiState,
        connection: &IntegrationView,
        visitor: &Visitor,
        host: Option<&str>,
    ) -> Self {
        let now = state.clock.now();
        let read = connection.calls.get("ReceiveMessage").and_then(|call| call.last_ok_at);
        let health = connection.parts.get("queue");
        let queue = state.queue_url.clone().map(|url| Queue {
            url,
            ok: health.is_none_or(|it| it.ok),
            detail: health.and_then(|it| it.detail.clone()),
            read: read.map(|at| When::of(at, now)),
        });
        let host = host.filter(|host| !is_loopback(host));
        let guessed = host.is_some();
        let host = host.unwrap_or("YOUR-PUBLIC-ADDRESS");
        Self {
            queue,
            address: format!("https://{host}{}", visitor.root),
            guessed,
            signs_up: state.seller.sign_up.is_some(),
        }
    }
}

/// Reports whether a host is this machine as itself calls it, which AWS does not reach.
fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    name == "localhost" || address.is_ok_and(|it| it.is_loopback())
}

/// How the calls of one of AWS's operations went.
struct Call {
    operation: &'static str,
    ok: bool,
    at: Option<When>,
    error: Option<String>,
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Answer {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    Ok(render(&integration(&state, &visitor, asked, host).await?))
}

async fn integration(
    state: &ApiState,
    visitor: &Visitor,
    asked: Asked,
    host: Option<&str>,
) -> Result<IntegrationPage, Problem> {
    let now = state.clock.now();
    let Json(connection) = api::show(State(state.clone())).await?;
    let tried = visitor.mistake.is_some();
    let steps = if connection.state == "connected" && asked.steps.is_none() && !tried {
        None
    } else {
        let whose = || For { account_id: some(&asked.account_id), ..For::default() };
        Some(Steps {
            trust_policy: document(state, "trust-policy", whose()).await,
            iam_policy: document(state, "iam-policy", For::default()).await,
            account_id: asked.account_id.clone(),
        })
    };
    // The policy has made the external id, which is to be seen with it.
    let connection = match (&steps, &connection.external_id) {
        (Some(_), None) => api::show(State(state.clone())).await?.0,
        _ => connection,
    };
    // What has gone wrong with the role that was just tried is said at the top.
    let is_said = |error: &str| visitor.mistake.as_ref().is_some_and(|it| it.says(error));
    let shown = connection.calls.iter().filter(|(operation, call)| {
        // What was to be called with a role that is refused was never called.
        let is_said = call.last_error.as_deref().is_some_and(is_said);
        call.last_ok_at >= call.last_error_at || !is_said || **operation == ASSUME_ROLE
    });
    let calls = shown.map(|(operation, call)| {
        let ok = call.last_ok_at >= call.last_error_at;
        let at = if ok { call.last_ok_at } else { call.last_error_at };
        let error = call.last_error.clone().filter(|_| !ok);
        let error = error.map(|it| if is_said(&it) { SAID_ABOVE.to_owned() } else { it });
        Call { operation, ok, at: at.map(|at| When::of(at, now)), error }
    });
    let products = state.store.products(Page { after: None, limit: PRODUCTS }).await?;
    Ok(IntegrationPage {
        frame: Frame::of(visitor, "integration"),
        told: Told::of(asked.done),
        calls: calls.collect(),
        last_message: connection.last_message_at.map(|at| When::of(at, now)),
        topics: products
            .into_iter()
            .map(|it| (it.title, Topics::of(it.product_code.as_str())))
            .collect(),
        queue_policy: document(state, "queue-policy", For::default()).await,
        news: News::of(state, &connection, visitor, host),
        role_arn: connection
            .role_arn
            .clone()
            .or_else(|| connection.former_role_arn.clone())
            .unwrap_or_default(),
        refused: refused(visitor),
        connection,
        steps,
    })
}

/// Returns what the role that was just tried may not do. That it cannot be assumed at all is said already.
fn refused(visitor: &Visitor) -> Vec<Check> {
    let checks: Option<Vec<Check>> = visitor.mistake.as_ref().and_then(|it| it.member("checks"));
    checks.filter(|checks| checks.len() > 1).unwrap_or_default()
}

async fn document(state: &ApiState, name: &str, whose: For) -> Document {
    let made = api::document(State(state.clone()), ApiPath(name.to_owned()), Params(whose)).await;
    Document(match made {
        Ok(Json(document)) => Ok(serde_json::to_string_pretty(&document).unwrap_or_default()),
        Err(problem) => Err(wording::said(&problem)),
    })
}

/// Returns the template in a format, as a file.
pub(super) async fn template(
    State(state): State<ApiState>,
    Path(format): Path<String>,
    Query(asked): Query<Asked>,
) -> Answer {
    let ending = if format == "terraform" { "tf" } else { "yaml" };
    let whose = For { account_id: some(&asked.account_id), format: Some(format), ..For::default() };
    let file = api::template(State(state), Params(whose)).await?;
    let name = format!("attachment; filename=\"marketd.{ending}\"");
    Ok(([(header::CONTENT_DISPOSITION, name)], file).into_response())
}

/// The role to connect with.
#[derive(Deserialize)]
pub(super) struct ConnectForm {
    role_arn: String,
}

pub(super) async fn connect(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Form(form): Form<ConnectForm>,
) -> Answer {
    let body = Connect { role_arn: form.role_arn.trim().to_owned(), external_id: None };
    go_after(api::connect(State(state), Body(body)).await, &visitor, "/integration?done=connected")
}

#[derive(Template)]
#[template(path = "integration_remove.html")]
struct RemovePage {
    frame: Frame,
    connection: IntegrationView,
    /// The units that wait to be billed, and until when AWS takes the first of those whose hour is over.
    waiting: Quantity,
    deadline: Option<When>,
}

/// Says what removing stops, and asks.
pub(super) async fn ask_remove(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
) -> Answer {
    let now = state.clock.now();
    let Json(connection) = api::show(State(state.clone())).await?;
    let waiting = Balance::total(state.store.metering_balance().await?.values()).pending;
    let deadline = state.store.nearest_deadline(now).await?.map(|at| When::of(at, now));
    let frame = Frame::of(&visitor, "integration");
    Ok(render(&RemovePage { frame, connection, waiting, deadline }))
}

pub(super) async fn remove(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
) -> Answer {
    let done = api::remove(State(state), Params(Confirm { confirm: Some(true) })).await;
    go_after(done, &visitor, "/integration?done=removed")
}
