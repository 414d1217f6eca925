//! Customers.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Body, Params, Path, wait};
use super::paging::{Items, ListPage};
use super::{ApiState, Problem, Problems};
use crate::domain::{
    AccountId, AwsIds, Customer, CustomerId, CustomerIdentifier, LicenseArn, Line, Metadata,
    PlanId, ProductId, Source, Status,
};
use crate::store::{CustomerFilter, CustomerSearch, ProvisionCustomer, Waiter};

/// A fallback beside wake-ups: a merge may take the buyer from the customer who waits for it.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    /// The most customers to return: 1 to 500, 100 if left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Option<String>,
    /// The previous page's `next_cursor`.
    cursor: Option<String>,
    /// Only customers of this AWS account.
    account_id: Option<String>,
    /// Only customers of this legacy buyer.
    customer_identifier: Option<String>,
    /// Only customers of this licence.
    license_arn: Option<String>,
    /// Only customers that you have provisioned (true), or that only AWS has told of (false).
    claimed: Option<bool>,
    /// Only customers of whom this is an id or its beginning, yours or AWS's, or a part of the name or mail address. What
    /// is exactly an id finds its customer alone; others come after those whose ids begin with it.
    q: Option<String>,
    /// Only customers with a subscription of this product.
    product_id: Option<String>,
    /// Only customers with a subscription to this plan.
    plan_id: Option<String>,
    /// Only customers with a subscription in this status.
    status: Option<Status>,
    /// Only customers with a subscription from this source.
    #[param(inline)]
    source: Option<Source>,
}

/// Lists customers.
///
/// Includes customers that you provisioned and buyers that only AWS has told of (`claimed` is false). A search may answer a
/// page with fewer customers than asked for, and yet a `next_cursor`.
#[utoipa::path(get, path = "/v1/customers", tag = "customers", operation_id = "listCustomers", params(List), responses((status = 200, body = Items<Customer>), Problems))]
pub(super) async fn list(
    State(state): State<ApiState>,
    Params(query): Params<List>,
) -> Result<Json<Items<Customer>>, Problem> {
    let filter = CustomerFilter {
        account_id: query.account_id.map(AccountId::new),
        customer_identifier: query.customer_identifier.map(CustomerIdentifier::new),
        license_arn: query.license_arn.map(LicenseArn::new),
        claimed: query.claimed,
    };
    let search = CustomerSearch {
        text: query.q.filter(|text| !text.trim().is_empty()),
        product_id: query.product_id.map(ProductId::new),
        plan_id: query.plan_id.map(PlanId::new),
        status: query.status,
        source: query.source,
        filter,
    };
    let (limit, cursor) = (query.limit.as_deref(), query.cursor.as_deref());
    if search.is_filter() {
        let page = ListPage::of("customers", limit, cursor)?;
        let rows = state.store.customers(search.filter, page.one_more()).await?;
        return Ok(page.items(rows, |customer| customer.id.to_string()));
    }
    let page = ListPage::of("customers found", limit, cursor)?;
    let found = state.store.search_customers(search, page.one_more()).await?;
    Ok(page.listed_by(found.looked_until, found.rows.into_iter().map(|it| (it.customer, it.key))))
}

/// Returns a customer.
///
/// An alias, which an id becomes when two customers turn out to be one, leads to the customer too.
#[utoipa::path(get, path = "/v1/customers/{id}", tag = "customers", operation_id = "showCustomer", params(("id" = String, Path)), responses((status = 200, body = Customer), Problems))]
pub(super) async fn show(
    State(state): State<ApiState>,
    Path(id): Path<CustomerId>,
) -> Result<Json<Customer>, Problem> {
    Ok(Json(known(&state, &id).await?))
}

pub(super) async fn known(state: &ApiState, id: &CustomerId) -> Result<Customer, Problem> {
    let found = state.store.customer(id.clone()).await?;
    found.ok_or_else(|| Problem::not_found("customer", id.as_str()))
}

/// Resolves the customer that a filter names: an alias leads to its customer here too, and an unknown id finds nothing.
pub(super) async fn canonical(
    state: &ApiState,
    id: Option<String>,
) -> Result<Option<CustomerId>, Problem> {
    let Some(id) = id.map(CustomerId::new) else { return Ok(None) };
    let known = state.store.customer(id.clone()).await?;
    Ok(Some(known.map_or(id, |customer| customer.id)))
}

/// AWS's ids of a customer.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Aws {
    pub(super) customer_identifier: Option<String>,
    pub(super) account_id: Option<String>,
    pub(super) license_arn: Option<String>,
}

/// A customer's details as you give them.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Provision {
    pub(super) name: Option<Line>,
    pub(super) email: Option<Line>,
    #[serde(default)]
    pub(super) aws: Aws,
    /// Your own data on the customer, at most 16 KiB; numbers beyond 2^53 are written as strings.
    pub(super) metadata: Option<Metadata>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Waiting {
    /// The time to wait for the subscriptions, as 500ms or 5s; at most 1m.
    pub(super) wait: Option<String>,
}

