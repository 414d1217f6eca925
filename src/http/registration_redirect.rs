//! The redirect to which AWS sends a new buyer's browser. The buyer is looked up at once, since tokens expire, and goes
//! on to the seller's page with a reference that the seller's back end exchanges for a customer.
//!
//! The token is a credential: it goes into one call to AWS, and into no URL, log line or row. Whoever comes without one,
//! as AWS's own form for listings and whoever reloads the page do, is a person in front of a browser too.

use axum::body::Body;
use axum::extract::{Form, FromRequest as _, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use secrecy::SecretString;
use uuid::Uuid;

use super::client_ip::source_of;
use super::problem::RETRY_AFTER;
use super::public_request::PublicRequest;
use super::registration_pages::{NextStep, page};
use super::token_resolver::{
    Refused, Via, count_missing_redirect_url, count_missing_token, resolve_token,
};
use super::{ApiState, Problems};
use crate::domain::{BrowserClaims, Registration, reference};
use crate::store::{RegistrationRow, StoreError};

/// The form field that holds the token.
const TOKEN: &str = "x-amzn-marketplace-token";
/// The most bytes of AWS's form: some ten times what it takes.
const BODY_LIMIT: usize = 16 * 1_024;
/// The most fields of the form.
const FIELDS_MOST: usize = 50;

/// The form that AWS posts: the token, apart from everything else, which is kept.
#[derive(Debug, Default)]
pub struct Posted {
    /// The registration token, a credential.
    pub token: Option<SecretString>,
    /// The other fields, as many and as long as are kept.
    pub claims: BrowserClaims,
}

/// The reason why a form is not AWS's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPosted {
    /// The form has more fields than AWS ever posts.
    #[error("more than {FIELDS_MOST} fields")]
    ManyFields,
    /// The form has several tokens, of which nobody could say whose they are.
    #[error("several tokens")]
    SeveralTokens,
}

impl Posted {
    /// Separates the token from a form's other fields.
    pub fn read(fields: Vec<(String, String)>) -> Result<Self, NotPosted> {
        if fields.len() > FIELDS_MOST {
            return Err(NotPosted::ManyFields);
        }
        let (mut tokens, others): (Vec<_>, Vec<_>) =
            fields.into_iter().partition(|(name, _)| name.eq_ignore_ascii_case(TOKEN));
        if tokens.len() > 1 {
            return Err(NotPosted::SeveralTokens);
        }
        // A token that says nothing is none: AWS need not be asked about it.
        let token = tokens.pop().map(|(_, token)| token).filter(|token| !token.trim().is_empty());
        // A field that holds the token as well is not kept either.
        let holds_it = |text: &str| token.as_deref().is_some_and(|token| text.contains(token));
        let others = others.into_iter().filter(|(name, value)| !holds_it(name) && !holds_it(value));
        let claims = others.collect();
        Ok(Self { token: token.map(SecretString::from), claims })
    }
}

/// Registers a buyer whom AWS sends, and redirects to the seller's page.
///
/// The answer is for a browser: a redirect with a reference, or a page that says what went wrong.
#[utoipa::path(post, path = "/aws/register", tag = "registrations", operation_id = "registerBrowser",
    request_body(content = BTreeMap<String, String>, content_type = "application/x-www-form-urlencoded"),
    responses((status = 303, description = "To the seller's page, with `reference` in its query"),
        (status = "4XX", description = "A page for the buyer that says what went wrong", body = String, content_type = "text/html"),
        (status = "5XX", description = "A page for the buyer that says what went wrong", body = String, content_type = "text/html"), Problems))]
pub(super) async fn register(
    State(state): State<ApiState>,
    incoming: PublicRequest,
    request: Request,
) -> Response {
    match register_buyer(&state, &incoming, request).await {
        Ok(location) => {
            let mut response = StatusCode::SEE_OTHER.into_response();
            response.headers_mut().insert(header::LOCATION, location);
            without_traces(response)
        }
        Err(refusal) => answer(&state, &refusal),
    }
}

/// Answers a browser that AWS did not send with where to go: a person who reloads the page or follows a link to it, and
/// AWS's form for listings, which tries the address.
pub(super) async fn show(State(state): State<ApiState>) -> Response {
    answer(
        &state,
        &Refusal::new(StatusCode::OK, "This is where buyers from AWS Marketplace sign up."),
    )
}

