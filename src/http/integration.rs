//! The connection to the seller's AWS account, and the documents to paste there.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Body, Params, Path};
use super::{ApiState, Problem, Problems, findings};
use crate::aws::{
    AwsError, AwsErrorKind, CallState, Check, CredentialsTrouble, Format, Principal, Template,
    TrustedBy, caller, caller_account, iam_policy, probe_permissions, queue_arn, queue_policy,
    trust_policy,
};
use crate::domain::integration::{Identity, Role};
use crate::domain::{AccountId, is_account, is_role_arn, is_rule_arn};
use crate::health::PartHealth;
use crate::intake::sns::Refused;
use crate::store::{IntegrationRow, StoreError, for_current_actor};

/// Returns the connection to the seller's AWS account.
///
/// Includes how it was made, how each kind of call has gone since, and what is wrong.
#[utoipa::path(get, path = "/v1/integration", tag = "integration", operation_id = "showIntegration", responses((status = 200, body = IntegrationView), Problems))]
pub(super) async fn show(State(state): State<ApiState>) -> Result<Json<IntegrationView>, Problem> {
    let row = state.store.integration().await?;
    Ok(Json(view(&state, row.as_ref()).await?))
}

/// The state of the connection: the checks when it was made, and the calls since.
#[derive(Serialize, ToSchema)]
pub(super) struct IntegrationView {
    /// The state, `none` or `connected`.
    pub(super) state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role_arn: Option<String>,
    /// The external id that the role's trust policy asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) external_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seller_account_id: Option<String>,
    /// The role of the connection that was removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) former_role_arn: Option<String>,
    /// The time at which the connection was removed; nothing is called since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) removed_at: Option<Timestamp>,
    /// The checks made when it was connected.
    pub(super) checks: Vec<Check>,
    /// The time at which the last message from AWS was received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_message_at: Option<Timestamp>,
    /// The results of calls, by AWS's operation.
    #[schema(value_type = BTreeMap<String, CallState>)]
    pub(super) calls: BTreeMap<&'static str, CallState>,
    /// The health of the daemon's parts.
    #[schema(value_type = BTreeMap<String, PartHealth>)]
    pub(super) parts: BTreeMap<&'static str, PartHealth>,
    /// The SNS messages that were not trusted, whichever way they came.
    pub(super) refused_sns: Refused,
    /// The problems, each with what to do about it.
    pub(super) problems: Vec<String>,
}

async fn view(state: &ApiState, row: Option<&IntegrationRow>) -> Result<IntegrationView, Problem> {
    let connected = row.filter(|row| row.is_connected());
    let removed = row.filter(|row| row.is_removed());
    let checks: Vec<Check> = connected.map(findings::checks).unwrap_or_default();
    let findings = findings::all(state, &state.store.overview().await?).await?;
    let problems = findings.into_iter().map(|finding| finding.summary).collect();
    Ok(IntegrationView {
        state: connected.map_or_else(|| "none".into(), |row| row.state.clone()),
        role_arn: connected.and_then(|row| row.role_arn.clone()),
        external_id: row.map(|row| row.external_id.clone()),
        seller_account_id: connected.and_then(|row| row.seller_account_id.clone()),
        former_role_arn: removed.and_then(|row| row.role_arn.clone()),
        removed_at: removed.map(|row| row.updated_at),
        checks,
        last_message_at: state.store.last_received_at().await?,
        calls: state.aws.calls(),
        parts: state.health.parts(),
        refused_sns: state.sns.refused(),
        problems,
    })
}

/// The operation by which a role is assumed.
const ASSUME_ROLE: &str = "AssumeRole";

/// The state of an integration that was removed: nothing is called until it is connected again.
const REMOVED: &str = "removed";

/// The role to connect with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Connect {
    pub(super) role_arn: String,
    pub(super) external_id: Option<String>,
}

