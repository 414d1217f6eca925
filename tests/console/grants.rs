//! What pages say of what plans grant: what is billed without a grant, what nothing bills, and which plan or feature is meant.

use jiff::SignedDuration;
use marketd::sandbox::market::{Action, Order};
use serde_json::json;

use super::money::uses;
use super::words::{connect, send};
use crate::support::world::{World, eventually};

const BUYER: &str = "123456789012";

/// A world with a buyer, `acme`, who bought a plan of Acme Insight.
async fn with_buyer(plan: &str) -> World {
    let world = World::in_mid_month().await;
    world.put("/v1/customers/acme", json!({"aws": {"account_id": BUYER}})).await;
    let order = Order::of(world.product("Acme Insight").product_code).with(plan, 1);
    world.act(BUYER, Action::Purchase(order));
    eventually("the subscription", async || {
        (world.list("/v1/subscriptions?customer_id=acme").await.len() == 1).then_some(())
    })
    .await;
    world
}

#[tokio::test]
async fn what_is_billed_though_no_plan_grants_it_is_said_where_it_is_mapped_and_of_who_holds_it() {
    let world = with_buyer("basic").await;
    let entity = world.product("Acme Insight").entity_id;
    let products = world.list("/v1/products").await;
    let insight = products.iter().find(|it| it["title"] == "Acme Insight").unwrap();
    let id = insight["id"].as_str().unwrap();
    let feature = json!({"name": "API calls", "type": "metered", "dimensions": {id: "api_calls"}});
    world.put("/v1/features/calls", feature).await;
    let seen = async |said: &str, holder_is_told: bool| {
        for page in [format!("/listings/{entity}/import"), format!("/products/{id}")] {
            let page = world.get_text(&page).await;
            assert_eq!(page.contains("API calls is billed although"), !said.is_empty(), "{page}");
            assert!(page.contains(said), "{said}: {page}");
        }
        let page = world.get_text("/customers/acme").await;
        let is_told = page.contains("API calls is billed although plan ");
        assert_eq!(is_told, holder_is_told, "{page}");
    };
    seen("no plan of Acme Insight grants it", false).await;
    for plan in ["basic", "pro"] {
        world.put("/v1/features/sso", json!({"name": "SSO", "type": "boolean"})).await;
        world.put(&format!("/v1/plans/{plan}/entitlements/sso"), json!({})).await;
        world.post(&format!("/v1/plans/{plan}/publish"), json!({})).await;
    }
    eventually("the access", async || {
        let access = world.get("/v1/customers/acme/entitlements/calls").await;
        (access["reason"] == "feature_not_in_plan").then_some(())
    })
    .await;
    seen("no plan of Acme Insight grants it", true).await;
    world.put("/v1/plans/pro/entitlements/calls", json!({"unlimited": true})).await;
    world.post("/v1/plans/pro/publish", json!({})).await;
    seen("although plans Basic and Enterprise do not grant it", true).await;
    for plan in ["basic", "enterprise"] {
        world.put(&format!("/v1/plans/{plan}/entitlements/calls"), json!({"limit": 10})).await;
        world.post(&format!("/v1/plans/{plan}/publish"), json!({})).await;
    }
    eventually("the access", async || {
        let access = world.get("/v1/customers/acme/entitlements/calls").await;
        (access["has_access"] == true).then_some(())
    })
    .await;
    seen("", false).await;

    let page = world.get_text("/plans/pro").await;
    assert!(page.contains("<a href=\"features/calls\">API calls</a>"), "{page}");
    assert!(page.contains("unlimited, all of it billed"), "{page}");
    let page = world.get_text("/customers/acme").await;
    assert!(page.contains("<a href=\"features/calls\">API calls</a>"), "{page}");
    world.stop().await;
}

