//! The identity with which AWS is called, and its permissions.

use std::sync::PoisonError;

use aws_sdk_marketplacecatalog::operation::describe_entity::builders::DescribeEntityFluentBuilder;
use aws_sdk_marketplacecatalog::operation::list_entities::builders::ListEntitiesFluentBuilder;
use aws_sdk_marketplacemetering::operation::resolve_customer::ResolveCustomerError;
use aws_sdk_marketplacemetering::operation::resolve_customer::builders::ResolveCustomerFluentBuilder;
use aws_sdk_sts::operation::get_caller_identity::{
    GetCallerIdentityError, GetCallerIdentityOutput,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::agreement::{
    GET_AGREEMENT_ENTITLEMENTS, SEARCH_AGREEMENTS, probe_agreement_licenses, probe_search,
};
use super::call_states::trying;
use super::catalog::{DESCRIBE_ENTITY, LIST_ENTITIES};
use super::connection::ActsIn;
use super::entitlement::{EntitlementFilter, GET_ENTITLEMENTS, get_entitlements};
use super::registration::RESOLVE_CUSTOMER;
use super::{AwsClients, AwsError, AwsErrorKind, CredentialsTrouble, Place};
use crate::domain::{AccountId, ProductCode};

/// The result of trying one action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Check {
    /// The IAM action.
    pub action: String,
    /// Set if it may be used.
    pub ok: bool,
    /// AWS's words otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

pub(super) const GET_CALLER_IDENTITY: &str = "GetCallerIdentity";

/// The user or the role's session that AWS takes a caller for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The account.
    pub account: String,
    /// The ARN of the user or of the role's session.
    pub arn: String,
}

/// Asks AWS anew who these clients are.
pub async fn caller(clients: &AwsClients) -> Result<Caller, AwsError> {
    let send = || clients.sts.get_caller_identity().send();
    let told = clients.call(Place::Apart, GET_CALLER_IDENTITY, send).await;
    remember(clients, told)
}

/// Asks AWS which account these clients act in.
pub async fn caller_account(clients: &AwsClients) -> Result<String, AwsError> {
    caller(clients).await.map(|caller| caller.account)
}

/// Reads the caller from an answer that was asked for with whatever the clients hold.
pub(super) fn caller_of(
    clients: &AwsClients,
    answer: Result<GetCallerIdentityOutput, SdkError<GetCallerIdentityError, HttpResponse>>,
) -> Result<Caller, AwsError> {
    remember(clients, clients.noted(None, GET_CALLER_IDENTITY, answer))
}

fn remember(
    clients: &AwsClients,
    told: Result<GetCallerIdentityOutput, AwsError>,
) -> Result<Caller, AwsError> {
    let account = told.as_ref().ok().and_then(|identity| identity.account.clone());
    let acts_in = account.map_or(ActsIn::Untold, |account| ActsIn::Known(AccountId::new(account)));
    *clients.caller.lock().unwrap_or_else(PoisonError::into_inner) = acts_in;
    let told = told?;
    Ok(Caller { account: told.account.unwrap_or_default(), arn: told.arn.unwrap_or_default() })
}

/// Sees that these clients act in the account that sells a product, where the catalog has told which. To another
/// account AWS may answer as if nobody had bought anything, and refuse usage as if it were wrong.
pub async fn check_seller(
    clients: &AwsClients,
    seller: Option<&AccountId>,
) -> Result<(), AwsError> {
    let Some(seller) = seller else { return Ok(()) };
    let known = || clients.caller.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if matches!(known(), ActsIn::Unasked) {
        // Where AWS cannot tell, as where only some of its addresses can be reached, the call itself has to.
        caller_account(clients).await.ok();
    }
    match known() {
        ActsIn::Known(account) if account != *seller => {
            let trouble = CredentialsTrouble::OtherAccount;
            Err(AwsError {
                operation: GET_CALLER_IDENTITY,
                kind: AwsErrorKind::Credentials(trouble),
                code: None,
                message: format!("{} (ours is {account}, the seller's {seller})", trouble.advice()),
            })
        }
        _ => Ok(()),
    }
}

