//! SNS over HTTPS and through the queue: only what AWS signed, about a topic that is listened to, is believed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod queue;
mod scene;
#[path = "../support/mod.rs"]
mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use marketd::intake::sns::{Arrived, Refusal, SnsError};
use marketd::turns::Source;
use reqwest::Client;
use scene::{
    CERTIFICATE, EXTRA, HOST, NOW, TOPIC, confirmation, fixture, notification, parsed, scene, sign,
};
use serde_json::json;
use support::world::{World, eventually};

#[tokio::test]
async fn both_signature_versions_hold_and_a_repetition_changes_nothing() {
    let scene = scene().await;
    let first = scene.endpoint.take_in(fixture!("notification-v1.json")).await.unwrap();
    assert_eq!((first.new, first.duplicates), (1, 0));
    let again = scene.endpoint.take_in(fixture!("notification-v2.json")).await.unwrap();
    assert_eq!((again.new, again.duplicates), (0, 1), "the same message, signed anew");
    assert_eq!(scene.hosts.asked(), [CERTIFICATE], "the certificate is fetched once");
    assert_eq!(scene.notifications().await[0].kind, "subscribe-success");

    // A message that nobody can read: signed, so it is kept.
    let mut odd = notification(TOPIC, NOW);
    odd["Message"] = json!("no JSON");
    let odd = scene.endpoint.take_in(&sign(odd).to_string()).await.unwrap();
    assert_eq!(odd.quarantined, 1);
    assert_eq!(scene.endpoint.refused().count, 0);
}

/// The certificate as AWS serves it: alone, and issued by an authority that is not in the file.
#[tokio::test]
async fn what_aws_itself_signed_is_believed() {
    let scene = scene().await;
    let lies = "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-7506a1e35b36ef5a444dd1a8e7cc3ed8.pem";
    scene.hosts.lies(lies, fixture!("aws-signer.pem"));
    scene.clock.set("2026-03-06T20:03:00Z".parse().unwrap());
    for message in [fixture!("aws-notification-v1.json"), fixture!("aws-unsubscribe-v2.json")] {
        let taken = scene.endpoint.take_in(message).await.unwrap();
        assert_eq!(taken.new + taken.quarantined, 1, "{message}");
    }
    assert_eq!(scene.hosts.asked(), [lies], "an end is not taken back");
    let mut changed = parsed(fixture!("aws-notification-v1.json"));
    changed["Message"] = json!("This notification has a subject.");
    assert!(matches!(scene.refusal(&changed).await, Refusal::Forged(_)));
}

#[tokio::test]
async fn a_changed_field_breaks_the_signature() {
    let scene = scene().await;
    for version in [fixture!("notification-v1.json"), fixture!("notification-v2.json")] {
        for field in
            ["Message", "MessageId", "Subject", "Timestamp", "Signature", "SignatureVersion"]
        {
            let mut message = parsed(version);
            message[field] = match field {
                "Timestamp" => json!("2027-03-10T09:00:01.655Z"),
                "SignatureVersion" => json!(if message[field] == "1" { "2" } else { "1" }),
                _ => json!(format!("A{}", message[field].as_str().unwrap())),
            };
            let refusal = scene.refusal(&message).await;
            assert!(matches!(refusal, Refusal::Forged(_)), "{field}: {refusal:?}");
            assert!(refusal.to_string().contains("signature"), "{field}: {refusal}");
        }
        let mut message = parsed(version);
        message["SignatureVersion"] = json!("3");
        assert!(matches!(scene.refusal(&message).await, Refusal::Forged(_)));
        // The subject is part of what is signed, its absence too.
        message = parsed(version);
        message.as_object_mut().unwrap().remove("Subject");
        assert!(matches!(scene.refusal(&message).await, Refusal::Forged(_)));
    }
    assert_eq!(scene.endpoint.refused().count, 16);
}

