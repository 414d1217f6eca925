//! Where AWS sends a new buyer's browser. The buyer is looked up at once, since tokens expire, and goes on to the
//! seller's page with a reference that the seller's back end exchanges for a customer.
//!
//! The token is a credential: it goes into one call to AWS, and into no URL, log line or row.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use axum::extract::rejection::FormRejection;
use axum::extract::{ConnectInfo, Extension, Form, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use secrecy::SecretString;
use uuid::Uuid;

use super::arrivals::{Refused, Via, came_without_token, resolve};
use super::problem::RETRY_AFTER;
use super::source::source_of;
use super::{ApiState, Problems};
use crate::aws::Registration;
use crate::domain::reference;
use crate::store::{RegistrationRow, StoreError};

/// AWS's name of the token.
const TOKEN: &str = "x-amzn-marketplace-token";
/// What is kept of each field that AWS posts, and of how many.
const LONGEST: usize = 1_024;
const FIELDS: usize = 20;

/// What AWS posts: the token, apart from everything else, which is kept.
#[derive(Debug, Default)]
pub struct Posted {
    /// The credential.
    pub token: Option<SecretString>,
    /// The other fields, as many and as long as are kept.
    pub others: BTreeMap<String, String>,
}

impl Posted {
    /// Tells a form's fields apart.
    pub fn read(fields: Vec<(String, String)>) -> Self {
        let (tokens, others): (Vec<_>, Vec<_>) =
            fields.into_iter().partition(|(name, _)| name.eq_ignore_ascii_case(TOKEN));
        // A token that says nothing is none: AWS need not be asked about it.
        let tokens: Vec<String> = tokens
            .into_iter()
            .map(|(_, value)| value)
            .filter(|value| !value.trim().is_empty())
            .collect();
        // A field that holds the token as well is not kept either.
        let holds_one = |text: &str| tokens.iter().any(|token| text.contains(token.as_str()));
        let others = others
            .into_iter()
            .filter(|(name, value)| {
                name.len() + value.len() <= LONGEST && !holds_one(name) && !holds_one(value)
            })
            .take(FIELDS)
            .collect();
        Self { token: tokens.into_iter().next_back().map(SecretString::from), others }
    }
}

/// Takes in a buyer whom AWS sends, and sends them on to the seller's page.
///
/// The answer is for a browser: a redirect with a reference, or a page that says what went wrong.
#[utoipa::path(post, path = "/aws/register", tag = "registrations", operation_id = "registerBrowser",
    request_body(content = BTreeMap<String, String>, content_type = "application/x-www-form-urlencoded"),
    responses((status = 303, description = "To the seller's page, with `reference` in its query"),
        (status = "4XX", body = String, content_type = "text/html"),
        (status = "5XX", body = String, content_type = "text/html"), Problems))]
pub(super) async fn register(
    State(state): State<ApiState>,
    peer: Option<Extension<ConnectInfo<SocketAddr>>>,
    headers: HeaderMap,
    fields: Result<Form<Vec<(String, String)>>, FormRejection>,
) -> Response {
    let peer = peer.map(|Extension(ConnectInfo(peer))| peer);
    let source = source_of(peer, &headers, &state.arrivals.trusted_proxies);
    let taken_in = match fields {
        Ok(Form(fields)) => take_in(&state, source, fields).await,
        Err(rejection) => {
            came_without_token(&state);
            Err(Refusal::new(rejection.status(), "This is not what AWS Marketplace sends."))
        }
    };
    match taken_in {
        Ok(location) => {
            let mut response = StatusCode::SEE_OTHER.into_response();
            response.headers_mut().insert(header::LOCATION, location);
            private(response)
        }
        Err(refusal) => {
            let mut response = (refusal.status, Html(refusal.page())).into_response();
            if refusal.status == StatusCode::SERVICE_UNAVAILABLE {
                response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
            }
            private(response)
        }
    }
}

/// Neither kept by a cache nor told to the next site.
fn private(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// What a person is told.
struct Refusal {
    status: StatusCode,
    said: &'static str,
}

const AGAIN: &str =
    "Please go back to AWS Marketplace and choose \u{201c}Set up your account\u{201d} once more.";

impl Refusal {
    const fn new(status: StatusCode, said: &'static str) -> Self {
        Self { status, said }
    }

    fn page(&self) -> String {
        let again =
            if self.status.is_client_error() { AGAIN } else { "Please try again in a minute." };
        format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Sign-up</title><p>{}</p><p>{again}</p></html>",
            self.said
        )
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "a buyer could not be taken in");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Your sign-up could not be saved.")
    }
}

async fn take_in(
    state: &ApiState,
    source: Option<IpAddr>,
    fields: Vec<(String, String)>,
) -> Result<HeaderValue, Refusal> {
    let Some(door) = &state.door else {
        tracing::warn!("a buyer came to /aws/register, and registration.redirect_url is not set");
        let said = "The seller's sign-up is not set up yet.";
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, said));
    };
    let Posted { token, others: posted } = Posted::read(fields);
    let token = token.ok_or_else(|| {
        came_without_token(state);
        Refusal::new(StatusCode::BAD_REQUEST, "AWS Marketplace sent nothing to know you by.")
    })?;
    let told = resolve(state, Via::Door(source), &token).await?;
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
        posted,
        at: now,
        customer_id: None,
        exchanged_at: None,
        named: false,
    };
    let id = state.store.record_registration(row).await?;
    let key = state.store.reference_key().await?;
    let expires_at = now.saturating_add(door.lifetime).unwrap_or(now);
    let mut location = door.redirect_url.clone();
    location.query_pairs_mut().append_pair("reference", &reference::seal(&key, &id, expires_at));
    HeaderValue::from_str(location.as_str()).map_err(|_| {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "The seller's page has no usable address.")
    })
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let (status, said) = match refused {
            Refused::Expired => (StatusCode::GONE, "This sign-up link has expired."),
            Refused::Unknown => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "AWS Marketplace does not know this sign-up link.",
            ),
            Refused::NotImported(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "The seller does not know this product yet.")
            }
            Refused::Busy => {
                (StatusCode::SERVICE_UNAVAILABLE, "Many people are signing up just now.")
            }
            Refused::Aws(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "AWS Marketplace could not be asked who you are.")
            }
            Refused::Store(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "Your sign-up could not be saved.")
            }
        };
        Self::new(status, said)
    }
}