#[tokio::test]
async fn a_grant_whose_dimension_is_gone_says_which() {
    let world = World::in_mid_month().await;
    let product = world.product("Acme Insight");
    let products = world.list("/v1/products").await;
    let insight = products.iter().find(|it| it["title"] == "Acme Insight").unwrap();
    let id = insight["id"].as_str().unwrap().to_owned();
    let feature = json!({"name": "API calls", "type": "metered", "dimensions": {&id: "api_calls"}});
    world.put("/v1/features/calls", feature).await;
    world.put("/v1/plans/pro/entitlements/calls", json!({"limit": 10})).await;
    connect(&world).await;
    let lost = format!("{}/api_calls", product.product_code);
    let gone = [("lost", lost.as_str())];
    let (status, page) = send(&world, "/sandbox/dimensions", &gone).await;
    assert_eq!(status, 303, "{page}");
    let (status, page) = send(&world, &format!("/products/{id}/sync"), &[]).await;
    assert_eq!(status, 200, "{page}");
    for page in ["/plans/pro", "/plans/pro/publish"] {
        let page = world.get_text(page).await;
        assert!(
            page.contains(
                "Dimension <code>api_calls</code> of Acme Insight, which bills API calls, is gone"
            ),
            "{page}"
        );
        assert!(!page.contains("Acme Insight has no dimension for"), "{page}");
    }
    world.stop().await;
}