#[tokio::test]
async fn what_stands_beside_the_signed_fields_says_nothing() {
    let scene = scene().await;
    let mut message = sign(notification(TOPIC, NOW));
    let beside = json!({
        "source": "aws.agreement-marketplace",
        "detail-type": "License Deprovisioned - Manufacturer",
        "id": "another",
        "time": "2030-01-01T00:00:00Z",
        "action": "unsubscribe-success",
        "detail": {
            "license": {"arn": "arn:aws:license-manager::1:license:l-1"},
            "product": {"code": "code1"},
            "acceptor": {"accountId": "123456789012"},
        },
    });
    message.as_object_mut().unwrap().extend(beside.as_object().unwrap().clone());
    assert_eq!(scene.endpoint.take_in(&message.to_string()).await.unwrap().new, 1);
    let recorded = scene.notifications().await;
    assert_eq!((&*recorded[0].format, &*recorded[0].kind), ("sns", "subscribe-success"));
    assert_eq!(
        (&*recorded[0].id, recorded[0].at),
        (&*format!("{TOPIC} {NOW}"), NOW.parse().unwrap())
    );
}

/// Lines in one field could be read as further fields.
#[tokio::test]
async fn fields_that_nobody_writes_freely_hold_no_lines() {
    let scene = scene().await;
    for field in ["MessageId", "Timestamp", "TopicArn"] {
        for odd in ["\n", "\r", "\u{0}", "\u{85}"] {
            let mut message = notification(TOPIC, NOW);
            message[field] = json!(format!("{}{odd}", message[field].as_str().unwrap()));
            let refusal = scene.refusal(&sign(message)).await;
            assert!(refusal.to_string().contains("control"), "{field}: {refusal:?}");
        }
    }
    for field in ["Token", "SubscribeURL"] {
        let mut message = confirmation("SubscriptionConfirmation", HOST, TOPIC, NOW);
        message[field] = json!("a\nTimestamp\nb");
        let refusal = scene.refusal(&sign(message)).await;
        assert!(refusal.to_string().contains("control"), "{field}: {refusal:?}");
    }
    let mut message = notification(TOPIC, NOW);
    message["Subject"] = json!("two\nlines");
    let refusal = scene.refusal(&sign(message)).await;
    assert!(refusal.to_string().contains("Subject holds control"), "{refusal:?}");
}

#[tokio::test]
async fn nothing_is_fetched_for_what_is_foreign() {
    let scene = scene().await;
    let mut foreign = Vec::new();
    for host in [
        "https://sns.us-east-1.amazonaws.com.evil.example",
        "https://sns.s3.amazonaws.com",
        "https://sns.s3-us-west-2.amazonaws.com",
        "https://sns.us-west-2.amazonaws.com",
    ] {
        let mut message = notification(TOPIC, NOW);
        let certificate = format!("{host}/SimpleNotificationService-1.pem");
        scene.hosts.lies(&certificate, fixture!("signer.pem"));
        message["SigningCertURL"] = json!(certificate);
        foreign.push(message);
    }
    let mut no_host = notification(TOPIC, NOW);
    no_host.as_object_mut().unwrap().remove("SigningCertURL");
    foreign.extend([notification(&TOPIC.replace("code1", "code2"), NOW), no_host]);
    for message in foreign {
        let message = sign(message);
        assert!(matches!(scene.refusal(&message).await, Refusal::Foreign(_)), "{message}");
    }
    for text in
        ["", "[]", "{}", "{\"Type\":\"Other\"}", "{\"Type\":\"Notification\",\"Message\":{}}"]
    {
        let refused = scene.endpoint.take_in(text).await;
        assert!(matches!(refused, Err(SnsError::Refused(Refusal::Unreadable(_)))), "{text}");
    }
    let old = sign(notification(TOPIC, "2027-03-10T07:00:00Z"));
    let ahead = sign(notification(TOPIC, "2027-03-10T10:00:00Z"));
    for message in [&old, &ahead] {
        assert!(matches!(scene.refusal(message).await, Refusal::Forged(_)), "{message}");
    }
    assert!(scene.hosts.asked().is_empty());
    // In the queue a message may lie for days.
    scene.endpoint.verify(&old.to_string(), Arrived::ThroughQueue).await.unwrap();
}

