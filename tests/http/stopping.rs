//! A stop is quick, and nobody who waits for an answer is left without one.

use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::Value;
use tokio::process::Command;

use super::support::sql::OtherWriter;
use super::support::world::{World, eventually};

async fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").args([name, &pid.to_string()]).status().await.unwrap();
    assert!(sent.success());
}

#[tokio::test]
async fn whoever_waits_is_answered_at_once_when_it_stops() {
    // Nothing comes to the queue: a poller waits there as well.
    let mut world = World::with_imported_catalog(&[("MARKETD__QUEUE__WAIT", "20s")]).await;
    let last = world.get("/v1/events?limit=500").await["next_cursor"].as_str().unwrap().to_owned();
    let paths = [format!("/v1/events?after={last}&wait=1m")];
    let waiting: Vec<_> = paths
        .iter()
        .map(|path| {
            let call = Client::new().get(format!("{}{path}", world.url()));
            tokio::spawn(async move {
                let answer = call.send().await.unwrap();
                (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
            })
        })
        .collect();
    eventually("the wait to begin", async || {
        let metrics = world.get_text("/metrics").await;
        let open = metrics.lines().find(|it| it.starts_with("marketd_http_connections "))?;
        (open.split(' ').nth(1)?.parse::<u64>().ok()? >= 2).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    world.stop_daemon().await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "it took {took:?}");
    for waiting in waiting {
        let (status, answer) = waiting.await.unwrap();
        assert_eq!((status, &answer["next_cursor"]), (200, &Value::String(last.clone())));
    }
}

#[tokio::test]
async fn a_customer_who_is_waited_for_is_answered_when_it_stops() {
    use marketd::sandbox::{Fault, FaultKind};
    let mut world = World::with_demo_catalog().await;
    // AWS does not answer, so that the look never ends.
    world.arm(Fault {
        operation: "GetEntitlements".into(),
        kind: FaultKind::Throttle,
        times: None,
        one_in: None,
        amount: None,
    });
    let call = Client::new()
        .put(format!("{}/v1/customers/acme?wait=1m", world.url()))
        .json(&serde_json::json!({"aws": {"account_id": "123456789012"}}));
    let waiting = tokio::spawn(async move { call.send().await.unwrap().status().as_u16() });
    eventually("the customer", async || {
        let (status, _) = world.call(reqwest::Method::GET, "/v1/customers/acme", None).await;
        (status == 200).then_some(())
    })
    .await;
    let begun = Instant::now();
    world.stop_daemon().await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(waiting.await.unwrap(), 200);
}

#[tokio::test]
async fn a_hangup_changes_nothing() {
    let mut world = World::with_nothing_imported().await;
    let daemon = world.take_daemon();
    let pid = daemon.id().unwrap();
    world.give_daemon(daemon);
    for _ in 0..3 {
        signal("-HUP", pid).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(world.get_text("/healthz").await, "ok\n");
    world.stop().await;
}

#[tokio::test]
async fn a_stop_takes_seconds_whatever_hangs() {
    let mut world = World::with_settings(&[]).await;
    let address = world.url().trim_start_matches("http://").to_owned();
    // A body that never ends, an answer that nobody reads, and a lock that is not given back.
    let mut half = tokio::net::TcpStream::connect(&address).await.unwrap();
    let head = "POST /v1/usage HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{";
    tokio::io::AsyncWriteExt::write_all(&mut half, head.as_bytes()).await.unwrap();
    let other = OtherWriter::begin(&world.database());
    let write = Client::new()
        .put(format!("{}/v1/customers/acme", world.url()))
        .json(&serde_json::json!({}));
    let write = tokio::spawn(async move { write.send().await.map(|it| it.status().as_u16()) });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut daemon = world.take_daemon();
    let begun = Instant::now();
    signal("-TERM", daemon.id().unwrap()).await;
    daemon.wait().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    other.end();
    drop((half, write));
}
