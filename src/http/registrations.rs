//! Registration of buyers from AWS: their token, or their reference from `/aws/register`, becomes a customer.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::customers::settle;
use super::extract::{Body, Params, Path, span};
use super::paging::{Items, ListPage};
use super::token_resolver::{Refused, Via, resolve_token};
use super::{ApiState, Problem, Problems};
use crate::domain::reference::{self, ReferenceError};
use crate::domain::{
    AgreementId, BrowserClaims, Customer, CustomerId, LicenseArn, Line, Moment, ProductCode,
    ProductId, Registration, Subscription,
};
use crate::store::{Order, Page, RegistrationDetails, RegistrationRow, SubscriptionFilter};

/// The time that an answer waits for the buyer's subscriptions: a person is waiting behind it.
const WAIT: Duration = Duration::from_secs(3);

/// A token as AWS posted it to your own page, or a reference from `/aws/register`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Register {
    /// The value of `x-amzn-marketplace-token` as AWS posted it.
    #[schema(value_type = Option<String>)]
    registration_token: Option<SecretString>,
    /// The reference that the buyer's browser carried to your page. It is exchanged once: again only for the same
    /// customer.
    reference: Option<String>,
    customer_id: Option<CustomerId>,
    name: Option<Line>,
    email: Option<Line>,
}

impl Register {
    /// Makes the registration of a buyer of whom nothing is known but the token.
    pub(super) fn with_token(token: String) -> Self {
        let registration_token = Some(SecretString::from(token));
        Self { registration_token, reference: None, customer_id: None, name: None, email: None }
    }

    fn said(self) -> RegistrationDetails {
        let [name, email] = [self.name, self.email].map(|line| line.map(Line::into_string));
        RegistrationDetails { customer_id: self.customer_id, name, email }
    }
}

/// A registered customer, and what it bought.
#[derive(Serialize, ToSchema)]
pub(super) struct Registered {
    pub(super) customer: Customer,
    product_id: ProductId,
    #[serde(skip_serializing_if = "Option::is_none")]
    license_arn: Option<LicenseArn>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agreement_id: Option<AgreementId>,
    /// The fields that the buyer's browser posted beside the token, as AWS has it do. A buyer can have it post
    /// anything: whether this is a trial, say, the subscriptions tell.
    #[serde(skip_serializing_if = "BrowserClaims::is_empty")]
    claimed_by_browser: BrowserClaims,
    subscriptions: Vec<Subscription>,
}

/// Resolves a new buyer, and provisions it as a customer.
///
/// The buyer is known by the token that AWS posted to your own page, or by the `reference` from `/aws/register`, which
/// is exchanged once. An expired one is 410, an unknown one 422.
#[utoipa::path(post, path = "/v1/registrations", tag = "registrations", operation_id = "register",
    request_body = Register, responses((status = 200, body = Registered), Problems))]
pub(super) async fn register(
    State(state): State<ApiState>,
    Body(mut body): Body<Register>,
) -> Result<Json<Registered>, Problem> {
    match (body.registration_token.take(), body.reference.take()) {
        (Some(token), None) => {
            let told = resolve_token(&state, Via::Api, &token).await.map_err(problem)?;
            let customer =
                state.store.register_buyer(told.clone(), body.said(), state.clock.now()).await?;
            Ok(Json(registered(&state, customer, &told, BrowserClaims::default()).await?))
        }
        (None, Some(reference)) => Ok(Json(exchange(&state, &reference, body.said()).await?)),
        _ => Err(Problem::bad_request(
            "give registration_token, or the reference from /aws/register",
        )),
    }
}

/// Exchanges a reference. The same exchange again has the same answer; any other is refused.
async fn exchange(
    state: &ApiState,
    reference: &str,
    said: RegistrationDetails,
) -> Result<Registered, Problem> {
    let now = state.clock.now();
    let key = state.store.reference_key().await?;
    let id = reference::open(&key, reference, now).map_err(reference_problem)?;
    let forged = || reference_problem(ReferenceError::Forged);
    let row = state.store.registration(id.clone()).await?.ok_or_else(forged)?;
    let customer = state.store.exchange_registration(id, said, now).await?;
    registered(state, customer, &row.told(), row.claimed_by_browser).await
}