#[tokio::test]
async fn a_certificate_is_sns_s_in_force_and_signed_by_an_authority() {
    for (file, word) in [
        (fixture!("other.pem"), "not SNS's"),
        (fixture!("broken-chain.pem"), "not signed"),
        (fixture!("no-authority.pem"), "no authority"),
        (fixture!("self-signed.pem"), "by itself"),
        ("no certificate", "missing"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be read"),
    ] {
        let scene = scene().await;
        scene.hosts.lies(CERTIFICATE, file);
        let refusal = scene.refusal(&sign(notification(TOPIC, NOW))).await;
        assert!(matches!(refusal, Refusal::Forged(_)), "{word}: {refusal:?}");
        assert!(refusal.to_string().contains(word), "{word}: {refusal}");
        // A bad one is not kept for long.
        scene.hosts.lies(CERTIFICATE, fixture!("signer-alone.pem"));
        scene.later(11);
        let good = sign(notification(TOPIC, NOW));
        assert_eq!(scene.endpoint.take_in(&good.to_string()).await.unwrap().new, 1);
    }
    let scene = scene().await;
    let later: Timestamp = "2200-01-01T00:00:00Z".parse().unwrap();
    scene.clock.set(later);
    let refusal = scene.refusal(&sign(notification(TOPIC, "2200-01-01T00:00:00Z"))).await;
    assert!(refusal.to_string().contains("not in force"), "{refusal}");
}

#[tokio::test]
async fn a_certificate_that_is_not_there_is_a_forgery_and_a_silent_host_is_not() {
    let scene = scene().await;
    let mut message = notification(TOPIC, NOW);
    message["SigningCertURL"] = json!(format!("{HOST}/SimpleNotificationService-2.pem"));
    assert!(matches!(scene.refusal(&sign(message)).await, Refusal::Forged(_)));
    scene.hosts.are_down(true);
    let message = sign(notification(TOPIC, NOW));
    let refusal = scene.refusal(&message).await;
    assert!(matches!(refusal, Refusal::Unreachable(_)), "SNS tries again: {refusal:?}");
    scene.hosts.are_down(false);
    scene.later(11);
    assert_eq!(scene.endpoint.take_in(&message.to_string()).await.unwrap().new, 1);
}

#[tokio::test]
async fn a_subscription_is_confirmed_at_aws_and_nowhere_else() {
    let scene = scene().await;
    let confirm = format!("{HOST}/?Action=ConfirmSubscription&Token=2336");
    let confirmation =
        |url: &str, topic: &str| sign(confirmation("SubscriptionConfirmation", url, topic, NOW));
    scene.hosts.lies(&confirm, "<ConfirmSubscriptionResponse/>");
    let message = confirmation(&confirm, TOPIC).to_string();
    assert_eq!(scene.endpoint.take_in(&message).await.unwrap().new, 1);
    assert_eq!(scene.hosts.asked(), [CERTIFICATE, &confirm]);

    for host in ["169.254.169.254", "sns.us-west-2.amazonaws.com", "sns.s3.amazonaws.com"] {
        let elsewhere = confirmation(&format!("https://{host}/?Action=ConfirmSubscription"), TOPIC);
        let refusal = scene.refusal(&elsewhere).await;
        assert!(matches!(refusal, Refusal::Foreign(_)), "although it is signed: {refusal:?}");
    }
    let stranger = confirmation(&confirm, &TOPIC.replace("code1", "code2"));
    assert!(matches!(scene.refusal(&stranger).await, Refusal::Foreign(_)));
    assert!(scene.hosts.asked().is_empty());
    let unknown = confirmation(&confirm.replace("2336", "9"), TOPIC);
    assert!(matches!(scene.refusal(&unknown).await, Refusal::Forged(_)), "AWS does not know it");
    scene.hosts.are_down(true);
    assert!(matches!(scene.refusal(&unknown).await, Refusal::Unreachable(_)), "SNS tries again");
}

#[tokio::test]
async fn a_topic_that_was_told_to_stop_is_told_of_until_it_is_told_to_go_on() {
    let scene = scene().await;
    let confirm = format!("{HOST}/?Action=ConfirmSubscription&Token=2336");
    scene.hosts.lies(&confirm, "<ConfirmSubscriptionResponse/>");
    let told = async |kind: &str, at: &str| {
        let message = sign(confirmation(kind, &confirm, TOPIC, at)).to_string();
        scene.endpoint.take_in(&message).await.unwrap();
        let deaf = scene.store.unsubscribed_topics(Timestamp::UNIX_EPOCH).await.unwrap();
        let events = scene.store.events_after(0, 100).await.unwrap();
        let events = events.iter().filter(|it| it.kind == "topic.unsubscribed").count();
        (deaf, events)
    };
    let ended: Timestamp = "2027-03-10T09:00:00Z".parse().unwrap();
    let expected = vec![(TOPIC.to_owned(), ended)];
    assert_eq!(
        told("UnsubscribeConfirmation", "2027-03-10T09:00:00Z").await,
        (expected.clone(), 1)
    );
    assert_eq!(scene.hosts.asked(), [CERTIFICATE], "an end is not taken back by itself");
    // Repeated, and one that was before: as it was.
    assert_eq!(
        told("UnsubscribeConfirmation", "2027-03-10T09:00:00Z").await,
        (expected.clone(), 1)
    );
    assert_eq!(told("SubscriptionConfirmation", "2027-03-10T08:59:00Z").await, (expected, 1));
    assert_eq!(told("SubscriptionConfirmation", "2027-03-10T09:01:00Z").await, (Vec::new(), 1));
}

#[tokio::test]
async fn the_endpoint_answers_as_sns_expects_and_shows_what_it_refused() {
    let world = World::with_demo_catalog().await;
    let fresh = Timestamp::now().to_string();
    let rows = [
        (json!({"Type": "Notification"}), 400),
        (json!({"Type": "x".repeat(100_000)}), 400),
        (notification(TOPIC, &fresh), 403),
        (json!([1]), 400),
        (notification(&"x".repeat(100_000), &fresh), 403),
    ];
    let count = rows.len();
    for (message, status) in rows {
        let post = Client::new().post(format!("{}/aws/sns", world.url()));
        let answer =
            post.header("content-type", "text/plain").body(message.to_string()).send().await;
        let answer = answer.unwrap();
        assert_eq!(answer.status(), status);
        assert!(
            answer.text().await.unwrap().len() < 500,
            "whoever knocks does not write the answer"
        );
    }
    let shown = world.get("/v1/integration").await;
    assert_eq!(shown["refused_sns"]["count"], count);
    assert_eq!(shown["refused_sns"]["last_reason"].as_str().unwrap().chars().count(), 200);
    assert!(shown["problems"].to_string().contains("SNS messages"), "{shown}");
    assert_eq!(world.get("/v1/notifications").await["items"], json!([]));
    world.stop().await;
}

#[tokio::test]
async fn a_key_is_used_until_its_certificate_expires() {
    let scene = scene().await;
    for minutes in [0, 10, 20] {
        let at = NOW.parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minutes);
        scene.clock.set(at);
        let message = sign(notification(TOPIC, &at.to_string()));
        assert_eq!(scene.endpoint.take_in(&message.to_string()).await.unwrap().new, 1);
    }
    assert_eq!(scene.hosts.asked().len(), 1);
}

