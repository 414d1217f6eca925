//! What anybody can post to the door for SNS, and what the hosts that it names answer.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use marketd::intake::sns::certificate::{Host, signing_key};
use marketd::intake::sns::signature::{signed_text, verify};
use marketd::intake::sns::{Refusal, read};
use serde_json::{Map, Value};

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../fixtures/sns/", $name))
    };
}

/// Who holds the key signed this, and nothing else.
static SIGNED: LazyLock<Vec<String>> = LazyLock::new(|| {
    let signed = [fixture!("notification-v1.json"), fixture!("notification-v2.json")];
    let text = |message| signed_text(&read(message).expect("a message")).expect("its text");
    signed.map(text).to_vec()
});

static KEY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    signing_key(fixture!("signer.pem").as_bytes(), &host(), now()).expect("the signer's").public_key
});

/// Where the messages say that they come from.
const TOPIC: &str = "arn:aws:sns:us-east-1:287250355862:aws-mp-subscription-notification-code1";

fn host() -> Host<'static> {
    Host::of_topic(TOPIC).expect("a topic of AWS's")
}

fn now() -> Timestamp {
    Timestamp::from_second(1_804_669_500).expect("a time")
}

/// Takes the bytes for what they begin like: a message, a certificate, a file of certificates, or an address.
pub fn check(data: &[u8]) {
    if data.first() == Some(&0x30) {
        let pem = STANDARD.encode(data);
        let file = format!("-----BEGIN CERTIFICATE-----\n{pem}\n-----END CERTIFICATE-----\n");
        return certificate(file.as_bytes());
    }
    match std::str::from_utf8(data) {
        Ok(text) if text.trim_start().starts_with('{') => message(text),
        Ok(text) if !text.contains("-----") => address(text),
        _ => certificate(data),
    }
}

fn message(text: &str) {
    match read(text) {
        Err(refusal) => {
            assert!(matches!(refusal, Refusal::Unreadable(_)), "{refusal:?}");
            told(&refusal);
        }
        Ok(message) => {
            let text = signed_text(&message).expect("what is read has what is signed");
            one_way_only(&message, &text);
            match verify(&message, &KEY) {
                Ok(()) => assert!(SIGNED.contains(&text), "a forged signature holds: {text:?}"),
                Err(refusal) => told(&refusal),
            }
        }
    }
}

/// The answer goes to whoever knocks, and into the log.
fn told(refusal: &Refusal) {
    let text = refusal.to_string();
    assert!(!text.is_empty() && text.len() < 2_500, "{} bytes", text.len());
}

/// What is signed is these fields: no other split of the text would have the same signature.
fn one_way_only(message: &Map<String, Value>, text: &str) {
    let mut rest = text;
    let names = ["Type", "TopicArn", "Token", "Timestamp", "SubscribeURL", "Subject", "MessageId"];
    for name in names {
        let Some((before, value)) = rest.strip_suffix('\n').and_then(|it| it.rsplit_once('\n'))
        else {
            panic!("{name} is missing from {text:?}");
        };
        let Some(before) = before.strip_suffix(&format!("\n{name}")) else { continue };
        assert_eq!(message[name], value, "{text:?}");
        rest = &rest[..=before.len()];
    }
    let said = message["Message"].as_str().expect("a text");
    assert_eq!(rest, format!("Message\n{said}\n"));
}

fn certificate(file: &[u8]) {
    match signing_key(file, &host(), now()) {
        Err(refusal) => {
            assert!(matches!(refusal, Refusal::Forged(_)), "{refusal:?}");
            told(&refusal);
        }
        Ok(key) => {
            assert!(key.good_until >= now());
            let after = key.good_until.saturating_add(SignedDuration::from_secs(1));
            let later = after.map(|after| signing_key(file, &host(), after));
            let until_for_ever = key.good_until == now();
            assert!(until_for_ever || later.is_ok_and(|key| key.is_err()), "it expires");
        }
    }
}

fn address(text: &str) {
    if let Ok(host) = Host::of_topic(text) {
        // Whatever the topic says, its host is one of SNS's.
        for path in ["", "/", "/SimpleNotificationService-1.pem"] {
            assert!(host.address(&format!("https://{text}{path}")).is_err(), "{text}");
        }
    }
    let Ok(url) = host().address(text) else {
        let refusal = host().address(text).expect_err("as before");
        assert!(matches!(refusal, Refusal::Foreign(_)));
        assert!(host().certificate(text).is_err());
        return told(&refusal);
    };
    assert_eq!((url.scheme(), url.port(), url.password()), ("https", None, None));
    assert_eq!((url.username(), url.host_str()), ("", Some("sns.us-east-1.amazonaws.com")));
    if let Ok(url) = host().certificate(text) {
        let segments: Vec<&str> = url.path_segments().expect("a path").collect();
        assert_eq!(segments.len(), 1, "{url}");
        assert!(segments[0].starts_with("SimpleNotificationService-"), "{url}");
        assert_eq!((url.query(), url.fragment()), (None, None), "each is a key that is kept");
    }
}
