//! What looks at many buyers cost a database that takes a way to a server and back for each answer.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::observation::{Observation, ObservedBuyer};
use crate::domain::product::Dimension;
use crate::domain::reconciliation::{MaxEndings, Patience};
use crate::domain::{
    BuyerRef, CustomerIdentifier, DimensionKey, EntityId, Grant, GrantValue, PlanId, ProductCode,
};
use crate::store::engine::sql::Connection;
use crate::store::test_database::open_store;
use crate::store::{ImportProduct, Listing, Store, StoreError};

const BUYERS: usize = 80;

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

/// A look at so many buyers, of whom each holds one, and one holds so many.
fn look(buyers: usize, of_one: i64, at: Timestamp) -> Observation {
    let entry = |number: usize| {
        let identifier = CustomerIdentifier::new(format!("buyer-{number}"));
        let grant = Grant {
            product_code: ProductCode::new("code"),
            dimension: DimensionKey::new("pro"),
            customer_identifier: Some(identifier.clone()),
            account_id: None,
            license_arn: None,
            value: GrantValue::Integer(if number == buyers / 2 { of_one } else { 1 }),
            expires_at: None,
        };
        let buyer = BuyerRef::CustomerIdentifier(identifier);
        ObservedBuyer { buyer, settles: Some(1), answer: Some(vec![grant]) }
    };
    let entries = (0..buyers).map(entry).collect();
    Observation { product_code: ProductCode::new("code"), observed_at: at, entries }
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
    assert_eq!(of_all, of_one, "a quiet look");
    // What one changes makes the others read anew, and together.
    let (changes, of_change) = applied(&store, look(BUYERS, 2, at(4))).await;
    assert_eq!(changes, 1);
    assert!(of_change <= of_all + 8, "{of_change} after {of_all}");
    store.close();
}