/// Tries each action that the daemon needs with input that can do nothing. An action is missing when AWS says
/// so; any other refusal proves that it got through.
pub async fn probe_permissions(clients: &AwsClients, queue_url: Option<&str>) -> Vec<Check> {
    trying(Box::pin(probe_each(clients, queue_url))).await
}

async fn probe_each(clients: &AwsClients, queue_url: Option<&str>) -> Vec<Check> {
    let listed = probe_catalog(clients).await;
    let described = check_entity(clients, listed.as_ref().ok().and_then(Option::as_deref)).await;
    let mut checks = vec![
        check("aws-marketplace:GetEntitlements", probe_entitlements(clients).await),
        check("aws-marketplace:BatchMeterUsage", probe_metering(clients).await),
        check("aws-marketplace:ResolveCustomer", probe_registration(clients).await),
        check("aws-marketplace:ListEntities", listed.map(drop)),
        described,
        check("aws-marketplace:SearchAgreements", probe_search(clients).await),
        check("aws-marketplace:GetAgreementEntitlements", probe_agreement_licenses(clients).await),
    ];
    if let Some(queue_url) = queue_url {
        let outcomes = [
            ("sqs:GetQueueAttributes", probe_queue(clients, queue_url).await),
            ("sqs:ReceiveMessage", probe_receive(clients, queue_url).await),
            ("sqs:DeleteMessage", probe_delete(clients, queue_url).await),
            ("sqs:ChangeMessageVisibility", probe_change(clients, queue_url).await),
        ];
        // A queue that is not there says nothing of permissions.
        let gone = |error: &AwsError| {
            error.code().contains("QueueDoesNotExist") || error.code().contains("NonExistentQueue")
        };
        for (action, outcome) in outcomes {
            checks.push(match outcome {
                Err(error) if gone(&error) => Check {
                    action: action.to_owned(),
                    ok: false,
                    detail: Some(format!("{UNTRIED}: there is no queue {queue_url}")),
                },
                outcome => check(action, outcome),
            });
        }
    }
    checks
}

fn check(action: &str, outcome: Result<(), AwsError>) -> Check {
    let error = outcome.err().filter(|error| error.kind != AwsErrorKind::Refused);
    let detail = error.map(|error| match error.kind {
        AwsErrorKind::AccessDenied => error.message,
        // Not a word on the permission itself.
        _ => format!("{UNTRIED}: {}", error.message),
    });
    Check { action: action.to_owned(), ok: detail.is_none(), detail }
}

/// Asks an operation that is not called unless somebody wants something whether it takes us again, by a call that can do
/// nothing. What comes of it is noted where it matters; pollers and metering ask by themselves.
pub async fn ask_operation(clients: &AwsClients, operation: &str) {
    trying(Box::pin(ask_by_trial(clients, operation))).await;
}

async fn ask_by_trial(clients: &AwsClients, operation: &str) {
    let asked = match operation {
        GET_ENTITLEMENTS => {
            let none = ProductCode::new(NO_PRODUCT);
            get_entitlements(clients, &none, EntitlementFilter::Everything).await.map(drop)
        }
        SEARCH_AGREEMENTS => probe_search(clients).await,
        GET_AGREEMENT_ENTITLEMENTS => probe_agreement_licenses(clients).await,
        LIST_ENTITIES => {
            let call = first_listing(clients);
            let send = || call.clone().send();
            clients.call(Place::Apart, LIST_ENTITIES, send).await.map(drop)
        }
        DESCRIBE_ENTITY => {
            let call = entity(clients, NO_ENTITY);
            let send = || call.clone().send();
            clients.call(Place::Apart, DESCRIBE_ENTITY, send).await.map(drop)
        }
        RESOLVE_CUSTOMER => {
            let call = registration(clients);
            let send = || call.clone().send();
            clients.call(Place::Apart, RESOLVE_CUSTOMER, send).await.map(drop)
        }
        _ => return,
    };
    if let Err(error) = asked {
        tracing::debug!(%error, "an operation that refused us was asked again");
    }
}

/// The beginning of the detail of a check that could not be made.
pub const UNTRIED: &str = "it could not be tried";

/// A product code of the right shape that no product has.
const NO_PRODUCT: &str = "0000000000000000000000000";
/// A listing that nobody has.
const NO_ENTITY: &str = "prod-none";

