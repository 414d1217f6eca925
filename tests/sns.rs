//! SNS over HTTPS: only what AWS signed, now, about a topic that is listened to, is believed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use marketd::clock::Clock;
use marketd::domain::plan::Dimension;
use marketd::domain::{DimensionKey, EntityId, ProductCode};
use marketd::intake::sns::{Arrived, Fetch, Fetched, Refusal, SnsDoor, SnsError};
use marketd::store::{ImportProduct, Listing, Page, Store};
use reqwest::{Client, Url};
use serde_json::{Value, json};
use support::world::{World, eventually};

const CERTIFICATE: &str = "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem";
const TOPIC: &str = "arn:aws:sns:us-east-1:287250355862:aws-mp-subscription-notification-code1";
const NOW: &str = "2027-03-10T09:05:00Z";

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("fixtures/sns/", $name))
    };
}

/// AWS's hosts: what lies where, and what was asked for.
#[derive(Default)]
struct Hosts {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    asked: Mutex<Vec<String>>,
}

impl Hosts {
    fn lies(&self, url: &str, file: &str) {
        self.files.lock().unwrap().insert(url.into(), file.as_bytes().to_vec());
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl Fetch for Hosts {
    fn fetch<'a>(&'a self, url: &'a Url) -> Fetched<'a> {
        self.asked.lock().unwrap().push(url.to_string());
        let found = self.files.lock().unwrap().get(url.as_str()).cloned();
        Box::pin(async move { found.ok_or_else(|| "nothing lies there".to_owned()) })
    }
}

struct Scene {
    door: SnsDoor,
    hosts: Arc<Hosts>,
    clock: Clock,
    store: Store,
    _folder: tempfile::TempDir,
}

/// A door that listens to the topics of one imported product, and the signer's certificate at AWS.
async fn scene() -> Scene {
    let clock = Clock::manual(NOW.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("marketd.db")).unwrap();
    let requests = Dimension {
        key: DimensionKey::new("requests"),
        name: "Requests".into(),
        unit: None,
        types: vec!["ExternallyMetered".into()],
        plan_id: None,
        removed_at: None,
    };
    let listing = Listing {
        owner: None,
        entity_id: EntityId::new("prod-1"),
        product_code: Some(ProductCode::new("code1")),
        title: "One".into(),
        visibility: "Public".into(),
        dimensions: vec![requests],
        problems: Vec::new(),
        document: Value::Null,
    };
    let import = ImportProduct {
        product_id: None,
        listing,
        plans: BTreeMap::new(),
        usage_plan: None,
        features: BTreeMap::new(),
    };
    store.import_product(import, clock.now()).await.unwrap();
    let hosts = Arc::new(Hosts::default());
    hosts.lies(CERTIFICATE, fixture!("signer.pem"));
    let fetch: Arc<dyn Fetch> = Arc::clone(&hosts) as _;
    let door = SnsDoor::new(store.clone(), clock.clone(), fetch, vec!["arn:aws:sns:extra".into()]);
    Scene { door, hosts, clock, store, _folder: folder }
}

impl Scene {
    async fn recorded(&self) -> usize {
        let page = Page { after: None, limit: 100 };
        self.store.notifications(None, page).await.unwrap().len()
    }

    /// Why a message is refused; it then changes nothing.
    async fn refusal(&self, message: &Value) -> Refusal {
        let before = self.recorded().await;
        let refused = self.door.take_in(&message.to_string()).await;
        assert_eq!(self.recorded().await, before, "{message}");
        match refused {
            Err(SnsError::Refused(refusal)) => refusal,
            other => panic!("{other:?} for {message}"),
        }
    }
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Signs as SNS does, version 2.
fn sign(mut message: Value) -> Value {
    let names: &[&str] = match message["Type"].as_str().unwrap() {
        "Notification" => &["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"],
        _ => &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"],
    };
    let held = names.iter().filter_map(|name| Some((name, message[*name].as_str()?)));
    let text: String = held.flat_map(|(name, value)| [name, "\n", value, "\n"]).collect();
    let pem: String =
        fixture!("signer.key").lines().filter(|line| !line.starts_with("---")).collect();
    let key = RsaKeyPair::from_pkcs8(&STANDARD.decode(pem).unwrap()).unwrap();
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).unwrap();
    message["SignatureVersion"] = json!("2");
    message["Signature"] = json!(STANDARD.encode(signature));
    message
}

fn notification(topic: &str, at: &str) -> Value {
    json!({
        "Type": "Notification",
        "MessageId": format!("{topic} {at}"),
        "TopicArn": topic,
        "Message": json!({"action": "subscribe-success", "customer-identifier": "X", "product-code": "code1"}).to_string(),
        "Timestamp": at,
        "SigningCertURL": CERTIFICATE,
    })
}

#[tokio::test]
async fn both_signature_versions_hold_and_a_repetition_changes_nothing() {
    let scene = scene().await;
    let first = scene.door.take_in(fixture!("notification-v1.json")).await.unwrap();
    assert_eq!((first.new, first.duplicates), (1, 0));
    let again = scene.door.take_in(fixture!("notification-v2.json")).await.unwrap();
    assert_eq!((again.new, again.duplicates), (0, 1), "the same message, signed anew");
    assert_eq!(scene.hosts.asked(), [CERTIFICATE], "the certificate is fetched once");
    let page = Page { after: None, limit: 10 };
    let recorded = scene.store.notifications(None, page).await.unwrap();
    assert_eq!(recorded[0].kind, "subscribe-success");

    // A topic that is configured, and a message that nobody can read: signed, so it is kept.
    let extra = sign(notification("arn:aws:sns:extra", NOW));
    assert_eq!(scene.door.take_in(&extra.to_string()).await.unwrap().new, 1);
    let mut odd = notification(TOPIC, NOW);
    odd["Message"] = json!("no JSON");
    let odd = scene.door.take_in(&sign(odd).to_string()).await.unwrap();
    assert_eq!(odd.quarantined, 1);
    assert_eq!(scene.door.refused().count, 0);
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
    assert_eq!(scene.door.refused().count, 16);
}

#[tokio::test]
async fn nothing_is_fetched_for_what_is_foreign() {
    let scene = scene().await;
    let other_topic = TOPIC.replace("code1", "code2");
    let mut foreign_host = notification(TOPIC, NOW);
    foreign_host["SigningCertURL"] =
        json!("https://sns.us-east-1.amazonaws.com.evil.example/SimpleNotificationService-1.pem");
    let mut no_host = notification(TOPIC, NOW);
    no_host.as_object_mut().unwrap().remove("SigningCertURL");
    for message in [sign(notification(&other_topic, NOW)), sign(foreign_host), sign(no_host)] {
        assert!(matches!(scene.refusal(&message).await, Refusal::Foreign(_)), "{message}");
    }
    for text in
        ["", "[]", "{}", "{\"Type\":\"Other\"}", "{\"Type\":\"Notification\",\"Message\":{}}"]
    {
        let refused = scene.door.take_in(text).await;
        assert!(matches!(refused, Err(SnsError::Refused(Refusal::Unreadable(_)))), "{text}");
    }
    let old = sign(notification(TOPIC, "2027-03-10T07:00:00Z"));
    let ahead = sign(notification(TOPIC, "2027-03-10T10:00:00Z"));
    for message in [&old, &ahead] {
        assert!(matches!(scene.refusal(message).await, Refusal::Forged(_)), "{message}");
    }
    assert!(scene.hosts.asked().is_empty());
    // In the queue a message may lie for days.
    scene.door.verify(&old.to_string(), Arrived::ThroughQueue).await.unwrap();
}

#[tokio::test]
async fn a_certificate_is_sns_s_in_force_and_signed_by_the_next() {
    for (file, word) in [
        (fixture!("other.pem"), "not SNS's"),
        (fixture!("broken-chain.pem"), "not signed"),
        ("no certificate", "missing"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be read"),
    ] {
        let scene = scene().await;
        scene.hosts.lies(CERTIFICATE, file);
        let refusal = scene.refusal(&sign(notification(TOPIC, NOW))).await;
        assert!(refusal.to_string().contains(word), "{word}: {refusal}");
        // A bad one is not kept.
        scene.hosts.lies(CERTIFICATE, fixture!("signer-alone.pem"));
        let good = sign(notification(TOPIC, NOW));
        assert_eq!(scene.door.take_in(&good.to_string()).await.unwrap().new, 1);
    }
    let scene = scene().await;
    let later: Timestamp = "2200-01-01T00:00:00Z".parse().unwrap();
    scene.clock.set(later);
    let refusal = scene.refusal(&sign(notification(TOPIC, "2200-01-01T00:00:00Z"))).await;
    assert!(refusal.to_string().contains("not in force"), "{refusal}");

    let scene = self::scene().await;
    scene.hosts.files.lock().unwrap().clear();
    let refusal = scene.refusal(&sign(notification(TOPIC, NOW))).await;
    assert!(matches!(refusal, Refusal::Unreachable(_)), "SNS tries again: {refusal:?}");
}

#[tokio::test]
async fn a_subscription_is_confirmed_at_aws_and_nowhere_else() {
    let scene = scene().await;
    let confirm = "https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&Token=2336";
    let confirmation = |url: &str, topic: &str| {
        sign(json!({
            "Type": "SubscriptionConfirmation",
            "MessageId": format!("{url} {topic}"),
            "Token": "2336",
            "TopicArn": topic,
            "Message": "You have chosen to subscribe to the topic",
            "SubscribeURL": url,
            "Timestamp": NOW,
            "SigningCertURL": CERTIFICATE,
        }))
    };
    scene.hosts.lies(confirm, "<ConfirmSubscriptionResponse/>");
    let message = confirmation(confirm, TOPIC).to_string();
    assert_eq!(scene.door.take_in(&message).await.unwrap().new, 1);
    assert_eq!(scene.hosts.asked(), [CERTIFICATE, confirm]);

    let elsewhere = confirmation("https://169.254.169.254/latest/meta-data", TOPIC);
    assert!(
        matches!(scene.refusal(&elsewhere).await, Refusal::Foreign(_)),
        "although it is signed"
    );
    let stranger = confirmation(confirm, &TOPIC.replace("code1", "code2"));
    assert!(matches!(scene.refusal(&stranger).await, Refusal::Foreign(_)));
    assert!(scene.hosts.asked().is_empty());
    let lost = confirmation(&confirm.replace("2336", "9"), TOPIC);
    assert!(matches!(scene.refusal(&lost).await, Refusal::Unreachable(_)), "SNS tries again");
}

#[tokio::test]
async fn the_door_answers_as_sns_expects_and_shows_what_it_refused() {
    let world = World::with_demo_catalog().await;
    let fresh = Timestamp::now().to_string();
    let rows = [
        (json!({"Type": "Notification"}), 400),
        (notification(TOPIC, &fresh), 403),
        (json!([1]), 400),
    ];
    let count = rows.len();
    for (message, status) in rows {
        let post = Client::new().post(format!("{}/aws/sns", world.url()));
        let answer =
            post.header("content-type", "text/plain").body(message.to_string()).send().await;
        assert_eq!(answer.unwrap().status(), status, "{message}");
    }
    let shown = world.get("/v1/integration").await;
    assert_eq!(shown["refused_sns"]["count"], count);
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
        assert_eq!(scene.door.take_in(&message.to_string()).await.unwrap().new, 1);
    }
    assert_eq!(scene.hosts.asked().len(), 1);
}

#[tokio::test]
async fn where_it_is_asked_for_what_the_queue_holds_is_verified_too() {
    let world = World::with_settings(&[("MARKETD__QUEUE__VERIFY_SIGNATURES", "true")]).await;
    let mut forged = notification(TOPIC, "2026-11-10T09:00:00Z");
    forged["SigningCertURL"] = json!("https://evil.example/SimpleNotificationService-1.pem");
    world.inject(&forged.to_string());
    // What is not signed is trusted by the queue's policy.
    world.inject(&json!({"action": "subscribe-success", "customer-identifier": "X", "product-code": "code1"}).to_string());
    let recorded = eventually("both messages", async || {
        let recorded = world.list("/v1/notifications").await;
        (recorded.len() == 2).then_some(recorded)
    })
    .await;
    let quarantined: Vec<&Value> =
        recorded.iter().filter(|row| row["state"] == "quarantined").collect();
    assert_eq!(quarantined.len(), 1, "{recorded:?}");
    assert!(quarantined[0]["reason"].as_str().unwrap().contains("signature"), "{quarantined:?}");
    world.stop().await;
}
