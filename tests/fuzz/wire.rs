//! Notifications in every wire format.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use marketd::domain::notification::wire::{self, Delivery, Unreadable};
use marketd::domain::notification::{AgreedEnd, Format, Meaning, Notification};
use serde_json::{Map, Value, json};

use super::is_plain;

const TRANSPORT_ID: &str = "3f1c6f5e-0a6f-4f0e-9b1d-2f6f7c1f0a01";
const MESSAGE_ID: &str = "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324";

fn read(body: &str) -> Result<Notification, Unreadable> {
    let sent_at = Timestamp::from_second(1_795_521_600).expect("a time");
    wire::read(Delivery { body, transport_id: TRANSPORT_ID, sent_at })
}

/// Reads a body as it is, with more in it, and wrapped.
pub fn check(data: &[u8]) {
    let Ok(body) = std::str::from_utf8(data) else { return };
    let found = read(body);
    assert_eq!(found, read(body), "the same twice");
    match &found {
        Ok(notification) => {
            sound(notification, body);
            no_matter_what_else_it_says(notification, body);
        }
        Err(unreadable) => {
            assert!(!unreadable.reason.is_empty() && unreadable.reason.len() < 500);
            assert!(unreadable.id.starts_with("sha256-") && unreadable.id.len() == 39);
        }
    }
    if let Ok(Value::Object(document)) = serde_json::from_str(body) {
        wrapped(&found, &document, body);
    }
}

fn sound(notification: &Notification, body: &str) {
    assert_eq!(notification.body, body, "kept byte for byte");
    assert!(is_plain(&notification.id) && is_plain(&notification.kind), "{notification:?}");
    match &notification.meaning {
        Meaning::Subscription(news) => {
            assert!(is_plain(news.product_code.as_str()));
            assert!(is_plain(news.customer_identifier.as_str()));
            assert_eq!(news.action.as_str(), notification.kind);
        }
        Meaning::EntitlementUpdated { product_code, customer_identifier } => {
            assert!(is_plain(product_code.as_str()) && is_plain(customer_identifier.as_str()));
        }
        Meaning::License(news) => {
            assert!(is_plain(news.license_arn.as_str()));
            assert!(news.product_code.is_some() || news.entity_id.is_some());
            assert!(news.account_id.as_ref().is_none_or(|id| is_plain(id.as_str())));
            assert!(news.agreement_id.as_ref().is_none_or(|id| is_plain(id.as_str())));
        }
        Meaning::Agreement(news) => {
            assert!(is_plain(news.agreement_id.as_str()));
            let ended = notification.kind.starts_with("Purchase Agreement Ended");
            assert_eq!(news.ended.is_some(), ended);
            let year = |end: Timestamp| end.to_zoned(TimeZone::UTC).year();
            assert!(
                news.ends_at.and_then(AgreedEnd::at).is_none_or(|end| year(end) < 9_999),
                "an open end is no end"
            );
        }
        Meaning::Topic(news) => assert!(is_plain(&news.topic_arn)),
        Meaning::Informational => {}
    }
    if notification.format == Format::Raw {
        assert_eq!(notification.id, TRANSPORT_ID);
    }
}

/// AWS adds fields as it likes.
fn no_matter_what_else_it_says(notification: &Notification, body: &str) {
    let start = body.find('{').expect("an object") + 1;
    let (head, rest) = body.split_at(start);
    let more = format!("{head}\"x-new\":[{{\"id\":null,\"action\":\"subscribe-fail\"}}],{rest}");
    let again = read(&more).expect("a field that is not known stops nothing");
    assert_eq!(said(&again), said(notification));
}

/// A topic hands a message over with its envelope or without, as text or (half of them) as an object: it says the same.
fn wrapped(found: &Result<Notification, Unreadable>, document: &Map<String, Value>, body: &str) {
    // What says that it is an envelope is read as one, whatever else it says.
    if document.contains_key("Type") {
        return;
    }
    let is_event = document.contains_key("detail-type") && document.contains_key("source");
    let mut envelope = json!({
        "Type": "Notification",
        "MessageId": MESSAGE_ID,
        "TopicArn": "arn:aws:sns:us-east-1:287250355862:aws-mp-subscription-notification-code",
        "Message": body,
        "Timestamp": "2026-11-24T11:00:00Z",
    });
    if body.len().is_multiple_of(2) {
        envelope["Message"] = Value::Object(document.clone());
    }
    match (found, read(&envelope.to_string())) {
        (Ok(bare), Ok(wrapped)) => {
            assert_eq!((&wrapped.kind, &wrapped.meaning), (&bare.kind, &bare.meaning));
            if is_event {
                assert_eq!(said(&wrapped), said(bare));
            } else {
                assert_eq!((wrapped.id.as_str(), wrapped.format), (MESSAGE_ID, Format::Sns));
                assert_eq!(wrapped.at.to_string(), "2026-11-24T11:00:00Z");
            }
        }
        (Err(_), Err(_)) => {}
        // One level deeper may be one too deep.
        (Ok(_), Err(unreadable)) => {
            assert!(unreadable.reason.contains("recursion"), "{unreadable:?}");
        }
        (Err(unreadable), Ok(_)) => panic!("readable only when wrapped: {unreadable:?}"),
    }
}

/// All that must be equal; an id made of the content differs with it.
fn said(notification: &Notification) -> (Option<&str>, Format, &str, Timestamp, &Meaning) {
    let id = Some(notification.id.as_str()).filter(|id| !id.starts_with("sha256-"));
    (id, notification.format, &notification.kind, notification.at, &notification.meaning)
}
