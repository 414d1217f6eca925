//! What finance asks of the console: the month, until when it changes, and a record by the id on AWS's bill.

use jiff::SignedDuration;
use marketd::sandbox::market::{Action, Order};
use reqwest::header;

use super::browser;
use super::money::uses;
use crate::support::world::{World, eventually};
use serde_json::json;

const BUYER: &str = "123456789012";

/// A world with a buyer, `acme`, some of whose usage AWS has taken: the id that AWS gave the record, and our own.
async fn billed() -> (World, String, String) {
    let world = World::in_mid_month().await;
    world.put("/v1/customers/acme", json!({"aws": {"account_id": BUYER}})).await;
    let order = Order::of(world.product("Acme Insight").product_code).with("basic", 1);
    world.act(BUYER, Action::Purchase(order));
    eventually("the subscription", async || {
        (world.list("/v1/subscriptions?customer_id=acme").await.len() == 1).then_some(())
    })
    .await;
    uses(&world, "Acme Insight", 5).await;
    world.sandbox().clock().advance(SignedDuration::from_hours(2)).unwrap();
    let record = eventually("the record", async || {
        let records = world.list("/v1/metering/records?state=accepted").await;
        records.into_iter().find(|it| it["metering_record_id"].is_string())
    })
    .await;
    let text = |name: &str| record[name].as_str().unwrap().to_owned();
    (world, text("metering_record_id"), text("id"))
}

#[tokio::test]
async fn a_record_is_found_by_the_id_that_aws_gave_it() {
    let (world, aws_id, id) = billed().await;
    let answer = browser().get(format!("{}/search?q={aws_id}", world.url())).send().await.unwrap();
    let place = answer.headers().get(header::LOCATION).map(|it| it.to_str().unwrap().to_owned());
    let page = answer.text().await.unwrap();
    assert_eq!(place, Some(format!("/metering/records/{id}")), "{page}");
    let page = world.get_text("/metering?state=bogus").await;
    assert!(page.contains("“bogus” is none of open, "), "{page}");
    assert!(page.contains(", carried_forward"), "{page}");
    world.stop().await;
}

#[tokio::test]
async fn a_month_is_linked_for_ever_and_says_until_when_late_reports_change_it() {
    let (world, ..) = billed().await;
    let month = "/metering/months/2026-11";
    let page = world.get_text(month).await;
    assert!(page.contains("Late reports change the month until 2026-12-01 06:00"), "{page}");
    let begin = "2026-12-01T00:30:00Z".parse().unwrap();
    world.sandbox().clock().set(begin);
    let page = world.get_text(month).await;
    assert!(page.contains("reports until 2026-12-01 06:00 still counts in it"), "{page}");
    assert!(!page.contains("Nothing keeps it open"), "{page}");
    world.sandbox().clock().advance(SignedDuration::from_hours(6)).unwrap();
    let page = world.get_text(month).await;
    assert!(page.contains("Since 2026-12-01 06:00 no late report changes the month"), "{page}");
    assert!(page.contains("Nothing keeps it open"), "{page}");
    world.sandbox().clock().advance(SignedDuration::from_hours(24 * 90)).unwrap();
    let page = world.get_text("/metering").await;
    assert!(page.contains("<a href=\"metering/months/2026-11\">Month 2026-11</a>"), "{page}");
    assert!(page.contains("<a href=\"metering/months/2027-03\">Month 2027-03</a>"), "{page}");
    assert!(!page.contains("months/2027-01"), "nothing was metered in it: {page}");
    world.stop().await;
}
