//! What the queue holds, where it is asked for that it be verified.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use marketd::aws::{Connection, ConnectionOptions};
use marketd::domain::integration::Identity;
use marketd::health::Health;
use marketd::intake::sns::SnsError;
use marketd::intake::{Intake, Pace, QueueGauge};
use marketd::sandbox::{Sandbox, SandboxOptions};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::scene::{HOST, NOW, Scene, TOPIC, fixture, notification, scene, sign};
use crate::support::world::{World, eventually};

/// An intake that verifies, and the queue that it reads.
async fn intake(scene: &Scene) -> (Intake, Sandbox) {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let sandbox = Sandbox::start(SandboxOptions { listen, seed: 7 }).await.unwrap();
    let options = ConnectionOptions {
        metering_region: "us-east-1".into(),
        queue_url: Some(sandbox.queue_url()),
        reconcile_rate: 100,
        metering_rate: 100,
        registration_rate: 100,
        clock: scene.clock.clone(),
        sandbox_url: Some(sandbox.url()),
    };
    let intake = Intake {
        store: scene.store.clone(),
        aws: Connection::open(options, Identity::Environment).await,
        clock: scene.clock.clone(),
        health: Health::default(),
        queue_url: sandbox.queue_url(),
        gauge: QueueGauge::default(),
        pace: Pace::new(1, 1),
        wait: Duration::from_secs(1),
        visibility_timeout: Duration::from_secs(1),
        verify: Some(scene.endpoint.clone()),
    };
    (intake, sandbox)
}

/// A signed message whose certificate lies elsewhere than the others'.
fn with_certificate(number: usize) -> Value {
    let mut message = notification(TOPIC, NOW);
    message["MessageId"] = json!(format!("message-{number}"));
    message["SigningCertURL"] = json!(format!("{HOST}/SimpleNotificationService-{number}.pem"));
    sign(message)
}

#[tokio::test]
async fn only_aws_marketplace_s_topics_are_believed_imported_or_not() {
    let scene = scene().await;
    let (intake, sandbox) = intake(&scene).await;
    let owner = "arn:aws:sns:us-east-1:287250355862";
    let foreign = [
        TOPIC.replace("287250355862", "123456789012"),
        format!("{owner}:aws-mp-other-notification-code1"),
        format!("{owner}:aws-mp-subscription-notification-"),
        format!("{owner}:aws-mp-subscription-notification-code1-x"),
        format!("{owner}:topic"),
    ];
    for topic in &foreign {
        sandbox.inject(sign(notification(topic, NOW)).to_string());
    }
    for topic in [TOPIC.to_owned(), format!("{owner}:aws-mp-entitlement-notification-code2")] {
        let mut message = notification(&topic, NOW);
        let code = topic.rsplit('-').next().unwrap();
        message["Message"] = json!(
            json!({"action": "entitlement-updated", "customer-identifier": "X", "product-code": code}).to_string()
        );
        sandbox.inject(sign(message).to_string());
    }
    let drained = intake.drain().await.unwrap();
    assert_eq!((drained.recorded.quarantined, drained.recorded.new), (foreign.len(), 2));
    assert_eq!(scene.endpoint.refused().count, foreign.len() as u64);
    let rows = scene.notifications().await;
    let waits = rows.iter().find(|row| row.product_code.as_deref() == Some("code2")).unwrap();
    assert_eq!((&*waits.state, waits.reason.as_deref()), ("pending", Some("product_not_imported")));
    for row in rows.iter().filter(|row| row.state == "quarantined") {
        assert!(row.reason.as_ref().unwrap().contains("topic"), "{row:?}");
    }
    assert_eq!(sandbox.queued(), 0);
    sandbox.stop().await;
}

#[tokio::test]
async fn nothing_that_is_put_beside_makes_an_envelope_something_else() {
    let scene = scene().await;
    let (intake, sandbox) = intake(&scene).await;
    let event = json!({
        "source": "aws.agreement-marketplace",
        "detail-type": "License Updated - Manufacturer",
        "id": "event",
        "detail": {
            "license": {"arn": "arn:aws:license-manager::1:license:l-1"},
            "product": {"code": "code1"},
            "acceptor": {"accountId": "123456789012"},
        },
    });
    let mut forged = notification(TOPIC, NOW);
    forged.as_object_mut().unwrap().extend(event.as_object().unwrap().clone());
    sandbox.inject(forged.to_string());
    for odd in [json!(null), json!({}), json!("")] {
        forged["Type"] = odd;
        sandbox.inject(forged.to_string());
    }
    let drained = intake.drain().await.unwrap();
    assert_eq!((drained.recorded.quarantined, drained.recorded.new), (4, 0));
    // An event has no signature: that it may be here is for the queue's policy to say.
    sandbox.inject(event.to_string());
    assert_eq!(intake.drain().await.unwrap().recorded.new, 1);
    // Without its envelope a message is anybody's word.
    let raw =
        json!({"action": "subscribe-success", "customer-identifier": "X", "product-code": "code1"});
    sandbox.inject(raw.to_string());
    assert_eq!(intake.drain().await.unwrap().recorded.quarantined, 1);
    sandbox.stop().await;
}