#[tokio::test]
async fn however_many_ask_an_address_is_fetched_once_and_a_bad_one_not_again_at_once() {
    let scene = scene().await;
    let message = sign(notification(TOPIC, NOW)).to_string();
    let at_once = (0..50).map(|_| scene.endpoint.take_in(&message));
    for taken in futures::future::join_all(at_once).await {
        assert_eq!(taken.unwrap().quarantined, 0);
    }
    assert_eq!(scene.hosts.asked(), [CERTIFICATE]);
    let mut forged = notification(TOPIC, NOW);
    forged["SigningCertURL"] = json!(format!("{HOST}/SimpleNotificationService-2.pem"));
    let forged = sign(forged);
    for _ in 0..5 {
        assert!(matches!(scene.refusal(&forged).await, Refusal::Forged(_)));
    }
    assert_eq!(scene.hosts.asked().len(), 1);
    scene.later(11);
    scene.refusal(&forged).await;
    assert_eq!(scene.hosts.asked().len(), 1, "asked again later");
}

/// Whoever makes up addresses does not make AWS's own be fetched anew.
#[tokio::test]
async fn a_key_in_use_outlives_made_up_addresses_and_the_oldest_other_keys() {
    let scene = scene().await;
    let signed_at = async |number: usize| {
        let mut message = notification(TOPIC, NOW);
        message["SigningCertURL"] = json!(format!("{HOST}/SimpleNotificationService-{number}.pem"));
        scene.endpoint.verify(&sign(message).to_string(), Arrived::ThroughQueue).await.is_ok()
    };
    assert!(signed_at(1).await);
    for number in 100..140 {
        assert!(!signed_at(number).await);
    }
    scene.hosts.asked();
    assert!(signed_at(1).await);
    assert!(scene.hosts.asked().is_empty());
    // Of good ones the oldest goes, and no other.
    for number in 2..=17 {
        scene.hosts.lies(
            &format!("{HOST}/SimpleNotificationService-{number}.pem"),
            fixture!("signer.pem"),
        );
        assert!(signed_at(number).await);
    }
    scene.hosts.asked();
    assert!(signed_at(2).await && signed_at(17).await);
    assert!(scene.hosts.asked().is_empty());
    assert!(signed_at(1).await);
    assert_eq!(scene.hosts.asked(), [CERTIFICATE]);
}

