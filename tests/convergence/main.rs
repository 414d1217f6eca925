//! Losing the order of notifications, repeating them and mixing in rubbish does not change where the system
//! ends up: at what AWS holds.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod importing;
mod listing;
mod missing;
#[path = "../support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use marketd::domain::AwsIds;
use marketd::domain::product::Dimension;
use marketd::domain::{
    DimensionKey, EntityId, Grant, GrantValue, Holder, Id, LicenseArn, PlanId, ProductCode,
};
use marketd::sandbox::market::{Buyer, Market, Options, Outgoing};
use marketd::store::{
    CustomerFilter, ImportProduct, Listing, NotificationFilter, Observation, ObservedBuyer, Order,
    Page, ProvisionCustomer, Store, SubscriptionFilter,
};
use serde_json::Value;
use support::database::open_store;
use support::seller::{Message, look_at_everybody_due, patience};

const START: &str = "2026-11-02T00:00:00Z";
const RUBBISH: usize = 7;

async fn held_by_us(store: &Store) -> Vec<String> {
    let page = Page { after: None, limit: 100_000 };
    let subscriptions = store.subscriptions(SubscriptionFilter::default(), page).await.unwrap();
    support::live(&subscriptions, Holder::value)
}

fn by_both_ids(buyer: &Buyer) -> ProvisionCustomer {
    let aws = AwsIds {
        account_id: Some(Id::new(&buyer.account_id)),
        customer_identifier: Some(Id::new(&buyer.customer_identifier)),
        license_arn: None,
    };
    let id = Id::new(format!("seller-{}", buyer.account_id));
    ProvisionCustomer { id, name: None, email: None, aws, metadata: None }
}

/// What was sent, some of it twice, with rubbish in between.
fn out_of_order(rng: &mut Rng, sent: &[Outgoing], now: Timestamp) -> Vec<Message> {
    let mut messages: Vec<Message> =
        sent.iter().enumerate().map(|(number, sent)| Message::of(sent, number)).collect();
    for number in 0..RUBBISH {
        let body = format!("{{\"rubbish\": {number}");
        messages.push(Message { body, transport_id: format!("rubbish-{number}"), sent_at: now });
    }
    let repeated: Vec<Message> =
        (0..messages.len() / 3).map(|_| rng.choice(&messages).unwrap().clone()).collect();
    messages.extend(repeated);
    rng.shuffle(&mut messages);
    messages
}

async fn check(seed: u64, steps: usize) {
    let mut rng = Rng::with_seed(seed);
    let mut market = Market::with_demo_catalog(seed);
    market.set_options(Options { names_licensed_buyers: rng.bool(), ..Options::default() });
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(&folder.path().join("marketd.db"));
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
    let distinct = sent.len() + RUBBISH;
    let messages = out_of_order(&mut rng, &sent, now);
    // The seller may come to know somebody by all of AWS's names, whatever they have bought under which.
    let accounts: BTreeSet<&str> =
        market.agreements().iter().map(|it| it.account_id.as_str()).collect();
    let mut nobody_yet: Vec<Buyer> =
        accounts.into_iter().filter_map(|it| market.buyer(it)).cloned().collect();
    rng.shuffle(&mut nobody_yet);
    for (number, batch) in messages.chunks(10).enumerate() {
        let batch = batch.iter().map(Message::incoming).collect();
        store.record_notifications(batch, now).await.unwrap();
        if number % 3 == 0
            && let Some(buyer) = nobody_yet.pop()
        {
            store.provision_customer(by_both_ids(&buyer), now).await.unwrap();
        }
        if number % 30 == 7 {
            // Half of them are imported by now.
            let product = rng.choice(&products).unwrap();
            listing::sweep(&store, &mut market, product, now).await;
        }
        if number % 20 == 0 {
            look_at_everybody_due(&store, &mut market, now).await.unwrap();
        }
    }
    for product in products.iter().skip(1).step_by(2) {
        store.import_product(support::import(product), now).await.unwrap();
    }
    look_at_everybody_due(&store, &mut market, now).await.unwrap();
    let later = now + patience().second_look;
    market.tick(later);
    look_at_everybody_due(&store, &mut market, later).await.unwrap();

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
    let seeds = std::env::var("MARKETD_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    for seed in 0..seeds.unwrap_or(8) {
        check(seed, 600).await;
    }
}

#[tokio::test]
async fn ten_thousand_notifications_end_at_what_aws_holds() {
    check(42, 9_000).await;
}

/// The fixtures as the queue hands them over, each at its own time.
fn messages() -> Vec<Message> {
    let start: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
    let of = |(number, (name, body)): (usize, (String, String))| {
        let sent_at = start + SignedDuration::from_mins(i64::try_from(number).unwrap());
        Message { body, transport_id: format!("sqs-{name}"), sent_at }
    };
    support::notifications().into_iter().enumerate().map(of).collect()
}

const CODE: &str = "n0123examplexxxxxxxxxxxx1";
const LICENSE: &str =
    "arn:aws:license-manager::294406891311:license:l-9d01d15f86334a8894365cd7350556fa";

