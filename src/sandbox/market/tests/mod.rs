//! AWS's rules as tables: one row, one rule.

mod agreements;
mod entitlements;
mod lifecycle;
mod metering;
mod registration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    Action, ActionOutcome, ApiError, CallContext, Channel, Market, Order, Protocol, Service,
};

pub(super) const BUYER: &str = "123456789012";

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().expect("a test's time is valid")
}

pub(super) fn context(now: Timestamp) -> CallContext {
    CallContext { now, region: "us-east-1".to_owned(), unprocessed: None }
}

/// Returns the code of the demo product of a kind.
pub(super) fn code(market: &Market, protocol: Protocol, has_contract: bool) -> String {
    let mut products = market.products();
    let found = products
        .find(|it| it.protocol == protocol && it.pricing.has_contract() == has_contract)
        .expect("the demo catalog has every kind");
    found.product_code.clone()
}

pub(super) fn act(market: &mut Market, now: &str, action: Action) -> ActionOutcome {
    market.act(at(now), BUYER, action).expect("the action is possible")
}

/// Returns what has been published, one short line each.
pub(super) fn published(market: &mut Market, now: &str) -> Vec<String> {
    market.take_outgoing(at(now)).into_iter().map(|it| line(&it.channel)).collect()
}

fn line(channel: &Channel) -> String {
    match channel {
        Channel::Sns { topic_arn, message } => {
            let topic =
                if topic_arn.contains("entitlement") { "entitlement" } else { "subscription" };
            let body: Value = serde_json::from_str(message).expect("a message is JSON");
            format!("{topic}: {}", body["action"].as_str().unwrap_or_default())
        }
        Channel::EventBridge { event } => {
            let agreement = &event["detail"]["agreement"];
            let name = event["detail-type"].as_str().unwrap_or_default();
            let note = agreement["intent"].as_str().or(agreement["status"].as_str());
            match note {
                Some(note) => format!("{name} {note}"),
                None => name.to_owned(),
            }
        }
    }
}

pub(super) fn entitlements(
    market: &mut Market,
    now: &str,
    input: &Value,
) -> Result<Value, ApiError> {
    market.call(&context(at(now)), Service::Entitlement, "GetEntitlements", input)
}

/// Calls `BatchMeterUsage` with one legacy record, and returns the status, or the exception.
pub(super) fn meter(market: &mut Market, now: &str, request: &Value) -> String {
    let call = market.call(&context(at(now)), Service::Metering, "BatchMeterUsage", request);
    match call {
        Ok(answer) => answer["Results"][0]["Status"].as_str().unwrap_or_default().to_owned(),
        Err(error) => error.code.to_owned(),
    }
}

/// Makes a legacy request of one record for the test's buyer.
pub(super) fn legacy_record(code: &str, when: &str, quantity: u64) -> Value {
    json!({"ProductCode": code, "UsageRecords": [{
        "Timestamp": at(when).as_second(),
        "CustomerAWSAccountId": BUYER,
        "CustomerIdentifier": "",
        "Dimension": "requests",
        "Quantity": quantity,
    }]})
}

pub(super) fn order(market: &Market, protocol: Protocol, has_contract: bool) -> Order {
    let order = Order::of(code(market, protocol, has_contract));
    if has_contract { order.with("pro", 1) } else { order }
}

pub(super) const HOUR: SignedDuration = SignedDuration::from_hours(1);
