//! Those who connect and do nothing keep nobody out.

use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::support::world::World;

const FEW: (&str, &str) = ("MARKETD__HTTP__CONNECTIONS", "128");
const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn idle_connections_shut_nobody_out() {
    let world = World::with_settings(&[FEW]).await;
    let address = world.url().trim_start_matches("http://").to_owned();
    let mut idle = Vec::new();
    for words in [
        "",
        "GET /healthz HTTP/1.1\r\nHost: a\r\n",
        "POST /aws/sns HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf",
    ]
    .iter()
    .cycle()
    .take(300)
    {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(words.as_bytes()).await.unwrap();
        idle.push(stream);
    }
    let http = Client::new();
    let begun = Instant::now();
    for path in ["/healthz", "/readyz", "/metrics", "/v1/customers"] {
        let answer = http.get(format!("{}{path}", world.url())).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }
    let usage = http.post(format!("{}/v1/usage", world.url())).json(&json!({"events": []}));
    assert_eq!(usage.send().await.unwrap().status(), 200);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let metrics = world.get_text("/metrics").await;
    let closed =
        metrics.lines().find(|it| it.starts_with("marketd_http_connections_closed_total "));
    let closed: u64 = closed.unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    assert!(closed >= 300 - 128, "{closed}");
    assert!(metrics.contains("\nmarketd_http_connections "), "{metrics}");
    drop(idle);
    world.stop().await;
}

#[tokio::test]
async fn calls_that_wait_for_events_leave_places_to_others() {
    let world = World::with_settings(&[FEW]).await;
    let events = format!("{}/v1/events?after=latest&wait=1m", world.url());
    // More than may be under way and wait.
    let polls: Vec<_> = (0..100)
        .map(|_| {
            let poll = Client::new().get(&events);
            tokio::spawn(async move { poll.send().await.map(|it| it.status().as_u16()) })
        })
        .collect();
    let http = Client::new();
    super::support::world::eventually("no place to be left", async || {
        let call = http.get(format!("{}/v1/products", world.url())).send().await.ok()?;
        (call.status() == 503).then_some(())
    })
    .await;
    let begun = Instant::now();
    for path in ["/healthz", "/readyz", "/metrics"] {
        let answer = http.get(format!("{}{path}", world.url())).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }
    let door = http.post(format!("{}/aws/sns", world.url())).body("{}").send().await.unwrap();
    assert_eq!(door.status(), 400, "AWS has places of its own");
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let metrics = world.get_text("/metrics").await;
    assert!(metrics.contains("marketd_http_busy_total{for=\"api\"}"), "{metrics}");
    world.stop().await;
    for poll in polls {
        let status = poll.await.unwrap().unwrap();
        assert!([200, 503].contains(&status), "{status}");
    }
}
