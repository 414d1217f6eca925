//! The connection to the seller's AWS account, and the policies to paste there.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::extract::{Body, Params, Path};
use super::{ApiState, Problem};
use crate::aws::{Check, Role, caller_account, probe_permissions};
use crate::store::IntegrationRow;

pub(super) async fn show(State(state): State<ApiState>) -> Result<Json<Value>, Problem> {
    let row = state.store.integration().await?;
    Ok(Json(view(&state, row.as_ref())))
}

fn view(state: &ApiState, row: Option<&IntegrationRow>) -> Value {
    let connected = row.filter(|row| row.role_arn.is_some());
    let mut view = match connected {
        None => json!({"state": "none"}),
        Some(row) => json!({
            "state": row.state,
            "role_arn": row.role_arn,
            "seller_account_id": row.seller_account_id,
            "checks": serde_json::from_str::<Value>(&row.checks).unwrap_or_else(|_| json!([])),
        }),
    };
    if let Some(row) = row {
        view["external_id"] = json!(row.external_id);
    }
    view["parts"] = json!(state.health.parts());
    view
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Connect {
    role_arn: String,
    external_id: Option<String>,
}

pub(super) async fn connect(
    State(state): State<ApiState>,
    Body(body): Body<Connect>,
) -> Result<Json<Value>, Problem> {
    if !body.role_arn.starts_with("arn:") || !body.role_arn.contains(":role/") {
        return Err(Problem::bad_request(
            "role_arn is an IAM role's ARN, as arn:aws:iam::111122223333:role/marketd",
        ));
    }
    let external_id = match body.external_id {
        Some(id) => id,
        None => external_id(&state).await?,
    };
    let role = Role { arn: body.role_arn.clone(), external_id: Some(external_id.clone()) };
    let clients = state.aws.try_role(Some(role)).await;
    let account = match caller_account(&clients).await {
        Ok(account) => account,
        Err(error) => {
            let check = Check {
                action: "sts:AssumeRole".into(),
                ok: false,
                detail: Some(error.to_string()),
            };
            let detail = format!(
                "{} cannot be assumed; its trust policy must name us and the external id (`marketd integration trust-policy` prints it): {error}",
                body.role_arn
            );
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "role-refused", detail)
                .with("checks", json!([check])));
        }
    };
    let checks = probe_permissions(&clients, state.queue_url.as_deref()).await;
    if checks.iter().all(|check| !check.ok) {
        let detail = "the role can be assumed but may do nothing that is needed (`marketd integration iam-policy` prints what)";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "role-refused", detail)
            .with("checks", json!(checks)));
    }
    let row = IntegrationRow {
        role_arn: Some(body.role_arn),
        external_id,
        seller_account_id: Some(account),
        state: "connected".into(),
        checks: json!(checks).to_string(),
        updated_at: state.clock.now(),
    };
    state.store.save_integration(row.clone()).await?;
    state.aws.switch(clients);
    state.store.nudges().buyers.notify_one();
    state.store.nudges().sweep.notify_one();
    Ok(Json(view(&state, Some(&row))))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Confirm {
    confirm: Option<bool>,
}

pub(super) async fn remove(
    State(state): State<ApiState>,
    Params(query): Params<Confirm>,
) -> Result<Json<Value>, Problem> {
    if query.confirm != Some(true) {
        let detail = "this stops every call by the role; say ?confirm=true";
        return Err(Problem::new(StatusCode::PRECONDITION_REQUIRED, "confirm", detail));
    }
    let row = state.store.integration().await?.map(|row| IntegrationRow {
        role_arn: None,
        state: "none".into(),
        seller_account_id: None,
        updated_at: state.clock.now(),
        ..row
    });
    if let Some(row) = &row {
        state.store.save_integration(row.clone()).await?;
    }
    let clients = state.aws.try_role(None).await;
    state.aws.switch(clients);
    Ok(Json(view(&state, row.as_ref())))
}

/// The external id, made on first use and kept: it is written into a trust policy elsewhere.
async fn external_id(state: &ApiState) -> Result<String, Problem> {
    if let Some(row) = state.store.integration().await? {
        return Ok(row.external_id);
    }
    let made = uuid::Uuid::new_v4().simple().to_string();
    let row = IntegrationRow {
        role_arn: None,
        external_id: made.clone(),
        seller_account_id: None,
        state: "none".into(),
        checks: "[]".into(),
        updated_at: state.clock.now(),
    };
    state.store.save_integration(row).await?;
    Ok(made)
}

pub(super) async fn document(
    State(state): State<ApiState>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Problem> {
    match name.as_str() {
        "trust-policy" => {
            let account = caller_account(&state.aws.try_role(None).await).await?;
            Ok(Json(trust_policy(&account, &external_id(&state).await?)))
        }
        "iam-policy" => Ok(Json(iam_policy(state.queue_url.as_deref()))),
        _ => Err(Problem::not_found("integration document", &name)),
    }
}

fn trust_policy(account: &str, external_id: &str) -> Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Principal": {"AWS": format!("arn:aws:iam::{account}:root")},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"sts:ExternalId": external_id}},
        }],
    })
}

fn iam_policy(queue_url: Option<&str>) -> Value {
    let mut statements = vec![json!({
        "Effect": "Allow",
        "Action": [
            "aws-marketplace:BatchMeterUsage",
            "aws-marketplace:DescribeAgreement",
            "aws-marketplace:DescribeEntity",
            "aws-marketplace:GetAgreementEntitlements",
            "aws-marketplace:GetEntitlements",
            "aws-marketplace:ListEntities",
            "aws-marketplace:ResolveCustomer",
            "aws-marketplace:SearchAgreements",
        ],
        "Resource": "*",
    })];
    if let Some(arn) = queue_url.and_then(queue_arn) {
        statements.push(json!({
            "Effect": "Allow",
            "Action": [
                "sqs:ChangeMessageVisibility",
                "sqs:DeleteMessage",
                "sqs:GetQueueAttributes",
                "sqs:ReceiveMessage",
            ],
            "Resource": arn,
        }));
    }
    json!({"Version": "2012-10-17", "Statement": statements})
}

/// `https://sqs.REGION.amazonaws.com/ACCOUNT/NAME` → the queue's ARN.
fn queue_arn(url: &str) -> Option<String> {
    let mut parts = url.split("://").nth(1)?.split('/');
    let region = parts.next()?.strip_prefix("sqs.").and_then(|host| host.split('.').next());
    let (account, name) = (parts.next()?, parts.next()?);
    Some(format!("arn:aws:sqs:{}:{account}:{name}", region.unwrap_or("us-east-1")))
}