#[tokio::test]
async fn nothing_is_fetched_for_what_carries_no_signature() {
    let scene = scene().await;
    let signed = sign(notification(TOPIC, NOW));
    let short = STANDARD.encode([7; 255]);
    for (field, value) in [
        ("Signature", json!(null)),
        ("Signature", json!("")),
        ("Signature", json!("not base64")),
        ("Signature", json!(short)),
        ("SignatureVersion", json!(null)),
        ("SignatureVersion", json!("3")),
        ("SignatureVersion", json!(2)),
    ] {
        let mut message = signed.clone();
        message[field] = value;
        let refusal = scene.refusal(&message).await;
        assert!(matches!(refusal, Refusal::Forged(_)), "{message}: {refusal:?}");
    }
    assert!(scene.hosts.asked().is_empty());
}

#[tokio::test]
async fn aws_s_own_message_does_not_wait_behind_made_up_addresses() {
    let scene = scene().await;
    let stranger = Source::of("203.0.113.1".parse().unwrap());
    let made_up = |number: usize| {
        let mut message = notification(TOPIC, NOW);
        message["SigningCertURL"] = json!(format!("{HOST}/SimpleNotificationService-{number}.pem"));
        sign(message).to_string()
    };
    // One is known to waste turns already.
    scene.endpoint.take_in_from(stranger, &made_up(99)).await.unwrap_err();
    scene.hosts.asked();
    scene.hosts.keep_waiting(true);
    let [first, before, after]: [Vec<String>; 3] =
        [100..104, 110..130, 140..160].map(|numbers| numbers.map(made_up).collect());
    let flood = |messages: Vec<String>| {
        let endpoint = scene.endpoint.clone();
        async move {
            let taken = messages.iter().map(|message| endpoint.take_in_from(stranger, message));
            futures::future::join_all(taken).await
        }
    };
    let first = tokio::spawn(flood(first));
    eventually("all fetches to be under way", async || {
        (scene.hosts.asked_so_far() == 4).then_some(())
    })
    .await;
    let genuine = sign(notification(TOPIC, NOW)).to_string();
    let genuine =
        scene.endpoint.take_in_from(Source::of("198.51.100.1".parse().unwrap()), &genuine);
    let release = async {
        // Of the forty that come five may wait, and the others are sent away.
        eventually("everybody to have come", async || {
            (scene.endpoint.refused().count == 1 + 35).then_some(())
        })
        .await;
        scene.hosts.keep_waiting(false);
    };
    let (_, genuine, _, ()) = tokio::join!(flood(before), genuine, flood(after), release);
    assert_eq!(genuine.unwrap().new, 1);
    assert!(first.await.unwrap().iter().all(Result::is_err));
    let asked = scene.hosts.asked();
    let place = asked.iter().position(|url| url == CERTIFICATE).unwrap();
    // Four turns came free at once, and whoever has one asks when the runtime lets them.
    assert!((4..8).contains(&place), "it was among the next four: {asked:?}");
}

#[tokio::test]
async fn a_topic_of_the_seller_s_own_is_listened_to_if_it_is_set() {
    let scene = scene().await;
    let extra = "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-1.pem";
    scene.hosts.lies(extra, fixture!("signer.pem"));
    let mut message = notification(EXTRA, NOW);
    message["SigningCertURL"] = json!(extra);
    assert_eq!(scene.endpoint.take_in(&sign(message).to_string()).await.unwrap().new, 1);
}
