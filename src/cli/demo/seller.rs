//! The seller's side of the demo: connects, gives plans their features, sells on a site of its own, and checks
//! customers' entitlements.

use serde_json::{Value, json};

use super::stage::Stage;
use crate::cli::output::say;
use crate::sandbox::RoleGrant;

const ROLE: &str = "arn:aws:iam::111122223333:role/marketd-demo";

/// Creates the role of the printed policies, and connects with it.
pub(super) async fn connect(stage: &Stage) -> anyhow::Result<()> {
    let trust = stage.get("/v1/integration/trust-policy").await?;
    let id = trust.pointer("/Statement/0/Condition/StringEquals/sts:ExternalId");
    let external_id = id.and_then(Value::as_str).map(str::to_owned);
    stage.tell("seller", "pastes the trust policy and the permissions into IAM, and connects")?;
    stage.sandbox().add_role(RoleGrant {
        role_arn: ROLE.into(),
        external_id,
        ..RoleGrant::default()
    });
    let connected = stage.put("/v1/integration", json!({"role_arn": ROLE})).await?;
    let checks = connected["checks"].as_array().map_or(0, Vec::len);
    stage.tell("marketd", &format!("has tried all {checks} permissions that it needs"))
}

/// Publishes the plans' entitlements: single sign-on from pro on, and jobs on the seller's own site.
pub(super) async fn publish(stage: &Stage) -> anyhow::Result<()> {
    stage.tell("seller", "gives the plans their features, and publishes them")?;
    let granted =
        |entitlements: Value| json!({"status": "published", "entitlements": entitlements});
    let mut plans = json!({
        "insight-basic": granted(json!({})),
        "insight-pro": granted(json!({"sso": {}})),
        "insight-enterprise": granted(json!({"sso": {}})),
        "starter": granted(json!({"jobs": {"limit": 10, "reset": "month"}})),
    });
    for (id, plan) in plans.as_object_mut().into_iter().flatten() {
        plan["name"] = json!(id);
    }
    let features = json!({
        "sso": {"name": "Single sign-on", "type": "boolean"},
        "jobs": {"name": "Jobs", "type": "metered"},
    });
    let file = json!({"features": features, "plans": plans});
    let applied = stage.post("/v1/catalogue", file).await?;
    let changes = applied["changes"].as_array().map_or(0, Vec::len);
    stage.tell("marketd", &format!("made {changes} changes, as the reviewed file says"))?;
    say("")
}

/// Checks an entitlement as the application does, and tells the answer.
pub(super) async fn ask(stage: &Stage, customer: &str, feature: &str) -> anyhow::Result<()> {
    let path = format!("/v1/customers/{customer}/entitlements/{feature}");
    let answer = stage.get(&path).await?;
    let word = if answer["has_access"] == true { "yes" } else { "no" };
    let reason = answer["reason"].as_str().unwrap_or_default();
    let question = format!("the application asks: may {customer} use {feature}? {word}: {reason}");
    stage.tell("app", &question)
}

/// Sells to a customer who never went to AWS.
pub(super) async fn sell_directly(stage: &mut Stage) -> anyhow::Result<()> {
    stage.call("wonka", "Wonka");
    stage.tell("buyer", "Wonka buys the plan starter on the seller's own site")?;
    stage.put("/v1/customers/wonka", json!({"name": "Wonka"})).await?;
    let sold = json!({"customer_id": "wonka", "plan_id": "starter"});
    stage.put("/v1/subscriptions/wonka-1", sold).await?;
    stage.settle().await?;
    ask(stage, "wonka", "jobs").await?;
    let used =
        json!({"id": "jobs-1", "customer_id": "wonka", "feature_id": "jobs", "quantity": 10});
    stage.report(&[used]).await?;
    stage.tell("app", "reports ten jobs of Wonka's: counted, and no business of AWS's")?;
    ask(stage, "wonka", "jobs").await?;
    say("")
}