/// Connects with a role.
///
/// The role is tried first. `checks` says for each call whether the role may make it. A role that cannot be assumed
/// is refused with 422, and the former connection stays.
#[utoipa::path(put, path = "/v1/integration", tag = "integration", operation_id = "connectIntegration", request_body = Connect, responses((status = 200, body = IntegrationView), Problems))]
pub(super) async fn connect(
    State(state): State<ApiState>,
    Body(body): Body<Connect>,
) -> Result<Json<IntegrationView>, Problem> {
    if !is_role_arn(&body.role_arn) {
        return Err(Problem::field_is(
            "role_arn",
            "is an IAM role's ARN, as arn:aws:iam::111122223333:role/marketd",
        ));
    }
    let external_id = match body.external_id {
        Some(id) => id,
        None => external_id(&state).await?,
    };
    let role = Role { arn: body.role_arn.clone(), external_id: Some(external_id.clone()) };
    let clients = state.aws.try_identity(Identity::Role(role));
    let account = match caller_account(&clients).await {
        Ok(account) => account,
        Err(error) if error.is_retryable() => return Err(error.into()),
        // Our own credentials are at fault, not the role.
        Err(error)
            if matches!(
                error.kind,
                AwsErrorKind::Credentials(
                    CredentialsTrouble::Missing
                        | CredentialsTrouble::Expired
                        | CredentialsTrouble::Rejected
                )
            ) =>
        {
            return Err(error.into());
        }
        Err(error) => return Err(role_refused(&body.role_arn, error)),
    };
    let checks = probe_permissions(&clients, state.queue_url.as_deref()).await;
    if checks.iter().all(|check| !check.ok) {
        let detail = "the role can be assumed but may do nothing that is needed (`marketd integration iam-policy` lists what is)";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "role-refused", detail)
            .with("checks", json!(checks)));
    }
    let trouble = state.store.account_trouble(AccountId::new(&account)).await?;
    let row = IntegrationRow {
        role_arn: Some(body.role_arn),
        external_id,
        seller_account_id: Some(account),
        state: "connected".into(),
        checks: json!(checks).to_string(),
        updated_at: state.clock.now(),
    };
    let (keeping, kept) = (state.clone(), row.clone());
    let keep = async move {
        let now = keeping.clock.now();
        keeping.store.connect(kept, now).await?;
        let outcome = trouble.as_deref().map_or(Ok(()), Err);
        keeping.health.report("credentials", outcome, now);
        Ok::<_, StoreError>(())
    };
    state.aws.change(clients, for_current_actor(keep)).await?;
    Ok(Json(view(&state, Some(&row)).await?))
}

/// Says that a role cannot be used, and what AWS said of it.
fn role_refused(role_arn: &str, error: AwsError) -> Problem {
    // The call was to ask who the role is, and never got as far.
    let is_refused =
        matches!(error.kind, AwsErrorKind::Credentials(CredentialsTrouble::RoleRefused));
    let operation = if is_refused { ASSUME_ROLE } else { error.operation };
    let error = AwsError { operation, ..error };
    let check =
        Check { action: "sts:AssumeRole".into(), ok: false, detail: Some(error.to_string()) };
    let detail = format!("{role_arn}: {error}");
    let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "role-refused", detail)
        .with("checks", json!([check]));
    match error.kind {
        AwsErrorKind::Credentials(_) => {
            problem.with("role_arn", json!(role_arn)).with("said", json!(error.said()))
        }
        _ => problem,
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Confirm {
    /// Must be true.
    pub(super) confirm: Option<bool>,
}

/// Removes the connection.
///
/// No call goes to AWS any more. The history stays, and connecting again takes it up. Needs `confirm=true`.
#[utoipa::path(delete, path = "/v1/integration", tag = "integration", operation_id = "removeIntegration", params(Confirm), responses((status = 200, body = IntegrationView), Problems))]
pub(super) async fn remove(
    State(state): State<ApiState>,
    Params(query): Params<Confirm>,
) -> Result<Json<IntegrationView>, Problem> {
    if query.confirm != Some(true) {
        let detail =
            "this stops every call to AWS, and usage is not billed meanwhile; say ?confirm=true";
        return Err(Problem::new(StatusCode::PRECONDITION_REQUIRED, "confirm", detail));
    }
    let external_id = external_id(&state).await?;
    let held = state.store.integration().await?;
    let row = IntegrationRow {
        role_arn: held.and_then(|row| row.role_arn),
        external_id,
        seller_account_id: None,
        state: REMOVED.into(),
        checks: "[]".into(),
        updated_at: state.clock.now(),
    };
    let (store, kept) = (state.store.clone(), row.clone());
    let keep = async move { store.disconnect(kept).await };
    let clients = state.aws.try_identity(Identity::Removed);
    state.aws.change(clients, for_current_actor(keep)).await?;
    Ok(Json(view(&state, Some(&row)).await?))
}

/// Returns the external id, made on first use and kept: it is written into a trust policy elsewhere.
async fn external_id(state: &ApiState) -> Result<String, Problem> {
    let made = uuid::Uuid::new_v4().simple().to_string();
    Ok(state.store.external_id(made, state.clock.now()).await?)
}

#[derive(Deserialize, Default, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct For {
    /// The account that marketd runs in, for use where its own credentials should not be asked; whoever that account
    /// lets assume roles is trusted.
    pub(super) account_id: Option<String>,
    /// The role or user that marketd runs as, and nobody else, for use where its own credentials should not be asked.
    pub(super) principal_arn: Option<String>,
    /// The ARN of the EventBridge rule that writes to the queue; any rule of the queue's account if left out.
    pub(super) rule_arn: Option<String>,
    /// The products' codes, separated by commas; those of imported products if left out.
    pub(super) product_codes: Option<String>,
    /// The format, `cloudformation` or `terraform`; for templates only.
    pub(super) format: Option<String>,
}