/// Returns the registered customer with its subscriptions, once AWS was asked for them.
async fn registered(
    state: &ApiState,
    customer: Customer,
    told: &Registration,
    claimed_by_browser: BrowserClaims,
) -> Result<Registered, Problem> {
    let product = state.store.product_of_code(told.product_code.clone()).await?;
    // It was imported when the buyer was taken in, and an import is not taken back.
    let product = product.ok_or_else(|| not_imported(&told.product_code))?;
    settle(state, &customer.id, WAIT).await?;
    let page = Page { after: None, limit: 500 };
    let filter = SubscriptionFilter {
        customer_id: Some(customer.id.clone()),
        product_id: Some(product.id.clone()),
        ..SubscriptionFilter::default()
    };
    let subscriptions = state.store.subscriptions(filter, page).await?;
    Ok(Registered {
        customer,
        product_id: product.id,
        license_arn: told.license_arn.clone(),
        agreement_id: told.agreement_id.clone(),
        claimed_by_browser,
        subscriptions,
    })
}

/// The registrations that are asked for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    /// The most registrations to return: 1 to 500, 100 if left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Option<String>,
    /// The previous page's `next_cursor`.
    cursor: Option<String>,
    /// The order by time: the newest first if left out.
    #[param(inline)]
    order: Option<Order>,
    /// Only those who came from this time on.
    #[param(value_type = Option<String>)]
    since: Option<Moment>,
    /// Only those who came before this time.
    #[param(value_type = Option<String>)]
    until: Option<Moment>,
}

/// Lists buyers whom AWS's redirect brought to `/aws/register`.
///
/// The last to come is the first, unless `order` says otherwise; kept for 30 days.
#[utoipa::path(get, path = "/v1/registrations", tag = "registrations",
    operation_id = "listRegistrations", params(List),
    responses((status = 200, body = Items<RegistrationRow>), Problems))]
pub(super) async fn list(
    State(state): State<ApiState>,
    Params(query): Params<List>,
) -> Result<Json<Items<RegistrationRow>>, Problem> {
    let order = query.order.unwrap_or_default();
    let (limit, cursor) = (query.limit.as_deref(), query.cursor.as_deref());
    let page = ListPage::in_order("registrations", order, limit, cursor)?;
    let span = span(query.since, query.until, state.clock.now());
    let rows = state.store.registrations(span, order, page.one_more()).await?;
    Ok(page.items(rows, RegistrationRow::key))
}

/// Returns a buyer whom AWS's redirect brought.
///
/// Includes what AWS told of the buyer, and the customer that you exchanged it for.
#[utoipa::path(get, path = "/v1/registrations/{id}", tag = "registrations",
    operation_id = "showRegistration", params(("id" = String, Path)),
    responses((status = 200, body = RegistrationRow), Problems))]
pub(super) async fn show(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<RegistrationRow>, Problem> {
    let found = state.store.registration(id.clone()).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("registration", &id))
}

fn reference_problem(error: ReferenceError) -> Problem {
    match error {
        ReferenceError::Forged => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "reference-unknown",
            "this reference was not made here: pass `reference` as the browser brought it",
        ),
        ReferenceError::Expired => Problem::new(
            StatusCode::GONE,
            "reference-expired",
            "the reference has expired: the buyer gets a new one with \"Set up your account\" on AWS Marketplace",
        ),
    }
}

fn problem(error: Refused) -> Problem {
    match error {
        Refused::Expired => Problem::new(
            StatusCode::GONE,
            "registration-token-expired",
            "the registration token has expired: the buyer gets a new one with \"Set up your account\" on AWS Marketplace",
        ),
        Refused::Unknown => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "registration-token-unknown",
            "AWS does not know this registration token: pass x-amzn-marketplace-token as it was posted",
        ),
        Refused::Busy => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            "too many buyers are registering at once: try again",
        ),
        Refused::NotImported(code) => not_imported(&code),
        Refused::Aws(error) => error.into(),
        Refused::Store(error) => error.into(),
    }
}

fn not_imported(code: &ProductCode) -> Problem {
    let detail = format!("the buyer comes from product code {code}, whose listing is not imported");
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "product-not-imported", detail)
}
