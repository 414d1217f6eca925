//! Losing the order of notifications, repeating them and mixing in rubbish does not change where the system
//! ends up: at what AWS holds.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;

use fastrand::Rng;
use jiff::Timestamp;
use marketd::domain::DimensionKey;
use marketd::sandbox::market::Market;
use marketd::store::{Page, Store, SubscriptionFilter};
use support::seller::{Message, look_at_everybody_due, patience};

const START: &str = "2026-11-02T00:00:00Z";
const RUBBISH: usize = 7;

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
