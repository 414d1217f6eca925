//! The wire formats of notifications, told apart by what they hold.
//!
//! Liberal in reading: `Message` may be text or an object, ids may carry blanks, keys come in two
//! spellings, unknown fields and unknown kinds are kept. Strict in meaning: a message that names no buyer
//! where it must is unreadable, and says why.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{
    AgreedEnd, AgreementNews, END_WITHOUT_STATUS, Format, LicenseChange, LicenseNews, Meaning,
    Notification, SubscriptionAction, SubscriptionNews, TopicNews,
};
use crate::domain::{AgreementId, CustomerIdentifier, Id, ProductCode, fingerprint};

/// The source of every agreement and licence event.
const AGREEMENT_SOURCE: &str = "aws.agreement-marketplace";
/// The year that EventBridge writes as the end of an agreement without one.
const OPEN_END_YEAR: i16 = 9999;

/// A body as the transport handed it over.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// The body.
    pub body: &'a str,
    /// The transport's id of this message; names raw bodies, which have none of their own.
    pub transport_id: &'a str,
    /// The time at which the transport took it; dates raw bodies, which carry no time.
    pub sent_at: Timestamp,
}

/// A body that cannot be read, and why, for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unreadable {
    /// An id by which repetitions of the same body are recognised.
    pub id: String,
    /// The fault.
    pub reason: String,
}

/// Reads a notification in whatever format it came.
pub fn read(delivery: Delivery<'_>) -> Result<Notification, Unreadable> {
    let document = parse_object(delivery.body);
    let notification = document.and_then(|document| {
        // An envelope first: what stands beside its fields is not signed and says nothing.
        if is_envelope(&document) {
            envelope(&document, delivery)
        } else if is_event(&document) {
            event(&document, delivery)
        } else if document.contains_key("action") || document.contains_key("Action") {
            raw(&document, delivery)
        } else {
            Err("neither an SNS envelope, nor an AWS Marketplace message, nor an EventBridge event"
                .into())
        }
    });
    notification.map_err(|reason| Unreadable { id: content_id(delivery.body), reason })
}

/// Reports whether a body is an SNS envelope, which is signed.
pub(crate) fn is_sns_envelope(body: &str) -> bool {
    parse_object(body).is_ok_and(|document| is_envelope(&document))
}

/// Makes an id for content that carries none: equal for equal bodies.
pub(crate) fn content_id(body: &str) -> String {
    format!("sha256-{}", fingerprint(body, 16))
}

type Object = Map<String, Value>;

fn parse_object(body: &str) -> Result<Object, String> {
    match serde_json::from_str(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("not a JSON object".into()),
        Err(error) => Err(format!("not JSON: {error}")),
    }
}

fn is_envelope(document: &Object) -> bool {
    document.contains_key("Type")
}

fn is_event(document: &Object) -> bool {
    document.contains_key("detail-type") && document.contains_key("source")
}

/// Returns the first of these keys that holds a text beyond blanks.
fn text<'a>(object: &'a Object, keys: &[&str]) -> Option<&'a str> {
    keys.iter()
        .filter_map(|key| object.get(*key)?.as_str())
        .map(str::trim)
        .find(|text| !text.is_empty())
}

fn time(object: &Object, keys: &[&str]) -> Option<Timestamp> {
    text(object, keys)?.parse().ok()
}

fn id<K>(object: Option<&Object>, keys: &[&str]) -> Option<Id<K>> {
    text(object?, keys).map(Id::new)
}

fn part<'a>(object: &'a Object, key: &str) -> Option<&'a Object> {
    object.get(key)?.as_object()
}

/// Reads an SNS envelope.
fn envelope(document: &Object, delivery: Delivery<'_>) -> Result<Notification, String> {
    let kind = text(document, &["Type"]).ok_or("the SNS envelope's Type is no text")?;
    let at = time(document, &["Timestamp"]).unwrap_or(delivery.sent_at);
    let id =
        text(document, &["MessageId"]).map_or_else(|| content_id(delivery.body), str::to_owned);
    let notification = |kind: &str, meaning| Notification {
        id,
        format: Format::Sns,
        kind: kind.to_owned(),
        at,
        body: delivery.body.to_owned(),
        meaning,
    };
    if kind != "Notification" {
        return Ok(notification(kind, subscription_of_topic(document, kind)));
    }
    let message = match document.get("Message") {
        Some(Value::String(text)) => {
            parse_object(text).map_err(|reason| format!("the SNS Message is {reason}"))?
        }
        Some(Value::Object(object)) => object.clone(),
        _ => return Err("the SNS envelope has no Message".into()),
    };
    // A topic may relay EventBridge events too.
    if is_event(&message) {
        return event(&message, delivery);
    }
    let (kind, meaning) = action(&message)?;
    Ok(notification(&kind, meaning))
}

/// Reads the meaning of SNS's own messages.
fn subscription_of_topic(document: &Object, kind: &str) -> Meaning {
    let subscribed = match kind {
        "SubscriptionConfirmation" => true,
        "UnsubscribeConfirmation" => false,
        _ => return Meaning::Informational,
    };
    text(document, &["TopicArn"]).map_or(Meaning::Informational, |topic| {
        Meaning::Topic(TopicNews { topic_arn: topic.to_owned(), subscribed })
    })
}

/// Reads an SNS message delivered without its envelope.
fn raw(document: &Object, delivery: Delivery<'_>) -> Result<Notification, String> {
    let (kind, meaning) = action(document)?;
    Ok(Notification {
        id: delivery.transport_id.to_owned(),
        format: Format::Raw,
        kind,
        at: delivery.sent_at,
        body: delivery.body.to_owned(),
        meaning,
    })
}