/// Creates or changes a customer.
///
/// What is left out stays as it is. AWS ids claim what was bought under them; `wait` waits until AWS was asked what
/// that is. Ids that begin with `aws-` are marketd's: such an id, or an alias, is taken only together with an AWS
/// id of its customer.
#[utoipa::path(put, path = "/v1/customers/{id}", tag = "customers", operation_id = "provisionCustomer", params(("id" = String, Path), Waiting), request_body = Provision, responses((status = 200, body = Customer), Problems))]
pub(super) async fn provision(
    State(state): State<ApiState>,
    Path(id): Path<CustomerId>,
    Params(query): Params<Waiting>,
    Body(body): Body<Provision>,
) -> Result<Json<Customer>, Problem> {
    let wait = wait(query.wait.as_deref())?;
    let text = |value: Option<String>| value.filter(|text| !text.trim().is_empty());
    let account_id = text(body.aws.account_id);
    if account_id
        .as_deref()
        .is_some_and(|id| id.len() != 12 || !id.bytes().all(|it| it.is_ascii_digit()))
    {
        return Err(Problem::field_is("aws.account_id", "is an AWS account's 12 digits"));
    }
    let email = body.email.map(Line::into_string);
    if email.as_deref().is_some_and(|mail| !mail.is_empty() && !is_mail(mail)) {
        return Err(Problem::field_is("email", "is a mail address, as ops@example.com"));
    }
    let request = ProvisionCustomer {
        id,
        name: body.name.map(Line::into_string),
        email,
        aws: AwsIds {
            account_id: account_id.map(AccountId::new),
            customer_identifier: text(body.aws.customer_identifier).map(CustomerIdentifier::new),
            license_arn: text(body.aws.license_arn).map(LicenseArn::new),
        },
        metadata: body.metadata.map(Metadata::into_members),
    };
    let customer = state.store.provision_customer(request, state.clock.now()).await?;
    settle(&state, &customer.id, wait).await?;
    Ok(Json(known(&state, &customer.id).await?))
}

/// Reports whether a text may be a mail address; whether somebody reads there, no rule tells.
fn is_mail(text: &str) -> bool {
    text.rsplit_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty())
}

/// The two customers that an unlinked one became.
#[derive(Serialize, ToSchema)]
pub(super) struct UnlinkedCustomer {
    /// The customer that you provisioned, without AWS ids.
    customer: Customer,
    /// The buyer, as a customer that nobody has claimed; left out if the customer had no AWS ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    buyer: Option<Customer>,
}

/// Separates a customer from the AWS buyer that was claimed for it by mistake.
///
/// The buyer's subscriptions go to a customer that nobody has claimed, and so do the usage and the metering records
/// that are billed to them. Name, mail, metadata and direct subscriptions stay. Both can be claimed and provisioned
/// anew.
#[utoipa::path(post, path = "/v1/customers/{id}/unlink", tag = "customers", operation_id = "unlinkCustomer", params(("id" = String, Path)), responses((status = 200, body = UnlinkedCustomer), Problems))]
pub(super) async fn unlink(
    State(state): State<ApiState>,
    Path(id): Path<CustomerId>,
) -> Result<Json<UnlinkedCustomer>, Problem> {
    let unlinked = state.store.unlink_customer(id, state.clock.now()).await?;
    Ok(Json(UnlinkedCustomer { customer: unlinked.customer, buyer: unlinked.buyer }))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Erase {
    /// Erases it although subscriptions live; they stay as they are.
    pub(super) force: Option<bool>,
}

/// Erases who a customer is.
///
/// Name, mail, metadata, your id and what you posted of it are gone, from history too, and so are the bodies of messages
/// that name it. What billing needs goes on under an opaque id, which is answered: subscriptions, metering records, usage,
/// and AWS's ids. While a subscription lives this is refused (409, which names them), unless `force` is true.
#[utoipa::path(delete, path = "/v1/customers/{id}", tag = "customers", operation_id = "eraseCustomer", params(("id" = String, Path), Erase), responses((status = 200, body = Customer), Problems))]
pub(super) async fn erase(
    State(state): State<ApiState>,
    Path(id): Path<CustomerId>,
    Params(query): Params<Erase>,
) -> Result<Json<Customer>, Problem> {
    let force = query.force.unwrap_or(false);
    Ok(Json(state.store.erase_customer(id, force, state.clock.now()).await?))
}

/// Waits until no query to AWS is outstanding for a customer, but not longer than asked to, nor when the daemon stops.
pub(super) async fn settle(
    state: &ApiState,
    id: &CustomerId,
    wait: Duration,
) -> Result<(), Problem> {
    let deadline = tokio::time::Instant::now() + wait;
    let mut looks = state.store.wakeups().of(Waiter::Looks);
    loop {
        // Before the question, so that a look between the two is not missed.
        looks.arm();
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        if left.is_zero() || state.store.customer_is_settled(id.clone(), state.clock.now()).await? {
            return Ok(());
        }
        tokio::select! {
            () = state.stopping.cancelled() => return Ok(()),
            _ = tokio::time::timeout(left.min(LONGEST_SLEEP), looks.woken()) => {}
        }
    }
}