#[tokio::test]
async fn two_of_one_name_are_told_apart_and_filters_offer_names() {
    let world = World::in_mid_month().await;
    for plan in ["own-1", "own-2"] {
        world.put(&format!("/v1/plans/{plan}"), json!({"name": "Our own"})).await;
        world.put("/v1/features/seats", json!({"name": "Seats", "type": "numeric"})).await;
        world.put(&format!("/v1/plans/{plan}/entitlements/seats"), json!({"limit": 5})).await;
        let page = world.get_text(&format!("/plans/{plan}/publish")).await;
        assert!(page.contains(&format!("<code>{plan}</code>")), "{page}");
    }
    let page = world.get_text("/features/seats").await;
    assert!(page.contains("<code>own-1</code>") && page.contains("<code>own-2</code>"), "{page}");
    assert!(page.contains("<dd>a limit</dd>") && !page.contains("<dd>numeric"), "{page}");
    let id = world.list("/v1/products").await[0]["id"].as_str().unwrap().to_owned();
    for page in ["customers", "metering", "plans", "subscriptions"] {
        let page = world.get_text(&format!("/{page}?product_id={id}")).await;
        assert!(page.contains(&format!("<option value=\"{id}\" selected>Acme ")), "{page}");
    }
    for page in ["customers", "subscriptions"] {
        let page = world.get_text(&format!("/{page}?plan_id=own-2")).await;
        assert!(page.contains("<option value=\"own-2\" selected>Our own (own-2)"), "{page}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_trial_of_ones_own_has_the_end_that_is_given_or_says_that_it_has_none() {
    let world = World::in_mid_month().await;
    world.put("/v1/plans/own", json!({"name": "Our own"})).await;
    world.post("/v1/plans/own/publish", json!({})).await;
    for customer in ["one", "two"] {
        world.put(&format!("/v1/customers/{customer}"), json!({})).await;
    }
    let trial = |customer, end| {
        [("customer_id", customer), ("plan_id", "own"), ("trial", "yes"), ("ends_at", end)]
    };
    let (status, page) = send(&world, "/subscriptions", &trial("one", "soon")).await;
    assert_eq!(status, 400, "{page}");
    assert!(page.contains("“Ends on” is a day such as 2026-12-31"), "{page}");
    assert_eq!(send(&world, "/subscriptions", &trial("one", "")).await.0, 303);
    assert_eq!(send(&world, "/subscriptions", &trial("two", "2026-12-31")).await.0, 303);
    let page = world.get_text("/subscriptions/one-own").await;
    assert!(page.contains("when you end it, though it is a trial"), "{page}");
    let page = world.get_text("/customers/one").await;
    assert!(page.contains(">when you end it</td>"), "{page}");
    let page = world.get_text("/customers/two").await;
    assert!(page.contains("2026-12-31 00:00") && !page.contains(">when you end it"), "{page}");
    world.stop().await;
}

#[tokio::test]
async fn a_renewed_subscription_says_when_it_was_first_bought_and_when_the_term_began() {
    let world = with_buyer("basic").await;
    world.sandbox().clock().advance(SignedDuration::from_hours(48)).unwrap();
    let page = world.get_text("/customers/acme").await;
    assert!(page.contains("2026-11-10 09:05") && !page.contains("present term"), "{page}");
    let order = Order::of(world.product("Acme Insight").product_code).with("basic", 1);
    world.act(BUYER, Action::Renew(Order { new_license: true, ..order }));
    let (page, id) = eventually("the renewal", async || {
        let page = world.get_text("/customers/acme").await;
        let held = world.list("/v1/subscriptions?customer_id=acme&status=active").await;
        let id = held.first()?["id"].as_str()?.to_owned();
        page.contains("present term").then_some((page, id))
    })
    .await;
    let began = page.split("present term").next().unwrap().rsplit("<td").next().unwrap();
    assert!(began.contains("2026-11-10 09:05"), "{page}");
    let page = world.get_text(&format!("/subscriptions/{id}")).await;
    assert!(page.contains("First began") && page.contains("Present term began"), "{page}");
    // The licence's messages say nothing of a trial.
    assert!(page.contains("<dt>Free trial</dt><dd>not known: of a licence"), "{page}");
    world.stop().await;
}

#[tokio::test]
async fn a_free_trial_of_awss_is_said_with_what_is_known_of_its_end() {
    let world = World::in_mid_month().await;
    let order = Order::of(world.product("Acme Meter").product_code);
    world.act(BUYER, Action::Subscribe(Order { free_trial: true, ..order }));
    let held = eventually("the trial", async || {
        world.list("/v1/subscriptions?status=trialing").await.into_iter().next()
    })
    .await;
    let page = world.get_text(&format!("/subscriptions/{}", held["id"].as_str().unwrap())).await;
    assert!(page.contains("<dt>Free trial</dt><dd>yes, by AWS&#39;s message"), "{page}");
    world.stop().await;
}

#[tokio::test]
async fn a_record_of_an_ended_subscription_is_not_offered_what_it_cannot_bear() {
    let world = with_buyer("basic").await;
    connect(&world).await;
    world.arm(marketd::sandbox::Fault {
        operation: "BatchMeterUsage".into(),
        kind: marketd::sandbox::FaultKind::Deny,
        times: None,
        one_in: None,
        amount: None,
    });
    uses(&world, "Acme Insight", 5).await;
    let page = world.get_text("/integration/remove").await;
    assert!(page.contains("<strong>5 units</strong> of usage wait to be billed."), "{page}");
    world.sandbox().clock().advance(SignedDuration::from_hours(2)).unwrap();
    eventually("the hour to close", async || {
        let records = world.list("/v1/metering/records").await;
        (records[0]["state"] != "open").then_some(())
    })
    .await;
    let order = Order::of(world.product("Acme Insight").product_code);
    world.act(BUYER, Action::Cancel(order));
    eventually("the end", async || {
        (world.list("/v1/subscriptions").await[0]["status"] != "active").then_some(())
    })
    .await;
    world.sandbox().clock().advance(SignedDuration::from_hours(30)).unwrap();
    let parked = eventually("the parked record", async || {
        world.list("/v1/metering/records?state=parked").await.into_iter().next()
    })
    .await;
    let page =
        world.get_text(&format!("/metering/records/{}", parked["id"].as_str().unwrap())).await;
    assert!(page.contains("This one cannot be carried forward: the subscription"), "{page}");
    assert!(!page.contains("id=\"carry_forward\""), "{page}");
    assert!(page.contains("id=\"write_off\""), "{page}");
    let page = world.get_text("/").await;
    assert!(page.contains(" parked (out of window), and not billed"), "{page}");
    world.stop().await;
}
