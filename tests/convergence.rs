//! Losing the order of notifications, repeating them and mixing in rubbish does not change where the system
//! ends up: at what AWS holds.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use marketd::domain::reconciliation::Patience;
use marketd::domain::{
    AccountId, BuyerRef, CustomerIdentifier, DimensionKey, Grant, GrantValue, LicenseArn,
    ProductCode,
};
use marketd::intake::wire::{self, Delivery};
use marketd::sandbox::market::{CallContext, Channel, Market, Outgoing, Service};
use marketd::store::{Incoming, Look, LookEntry, Page, Store, SubscriptionFilter};
use serde_json::json;

const START: &str = "2026-11-02T00:00:00Z";
const RUBBISH: usize = 7;

fn patience() -> Patience {
    Patience {
        second_look: SignedDuration::from_secs(10),
        expiry_grace: SignedDuration::from_hours(1),
    }
}

/// One message as the queue hands it over.
#[derive(Clone, Debug)]
struct Message {
    body: String,
    transport_id: String,
    sent_at: Timestamp,
}

impl Message {
    fn of(outgoing: &Outgoing, number: usize) -> Self {
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

    fn incoming(&self) -> Incoming {
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

async fn look_at_everybody_due(store: &Store, market: &mut Market, now: Timestamp) {
    loop {
        let due = store.take_due_buyers(now, 500).await.unwrap();
        if due.is_empty() {
            return;
        }
        for buyer in due {
            let terms = store.product_terms(buyer.key.product_code.clone()).await.unwrap().unwrap();
            let answer = terms
                .has_contracts()
                .then(|| ask(market, &buyer.key.product_code, &buyer.key.buyer, now));
            let entry =
                LookEntry { buyer: buyer.key.buyer.clone(), settles: Some(buyer.marks), answer };
            let look = Look {
                product_code: buyer.key.product_code.clone(),
                observed_at: now,
                entries: vec![entry],
            };
            store.apply_look(look, patience(), now).await.unwrap();
        }
    }
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

async fn held_by_us(store: &Store) -> Vec<String> {
    let page = Page { after: None, limit: 100_000 };
    let subscriptions = store.subscriptions(SubscriptionFilter::default(), page).await.unwrap();
    let mut held: Vec<String> = subscriptions
        .iter()
        .filter(|subscription| subscription.terms.status.is_live())
        .map(|subscription| {
            let terms = &subscription.terms;
            let code = subscription.product_code.as_ref().unwrap();
            let holder = terms.holder.as_ref().unwrap().to_string();
            let (_, holder) = holder.split_once(':').unwrap();
            let dimension = terms.dimension.as_ref().map_or("-", DimensionKey::as_str);
            let quantity = terms.quantity.map_or("0".to_owned(), |quantity| quantity.to_string());
            format!("{code} {holder} {dimension} {quantity}")
        })
        .collect();
    held.sort();
    held
}

async fn check(seed: u64, steps: usize) {
    let mut rng = Rng::with_seed(seed);
    let mut market = Market::with_demo_catalog(seed);
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("marketd.db")).unwrap();
    let products: Vec<_> = market.products().cloned().collect();
    let start: Timestamp = START.parse().unwrap();
    // Half of the products are imported only after their notifications have come.
    for product in products.iter().step_by(2) {
        store.import_product(support::import(product), start).await.unwrap();
    }

    let mut now = start;
    let mut sent = Vec::new();
    support::live_a_while(
        &mut rng,
        &market.products().cloned().collect::<Vec<_>>(),
        steps,
        |wait, step| {
            now += wait;
            if let Some((account, action)) = step {
                // What makes no sense at this moment is refused by AWS, and nothing happens.
                market.act(now, &account, action).ok();
            }
            sent.extend(market.take_outgoing(now));
        },
    );
    let mut messages: Vec<Message> =
        sent.iter().enumerate().map(|(number, sent)| Message::of(sent, number)).collect();
    let distinct = messages.len() + RUBBISH;
    for number in 0..RUBBISH {
        let body = format!("{{\"rubbish\": {number}");
        messages.push(Message { body, transport_id: format!("rubbish-{number}"), sent_at: now });
    }
    let repeated: Vec<Message> =
        (0..messages.len() / 3).map(|_| rng.choice(&messages).unwrap().clone()).collect();
    messages.extend(repeated);
    rng.shuffle(&mut messages);

    for (number, batch) in messages.chunks(10).enumerate() {
        let batch = batch.iter().map(Message::incoming).collect();
        store.record_notifications(batch, now).await.unwrap();
        if number % 20 == 0 {
            look_at_everybody_due(&store, &mut market, now).await;
        }
    }
    for product in products.iter().skip(1).step_by(2) {
        store.import_product(support::import(product), now).await.unwrap();
    }
    look_at_everybody_due(&store, &mut market, now).await;
    let later = now + patience().second_look;
    market.tick(later);
    look_at_everybody_due(&store, &mut market, later).await;

    let (ours, theirs) = (held_by_us(&store).await, support::held_by_aws(&market));
    let only_ours: Vec<_> = ours.iter().filter(|it| !theirs.contains(it)).collect();
    let only_theirs: Vec<_> = theirs.iter().filter(|it| !ours.contains(it)).collect();
    assert!(
        only_ours.is_empty() && only_theirs.is_empty() && ours.len() == theirs.len(),
        "seed {seed}: only ours {only_ours:#?}, only AWS's {only_theirs:#?}"
    );
    let counts: BTreeMap<String, i64> =
        store.notification_counts().await.unwrap().into_iter().collect();
    let count = |state: &str| usize::try_from(counts.get(state).copied().unwrap_or(0)).unwrap();
    assert_eq!(count("quarantined"), RUBBISH, "seed {seed}: {counts:?}");
    assert_eq!(count("applied") + count("quarantined"), distinct, "seed {seed}: {counts:?}");
}

#[tokio::test]
async fn any_order_of_notifications_ends_at_what_aws_holds() {
    for seed in 0..8 {
        check(seed, 600).await;
    }
}

#[tokio::test]
async fn ten_thousand_notifications_end_at_what_aws_holds() {
    check(42, 9_000).await;
}