#[tokio::test]
async fn a_message_whose_certificate_cannot_be_had_stays_and_the_others_go_on() {
    let scene = scene().await;
    let (intake, sandbox) = intake(&scene).await;
    // Its key is known before the hosts fall silent.
    scene.endpoint.take_in(&sign(notification(TOPIC, NOW)).to_string()).await.unwrap();
    scene.hosts.are_down(true);
    for number in [1, 2, 1, 3] {
        sandbox.inject(with_certificate(number).to_string());
    }
    let drained = intake.drain().await.unwrap();
    assert_eq!((drained.recorded.new, drained.recorded.duplicates, drained.left.len()), (1, 1, 2));
    assert!(drained.why.unwrap().contains("no answer"));
    assert_eq!(sandbox.queued(), 2);
    let parts = intake.health.parts();
    assert!(!parts["certificates"].ok && parts["queue"].ok, "{parts:?}");

    // One is there when AWS answers again, the other never was.
    scene.hosts.are_down(false);
    scene.hosts.lies(&format!("{HOST}/SimpleNotificationService-2.pem"), fixture!("signer.pem"));
    scene.later(11);
    let shutdown = CancellationToken::new();
    let polling = tokio::spawn(intake.clone().run(0, shutdown.clone()));
    eventually("an empty queue", async || (sandbox.queued() == 0).then_some(())).await;
    shutdown.cancel();
    polling.await.unwrap().unwrap();
    let rows = scene.notifications().await;
    assert!(rows.iter().any(|row| row.id == "message-2" && row.state == "pending"), "{rows:?}");
    let quarantined: Vec<_> = rows.iter().filter(|row| row.state == "quarantined").collect();
    assert_eq!(quarantined.len(), 1, "{rows:?}");
    assert!(intake.health.parts()["certificates"].ok);
    sandbox.stop().await;
}

#[tokio::test]
async fn a_message_that_was_not_trusted_is_applied_only_once_it_holds() {
    let scene = scene().await;
    let (intake, sandbox) = intake(&scene).await;
    let mut forged = sign(notification(TOPIC, NOW));
    forged["Message"] = json!(
        json!({"action": "unsubscribe-success", "customer-identifier": "X", "product-code": "code1"}).to_string()
    );
    sandbox.inject(forged.to_string());
    sandbox.inject(with_certificate(2).to_string());
    assert_eq!(intake.drain().await.unwrap().recorded.quarantined, 2);
    let rows = scene.notifications().await;
    for row in &rows {
        let refused = scene.endpoint.replay(&row.id).await;
        assert!(matches!(refused, Err(SnsError::Refused(_))), "{refused:?}");
    }
    let still = scene.notifications().await;
    assert!(still.iter().all(|row| row.state == "quarantined" && row.format == "untrusted"));

    // A certificate that was not there a while ago.
    scene.hosts.lies(&format!("{HOST}/SimpleNotificationService-2.pem"), fixture!("signer.pem"));
    scene.later(11);
    let held = scene.endpoint.replay(&rows[1].id).await.unwrap().unwrap();
    assert_eq!((&*held.state, &*held.format, &*held.kind), ("pending", "sns", "subscribe-success"));
    assert!(scene.endpoint.replay(&rows[0].id).await.is_err());
    assert!(scene.endpoint.replay("nobody's").await.unwrap().is_none());
    sandbox.stop().await;
}

#[tokio::test]
async fn the_daemon_verifies_what_the_queue_holds_where_it_is_asked_for() {
    let world = World::with_settings(&[("MARKETD__QUEUE__VERIFY_SIGNATURES", "true")]).await;
    let mut forged = notification(TOPIC, "2026-11-10T09:00:00Z");
    forged["SigningCertURL"] = json!("https://evil.example/SimpleNotificationService-1.pem");
    world.inject(&forged.to_string());
    world.inject(&json!({"action": "subscribe-success", "customer-identifier": "X", "product-code": "code1"}).to_string());
    let recorded = eventually("both messages", async || {
        let recorded = world.list("/v1/notifications").await;
        (recorded.len() == 2).then_some(recorded)
    })
    .await;
    for row in &recorded {
        assert_eq!(row["state"], "quarantined", "{row}");
        assert!(row["reason"].as_str().unwrap().contains("signature"), "{row}");
        let replay = format!("/v1/notifications/{}/replay", row["id"].as_str().unwrap());
        let (status, problem) = world.call(reqwest::Method::POST, &replay, None).await;
        assert_eq!(status, 409, "{problem}");
        assert_eq!(problem["type"], "urn:marketd:problem:notification-untrusted");
        assert_eq!(
            &world.get(&format!("/v1/notifications/{}", row["id"].as_str().unwrap())).await,
            row
        );
    }
    let shown = world.get("/v1/integration").await;
    assert_eq!(
        shown["refused_sns"]["count"], 1,
        "what the queue's endpoint refused shows: {shown}"
    );
    world.stop().await;
}