/// Answers other methods than browsers use, with where to go too.
pub(super) async fn no_such_method(State(state): State<ApiState>) -> Response {
    let message = "This is not what AWS Marketplace sends.";
    answer(&state, &Refusal::new(StatusCode::METHOD_NOT_ALLOWED, message))
}

fn answer(state: &ApiState, refusal: &Refusal) -> Response {
    let next =
        if refusal.status.is_server_error() { NextStep::TryAgain } else { NextStep::ReturnToAws };
    let mut response = (refusal.status, page(&state.seller, refusal.message, next)).into_response();
    if refusal.status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
    }
    without_traces(response)
}

/// Keeps a response out of caches, and its address from the next site.
fn without_traces(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// A refusal, as the buyer's page shows it.
struct Refusal {
    status: StatusCode,
    message: &'static str,
}

impl Refusal {
    const fn new(status: StatusCode, message: &'static str) -> Self {
        Self { status, message }
    }

    const fn busy() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Many people are signing up just now.")
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "a buyer could not be taken in");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Your sign-up could not be saved.")
    }
}

/// Reads the form that the browser posted, whole before anything is done for it.
async fn read(
    state: &ApiState,
    incoming: &PublicRequest,
    request: Request,
) -> Result<Posted, Refusal> {
    const FOREIGN: &str = "This is not what AWS Marketplace sends.";
    let (head, body) = request.into_parts();
    let body = incoming.read(&head.headers, body, BODY_LIMIT).await.map_err(|error| {
        let status = error.status();
        if status.is_server_error() { Refusal::busy() } else { Refusal::new(status, FOREIGN) }
    })?;
    let request = Request::from_parts(head, Body::from(body));
    let form = Form::<Vec<(String, String)>>::from_request(request, state).await;
    let posted = form
        .map_err(|rejection| rejection.status())
        .and_then(|Form(fields)| Posted::read(fields).map_err(|_| StatusCode::BAD_REQUEST));
    posted.map_err(|status| {
        count_missing_token(state);
        Refusal::new(status, FOREIGN)
    })
}

async fn register_buyer(
    state: &ApiState,
    incoming: &PublicRequest,
    request: Request,
) -> Result<HeaderValue, Refusal> {
    let source = source_of(incoming.peer, request.headers(), &state.arrivals.trusted_proxies);
    let Posted { token, claims } = read(state, incoming, request).await?;
    let Some(redirect) = &state.registration_redirect else {
        count_missing_redirect_url(state);
        let message = "The seller's sign-up is not set up yet.";
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message));
    };
    let token = token.ok_or_else(|| {
        count_missing_token(state);
        Refusal::new(StatusCode::BAD_REQUEST, "AWS Marketplace sent nothing to know you by.")
    })?;
    let _permit = incoming.acquire_permit().await.map_err(|_refused| Refusal::busy())?;
    let told = resolve_token(state, Via::Redirect(source), &token).await?;
    let now = state.clock.now();
    let Registration { product_code, customer_identifier, account_id, license_arn, agreement_id } =
        told;
    let row = RegistrationRow {
        id: format!("reg_{}", Uuid::now_v7().simple()),
        product_code,
        account_id,
        customer_identifier,
        license_arn,
        agreement_id,
        claimed_by_browser: claims,
        at: now,
        customer_id: None,
        exchanged_at: None,
        named: false,
    };
    let id = state.store.record_registration(row).await?;
    let key = state.store.reference_key().await?;
    let expires_at = now.saturating_add(redirect.lifetime).unwrap_or(now);
    let mut location = redirect.redirect_url.clone();
    location.query_pairs_mut().append_pair("reference", &reference::seal(&key, &id, expires_at));
    HeaderValue::from_str(location.as_str()).map_err(|_| {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "The seller's page has no usable address.")
    })
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let (status, message) = match refused {
            Refused::Expired => (StatusCode::GONE, "This sign-up link has expired."),
            Refused::Unknown => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "AWS Marketplace does not know this sign-up link.",
            ),
            Refused::NotImported(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "The seller does not know this product yet.")
            }
            Refused::Busy => return Self::busy(),
            Refused::Aws(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "AWS Marketplace could not be asked who you are.")
            }
            Refused::Store(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "Your sign-up could not be saved.")
            }
        };
        Self::new(status, message)
    }
}
