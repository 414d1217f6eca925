//! What strangers at the door can do to a buyer who comes meanwhile, and what a person in front of a browser sees.

use std::time::{Duration, Instant};

use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, header};
use serde_json::json;

use super::support::world::World;
use super::{BUYER, PAGE, TOKEN, exchange, import, knock, location, reference, token};

const TRUSTED: (&str, &str) = ("MARKETD__HTTP__TRUSTED_PROXIES", "127.0.0.1");

async fn knock_from(browser: &Client, world: &World, source: &str, token: &str) -> Response {
    let knock = browser.post(format!("{}/aws/register", world.url()));
    knock.header("x-forwarded-for", source).form(&[(TOKEN, token)]).send().await.unwrap()
}

/// Buyers who come while each of these sources knocks six at a time, again and again.
async fn buyers_get_in_while_others_flood(sources: &[String]) {
    let world = World::with_settings(&[PAGE, TRUSTED]).await;
    let insight = import(&world).await;
    let buyers: Vec<(String, String)> = (1..4)
        .map(|number| {
            let account = format!("{:012}", 100_000_000_000_u64 + number);
            (format!("198.51.{number}.7"), token(&world, &insight, &account))
        })
        .collect();
    let browser = &Client::builder().redirect(Policy::none()).build().unwrap();
    let (world, over) = (&world, std::cell::Cell::new(false));
    let flood = sources.iter().flat_map(|source| (0..6).map(move |at| (source, at)));
    let flood = flood.map(|(source, at)| {
        let over = &over;
        async move {
            let mut knocks = 0;
            while !over.get() {
                let token = format!("made-up-{source}-{at}-{knocks}");
                knock_from(browser, world, source, &token).await;
                knocks += 1;
                // As often as the door would have it, were there no others.
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            knocks
        }
    });
    let buyers = async {
        // Until everybody has been heard of.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let begun = Instant::now();
        for (source, token) in &buyers {
            let came = knock_from(browser, world, source, token).await;
            assert_eq!(came.status(), 303, "from {source} after {:?}", begun.elapsed());
        }
        over.set(true);
    };
    let (knocks, ()) = tokio::join!(futures::future::join_all(flood), buyers);
    assert!(knocks.iter().sum::<u32>() > 20, "{knocks:?}");
}

#[tokio::test]
async fn a_flood_from_some_addresses_shuts_nobody_out() {
    let sources: Vec<String> = (1..=12).map(|it| format!("203.0.113.{it}")).collect();
    buyers_get_in_while_others_flood(&sources).await;
}

#[tokio::test]
async fn a_flood_from_all_of_a_network_shuts_nobody_out() {
    let sources: Vec<String> = (1..=20).map(|it| format!("2001:db8:7:{it:x}::1")).collect();
    buyers_get_in_while_others_flood(&sources).await;
}

#[tokio::test]
async fn aws_is_asked_once_about_a_token_that_it_does_not_know() {
    let world = World::with_settings(&[PAGE]).await;
    import(&world).await;
    let asked = || {
        let calls = world.sandbox().calls().into_iter();
        let resolved = calls.filter(|call| call.operation == "ResolveCustomer");
        resolved.map(|call| call.count).sum::<u64>()
    };
    let before = asked();
    for _ in 0..30 {
        assert_eq!(knock(&world, &[(TOKEN, "made-up")]).await.status(), 422);
    }
    assert_eq!(asked() - before, 1);
    world.stop().await;
}

#[tokio::test]
async fn however_often_a_buyer_comes_one_small_row_is_kept() {
    let world = World::with_settings(&[PAGE, ("MARKETD__REGISTRATION__RATE", "1000")]).await;
    let insight = import(&world).await;
    let known = token(&world, &insight, BUYER);
    let filling = "x".repeat(500);
    let mut last = None;
    for visit in 0..40 {
        let names: Vec<String> =
            (0..20).map(|it| format!("x-amzn-marketplace-{visit}-{it}")).collect();
        let mut fields = vec![(TOKEN, known.as_str()), ("evil", "kept?")];
        fields.extend(names.iter().map(|name| (name.as_str(), filling.as_str())));
        let came = knock(&world, &fields).await;
        assert_eq!(came.status(), 303);
        last = Some(reference(&location(&came)));
    }
    let shown = world.list("/v1/registrations").await;
    assert_eq!(shown.len(), 1);
    let claimed = shown[0]["claimed_by_browser"].as_object().unwrap();
    assert_eq!(claimed.len(), 20, "{claimed:?}");
    assert!(claimed.contains_key("x-amzn-marketplace-0-0"), "what was first stays");
    assert!(shown[0].to_string().len() < 17 * 1_024);
    let (status, answer) =
        exchange(&world, json!({"reference": last, "customer_id": "acme"})).await;
    assert_eq!((status, &answer["claimed_by_browser"]), (200, &shown[0]["claimed_by_browser"]));
    world.stop().await;
}

#[tokio::test]
async fn a_browser_that_was_not_sent_by_aws_is_told_where_to_go() {
    let settings = [
        PAGE,
        ("MARKETD__REGISTRATION__SELLER_NAME", "Smith & <Sons>"),
        ("MARKETD__REGISTRATION__SUPPORT_URL", "https://example.com/help"),
    ];
    let world = World::with_settings(&settings).await;
    let insight = import(&world).await;
    let browser = Client::builder().redirect(Policy::none()).build().unwrap();
    let door = format!("{}/aws/register", world.url());
    for path in ["", "/", "?x-amzn-marketplace-token=abc"] {
        let url = format!("{door}{path}");
        let shown = browser.get(&url).send().await.unwrap();
        assert_eq!(shown.status(), 200, "{path}");
        let policy = shown.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        assert!(shown.headers()[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/html"));
        let page = shown.text().await.unwrap();
        for part in
            ["Smith &amp; &lt;Sons&gt;", "https://example.com/help", "aws.amazon.com", "Set up"]
        {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert!(!page.contains("<script") && !page.contains("<Sons>"), "{page}");
        let head = browser.head(&url).send().await.unwrap();
        assert_eq!((head.status().as_u16(), head.text().await.unwrap().len()), (200, 0));
    }
    // Whatever goes wrong there is a page of this kind.
    for method in ["PUT", "DELETE", "OPTIONS", "PATCH", "BREW"] {
        for path in ["", "/"] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let refused = browser.request(method, format!("{door}{path}")).send().await.unwrap();
            assert_eq!(refused.status(), 405);
            let allowed = refused.headers()[header::ALLOW].to_str().unwrap().to_owned();
            assert!(allowed.contains("POST") && allowed.contains("GET"), "{allowed}");
            assert!(refused.text().await.unwrap().contains("Smith &amp;"));
        }
    }
    let large = browser.post(&door).body("x".repeat(17 * 1_024)).send().await.unwrap();
    assert_eq!(large.status(), 413);
    assert!(large.text().await.unwrap().contains("Smith &amp;"));
    // A seller may have written a slash at the end of the address in the listing.
    let known = token(&world, &insight, BUYER);
    let sent = browser.post(format!("{door}/")).form(&[(TOKEN, &known)]).send().await.unwrap();
    assert_eq!(sent.status(), 303);
    world.stop().await;
}

#[tokio::test]
async fn those_who_come_to_nowhere_do_not_fill_the_log() {
    let mut world = World::with_nothing_imported().await;
    world.stop_daemon().await;
    let log = world.file("log");
    world.start_daemon_logging_to(&log).await;
    for _ in 0..50 {
        assert_eq!(knock(&world, &[(TOKEN, "made-up")]).await.status(), 503);
        assert_eq!(knock(&world, &[]).await.status(), 503);
    }
    let shown = world.get("/v1/integration").await;
    assert!(shown["problems"].to_string().contains("registration.redirect_url"), "{shown}");
    world.stop_daemon().await;
    let lines = std::fs::read_to_string(&log).unwrap();
    let count = lines.lines().filter(|line| line.contains("/aws/register")).count();
    assert_eq!(count, 1, "{lines}");
}
