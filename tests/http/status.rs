//! What waits for a person is said wherever somebody may look: `/v1/status`, `/readyz`, the integration, the metrics, the
//! events, and by the command line.

use super::support::database::on_server;
use super::support::troubled::troubled;
use super::*;

fn problem<'a>(status: &'a Value, kind: &str) -> &'a Value {
    let problems = status["problems"].as_array().unwrap();
    problems.iter().find(|it| it["kind"] == kind).unwrap_or_else(|| panic!("no {kind}: {status}"))
}

#[tokio::test]
async fn what_waits_for_a_person_is_said_everywhere() {
    let world = troubled(json!({}), "no message of AWS's").await;
    let status = world.get("/v1/status").await;
    let parked = problem(&status, "parked_usage");
    assert_eq!(parked["units"], "5", "{parked}");
    assert_eq!((&parked["count"], &parked["risk"]), (&json!(1), &json!("money")), "{parked}");
    assert_eq!(status["problems"][0]["risk"], "money", "money first: {status}");
    let quarantined = problem(&status, "quarantined_notifications");
    assert_eq!(quarantined["actions"], json!(["replay", "discard"]), "{quarantined}");
    let counts = &status["counts"];
    assert_eq!(counts["parked"][0]["reason"], "no_subscription", "{counts}");
    assert_eq!(counts["quarantined"]["count"], 1, "{counts}");
    assert_eq!(counts["customers"], 1, "{counts}");
    assert_eq!(status["usage"]["parked"], "5", "{status}");
    let engine = if on_server(&world.database()).is_some() { "postgresql" } else { "sqlite" };
    assert_eq!(status["engine"], engine);

    let integration = world.get("/v1/integration").await["problems"].to_string();
    assert!(integration.contains("are parked as no_subscription"), "{integration}");
    assert!(integration.contains("in quarantine"), "{integration}");
    let ready = eventually("readiness to tell of it", async || {
        let ready = world.get("/readyz").await;
        (ready["problems"]["parked_usage"] == 1).then_some(ready)
    })
    .await;
    assert_eq!(ready["ready"], true, "{ready}");
    let events = world.get("/v1/events?limit=500").await["items"].to_string();
    assert!(events.contains("notification.quarantined"), "{events}");

    let (code, told, _) = world.cli(&["status"]).await;
    assert_eq!(code, 0);
    assert!(told.contains("5 parked"), "{told}");
    assert!(told.contains("money: 5 units"), "{told}");
    world.stop().await;
}

#[tokio::test]
async fn a_parked_record_says_what_to_do_until_somebody_has_decided() {
    let world = troubled(json!({}), "no message of AWS's").await;
    let parked = world.list("/v1/metering/records?state=parked").await.remove(0);
    assert_eq!(parked["diagnosis"]["actions"], json!(["carry_forward", "write_off"]), "{parked}");
    let quarantined = world.list("/v1/notifications?state=quarantined").await.remove(0);
    assert!(quarantined["diagnosis"]["remedy"].is_string(), "{quarantined}");

    let id = parked["id"].as_str().unwrap();
    let decision = json!({"action": "write_off", "note": "never bought"});
    world.post(&format!("/v1/metering/records/{id}/resolve"), decision).await;
    let resolved = world.get(&format!("/v1/metering/records/{id}")).await;
    assert!(resolved["diagnosis"].is_null(), "{resolved}");
    let status = world.get("/v1/status").await;
    assert!(!status["problems"].to_string().contains("parked_usage"), "{status}");
    world.stop().await;
}

#[tokio::test]
async fn where_nothing_is_wrong_nothing_is_said() {
    let world = World::with_demo_catalog().await;
    let status = eventually("the first sweep", async || {
        let status = world.get("/v1/status").await;
        status["sweep"]["next_at"].is_string().then_some(status)
    })
    .await;
    assert_eq!(status["problems"], json!([]), "{status}");
    let (_, told, _) = world.cli(&["status"]).await;
    assert!(told.ends_with("nothing needs a person\n"), "{told}");
    world.stop().await;
}

#[tokio::test]
async fn a_message_in_quarantine_is_in_the_log_and_the_metrics() {
    let mut world = World::with_nothing_imported().await;
    world.stop_daemon().await;
    let log = world.file("log");
    world.set(&[("MARKETD__LOG__FILTER", "info")]);
    world.start_daemon_logging_to(&log).await;
    world.inject("no message of AWS's");
    eventually("the gauge", async || {
        let metrics = world.get_text("/metrics").await;
        metrics.contains(r#"marketd_problems{kind="quarantined_notifications"} 1"#).then_some(())
    })
    .await;
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.contains("a message is quarantined"), "{said}");
    let id = world.list("/v1/notifications?state=quarantined").await[0]["id"].clone();
    assert!(said.contains(id.as_str().unwrap()), "{said}");

    let discard = format!("/v1/notifications/{}/discard", id.as_str().unwrap());
    world.post(&discard, json!({"note": "a test of ours"})).await;
    eventually("the gauge to fall", async || {
        let metrics = world.get_text("/metrics").await;
        metrics.contains(r#"marketd_problems{kind="quarantined_notifications"} 0"#).then_some(())
    })
    .await;
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.contains("a quarantined message was discarded"), "{said}");

    // Whoever changes something is named there too.
    world.put("/v1/customers/acme", json!({})).await;
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.contains("provisionCustomer"), "{said}");
    world.stop().await;
}

