//! An endpoint with an imported product, AWS's hosts, and a signer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::support::database::open_store;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use marketd::clock::Clock;
use marketd::domain::product::Dimension;
use marketd::domain::{DimensionKey, EntityId, ProductCode};
use marketd::intake::sns::{Fetch, FetchError, Fetched, Refusal, SnsEndpoint, SnsError};
use marketd::store::{
    ImportProduct, Listing, NotificationFilter, NotificationRow, Order, Page, Store,
};
use reqwest::Url;
use serde_json::{Value, json};
use tokio::sync::watch;

pub(crate) const HOST: &str = "https://sns.us-east-1.amazonaws.com";
pub(crate) const CERTIFICATE: &str =
    "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem";
pub(crate) const TOPIC: &str =
    "arn:aws:sns:us-east-1:287250355862:aws-mp-subscription-notification-code1";
/// A topic that is in `sns.topics`.
pub(crate) const EXTRA: &str = "arn:aws:sns:us-west-2:131990247566:dongie-standard-topic";
pub(crate) const NOW: &str = "2027-03-10T09:05:00Z";

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../fixtures/sns/", $name))
    };
}
pub(crate) use fixture;

/// AWS's hosts: what lies where, and what was asked for.
#[derive(Default)]
pub(crate) struct Hosts {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    asked: Mutex<Vec<String>>,
    down: Mutex<bool>,
    /// Whether they keep everybody waiting.
    held: watch::Sender<bool>,
}

impl Hosts {
    pub(crate) fn lies(&self, url: &str, file: &str) {
        self.files.lock().unwrap().insert(url.into(), file.as_bytes().to_vec());
    }

    /// Whether no host answers.
    pub(crate) fn are_down(&self, down: bool) {
        *self.down.lock().unwrap() = down;
    }

    /// Whether they keep everybody waiting.
    pub(crate) fn keep_waiting(&self, held: bool) {
        self.held.send_replace(held);
    }

    pub(crate) fn asked_so_far(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl Fetch for Hosts {
    fn fetch<'a>(&'a self, url: &'a Url) -> Fetched<'a> {
        self.asked.lock().unwrap().push(url.to_string());
        let found = self.files.lock().unwrap().get(url.as_str()).cloned();
        let outcome = match found {
            _ if *self.down.lock().unwrap() => Err(FetchError::Unreachable("no answer".into())),
            Some(file) => Ok(file),
            None => Err(FetchError::NotThere("nothing lies there".into())),
        };
        let mut held = self.held.subscribe();
        Box::pin(async move {
            held.wait_for(|held| !held).await.ok();
            // Others have their turn before the answer is here.
            tokio::task::yield_now().await;
            outcome
        })
    }
}

pub(crate) struct Scene {
    pub(crate) endpoint: SnsEndpoint,
    pub(crate) hosts: Arc<Hosts>,
    pub(crate) clock: Clock,
    pub(crate) store: Store,
    _folder: tempfile::TempDir,
}

/// An endpoint that listens to the topics of one imported product, and the signer's certificate at AWS.
pub(crate) async fn scene() -> Scene {
    let clock = Clock::manual(NOW.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(&folder.path().join("marketd.db"));
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
    let endpoint = SnsEndpoint::new(store.clone(), clock.clone(), fetch, vec![EXTRA.into()]);
    Scene { endpoint, hosts, clock, store, _folder: folder }
}

impl Scene {
    pub(crate) async fn notifications(&self) -> Vec<NotificationRow> {
        let (all, page) = (NotificationFilter::default(), Page { after: None, limit: 100 });
        self.store.notifications(all, Order::Oldest, page).await.unwrap().rows
    }

    /// Why a message is refused; it then changes nothing.
    pub(crate) async fn refusal(&self, message: &Value) -> Refusal {
        let before = self.notifications().await.len();
        let refused = self.endpoint.take_in(&message.to_string()).await;
        assert_eq!(self.notifications().await.len(), before, "{message}");
        match refused {
            Err(SnsError::Refused(refusal)) => refusal,
            other => panic!("{other:?} for {message}"),
        }
    }

    pub(crate) fn later(&self, seconds: i64) {
        self.clock.set(self.clock.now() + SignedDuration::from_secs(seconds));
    }
}

pub(crate) fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Signs as SNS does, version 2.
pub(crate) fn sign(mut message: Value) -> Value {
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

pub(crate) fn notification(topic: &str, at: &str) -> Value {
    json!({
        "Type": "Notification",
        "MessageId": format!("{topic} {at}"),
        "TopicArn": topic,
        "Message": json!({"action": "subscribe-success", "customer-identifier": "X", "product-code": "code1"}).to_string(),
        "Timestamp": at,
        "SigningCertURL": CERTIFICATE,
    })
}

/// What SNS says of a subscription itself: `SubscriptionConfirmation` or `UnsubscribeConfirmation`.
pub(crate) fn confirmation(kind: &str, url: &str, topic: &str, at: &str) -> Value {
    json!({
        "Type": kind,
        "MessageId": format!("{kind} {url} {topic} {at}"),
        "Token": "2336",
        "TopicArn": topic,
        "Message": "You have chosen to subscribe to the topic,\nor not to",
        "SubscribeURL": url,
        "Timestamp": at,
        "SigningCertURL": CERTIFICATE,
    })
}