/// The product that the fixtures speak of, sold by contract or by usage.
fn import(sold: &str) -> ImportProduct {
    let key = DimensionKey::new("units");
    let dimension = Dimension {
        key: key.clone(),
        name: "Units".into(),
        unit: None,
        types: vec![sold.into()],
        plan_id: None,
        removed_at: None,
    };
    let by_usage = sold != "Entitled";
    ImportProduct {
        product_id: None,
        listing: Listing {
            owner: None,
            entity_id: EntityId::new("prod-aw4fgf5tyo5w2"),
            product_code: Some(ProductCode::new(CODE)),
            title: "Product Title".into(),
            visibility: "Public".into(),
            dimensions: vec![dimension],
            problems: Vec::new(),
            document: Value::Null,
        },
        plans: (!by_usage).then(|| (key, PlanId::new("units"))).into_iter().collect(),
        usage_plan: by_usage.then(|| PlanId::new("usage")),
        features: BTreeMap::new(),
    }
}

/// Looks at AWS for everybody who is due; of a contract it lists one.
async fn look(store: &Store, sold: &str, now: Timestamp) {
    let grant = Grant {
        product_code: ProductCode::new(CODE),
        dimension: DimensionKey::new("units"),
        customer_identifier: None,
        account_id: Some(Id::new("845735284135")),
        license_arn: Some(LicenseArn::new(LICENSE)),
        value: GrantValue::Integer(3),
        expires_at: Some("2027-11-24T09:00:00Z".parse().unwrap()),
    };
    loop {
        let due = store.due_buyers(now, 500).await.unwrap();
        if due.is_empty() {
            return;
        }
        for buyer in due {
            let is_holder = buyer.key.buyer.value() == "845735284135";
            let listed: Vec<Grant> = is_holder.then(|| grant.clone()).into_iter().collect();
            let answer = (sold == "Entitled").then_some(listed);
            let entry = ObservedBuyer {
                buyer: buyer.key.buyer.clone(),
                settles: Some(buyer.marks),
                answer,
            };
            let product_code = buyer.key.product_code;
            let look = Observation { product_code, observed_at: now, entries: vec![entry] };
            store.apply_observation(look, patience(), now).await.unwrap();
        }
    }
}

/// Everything that a reader can see, apart from when and how often it came and from ids that are drawn.
async fn state(store: &Store) -> String {
    let page = || Page { after: None, limit: 1_000 };
    let mut lines = Vec::new();
    let all = NotificationFilter::default();
    for row in store.notifications(all, Order::Oldest, page()).await.unwrap().rows {
        let (id, at) = (row.id, if row.state == "quarantined" { None } else { Some(row.at) });
        let (format, kind, state, reason) = (row.format, row.kind, row.state, row.reason);
        lines.push(format!("{id} {format} {kind} {state} {reason:?} {at:?} {}", row.body));
    }
    for held in store.subscriptions(SubscriptionFilter::default(), page()).await.unwrap() {
        lines.push(format!("{} {:?} {:#?}", held.customer_id, held.product_id, held.terms));
    }
    for customer in store.customers(CustomerFilter::default(), page()).await.unwrap() {
        lines.push(format!("{} {:?} {:?}", customer.id, customer.aws, customer.aliases));
    }
    lines.sort();
    lines.join("\n")
}

/// Where the store ends up after these messages in an order of the seed's choice.
async fn end_of(seed: u64, sold: &str) -> String {
    let mut rng = Rng::with_seed(seed);
    let mut order = messages();
    // The first seed's order is that of the files, once each.
    if seed > 0 {
        let repeated: Vec<Message> =
            (0..order.len()).map(|_| rng.choice(&order).unwrap().clone()).collect();
        order.extend(repeated);
        rng.shuffle(&mut order);
    }
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(&folder.path().join("marketd.db"));
    support::share_customer_ids(&folder.path().join("marketd.db"));
    let now: Timestamp = "2026-11-25T00:00:00Z".parse().unwrap();
    let imported_at = rng.usize(0..order.len());
    for (number, batch) in order.chunks(rng.usize(1..12)).enumerate() {
        if number * batch.len() >= imported_at {
            store.import_product(import(sold), now).await.ok();
        }
        let batch = batch.iter().map(Message::incoming).collect();
        store.record_notifications(batch, now).await.unwrap();
        if rng.u8(0..4) == 0 {
            look(&store, sold, now).await;
        }
    }
    store.import_product(import(sold), now).await.ok();
    look(&store, sold, now).await;
    look(&store, sold, now + patience().second_look).await;
    state(&store).await
}

#[tokio::test]
async fn whatever_their_order_the_store_ends_up_in_one_state() {
    for sold in ["Entitled", "ExternallyMetered"] {
        let expected = end_of(0, sold).await;
        for seed in 1..13 {
            let found = end_of(seed, sold).await;
            let differs = expected.lines().zip(found.lines()).find(|(one, other)| one != other);
            assert!(found == expected, "seed {seed}, {sold}: {differs:#?}");
        }
    }
}
