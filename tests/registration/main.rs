//! The door that AWS sends a new buyer's browser to, and the reference that the browser carries on.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod door;
#[path = "../support/mod.rs"]
mod support;

use jiff::SignedDuration;
use marketd::sandbox::market::{Action, Order, Product};
use marketd::sandbox::{Fault, FaultKind};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, Url, header};
use serde_json::{Value, json};
use support::world::{World, eventually};

const PAGE: (&str, &str) =
    ("MARKETD__REGISTRATION__REDIRECT_URL", "https://app.example.com/welcome?from=aws");
const BUYER: &str = "123456789012";

fn insight(world: &World) -> Product {
    world.product("Acme Insight")
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
    let known = eventually("the buyer, by AWS's own news", async || {
        let known = world.get("/v1/customers").await["items"].clone();
        (known.as_array().unwrap().len() == 1).then_some(known)
    })
    .await;
    assert_eq!(known[0]["claimed"], false);

    let body = json!({"reference": reference, "customer_id": "acme", "name": "Acme"});
    let (status, registered) = exchange(&world, body.clone()).await;
    assert_eq!(status, 200, "{registered}");
    assert_eq!(registered["customer"]["aws"]["account_id"], BUYER);
    assert_eq!(registered["claimed_by_browser"]["x-amzn-marketplace-offer-type"], "free-trial");
    assert_eq!(registered["subscriptions"][0]["plan_id"], "basic");
    assert_eq!(exchange(&world, body.clone()).await.0, 200, "the answer may have been lost");
    let renaming = json!({"reference": reference, "customer_id": "acme", "name": "Evil"});
    assert_eq!(
        exchange(&world, renaming).await.1["customer"]["name"],
        "Acme",
        "nothing is written"
    );
    let (status, used) = exchange(&world, json!({"reference": reference})).await;
    assert_eq!((status, &used["type"]), (410, &json!("urn:marketd:problem:reference-used")));
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

const TOKEN: &str = "x-amzn-marketplace-token";

/// A reference of a buyer who has just come.
async fn come(world: &World, token: &str) -> String {
    reference(&location(&knock(world, &[(TOKEN, token)]).await))
}

#[tokio::test]
async fn one_of_two_exchanges_at_once_wins() {
    let world = World::with_settings(&[PAGE]).await;
    let insight = import(&world).await;
    for round in 0..5 {
        let account = format!("{:012}", 500_000_000_000_u64 + round);
        let reference = come(&world, &token(&world, &insight, &account)).await;
        let ids: Vec<String> = (0..4).map(|it| format!("c{round}-{it}")).collect();
        let calls = ids.iter().map(|id| {
            exchange(&world, json!({"reference": reference, "customer_id": id, "name": id}))
        });
        let answers = futures::future::join_all(calls).await;
        let mut statuses: Vec<u16> = answers.iter().map(|(status, _)| *status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 410, 410, 410], "{answers:?}");
        let (_, won) = answers.iter().find(|(status, _)| *status == 200).unwrap();
        let customers = world.list("/v1/customers").await;
        let of_account = |it: &&Value| it["aws"]["account_id"] == account.as_str();
        let held: Vec<&Value> = customers.iter().filter(of_account).collect();
        assert_eq!(held.len(), 1, "{held:?}");
        assert_eq!(held[0]["id"], won["customer"]["id"]);
        let others = customers
            .iter()
            .filter(|it| it["id"].as_str().unwrap().starts_with(&format!("c{round}-")));
        assert_eq!(others.count(), 1, "who lost made no customer");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_generated_id_from_a_registration_can_still_be_named() {
    let world = World::with_settings(&[PAGE]).await;
    let insight = import(&world).await;
    let known = token(&world, &insight, BUYER);
    let reference = come(&world, &known).await;
    let nameless = json!({"reference": reference, "name": "Acme"});
    let (status, registered) = exchange(&world, nameless.clone()).await;
    assert_eq!(status, 200, "{registered}");
    let customer = &registered["customer"];
    assert_eq!((&customer["claimed"], &customer["name"]), (&json!(false), &json!("Acme")));
    let generated = customer["id"].as_str().unwrap().to_owned();
    assert_eq!(exchange(&world, nameless.clone()).await.0, 200, "the answer may have been lost");

    let mine = world.put("/v1/customers/mine", json!({"aws": {"account_id": BUYER}})).await;
    assert_eq!((&mine["claimed"], &mine["name"]), (&json!(true), &json!("Acme")));
    assert_eq!(mine["aliases"], json!([generated]));
    let shown = world.list("/v1/registrations").await;
    assert_eq!(shown[0]["customer_id"], "mine", "it follows");
    assert_eq!(exchange(&world, nameless).await.1["customer"]["id"], "mine");
    let by_alias = json!({"reference": reference, "customer_id": generated});
    assert_eq!(exchange(&world, by_alias).await.0, 200, "the alias is the same customer");

    // And so can one by an exchange that names it.
    let other = token(&world, &insight, "210987654321");
    let (_, first) = exchange(&world, json!({"registration_token": other})).await;
    assert_eq!(first["customer"]["claimed"], false);
    let body = json!({"reference": come(&world, &other).await, "customer_id": "named"});
    let (status, named) = exchange(&world, body).await;
    assert_eq!((status, &named["customer"]["id"]), (200, &json!("named")));
    assert_eq!(named["customer"]["aliases"][0], first["customer"]["id"]);
    world.stop().await;
}

#[tokio::test]
async fn a_customer_who_was_tied_to_a_stranger_can_be_untied() {
    let world = World::with_settings(&[PAGE]).await;
    let insight = import(&world).await;
    let strangers = token(&world, &insight, BUYER);
    let reference = come(&world, &strangers).await;
    // The victim's browser followed a link with the stranger's reference.
    let body = json!({"reference": reference, "customer_id": "victim", "name": "Victim"});
    assert_eq!(exchange(&world, body).await.0, 200);
    let own = token(&world, &insight, "210987654321");
    let register = json!({"registration_token": own, "customer_id": "victim"});
    assert_eq!(exchange(&world, register.clone()).await.0, 409);

    let unlink = "/v1/customers/victim/unlink";
    let unlinked = world.post(unlink, json!({})).await;
    assert_eq!(unlinked["customer"]["name"], "Victim");
    assert_eq!(unlinked["customer"]["aws"], Value::Null);
    assert_eq!(unlinked["buyer"]["aws"]["account_id"], BUYER);
    let stranger = unlinked["buyer"]["id"].as_str().unwrap();
    let (status, registered) = exchange(&world, register).await;
    assert_eq!((status, &registered["customer"]["id"]), (200, &json!("victim")));
    for (id, refused) in [("nobody", 404), (stranger, 409)] {
        let path = format!("/v1/customers/{id}/unlink");
        assert_eq!(world.call(Method::POST, &path, Some(json!({}))).await.0, refused, "{id}");
    }
    world.stop().await;
}

#[tokio::test]
async fn empty_and_oversized_tokens_ask_nothing_of_aws() {
    let world = World::with_settings(&[PAGE]).await;
    let insight = import(&world).await;
    let known = token(&world, &insight, BUYER);
    let long = "a".repeat(5_000);
    // More than there are turns: none of them takes one.
    for _ in 0..40 {
        for (bad, status) in [("", 400), (long.as_str(), 422), ("two words", 422)] {
            assert_eq!(knock(&world, &[(TOKEN, bad)]).await.status(), status);
        }
    }
    for bad in [long.as_str(), "", "two words"] {
        let (status, _) = exchange(&world, json!({"registration_token": bad})).await;
        assert_eq!(status, 422, "{bad:.10}");
    }
    assert_eq!(knock(&world, &[(TOKEN, &known)]).await.status(), 303);
    let (status, shown) = world.call(Method::GET, "/v1/integration", None).await;
    assert_eq!(status, 200);
    assert!(shown["problems"].to_string().contains("refused at sign-up (unknown)"), "{shown}");
    let metrics = world.get_text("/metrics").await;
    assert!(metrics.contains("reason=\"unknown\",via=\"api\"} 3"), "{metrics}");
    world.stop().await;
}

#[tokio::test]
async fn a_flood_from_one_source_keeps_no_other_out() {
    let world =
        World::with_settings(&[PAGE, ("MARKETD__HTTP__TRUSTED_PROXIES", "127.0.0.1")]).await;
    let insight = import(&world).await;
    let known = token(&world, &insight, BUYER);
    let browser = Client::builder().redirect(Policy::none()).build().unwrap();
    let knock_from = |source: &'static str, token: String| {
        let knock = browser.post(format!("{}/aws/register", world.url()));
        knock.header("x-forwarded-for", source).form(&[(TOKEN, token)]).send()
    };
    let flood = (0..60).map(|it| knock_from("203.0.113.1", format!("made-up-{it}")));
    let flood = futures::future::join_all(flood);
    let others = async {
        let buyer = knock_from("198.51.100.7", known.clone()).await.unwrap();
        let by_api = exchange(&world, json!({"registration_token": known})).await;
        (buyer.status(), by_api.0)
    };
    let (flood, others) = tokio::join!(flood, others);
    assert_eq!((others.0.as_u16(), others.1), (303, 200));
    let refused: Vec<Response> =
        flood.into_iter().map(Result::unwrap).filter(|it| it.status() == 503).collect();
    assert!(refused.len() > 40, "{} of the flood", refused.len());
    assert!(refused.iter().all(|it| it.headers().contains_key(header::RETRY_AFTER)));
    world.stop().await;
}

#[tokio::test]
async fn the_door_takes_forms_that_are_posted() {
    let world = World::with_settings(&[PAGE]).await;
    let browser = Client::builder().redirect(Policy::none()).build().unwrap();
    let door = format!("{}/aws/register", world.url());
    assert_eq!(browser.put(&door).send().await.unwrap().status(), 405);
    let json = browser.post(&door).json(&json!({TOKEN: "x"})).send().await.unwrap();
    assert_eq!(json.status(), 415);
    assert!(json.headers()[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/html"));
    assert_eq!(knock(&world, &[]).await.status(), 400);
    let form = header::HeaderValue::from_static("application/x-www-form-urlencoded");
    let broken = browser.post(&door).header(header::CONTENT_TYPE, form).body("%ff=%fe");
    assert!(broken.send().await.unwrap().status().is_client_error());
    world.stop().await;
}

#[tokio::test]
async fn a_token_is_neither_logged_nor_kept_and_visits_do_not_pile_up() {
    let mut world = World::with_settings(&[PAGE, ("MARKETD__LOG__FILTER", "debug")]).await;
    world.stop_daemon().await;
    let log = world.file("log");
    world.start_daemon_logging_to(&log).await;
    let insight = import(&world).await;
    let known = token(&world, &insight, BUYER);
    let again = format!("https://example.com/?token={known}");
    for _ in 0..3 {
        let fields = [
            (TOKEN, known.as_str()),
            ("x-amzn-again", &again),
            ("x-amzn-marketplace-offer-type", "free-trial"),
        ];
        assert_eq!(knock(&world, &fields).await.status(), 303);
    }
    // A visit that says less takes nothing back.
    assert_eq!(knock(&world, &[(TOKEN, known.as_str())]).await.status(), 303);
    let shown = world.list("/v1/registrations").await;
    assert_eq!(shown.len(), 1, "one buyer who came four times: {shown:?}");
    assert_eq!(
        shown[0]["claimed_by_browser"],
        json!({"x-amzn-marketplace-offer-type": "free-trial"})
    );
    let made_up = "made-up-token-of-nobody";
    assert_eq!(knock(&world, &[(TOKEN, made_up)]).await.status(), 422);
    assert_eq!(exchange(&world, json!({"registration_token": made_up})).await.0, 422);
    exchange(&world, json!({"registration_token": known})).await;
    world.stop_daemon().await;
    for file in std::fs::read_dir(world.file(".")).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        for token in [known.as_str(), made_up] {
            let found = bytes.windows(token.len()).any(|part| part == token.as_bytes());
            assert!(!found, "{token} is in {}", path.display());
        }
    }
    assert!(std::fs::metadata(&log).unwrap().len() > 1_000, "something was logged");
}

#[tokio::test]
async fn a_legacy_buyer_who_registers_is_ready_for_licences() {
    let world = World::with_settings(&[PAGE]).await;
    let meter = world.product("Acme Meter");
    let body = json!({"plans": {}, "product_id": "meter"});
    world.post(&format!("/v1/listings/{}/import", meter.entity_id), body).await;
    let order = || Order::of(&meter.product_code);
    world.market(|market, now| drop(market.act(now, BUYER, Action::Subscribe(order()))));
    let licensing = async || world.get("/v1/products/meter/licensing").await;
    eventually("the subscription", async || {
        (licensing().await["without_license"] == 1).then_some(())
    })
    .await;
    let registered = world.market(|market, now| market.act(now, BUYER, Action::Register(order())));
    let known = registered.unwrap().registration_token.unwrap();
    let (status, answer) =
        exchange(&world, json!({"registration_token": known, "customer_id": "acme"})).await;
    assert!(status == 200 && answer["license_arn"].is_string(), "{answer}");
    let shown = licensing().await;
    assert_eq!((&shown["ready"], &shown["buyers"]), (&json!(1), &json!([])), "{shown}");
    world.stop().await;
}

#[tokio::test]
async fn what_changes_nothing_about_a_customer_is_not_told_again() {
    let world = World::with_demo_catalog().await;
    let put = async |body: Value| {
        let (status, customer) = world.call(Method::PUT, "/v1/customers/acme", Some(body)).await;
        assert_eq!(status, 200, "{customer}");
        customer
    };
    let told = async || {
        let events = world.get("/v1/events?limit=500").await;
        let items = events["items"].as_array().unwrap().iter();
        let kinds = items.map(|event| event["type"].as_str().unwrap().to_owned());
        kinds.filter(|kind| kind.starts_with("customer.")).collect::<Vec<_>>()
    };
    let first = put(json!({"name": "Acme", "aws": {"account_id": BUYER}})).await;
    let again = put(json!({"name": "Acme", "aws": {"account_id": BUYER}})).await;
    assert_eq!(again, first, "its time of change included");
    assert_eq!(told().await, ["customer.created"]);

    let renamed = put(json!({"name": "Acme Corp"})).await;
    assert_eq!(renamed["name"], "Acme Corp");
    assert_ne!(renamed["updated_at"], first["updated_at"]);
    assert_eq!(told().await, ["customer.created", "customer.updated"]);
}

#[tokio::test]
async fn a_buyer_does_not_notice_that_aws_fails_once() {
    let world = World::with_settings(&[PAGE]).await;
    let insight = import(&world).await;
    let known = token(&world, &insight, BUYER);
    for kind in [FaultKind::Throttle, FaultKind::Error500, FaultKind::CutAfter] {
        let operation = "ResolveCustomer".to_owned();
        world.arm(Fault { operation, kind, times: Some(1), one_in: None, amount: None });
        let came = knock(&world, &[("x-amzn-marketplace-token", known.as_str())]).await;
        assert_eq!(came.status(), 303, "{kind:?}");
    }
    world.stop().await;
}
