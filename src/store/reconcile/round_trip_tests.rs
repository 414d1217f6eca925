//! What looks at many buyers cost a database that takes a way to a server and back for each answer.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::observation::{Observation, ObservedBuyer};
use crate::domain::product::Dimension;
use crate::domain::reconciliation::{MaxEndings, Patience};
use crate::domain::{
    AccountId, BuyerRef, CustomerIdentifier, DimensionKey, EntityId, Grant, GrantValue, PlanId,
    ProductCode,
};
use crate::store::engine::sql::Connection;
use crate::store::test_database::open_store;
use crate::store::{During as _, ImportProduct, Listing, Store, StoreError};

const BUYERS: usize = 80;
/// The round trips to see which buyers have something in common: from ids to customers, to their other ids, and from those.
const GROUPING: u64 = 3;

fn contracts() -> ImportProduct {
    let pro = Dimension {
        key: DimensionKey::new("pro"),
        name: "Pro".into(),
        unit: None,
        types: vec!["Entitled".into()],
        plan_id: None,
        removed_at: None,
    };
    ImportProduct {
        product_id: None,
        listing: Listing {
            entity_id: EntityId::new("prod-1"),
            product_code: Some(ProductCode::new("code")),
            owner: None,
            title: "Thing".into(),
            visibility: "Public".into(),
            dimensions: vec![pro],
            problems: Vec::new(),
            document: serde_json::Value::Null,
        },
        plans: BTreeMap::from([(DimensionKey::new("pro"), PlanId::new("pro"))]),
        usage_plan: None,
        features: BTreeMap::new(),
    }
}

/// A look at so many buyers from this one on; each holds as many as `held` says.
fn look_from(
    first: usize,
    buyers: usize,
    held: impl Fn(usize) -> i64,
    at: Timestamp,
) -> Observation {
    let entry = |number: usize| {
        let identifier = CustomerIdentifier::new(format!("buyer-{number}"));
        let grant = Grant {
            product_code: ProductCode::new("code"),
            dimension: DimensionKey::new("pro"),
            customer_identifier: Some(identifier.clone()),
            account_id: None,
            license_arn: None,
            value: GrantValue::Integer(held(number)),
            expires_at: None,
        };
        let buyer = BuyerRef::CustomerIdentifier(identifier);
        ObservedBuyer { buyer, settles: Some(1), answer: Some(vec![grant]) }
    };
    let entries = (first..first + buyers).map(entry).collect();
    Observation { product_code: ProductCode::new("code"), observed_at: at, entries }
}

/// A look at so many buyers, of whom each holds one, and one holds so many.
fn look(buyers: usize, of_one: i64, at: Timestamp) -> Observation {
    look_from(0, buyers, |number| if number == buyers / 2 { of_one } else { 1 }, at)
}

/// Applies a look; returns how many subscriptions it changed, and the number of round trips.
async fn applied(store: &Store, observation: Observation) -> (usize, u64) {
    let round_trips = || async {
        store.write(|it: &Connection| Ok::<_, StoreError>(it.round_trips())).await.unwrap()
    };
    let patience = Patience {
        second_look: SignedDuration::from_secs(10),
        expiry_grace: SignedDuration::from_hours(1),
        max_endings: MaxEndings::default(),
    };
    let between = {
        let before = round_trips().await;
        round_trips().await - before
    };
    let (before, now) = (round_trips().await, observation.observed_at);
    let outcome = store.apply_observation(observation, patience, now).await.unwrap();
    assert!(outcome.refused.is_empty(), "{outcome:?}");
    (outcome.changes, round_trips().await - before - between)
}

