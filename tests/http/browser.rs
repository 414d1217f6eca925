//! What a page in a browser on the same machine can reach of a daemon without a token, and of a sandbox: nothing.

use reqwest::{Client, Method, StatusCode, header};
use serde_json::{Value, json};

use super::Guarded;
use super::support::world::{World, eventually};

/// A request with these headers; the answer's status and what it says.
async fn send(
    url: &str,
    method: Method,
    headers: &[(&str, &str)],
    body: Option<String>,
) -> (StatusCode, Value) {
    let mut request = Client::new().request(method, url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if let Some(body) = body {
        request = request.body(body);
    }
    let answer = request.send().await.unwrap();
    (answer.status(), answer.json().await.unwrap_or_default())
}

fn report() -> String {
    json!({"events": []}).to_string()
}

/// Headers as a page has them sent.
type Headers<'a> = &'a [(&'a str, &'a str)];

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn a_page_of_another_site_neither_writes_nor_reads_without_a_token() {
    let world = World::with_demo_catalog().await;
    let usage = format!("{}/v1/usage", world.url());
    let kind = |problem: &Value| problem["type"].as_str().unwrap_or_default().to_owned();
    let foreign: [(Headers<'_>, u16, &str); 7] = [
        // What a page may send without asking first.
        (&[("content-type", "text/plain"), ("origin", "https://evil.example")], 403, "cross-site"),
        (&[("content-type", "text/plain")], 415, "body-undeclared"),
        (&[("content-type", "application/x-www-form-urlencoded")], 415, "body-undeclared"),
        (&[], 415, "body-undeclared"),
        (&[JSON, ("sec-fetch-site", "cross-site")], 403, "cross-site"),
        (&[JSON, ("origin", "null")], 403, "cross-site"),
        (&[JSON, ("host", "evil.example")], 403, "foreign-host"),
    ];
    for (headers, status, word) in foreign {
        let (given, problem) = send(&usage, Method::POST, headers, Some(report())).await;
        assert_eq!(given, status, "{headers:?}: {problem}");
        assert_eq!(kind(&problem), format!("urn:marketd:problem:{word}"), "{headers:?}");
        assert!(problem["detail"].as_str().unwrap().contains("without a token"), "{problem}");
    }
    // A name that leads here by now: the page would be of the same site, and could read.
    for path in ["/v1/customers", "/v1/events", "/v1/nothing"] {
        let url = format!("{}{path}", world.url());
        let rebound = send(&url, Method::GET, &[("host", "rebound.example:80")], None).await;
        assert_eq!(kind(&rebound.1), "urn:marketd:problem:foreign-host", "{path}");
    }
    // Programs, and the page of a proxy for developers on this very origin.
    let origin = world.url().replace("127.0.0.1", "localhost");
    let host = origin.trim_start_matches("http://").to_owned();
    let same = [JSON, ("host", &host), ("origin", &origin), ("sec-fetch-site", "same-origin")];
    for headers in [&[JSON][..], &same] {
        let (status, answer) = send(&usage, Method::POST, headers, Some(report())).await;
        assert_eq!(status, 200, "{headers:?}: {answer}");
    }
    // Doors and probes are for those who come from elsewhere.
    let far = [("host", "marketd.example.com"), ("origin", "https://aws.amazon.com")];
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json", "/aws/register"] {
        let url = format!("{}{path}", world.url());
        assert_eq!(send(&url, Method::GET, &far, None).await.0, 200, "{path}");
    }
    world.stop().await;
}

#[tokio::test]
async fn what_the_parts_say_is_for_the_sellers_own() {
    let world = World::with_demo_catalog().await;
    world.arm(marketd::sandbox::Fault {
        operation: "ReceiveMessage".into(),
        kind: marketd::sandbox::FaultKind::Deny,
        times: None,
        one_in: None,
        amount: None,
    });
    let url = format!("{}/readyz", world.url());
    eventually("the refusal to show", async || {
        let (_, ready) = send(&url, Method::GET, &[], None).await;
        ready["parts"]["queue"]["detail"].as_str().map(drop)
    })
    .await;
    let (status, ready) = send(&url, Method::GET, &[("host", "rebound.example")], None).await;
    assert_eq!((status.as_u16(), &ready["parts"]["queue"]["ok"]), (200, &json!(false)));
    assert!(ready["parts"]["queue"].get("detail").is_none(), "{ready}");
    world.sandbox().disarm();
    world.stop().await;
}

#[tokio::test]
async fn with_a_token_strangers_see_which_parts_are_well_and_its_bearer_why() {
    let queue = "http://127.0.0.1:9/123456789012/marketd";
    let mut daemon = Guarded::start(&[("MARKETD__QUEUE__URL", queue)]);
    let url = format!("http://{}/readyz", daemon.address);
    let bearer = [("authorization", "Bearer let-me-in")];
    let told = eventually("the queue to fail", async || {
        let answer = Client::new().get(&url).header(bearer[0].0, bearer[0].1).send().await.ok()?;
        let ready: Value = answer.json().await.ok()?;
        ready["parts"]["queue"]["detail"].as_str().map(str::to_owned)
    })
    .await;
    assert!(told.contains("********9012") && !told.contains("123456789012"), "{told}");
    for headers in [&[][..], &[("authorization", "Bearer wrong")]] {
        let (status, ready) = send(&url, Method::GET, headers, None).await;
        assert_eq!(status, 200);
        let text = ready.to_string();
        assert!(text.contains("\"ok\":false") && !text.contains("detail"), "{ready}");
    }
    daemon.process.kill().await.unwrap();
}

#[tokio::test]
async fn a_method_that_a_path_does_not_know_is_said_to_be_one() {
    let world = World::with_nothing_imported().await;
    let described = world.get("/openapi.json").await;
    let paths = described["paths"].as_object().unwrap();
    assert!(paths.len() > 40, "{}", paths.len());
    let http = Client::new();
    let methods = ["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"];
    for (path, operations) in paths.iter().map(|(path, it)| (path, it.as_object().unwrap())) {
        let url = format!("{}{}", world.url(), path.replace('{', "a").replace('}', "b"));
        for method in methods.map(|it| Method::from_bytes(it.as_bytes()).unwrap()) {
            let known = operations.contains_key(&method.as_str().to_ascii_lowercase());
            // A browser comes to the door to look, too.
            if known || (path == "/aws/register" && method == Method::GET) {
                continue;
            }
            let answer = http.request(method.clone(), &url).send().await.unwrap();
            assert_eq!(answer.status(), 405, "{method} {path}");
            let allowed = answer.headers()[header::ALLOW].to_str().unwrap().to_owned();
            for operation in operations.keys() {
                assert!(allowed.contains(&operation.to_uppercase()), "{path}: {allowed}");
            }
        }
    }
    let description = format!("{}/openapi.json", world.url());
    assert_eq!(http.post(description).send().await.unwrap().status(), 405);
    world.stop().await;
}

#[tokio::test]
async fn a_page_moves_nothing_in_a_sandbox_either() {
    let world = World::with_nothing_imported().await;
    let (clock, sqs) = (format!("{}/_sandbox/clock", world.sandbox().url()), world.sandbox().url());
    let before = world.sandbox().clock().now();
    let order = || Some(json!({"advance": "PT100H"}).to_string());
    let foreign: [(Headers<'_>, u16); 5] = [
        (&[("content-type", "text/plain"), ("origin", "https://evil.example")], 403),
        (&[("content-type", "text/plain")], 415),
        (&[JSON, ("host", "evil.example")], 403),
        (&[JSON, ("sec-fetch-site", "cross-site")], 403),
        (&[], 415),
    ];
    for (headers, status) in foreign {
        let (given, answer) = send(&clock, Method::POST, headers, order()).await;
        assert_eq!(given, status, "{headers:?}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains("without a token"), "{answer}");
    }
    let moved = world.sandbox().clock().now().duration_since(before);
    assert!(moved < jiff::SignedDuration::from_hours(1), "{moved}");
    let rebound = send(&clock, Method::GET, &[("host", "evil.example")], None).await;
    assert_eq!(rebound.0, 403);
    assert_eq!(send(&clock, Method::POST, &[JSON], order()).await.0, 200);
    // Calls to AWS are signed, by whatever name it is reached.
    let call = send(&sqs, Method::POST, &[("host", "sqs.example")], Some("{}".into())).await;
    assert_ne!(call.0, 403);
    world.stop().await;
}