async fn probe_entitlements(clients: &AwsClients) -> Result<(), AwsError> {
    let call = clients.entitlement.get_entitlements().product_code(NO_PRODUCT).max_results(1);
    call.send().await.map(drop).map_err(|error| AwsError::of("GetEntitlements", error))
}

async fn probe_metering(clients: &AwsClients) -> Result<(), AwsError> {
    let call = clients
        .metering
        .batch_meter_usage()
        .product_code(NO_PRODUCT)
        .set_usage_records(Some(Vec::new()));
    call.send().await.map(drop).map_err(|error| AwsError::of("BatchMeterUsage", error))
}

fn registration(clients: &AwsClients) -> ResolveCustomerFluentBuilder {
    clients.metering.resolve_customer().registration_token("probe")
}

async fn probe_registration(clients: &AwsClients) -> Result<(), AwsError> {
    let outcome = registration(clients).send().await;
    match outcome {
        Ok(_) => Ok(()),
        Err(error)
            if matches!(
                error.as_service_error(),
                Some(
                    ResolveCustomerError::ExpiredTokenException(_)
                        | ResolveCustomerError::InvalidTokenException(_)
                )
            ) =>
        {
            Ok(())
        }
        Err(error) => Err(AwsError::of(RESOLVE_CUSTOMER, error)),
    }
}

fn first_listing(clients: &AwsClients) -> ListEntitiesFluentBuilder {
    let call = clients.catalog.list_entities().catalog("AWSMarketplace").entity_type("SaaSProduct");
    call.max_results(1)
}

/// Asks for the first listing, if there is one.
async fn probe_catalog(clients: &AwsClients) -> Result<Option<String>, AwsError> {
    let page = first_listing(clients).send().await;
    let page = page.map_err(|error| AwsError::of(LIST_ENTITIES, error))?;
    Ok(page.entity_summary_list.unwrap_or_default().into_iter().find_map(|it| it.entity_id))
}

/// Describes a listing. The permission is for SaaS products, and of one that nobody has AWS may know no more than that it
/// is none: that it is denied says nothing.
async fn check_entity(clients: &AwsClients, listing: Option<&str>) -> Check {
    let outcome = entity(clients, listing.unwrap_or(NO_ENTITY)).send().await.map(drop);
    let outcome = outcome.map_err(|error| AwsError::of(DESCRIBE_ENTITY, error));
    let outcome = outcome.map_err(|error| match (listing, error.kind) {
        (None, AwsErrorKind::AccessDenied) => AwsError {
            kind: AwsErrorKind::Unanswered,
            message: format!("no listing is seen that could be described ({})", error.message),
            ..error
        },
        _ => error,
    });
    check("aws-marketplace:DescribeEntity", outcome)
}

fn entity(clients: &AwsClients, entity_id: &str) -> DescribeEntityFluentBuilder {
    clients.catalog.describe_entity().catalog("AWSMarketplace").entity_id(entity_id)
}

/// Tries to receive messages, which are visible again at once.
async fn probe_receive(clients: &AwsClients, queue_url: &str) -> Result<(), AwsError> {
    let call = clients.sqs.receive_message().queue_url(queue_url).visibility_timeout(0);
    let call = call.wait_time_seconds(0).max_number_of_messages(1);
    call.send().await.map(drop).map_err(|error| AwsError::of("ReceiveMessage", error))
}

async fn probe_delete(clients: &AwsClients, queue_url: &str) -> Result<(), AwsError> {
    let call = clients.sqs.delete_message().queue_url(queue_url).receipt_handle("none");
    call.send().await.map(drop).map_err(|error| AwsError::of("DeleteMessage", error))
}

async fn probe_change(clients: &AwsClients, queue_url: &str) -> Result<(), AwsError> {
    let call = clients.sqs.change_message_visibility().queue_url(queue_url).receipt_handle("none");
    call.visibility_timeout(0)
        .send()
        .await
        .map(drop)
        .map_err(|error| AwsError::of("ChangeMessageVisibility", error))
}

async fn probe_queue(clients: &AwsClients, queue_url: &str) -> Result<(), AwsError> {
    let call = clients.sqs.get_queue_attributes().queue_url(queue_url);
    call.send().await.map(drop).map_err(|error| AwsError::of("GetQueueAttributes", error))
}
