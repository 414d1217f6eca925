//! A role trusts the one that marketd runs as, as the printed documents have it, and nobody else of its account.

use marketd::sandbox::RoleGrant;
use serde_json::{Value, json};

use super::support::world::World;

const SELLERS: &str = "arn:aws:iam::111122223333:role/marketplace";

/// A daemon that runs as a role, whose path its sessions do not tell.
async fn running_as(role: &str) -> World {
    let config = tempfile::tempdir().unwrap().keep().join("config");
    let text = format!(
        "[default]\nrole_arn = arn:aws:iam::111122223333:role/{role}\nsource_profile = own\n\
         [profile own]\naws_access_key_id = AKIAOWN\naws_secret_access_key = secret\n"
    );
    std::fs::write(&config, text).unwrap();
    let settings = [
        ("AWS_CONFIG_FILE", &*config.display().to_string().leak()),
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_SECRET_ACCESS_KEY", ""),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ];
    let world = World::with_settings(&settings).await;
    for role in ["team/daemon", "team/other"] {
        let role_arn = format!("arn:aws:iam::111122223333:role/{role}");
        world.sandbox().add_role(RoleGrant { role_arn, ..RoleGrant::default() });
    }
    world
}

/// Whom a trust policy lets in, and with which external id.
fn trusted(policy: &Value) -> (Option<Vec<String>>, Option<String>) {
    let condition = &policy["Statement"][0]["Condition"];
    let arns = serde_json::from_value(condition["ArnLike"]["aws:PrincipalArn"].clone());
    let external_id = condition["StringEquals"]["sts:ExternalId"].as_str().map(str::to_owned);
    (arns.unwrap(), external_id)
}

#[tokio::test]
async fn the_printed_trust_policy_lets_in_whom_marketd_runs_as_and_nobody_else() {
    let world = running_as("team/daemon").await;
    // It may not have been there at the first question.
    let policy = super::support::world::eventually("a trust policy", async || {
        let (code, out, complaint) = world.cli(&["integration", "trust-policy"]).await;
        (code == 0 && !complaint.contains("--principal-arn")).then_some(out)
    })
    .await;
    let (principal_arns, external_id) = trusted(&serde_json::from_str(&policy).unwrap());
    assert!(principal_arns.is_some(), "{policy}");
    let grant = RoleGrant {
        role_arn: SELLERS.into(),
        external_id: external_id.clone(),
        principal_arns,
        permissions: None,
    };
    world.sandbox().add_role(grant.clone());
    let connected = world.cli_json(&["integration", "connect", "--role-arn", SELLERS]).await;
    assert_eq!(connected["state"], "connected", "{connected}");
    world.stop().await;

    let other = running_as("team/other").await;
    other.sandbox().add_role(grant);
    let connect = json!({"role_arn": SELLERS, "external_id": external_id});
    let (status, problem) = other.try_put("/v1/integration", connect).await;
    assert_eq!(status, 422, "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("role/team/other is not authorized"), "{detail}");
    other.stop().await;
}

#[tokio::test]
async fn whom_to_trust_can_be_named_and_is_asked_for_where_aws_tells_nobody() {
    let world = World::with_nothing_imported().await;
    let (code, out, complaint) = world.cli(&["integration", "trust-policy"]).await;
    assert!(code == 0 && complaint.contains("--principal-arn"), "{complaint}");
    let of_account: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(trusted(&of_account).0, None, "nobody can be told from an account's root");
    let role = "arn:aws:iam::444455556666:role/marketd";
    for (format, wanted) in [("cloudformation", role), ("terraform", role)] {
        let named = ["integration", "template", "--format", format, "--principal-arn", role];
        let (code, text, _) = world.cli(&named).await;
        assert!(code == 0 && text.contains(wanted) && !text.contains("444455556666:*"), "{text}");
    }
    let named = ["integration", "trust-policy", "--principal-arn", role];
    let policy = world.cli_json(&named).await;
    assert_eq!(trusted(&policy).0, Some(vec![role.to_owned()]));
    assert_eq!(policy["Statement"][0]["Principal"]["AWS"], "arn:aws:iam::444455556666:root");
    let bad = [
        vec!["--principal-arn", "arn:aws:iam::444455556666:root"],
        vec!["--principal-arn", "arn:aws:iam::444455556666:role/*"],
        vec!["--principal-arn", role, "--account-id", "111122223333"],
    ];
    for arguments in bad {
        let asked = [&["integration", "trust-policy"], &arguments[..]].concat();
        let (code, out, complaint) = world.cli(&asked).await;
        assert!(code == 1 && complaint.contains("principal_arn is"), "{arguments:?}: {out}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_role_of_the_settings_keeps_the_external_id_that_was_made_and_what_was_tried() {
    let mut world = World::with_nothing_imported().await;
    let external_id = async |world: &World| {
        trusted(&world.cli_json(&["integration", "trust-policy"]).await).1.unwrap()
    };
    let made = external_id(&world).await;
    world.stop_daemon().await;
    world.set(&[("MARKETD__INTEGRATION__ROLE_ARN", "arn:aws:iam::111122223333:role/marketd")]);
    world.start_daemon().await;
    assert_eq!(external_id(&world).await, made, "it stands in a trust policy");
    let role = json!({"role_arn": "arn:aws:iam::111122223333:role/marketd"});
    let checks = world.put("/v1/integration", role).await["checks"].clone();
    assert!(checks.as_array().is_some_and(|checks| !checks.is_empty()), "{checks}");
    world.stop_daemon().await;
    world.start_daemon().await;
    let shown = world.get("/v1/integration").await;
    assert_eq!((&shown["checks"], &shown["external_id"]), (&checks, &json!(made)), "{shown}");
    world.stop().await;
}
