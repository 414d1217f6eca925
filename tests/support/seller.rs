//! The seller's side without a daemon: messages taken in, and AWS asked about buyers.

use jiff::{SignedDuration, Timestamp};
use marketd::domain::agreement::SeenAgreement;
use marketd::domain::notification::wire::{self, Delivery};
use marketd::domain::reconciliation::{MaxEndings, Patience};
use marketd::domain::{
    AccountId, AgreementId, BuyerRef, CustomerIdentifier, DimensionKey, Grant, GrantValue,
    LicenseArn, ProductCode,
};
use marketd::sandbox::market::{Agreement, CallContext, Channel, Market, Outgoing, Service};
use marketd::store::{Incoming, Observation, ObservedBuyer, Store, StoreError};
use serde_json::json;

/// An agreement as a search of the Agreement API shows it.
pub(crate) fn seen(it: &Agreement) -> SeenAgreement {
    SeenAgreement {
        agreement_id: AgreementId::new(&it.agreement_id),
        initial_agreement_id: Some(AgreementId::new(&it.initial_agreement_id)),
        account_id: Some(AccountId::new(&it.account_id)),
        offer_id: Some(it.offer_id.clone()),
        status: it.status.as_str().into(),
        starts_at: Some(it.starts_at),
        ends_at: it.ends_at,
        updated_at: Some(it.updated_at),
        licenses: vec![LicenseArn::new(&it.license_arn)],
    }
}

pub(crate) fn patience() -> Patience {
    Patience {
        second_look: SignedDuration::from_secs(10),
        expiry_grace: SignedDuration::from_hours(1),
        max_endings: MaxEndings::default(),
    }
}

/// One message as the queue hands it over.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) body: String,
    pub(crate) transport_id: String,
    pub(crate) sent_at: Timestamp,
}

impl Message {
    pub(crate) fn of(outgoing: &Outgoing, number: usize) -> Self {
        let body = match &outgoing.channel {
            Channel::EventBridge { event } => event.to_string(),
            Channel::Sns { topic_arn, message } => json!({
                "Type": "Notification",
                "MessageId": format!("sns-{number}"),
                "TopicArn": topic_arn,
                "Message": message,
                "Timestamp": outgoing.at.to_string(),
            })
            .to_string(),
        };
        Self { body, transport_id: format!("sqs-{number}"), sent_at: outgoing.at }
    }

    pub(crate) fn incoming(&self) -> Incoming {
        let delivery =
            Delivery { body: &self.body, transport_id: &self.transport_id, sent_at: self.sent_at };
        match wire::read(delivery) {
            Ok(notification) => Incoming::Notification(Box::new(notification)),
            Err(wire::Unreadable { id, reason }) => {
                Incoming::Unreadable { id, body: self.body.clone(), reason }
            }
        }
    }
}

/// Looks at AWS for every buyer who is due, as the daemon does.
pub(crate) async fn look_at_everybody_due(
    store: &Store,
    market: &mut Market,
    now: Timestamp,
) -> Result<(), StoreError> {
    for _ in 0..1_000 {
        let due = store.due_buyers(now, 500).await?;
        if due.is_empty() {
            return Ok(());
        }
        for buyer in due {
            let terms = store.product_terms(buyer.key.product_code.clone()).await?.unwrap();
            let answer = terms
                .has_contracts()
                .then(|| ask(market, &buyer.key.product_code, &buyer.key.buyer, now));
            let entry = ObservedBuyer {
                buyer: buyer.key.buyer.clone(),
                settles: Some(buyer.marks),
                answer,
            };
            let look = Observation {
                product_code: buyer.key.product_code.clone(),
                observed_at: now,
                entries: vec![entry],
            };
            store.apply_observation(look, patience(), now).await?;
        }
    }
    panic!("looking at buyers never ends");
}

/// Looks at AWS for every buyer of a product who holds something, as a sweep does where contracts are sold.
pub(crate) async fn look_at_who_holds_something(
    store: &Store,
    market: &mut Market,
    product_code: &ProductCode,
    now: Timestamp,
) -> Result<(), StoreError> {
    if !store.product_terms(product_code.clone()).await?.unwrap().has_contracts() {
        return Ok(());
    }
    for buyer in store.live_buyers(product_code.clone()).await? {
        let answer = Some(ask(market, product_code, &buyer, now));
        let entries = vec![ObservedBuyer { buyer, settles: None, answer }];
        let look = Observation { product_code: product_code.clone(), observed_at: now, entries };
        store.apply_observation(look, patience(), now).await?;
    }
    Ok(())
}

fn ask(market: &mut Market, code: &ProductCode, buyer: &BuyerRef, now: Timestamp) -> Vec<Grant> {
    let key = match buyer {
        BuyerRef::Account(_) => "CUSTOMER_AWS_ACCOUNT_ID",
        BuyerRef::CustomerIdentifier(_) => "CUSTOMER_IDENTIFIER",
        BuyerRef::License(_) => "LICENSE_ARN",
    };
    let context = CallContext { now, region: "us-east-1".into(), unprocessed: None };
    let mut grants = Vec::new();
    let mut token = None;
    loop {
        let mut input = json!({"ProductCode": code.as_str(), "Filter": {key: [buyer.value()]}, "MaxResults": 25});
        if let Some(token) = token {
            input["NextToken"] = token;
        }
        let page = market.call(&context, Service::Entitlement, "GetEntitlements", &input).unwrap();
        for row in page["Entitlements"].as_array().into_iter().flatten() {
            let text = |key: &str| row[key].as_str().filter(|text| !text.is_empty());
            grants.push(Grant {
                product_code: code.clone(),
                dimension: DimensionKey::new(text("Dimension").unwrap()),
                customer_identifier: text("CustomerIdentifier").map(CustomerIdentifier::new),
                account_id: text("CustomerAWSAccountId").map(AccountId::new),
                license_arn: text("LicenseArn").map(LicenseArn::new),
                value: GrantValue::Integer(row["Value"]["IntegerValue"].as_i64().unwrap()),
                expires_at: row["ExpirationDate"].as_number().map(whole_seconds),
            });
        }
        match page.get("NextToken").filter(|token| !token.is_null()) {
            Some(next) => token = Some(next.clone()),
            None => return grants,
        }
    }
}

/// AWS's times are numbers of seconds, here and there with a fraction.
fn whole_seconds(seconds: &serde_json::Number) -> Timestamp {
    let text = seconds.to_string();
    let whole = text.split('.').next().unwrap_or(&text);
    Timestamp::from_second(whole.parse().unwrap()).unwrap()
}