/// Returns a policy to paste into AWS's console.
///
/// `trust-policy` and `iam-policy` for the role, `queue-policy` for the queue.
#[utoipa::path(get, path = "/v1/integration/{document}", tag = "integration", operation_id = "integrationDocument", params(("document" = String, Path), For), responses((status = 200, description = "The policy", body = Value), Problems))]
pub(super) async fn document(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    Params(asked): Params<For>,
) -> Result<Json<Value>, Problem> {
    let queue = state.queue_url.as_deref().and_then(queue_arn);
    match name.as_str() {
        "trust-policy" => Ok(Json(trust_policy(&trusted_by(&state, &asked).await?))),
        "iam-policy" => Ok(Json(iam_policy(queue.as_deref()))),
        "queue-policy" => {
            let queue = queue.ok_or_else(|| {
                let detail = "queue.url is not set; `marketd integration template` makes a queue with its policy";
                Problem::new(StatusCode::CONFLICT, "no-queue", detail)
            })?;
            let codes = product_codes(&state, &asked).await?;
            if codes.is_empty() {
                // Without a code it would let every seller's topics write.
                let detail = "no product is imported yet: import a listing, or name a product code (--product-code)";
                return Err(Problem::new(StatusCode::CONFLICT, "no-product", detail));
            }
            let rule = asked.rule_arn.as_deref();
            if rule.is_some_and(|arn| !is_rule_arn(arn)) {
                return Err(Problem::bad_request(
                    "rule_arn is an EventBridge rule's ARN, as arn:aws:events:us-east-1:111122223333:rule/marketd",
                ));
            }
            Ok(Json(queue_policy(&queue, &codes, rule)))
        }
        _ => Err(Problem::not_found("integration document", &name)),
    }
}

/// Returns one template with the role, the queue, the topics' subscriptions and the events.
///
/// The format is CloudFormation (YAML) or Terraform (HCL).
#[utoipa::path(get, path = "/v1/integration/template", tag = "integration", operation_id = "integrationTemplate", params(For), responses((status = 200, description = "The template", body = String, content_type = "text/plain"), Problems))]
pub(super) async fn template(
    State(state): State<ApiState>,
    Params(asked): Params<For>,
) -> Result<impl IntoResponse, Problem> {
    let word = asked.format.as_deref().unwrap_or("cloudformation");
    let format = Format::parse(word)
        .ok_or_else(|| Problem::bad_request("format is cloudformation or terraform"))?;
    let trusted = trusted_by(&state, &asked).await?;
    let template = Template { trusted, product_codes: product_codes(&state, &asked).await? };
    // Plain text: CloudFormation's own tags are no YAML that a general reader knows.
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], template.render(format)))
}

async fn trusted_by(state: &ApiState, asked: &For) -> Result<TrustedBy, Problem> {
    let account = asked.account_id.as_deref();
    if account.is_some_and(|id| !is_account(id)) {
        return Err(Problem::field_is("account_id", "is an AWS account's 12 digits"));
    }
    let (principal, account) = match (&asked.principal_arn, account) {
        (Some(arn), account) => {
            let named = Principal::of_arn(arn);
            (Some(named.filter(|it| account.is_none_or(|id| id == it.account)).ok_or_else(|| {
                Problem::bad_request("principal_arn is the ARN of a role or a user, as arn:aws:iam::111122223333:role/marketd, in the account that account_id names if it is given")
            })?), String::new())
        }
        (None, Some(account)) => (None, account.to_owned()),
        (None, None) => {
            let own = state.aws.try_identity(Identity::Environment);
            let caller = caller(&own).await.map_err(|error| {
                let detail = format!(
                    "AWS does not say who marketd runs as: name it as principal_arn (--principal-arn), or its account as account_id (--account-id): {error}"
                );
                Problem::new(StatusCode::CONFLICT, "account-unknown", detail)
                    .with("reason", json!(error.to_string()))
            })?;
            (Principal::of_arn(&caller.arn), caller.account)
        }
    };
    let external_id = external_id(state).await?;
    Ok(match principal {
        Some(principal) => TrustedBy::principal(principal, external_id),
        None => TrustedBy::account(account, external_id),
    })
}

async fn product_codes(state: &ApiState, asked: &For) -> Result<Vec<String>, Problem> {
    let Some(codes) = &asked.product_codes else {
        let imported = state.store.imported_codes().await?;
        return Ok(imported.into_iter().map(crate::domain::ProductCode::into_string).collect());
    };
    let codes: Vec<String> = codes
        .split(',')
        .map(str::trim)
        .filter(|code| !code.is_empty())
        .map(str::to_owned)
        .collect();
    // They become part of a document that somebody deploys.
    if codes.iter().any(|code| !code.bytes().all(|it| it.is_ascii_alphanumeric())) {
        return Err(Problem::bad_request(
            "product_codes are letters and digits, with commas between",
        ));
    }
    Ok(codes)
}
