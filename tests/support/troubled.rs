//! A world in which something needs a person.

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::world::{World, eventually};

/// A world in which 5 units of `acme`, who never bought at AWS, are parked, and a message is in quarantine.
pub(crate) async fn troubled(acme: Value, message: &str) -> World {
    let world = World::in_mid_month().await;
    trouble(&world, acme, message).await;
    world
}

/// Has the same happen in a world whose listings are imported.
pub(crate) async fn trouble(world: &World, acme: Value, message: &str) {
    let product = world.product("Acme Meter");
    let dimension = product.dimensions.iter().find(|it| product.meters(&it.key)).unwrap();
    world.put("/v1/customers/acme", acme).await;
    let event = json!({"id": "e-1", "customer_id": "acme", "product_id": product.entity_id,
        "dimension": dimension.key, "quantity": 5});
    let taken = world.post("/v1/usage", json!({"events": [event]})).await;
    assert_eq!(taken["accepted"], 1, "{taken}");
    world.inject(message);
    eventually("the message in quarantine", async || {
        let quarantined = world.list("/v1/notifications?state=quarantined").await;
        (quarantined.len() == 1).then_some(())
    })
    .await;
    world.sandbox().clock().advance(SignedDuration::from_hours(26)).unwrap();
    eventually("the parked record", async || {
        let parked = world.list("/v1/metering/records?state=parked").await;
        (parked.len() == 1).then_some(())
    })
    .await;
}
