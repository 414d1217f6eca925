//! Where AWS sends a new buyer's browser. The buyer is looked up at once, since tokens expire, and goes on to the
//! seller's page with a reference that the seller's back end exchanges for a customer.
//!
//! The token is a credential: it goes into one call to AWS, and into no URL, log line or row.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::rejection::FormRejection;
use axum::extract::{Form, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use secrecy::SecretString;
use serde_json::json;
use uuid::Uuid;

use super::{ApiState, Problems};
use crate::aws::{Registration, RegistrationError, resolve_customer_within};
use crate::domain::reference;
use crate::store::{RegistrationRow, StoreError};

/// AWS's name of the token.
const TOKEN: &str = "x-amzn-marketplace-token";
/// A person is waiting: longer than this for a turn to ask AWS is too long.
const PATIENCE: Duration = Duration::from_secs(5);
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
        let mut posted = Self::default();
        for (name, value) in fields {
            if name.eq_ignore_ascii_case(TOKEN) {
                // A token that says nothing is none: AWS need not be asked about it.
                if !value.trim().is_empty() {
                    posted.token = Some(SecretString::from(value));
                }
            } else if posted.others.len() < FIELDS && name.len() + value.len() <= LONGEST {
                posted.others.insert(name, value);
            }
        }
        posted
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
    fields: Result<Form<Vec<(String, String)>>, FormRejection>,
) -> Response {
    // What is no form has no token in it.
    let fields = fields.map(|Form(fields)| fields).unwrap_or_default();
    match take_in(&state, fields).await {
        Ok(location) => {
            let mut response = StatusCode::SEE_OTHER.into_response();
            response.headers_mut().insert(header::LOCATION, location);
            private(response)
        }
        Err(refusal) => private((refusal.status, Html(refusal.page())).into_response()),
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

async fn take_in(state: &ApiState, fields: Vec<(String, String)>) -> Result<HeaderValue, Refusal> {
    let Some(door) = &state.door else {
        tracing::warn!("a buyer came to /aws/register, and registration.redirect_url is not set");
        let said = "The seller's sign-up is not set up yet.";
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, said));
    };
    let Posted { token, others: posted } = Posted::read(fields);
    let token = token.ok_or_else(|| {
        refused("no_token");
        Refusal::new(StatusCode::BAD_REQUEST, "AWS Marketplace sent nothing to know you by.")
    })?;
    let registration = resolve_customer_within(&state.aws.clients(), &token, PATIENCE)
        .await
        .map_err(|error| refusal(&error))?;
    let now = state.clock.now();
    known_product(state, &registration).await?;
    let id = format!("reg_{}", Uuid::now_v7().simple());
    let Registration { product_code, customer_identifier, account_id, license_arn, agreement_id } =
        registration;
    let row = RegistrationRow {
        id: id.clone(),
        product_code,
        account_id,
        customer_identifier,
        license_arn,
        agreement_id,
        posted,
        at: now,
        customer_id: None,
        exchanged_at: None,
    };
    state.store.record_registration(row).await?;
    let key = state.store.reference_key().await?;
    let expires_at = now.saturating_add(door.lifetime).unwrap_or(now);
    let mut location = door.redirect_url.clone();
    location.query_pairs_mut().append_pair("reference", &reference::seal(&key, &id, expires_at));
    HeaderValue::from_str(location.as_str()).map_err(|_| {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "The seller's page has no usable address.")
    })
}

/// A buyer of a product that was never imported is shown to the seller and told, and nothing else.
async fn known_product(state: &ApiState, registration: &Registration) -> Result<(), Refusal> {
    let code = registration.product_code.clone();
    if state.store.product_of_code(code.clone()).await?.is_some() {
        return Ok(());
    }
    refused("product_not_imported");
    let data = json!({"reason": "product_not_imported", "product_code": code});
    state.store.tell("registration.refused", data, state.clock.now()).await?;
    tracing::warn!(product.code = %code, "a buyer came from a product that is not imported");
    Err(Refusal::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "The seller does not know this product yet.",
    ))
}

fn refused(reason: &'static str) {
    metrics::counter!("marketd_registrations_refused_total", "reason" => reason).increment(1);
}

fn refusal(error: &RegistrationError) -> Refusal {
    match error {
        RegistrationError::Expired => {
            refused("expired");
            Refusal::new(StatusCode::GONE, "This sign-up link has expired.")
        }
        RegistrationError::Unknown => {
            refused("unknown");
            Refusal::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "AWS Marketplace does not know this sign-up link.",
            )
        }
        RegistrationError::Busy => {
            refused("busy");
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "Many people are signing up just now.")
        }
        RegistrationError::Aws(error) => {
            refused("aws");
            tracing::warn!(%error, "a buyer's token could not be resolved");
            Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "AWS Marketplace could not be asked who you are.",
            )
        }
    }
}
