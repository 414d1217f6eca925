//! The door that AWS sends a new buyer's browser to, and the reference that the browser carries on.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use jiff::SignedDuration;
use marketd::sandbox::market::{Action, Order, Product};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, Url, header};
use serde_json::{Value, json};
use support::world::{World, eventually};

const PAGE: (&str, &str) =
    ("MARKETD__REGISTRATION__REDIRECT_URL", "https://app.example.com/welcome?from=aws");
const BUYER: &str = "123456789012";

fn insight(world: &World) -> Product {
    world.market(|market, _| {
        market.products().find(|it| it.title == "Acme Insight").unwrap().clone()
    })
}

async fn import(world: &World) -> Product {
    let insight = insight(world);
    let path = format!("/v1/listings/{}/import", insight.entity_id);
    world.post(&path, json!({"plans": {"basic": "basic"}, "product_id": "insight"})).await;
    insight
}

/// The token with which AWS sends a buyer of the product.
fn token(world: &World, product: &Product, account: &str) -> String {
    let order = || Order::of(&product.product_code).with("basic", 1);
    world.market(|market, now| drop(market.act(now, account, Action::Purchase(order()))));
    let registered =
        world.market(|market, now| market.act(now, account, Action::Register(order())));
    registered.unwrap().registration_token.unwrap()
}

/// A browser's post, as AWS has it made.
async fn knock(world: &World, fields: &[(&str, &str)]) -> Response {
    let browser = Client::builder().redirect(Policy::none()).build().unwrap();
    browser.post(format!("{}/aws/register", world.url())).form(fields).send().await.unwrap()
}

fn location(response: &Response) -> Url {
    response.headers()[header::LOCATION].to_str().unwrap().parse().unwrap()
}

fn reference(location: &Url) -> String {
    location.query_pairs().find(|(name, _)| name == "reference").unwrap().1.into_owned()
}

async fn exchange(world: &World, body: Value) -> (u16, Value) {
    world.call(Method::POST, "/v1/registrations", Some(body)).await
}

#[tokio::test]
async fn a_browser_goes_on_with_a_reference_that_is_exchanged_once() {
    let world = World::with_settings(&[PAGE]).await;
    let insight = import(&world).await;
    let token = token(&world, &insight, BUYER);
    let fields = [
        ("x-amzn-marketplace-token", token.as_str()),
        ("x-amzn-marketplace-offer-type", "free-trial"),
        ("x-amzn-marketplace-agreement-id", "agmt-1"),
    ];
    let sent_on = knock(&world, &fields).await;
    assert_eq!(sent_on.status(), 303);
    assert_eq!(sent_on.headers()[header::REFERRER_POLICY], "no-referrer");
    assert_eq!(sent_on.headers()[header::CACHE_CONTROL], "no-store");
    let page = location(&sent_on);
    assert!(
        page.as_str().starts_with("https://app.example.com/welcome?from=aws&reference=reg_"),
        "{page}"
    );
    assert!(!page.as_str().contains(&token));
    let reference = reference(&page);
    assert_eq!(world.get("/v1/customers").await["items"].as_array().unwrap().len(), 1, "unclaimed");

    let body = json!({"reference": reference, "customer_id": "acme", "name": "Acme"});
    let (status, registered) = exchange(&world, body.clone()).await;
    assert_eq!(status, 200, "{registered}");
    assert_eq!(registered["customer"]["aws"]["account_id"], BUYER);
    assert_eq!(registered["posted"]["x-amzn-marketplace-offer-type"], "free-trial");
    assert_eq!(registered["subscriptions"][0]["plan_id"], "basic");
    assert_eq!(exchange(&world, body).await.0, 200, "the answer may have been lost");
    let (status, used) =
        exchange(&world, json!({"reference": reference, "customer_id": "evil"})).await;
    assert_eq!((status, &used["type"]), (410, &json!("urn:marketd:problem:reference-used")));
    let forged = reference.replace("reg_", "reg_0");
    let (status, refused) = exchange(&world, json!({"reference": forged})).await;
    assert_eq!((status, &refused["type"]), (422, &json!("urn:marketd:problem:reference-unknown")));
    let (status, _) = exchange(&world, json!({"reference": "x", "registration_token": "y"})).await;
    assert_eq!(status, 400);

    // The browser comes again, and so does the buyer who is a customer by now.
    let again = self::reference(&location(&knock(&world, &fields).await));
    let (status, registered) = exchange(&world, json!({"reference": again})).await;
    assert_eq!((status, &registered["customer"]["id"]), (200, &json!("acme")));
    let shown = world.list("/v1/registrations").await;
    assert_eq!(shown.len(), 2);
    assert!(shown.iter().all(|it| it["customer_id"] == "acme"), "{shown:?}");

    // The token is a credential: nothing keeps it.
    for file in std::fs::read_dir(world.file(".")).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(token.len()).any(|part| part == token.as_bytes()));
    }
    world.stop().await;
}

#[tokio::test]
async fn whoever_cannot_be_known_changes_nothing_and_is_told_so() {
    let world = World::with_settings(&[PAGE]).await;
    let insight = insight(&world);
    let known = token(&world, &insight, BUYER);
    let field = "x-amzn-marketplace-token";
    let refused = async |fields: &[(&str, &str)], status: u16, word: &str| {
        let response = knock(&world, fields).await;
        assert_eq!(response.status(), status, "{fields:?}");
        assert!(
            response.headers()[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/html")
        );
        let page = response.text().await.unwrap();
        assert!(page.contains(word) && !page.contains(&known), "{page}");
    };
    refused(&[(field, known.as_str())], 422, "product").await;
    let events = world.get("/v1/events?limit=500").await;
    let told = events["items"].as_array().unwrap().iter();
    let told = told.filter(|event| event["type"] == "registration.refused").count();
    assert_eq!(told, 1, "it is shown: {events}");
    refused(&[(field, "made-up")], 422, "does not know").await;
    refused(&[("token", known.as_str())], 400, "nothing to know you by").await;
    let nothing = json!({"items": []});
    assert_eq!(world.get("/v1/registrations").await, nothing);
    assert_eq!(world.get("/v1/customers").await, nothing);

    // Once it is imported the same link works, until AWS has it expire.
    import(&world).await;
    assert_eq!(knock(&world, &[(field, known.as_str())]).await.status(), 303);
    world.sandbox().clock().advance(SignedDuration::from_hours(5)).unwrap();
    refused(&[(field, known.as_str())], 410, "expired").await;
    world.stop().await;
}

#[tokio::test]
async fn a_reference_is_short_lived_and_a_door_leads_somewhere() {
    let world =
        World::with_settings(&[PAGE, ("MARKETD__REGISTRATION__REFERENCE_LIFETIME", "1s")]).await;
    let insight = import(&world).await;
    let token = token(&world, &insight, BUYER);
    let fields = [("x-amzn-marketplace-token", token.as_str())];
    let reference = reference(&location(&knock(&world, &fields).await));
    let expired = eventually("the reference to expire", async || {
        let (status, answer) =
            exchange(&world, json!({"reference": reference, "customer_id": "acme"})).await;
        (status == 410).then_some(answer)
    })
    .await;
    assert_eq!(expired["type"], "urn:marketd:problem:reference-expired");
    world.stop().await;

    let world = World::with_demo_catalog().await;
    let closed = knock(&world, &fields).await;
    assert_eq!(closed.status(), 503, "no page is set to send anybody to");
    world.stop().await;
}
