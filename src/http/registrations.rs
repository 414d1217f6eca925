//! Buyers who come from AWS's redirect.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::customers::settle;
use super::extract::Body;
use super::{ApiState, Problem, Problems};
use crate::aws::{Registration, RegistrationError, resolve_customer};
use crate::domain::{Customer, CustomerId, LicenseArn, ProductId, Subscription};
use crate::store::{AwsIds, Page, ProvisionCustomer, SubscriptionFilter};

/// How long the answer waits for the buyer's subscriptions: a person is waiting behind it.
const WAIT: Duration = Duration::from_secs(3);

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Register {
    /// `x-amzn-marketplace-token` as AWS posted it.
    #[schema(value_type = String)]
    registration_token: SecretString,
    customer_id: Option<String>,
    name: Option<String>,
    email: Option<String>,
}

/// Resolves the token that AWS posted with a new buyer, and provisions them.
#[utoipa::path(post, path = "/v1/registrations", tag = "registrations", operation_id = "register", request_body = Register, responses((status = 200, body = Registered), Problems))]
pub(super) async fn register(
    State(state): State<ApiState>,
    Body(body): Body<Register>,
) -> Result<Json<Registered>, Problem> {
    let registration =
        resolve_customer(&state.aws.clients(), &body.registration_token).await.map_err(problem)?;
    let product = state.store.product_of_code(registration.product_code.clone()).await?;
    let Some(product) = product else {
        let detail = format!(
            "the buyer comes from product code {}, whose listing is not imported",
            registration.product_code
        );
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "product-not-imported", detail));
    };
    let customer = provision(&state, &registration, body).await?;
    settle(&state, &customer.id, WAIT).await?;
    let page = Page { after: None, limit: 500 };
    let filter = SubscriptionFilter {
        customer_id: Some(customer.id.clone()),
        product_id: Some(product.id.clone()),
        ..SubscriptionFilter::default()
    };
    let subscriptions = state.store.subscriptions(filter, page).await?;
    let license_arn = registration.license_arn;
    Ok(Json(Registered { customer, product_id: product.id, license_arn, subscriptions }))
}

/// Who registered, and what they bought.
#[derive(Serialize, ToSchema)]
pub(super) struct Registered {
    customer: Customer,
    product_id: ProductId,
    #[serde(skip_serializing_if = "Option::is_none")]
    license_arn: Option<LicenseArn>,
    subscriptions: Vec<Subscription>,
}

/// AWS has told who the buyer is; the seller may say as which customer.
async fn provision(
    state: &ApiState,
    registration: &Registration,
    body: Register,
) -> Result<Customer, Problem> {
    let ids = AwsIds {
        account_id: registration.account_id.clone(),
        customer_identifier: registration.customer_identifier.clone(),
        license_arn: None,
    };
    let known = state.store.customer_of(ids.clone()).await?;
    let id = match (body.customer_id, known) {
        (Some(id), _) => CustomerId::new(id),
        (None, Some(known)) => known,
        (None, None) => state.store.introduce_customer(ids.clone(), state.clock.now()).await?,
    };
    let request =
        ProvisionCustomer { id, name: body.name, email: body.email, aws: ids, metadata: None };
    Ok(state.store.provision_customer(request, state.clock.now()).await?)
}

fn problem(error: RegistrationError) -> Problem {
    match error {
        RegistrationError::Expired => Problem::new(
            StatusCode::GONE,
            "registration-token-expired",
            "the registration token has expired: the buyer gets a new one with \"Set up your account\" on AWS Marketplace",
        ),
        RegistrationError::Unknown => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "registration-token-unknown",
            "AWS does not know this registration token: pass x-amzn-marketplace-token as it was posted",
        ),
        RegistrationError::Aws(error) => error.into(),
    }
}