#[tokio::test]
async fn a_discarded_message_needs_nobody_and_is_kept_with_its_note() {
    let world = troubled(json!({}), "no message of AWS's").await;
    let row = world.list("/v1/notifications?state=quarantined").await.remove(0);
    let path = format!("/v1/notifications/{}", row["id"].as_str().unwrap());
    let discard = format!("{path}/discard");
    let bad = |note: Value, word: &'static str| {
        (Method::POST, discard.as_str(), Some(json!({"note": note})), 400, "bad-request", word)
    };
    let unknown = Some(json!({"note": "x"}));
    let refusals: Vec<Refusal<'_>> = vec![
        bad(json!(" \n "), "note says why"),
        bad(json!("x".repeat(4_097)), "4096"),
        (Method::POST, &discard, None, 400, "bad-request", "note"),
        (Method::POST, "/v1/notifications/none/discard", unknown, 404, "not-found", "none"),
    ];
    check_refusals(&world, refusals).await;

    let (status, discarded) =
        world.call(Method::POST, &discard, Some(json!({"note": " a test of ours\n"}))).await;
    assert_eq!((status, &discarded["state"]), (200, &json!("discarded")), "{discarded}");
    assert_eq!(discarded["discard"]["note"], "a test of ours", "{discarded}");
    assert_eq!(discarded["discard"]["actor"], "local", "{discarded}");
    assert!(discarded["diagnosis"].is_null(), "{discarded}");
    assert_eq!(world.list("/v1/notifications?state=discarded").await.len(), 1);
    assert!(world.list("/v1/notifications?state=quarantined").await.is_empty());

    // It is no problem any more, wherever one may look.
    let status = world.get("/v1/status").await;
    assert!(!status["problems"].to_string().contains("quarantine"), "{status}");
    assert_eq!(status["counts"]["quarantined"]["count"], 0, "{status}");
    eventually("the probes to know", async || {
        let ready = world.get("/readyz").await;
        ready["problems"]["quarantined_notifications"].is_null().then_some(())
    })
    .await;
    let told = world.get("/v1/events?type=notification.discarded").await["items"].clone();
    assert_eq!(told[0]["data"]["note"], "a test of ours", "{told}");
    let acted = world.list("/v1/activity").await;
    assert_eq!(acted[0]["operation"], "discardNotification", "{acted:?}");

    // Nobody writes over the note, and a replay that finds the same fault leaves it where it is.
    let again = Some(json!({"note": "another"}));
    let refusals: Vec<Refusal<'_>> =
        vec![(Method::POST, &discard, again, 409, "not-quarantined", "discarded")];
    check_refusals(&world, refusals).await;
    let (_, replayed) = world.call(Method::POST, &format!("{path}/replay"), None).await;
    assert_eq!(replayed["state"], "discarded", "{replayed}");
    assert_eq!(replayed["discard"]["note"], "a test of ours", "{replayed}");
    let (code, _, said) = world.cli(&["notification", "replay", row["id"].as_str().unwrap()]).await;
    assert!(code == 1 && said.contains("is still discarded"), "{code} {said}");
    world.stop().await;
}

#[tokio::test]
async fn the_queue_s_depth_is_told_or_why_it_is_not_known() {
    let world = World::with_nothing_imported().await;
    let queue = async || world.get("/v1/status").await["queue"].clone();
    let known = eventually("the depth", async || {
        let queue = queue().await;
        (queue["depth"] == 0 && queue["age_seconds"] == 0).then_some(queue)
    })
    .await;
    assert!(known["asked_at"].is_string() && known["reason"].is_null(), "{known}");
    let as_role = async |name: &str, permissions: &[&str]| {
        let role_arn = format!("arn:aws:iam::111122223333:role/{name}");
        let permissions = Some(permissions.iter().map(|it| (*it).to_owned()).collect());
        let grant = RoleGrant { role_arn: role_arn.clone(), permissions, ..RoleGrant::default() };
        world.sandbox().add_role(grant);
        world.put("/v1/integration", json!({"role_arn": role_arn})).await;
    };
    // Nobody receives what comes now, so it waits.
    let asks = ["sqs:GetQueueAttributes", "aws-marketplace:GetEntitlements"];
    as_role("looks", &asks).await;
    for number in 0..3 {
        world.inject(&format!("message {number}"));
    }
    as_role("looks-again", &asks).await;
    eventually("three that wait", async || (queue().await["depth"] == 3).then_some(())).await;
    let (_, told, _) = world.cli(&["status"]).await;
    assert!(told.contains("3 waiting, 0 in flight"), "{told}");
    let metrics = world.get_text("/metrics").await;
    assert!(metrics.contains(r#"marketd_queue_messages{state="waiting"} 3"#), "{metrics}");

    // Whoever may not ask is told so, and does not ask again and again.
    as_role("blind", &["aws-marketplace:GetEntitlements"]).await;
    let denied = eventually("the reason", async || {
        let queue = queue().await;
        queue["reason"].is_string().then_some(queue)
    })
    .await;
    assert!(denied["depth"].is_null() && denied["in_flight"].is_null(), "{denied}");
    assert!(denied["reason"].as_str().unwrap().contains("GetQueueAttributes"), "{denied}");
    let parts = world.get("/v1/status").await["parts"].to_string();
    assert!(!parts.contains("GetQueueAttributes"), "{parts}");
    let asked = || {
        let calls = world.sandbox().calls().into_iter();
        let denied = calls.filter(|it| it.operation == "GetQueueAttributes" && it.outcome != "ok");
        denied.map(|it| it.count).sum::<u64>()
    };
    // The check of the role, and the watch once.
    assert!(asked() <= 3, "{}", asked());
    world.stop().await;
}