#[tokio::test]
async fn a_look_at_many_buyers_takes_as_many_round_trips_as_one_at_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(&folder.path().join("marketd.db"));
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let at = |minutes| now + SignedDuration::from_mins(minutes);
    store.import_product(contracts(), now).await.unwrap();
    let (made, _) = applied(&store, look(BUYERS, 1, now)).await;
    assert_eq!(made, BUYERS);
    // What is prepared once is there after the first.
    applied(&store, look(BUYERS, 1, at(1))).await;
    let (_, of_one) = applied(&store, look(1, 1, at(2))).await;
    let (changes, of_all) = applied(&store, look(BUYERS, 1, at(3))).await;
    assert_eq!(changes, 0);
    assert!(of_all <= of_one + GROUPING, "a quiet look: {of_all} for {of_one}");
    let (changes, of_change) = applied(&store, look(1, 2, at(4))).await;
    assert_eq!(changes, 1);
    for (changed, minutes) in [(1, 5), (BUYERS, 6)] {
        let held = |number| if number < changed { 3 + minutes } else { 1 };
        let (changes, of_some) = applied(&store, look_from(0, BUYERS, held, at(minutes))).await;
        assert!(changes >= changed, "{changes}");
        assert!(of_some <= of_change + GROUPING, "{changed} changed: {of_some} for {of_change}");
    }
    let (_, of_new) = applied(&store, look_from(BUYERS, 1, |_| 1, at(7))).await;
    let (changes, of_all_new) = applied(&store, look_from(2 * BUYERS, BUYERS, |_| 1, at(8))).await;
    assert_eq!(changes, BUYERS);
    assert!(of_all_new <= of_new + GROUPING, "all are new: {of_all_new} for {of_new}");
    assert!(of_new < 50, "{of_new}");
    store.close();
}

async fn number(store: &Store, sql: &'static str) -> i64 {
    let read = move |it: &Connection| it.query_row(sql, [], |row| row.get(0)).during("test");
    store.write(read).await.unwrap()
}

#[tokio::test]
async fn buyers_who_turn_out_to_be_one_are_taken_over_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(&folder.path().join("marketd.db"));
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    store.import_product(contracts(), now).await.unwrap();
    let mapped = |it: &Connection| {
        let line = "INSERT INTO mappings (customer_identifier, account_id) VALUES ('buyer-7', '000000000007')";
        it.execute(line, []).during("test")
    };
    store.write(mapped).await.unwrap();
    let mut observation = look_from(0, 10, |_| 1, now);
    // AWS lists the first by both of its names, the ninth and the tenth by an account alone: that of the first, and that of
    // the eighth as the mapping has it.
    for (entry, account, by_account) in [(0, 1, false), (8, 1, true), (9, 7, true)] {
        let account = AccountId::new(format!("{account:012}"));
        let entry = &mut observation.entries[entry];
        for grant in entry.answer.iter_mut().flatten() {
            grant.account_id = Some(account.clone());
            grant.customer_identifier = grant.customer_identifier.take().filter(|_| !by_account);
        }
        if by_account {
            entry.buyer = BuyerRef::Account(account);
        }
    }
    applied(&store, observation).await;
    assert_eq!(number(&store, "SELECT count(*) FROM customers").await, 8);
    store.close();
}

#[tokio::test]
async fn endings_that_nobody_told_of_are_held_back_however_many_are_looked_at_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(&folder.path().join("marketd.db"));
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let at = |minutes| now + SignedDuration::from_mins(minutes);
    store.import_product(contracts(), now).await.unwrap();
    applied(&store, look(BUYERS, 1, now)).await;
    // AWS lists nobody any more, twice.
    for minutes in [1, 2] {
        let mut gone = look(BUYERS, 1, at(minutes));
        for entry in &mut gone.entries {
            entry.answer = Some(Vec::new());
        }
        applied(&store, gone).await;
    }
    let ended = "SELECT count(*) FROM subscriptions WHERE ended_at_ms IS NOT NULL";
    assert_eq!(number(&store, ended).await, 0, "a person is waited for");
    assert_eq!(number(&store, "SELECT count(*) FROM brakes").await, 1);
    store.close();
}