/// Reads the body of AWS Marketplace's SNS messages.
fn action(message: &Object) -> Result<(String, Meaning), String> {
    let Some(word) = text(message, &["action", "Action"]) else {
        return Err("the SNS message has no action".into());
    };
    let subscription_action = SubscriptionAction::parse(word);
    if subscription_action.is_none() && word != "entitlement-updated" {
        return Ok((word.to_owned(), Meaning::Informational));
    }
    let customer_identifier: CustomerIdentifier =
        id(Some(message), &["customer-identifier", "CustomerIdentifier"])
            .ok_or_else(|| format!("{word} names no customer-identifier"))?;
    let product_code: ProductCode = id(Some(message), &["product-code", "ProductCode"])
        .ok_or_else(|| format!("{word} names no product-code"))?;
    let meaning = match subscription_action {
        None => Meaning::EntitlementUpdated { product_code, customer_identifier },
        Some(action) => Meaning::Subscription(SubscriptionNews {
            product_code,
            customer_identifier,
            action,
            free_trial: free_trial(message),
            offer_id: text(message, &["offer-identifier"]).map(str::to_owned),
        }),
    };
    Ok((word.to_owned(), meaning))
}

/// Reads whether there is a free trial: AWS sends the text "true" or "false", not a boolean.
fn free_trial(message: &Object) -> Option<bool> {
    match message.get("isFreeTrialTermPresent")? {
        Value::Bool(present) => Some(*present),
        Value::String(text) => Some(text.trim().eq_ignore_ascii_case("true")),
        _ => None,
    }
}

/// Reads an EventBridge event.
fn event(document: &Object, delivery: Delivery<'_>) -> Result<Notification, String> {
    let kind = text(document, &["detail-type"]).ok_or("the event has no detail-type")?;
    let empty = Object::new();
    let detail = part(document, "detail").unwrap_or(&empty);
    let meaning = if text(document, &["source"]) == Some(AGREEMENT_SOURCE) {
        // The suffix tells the seller's role in the sale, which changes nothing for us.
        let subject = kind.split(" - ").next().unwrap_or(kind).trim();
        match subject {
            "License Updated" => license(document, detail, LicenseChange::Updated)?,
            "License Deprovisioned" => license(document, detail, LicenseChange::Deprovisioned)?,
            "Purchase Agreement Created" | "Purchase Agreement Amended" => {
                agreement(document, detail, false)?
            }
            "Purchase Agreement Ended" => agreement(document, detail, true)?,
            _ => Meaning::Informational,
        }
    } else {
        Meaning::Informational
    };
    Ok(Notification {
        id: text(document, &["id"]).map_or_else(|| content_id(delivery.body), str::to_owned),
        format: Format::EventBridge,
        kind: kind.to_owned(),
        at: time(document, &["time"]).unwrap_or(delivery.sent_at),
        body: delivery.body.to_owned(),
        meaning,
    })
}

/// Returns the agreement that an event is about: its resource, should the detail leave it out.
fn agreement_of(event: &Object, detail: &Object) -> Option<AgreementId> {
    id(part(detail, "agreement"), &["id"]).or_else(|| {
        let resources = event.get("resources")?.as_array()?.iter().filter_map(Value::as_str);
        let mut named = resources.filter_map(|arn| Some(arn.trim().rsplit_once(":agreement:")?.1));
        named.next().and_then(Id::from_trimmed)
    })
}

fn license(event: &Object, detail: &Object, change: LicenseChange) -> Result<Meaning, String> {
    let license_arn = id(part(detail, "license"), &["arn"])
        .ok_or("the licence event names no licence (detail.license.arn)")?;
    let product = part(detail, "product");
    let product_code: Option<ProductCode> = id(product, &["code"]);
    let entity_id = id(product, &["id"]);
    if product_code.is_none() && entity_id.is_none() {
        return Err("the licence event names no product (detail.product.code)".into());
    }
    Ok(Meaning::License(LicenseNews {
        license_arn,
        change,
        product_code,
        entity_id,
        account_id: id(part(detail, "acceptor"), &["accountId"]),
        agreement_id: agreement_of(event, detail),
    }))
}

fn agreement(event: &Object, detail: &Object, ended: bool) -> Result<Meaning, String> {
    let agreement = part(detail, "agreement");
    let agreement_id = agreement_of(event, detail)
        .ok_or("the agreement event names no agreement (detail.agreement.id)")?;
    let field = |keys: &[&str]| agreement.and_then(|part| text(part, keys)).map(str::to_owned);
    let moment = |keys: &[&str]| agreement.and_then(|part| time(part, keys));
    let open = |end: &Timestamp| end.to_zoned(jiff::tz::TimeZone::UTC).year() >= OPEN_END_YEAR;
    Ok(Meaning::Agreement(AgreementNews {
        agreement_id,
        ended: ended.then(|| field(&["status"]).unwrap_or_else(|| END_WITHOUT_STATUS.into())),
        intent: field(&["intent"]),
        account_id: id(part(detail, "acceptor"), &["accountId"]),
        entity_id: id(part(detail, "product"), &["id"]),
        offer_id: part(detail, "offer").and_then(|offer| text(offer, &["id"])).map(str::to_owned),
        previous_agreement_id: id(agreement, &["previousAgreementId"]),
        starts_at: moment(&["startTime"]),
        ends_at: moment(&["endTime"])
            .map(|end| if open(&end) { AgreedEnd::Open } else { AgreedEnd::At(end) }),
    }))
}
