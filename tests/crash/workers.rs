//! Several daemons on one server, killed at any moment, and the server with them.
//!
//! Where no server is named by `MARKETD_TEST_DATABASE_URL` these are left out. `MARKETD_TEST_DATABASE_RESTART` is a command
//! that stops the server hard and starts it again; without one the server is left alone. Where `MARKETD_TEST_OLDER_BINARY` names
//! an older version, the workers begin as that, and each that is killed comes back as this one.

use std::time::Duration;

use serde_json::Value;
use tokio::process::{Child, Command};

use super::application::Application;
use super::support::database::on_server;
use super::support::sql::{self, Trigger};
use super::support::world::{World, eventually, free_port};
use super::{KILLS, TASKS, arm, buyers_come_and_go, check_bill};

const WORKERS: usize = 3;
/// The server is stopped hard once in so many kills.
const KILLS_A_RESTART: u32 = 20;

fn kills() -> u32 {
    std::env::var("MARKETD_KILLS").map_or(KILLS, |text| text.parse().expect("a number"))
}

/// The workers, each at an address of its own.
struct Workers {
    urls: Vec<String>,
    running: Vec<Child>,
}

impl Workers {
    fn start(world: &World) -> Self {
        let urls: Vec<String> =
            (0..WORKERS).map(|_| format!("http://127.0.0.1:{}", free_port())).collect();
        let running = urls.iter().map(|url| world.spawn_worker(url)).collect();
        Self { urls, running }
    }

    async fn kill_one(&mut self, world: &World, rng: &mut fastrand::Rng) {
        let which = rng.usize(0..self.running.len());
        self.running[which].kill().await.unwrap();
        self.running[which] = world.spawn_worker(&self.urls[which]);
    }

    async fn stop(self) {
        for mut worker in self.running {
            worker.kill().await.unwrap();
        }
    }
}

async fn restart_server() {
    let Ok(command) = std::env::var("MARKETD_TEST_DATABASE_RESTART") else { return };
    let done = Command::new("sh").args(["-c", &command]).output().await.unwrap();
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
}

async fn get(url: &str, path: &str) -> Option<Value> {
    let answer = reqwest::get(format!("{url}{path}")).await.ok()?;
    answer.status().is_success().then_some(answer)?.json().await.ok()
}

/// Returns the name of the worker that holds the lease, as one of them says.
async fn holder(url: &str) -> Option<String> {
    let workers = get(url, "/v1/workers").await?;
    let holds = |it: &&Value| it["leases"] == serde_json::json!(["background"]);
    Some(workers["items"].as_array()?.iter().find(holds)?["name"].as_str()?.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_are_killed_and_a_server_that_is_stopped_bill_what_any_of_them_took() {
    let mut world = World::with_demo_catalog().await;
    if on_server(&world.file("marketd.db")).is_none() {
        eprintln!("no database server is named: several workers are not tried");
        return world.stop().await;
    }
    arm(&world);
    let mut workers = Workers::start(&world);
    world.stop_daemon().await;
    world.update();
    let application = Application::of_workers(workers.urls.clone());
    let stop = tokio_util::sync::CancellationToken::new();
    let mut rng = fastrand::Rng::with_seed(2);
    let load = async {
        let tasks =
            (0..TASKS).map(|task| buyers_come_and_go(&world, application.clone(), task, &stop));
        futures::future::join_all(tasks).await.into_iter().sum::<u64>()
    };
    let killing = async {
        for kill in 0..kills() {
            tokio::time::sleep(Duration::from_millis(rng.u64(50..1_500))).await;
            workers.kill_one(&world, &mut rng).await;
            if kill % KILLS_A_RESTART == KILLS_A_RESTART / 2 {
                restart_server().await;
            }
        }
        stop.cancel();
    };
    let (taken, ()) = tokio::join!(load, killing);
    world.sandbox().disarm();
    world.start_daemon().await;
    check_bill(&world, taken).await;
    // At AWS each of these buyers has left.
    eventually("no subscription but those that AWS has", async || {
        let live = world.get("/v1/subscriptions?status=active").await;
        live["items"].as_array()?.is_empty().then_some(())
    })
    .await;
    // Whoever is asked says the same. AWS's last news of those who left may come between two questions.
    for path in ["/v1/metering/balance", "/v1/customers?limit=500", "/v1/subscriptions?limit=500"] {
        for url in &workers.urls {
            eventually(&format!("{path} by {url} as by another"), async || {
                let ours = world.get(path).await;
                (get(url, path).await? == ours).then_some(())
            })
            .await;
        }
    }
    workers.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_holder_of_the_lease_did_another_does_within_fifteen_seconds_of_its_death() {
    let mut world = World::with_demo_catalog().await;
    if on_server(&world.file("marketd.db")).is_none() {
        return world.stop().await;
    }
    let workers = Workers::start(&world);
    for url in &workers.urls {
        eventually("the workers", async || {
            let found = get(url, "/v1/workers").await?;
            (found["items"].as_array()?.len() == WORKERS + 1).then_some(())
        })
        .await;
    }
    let first = holder(world.url()).await.unwrap();
    world.take_daemon().kill().await.unwrap();
    let died = std::time::Instant::now();
    let next = eventually("another holder", async || {
        holder(&workers.urls[0]).await.filter(|next| *next != first)
    })
    .await;
    assert!(died.elapsed() < Duration::from_secs(15), "{first} to {next}: {:?}", died.elapsed());
    // One that is asked to stop gives the lease back at once.
    world.start_daemon().await;
    workers.stop().await;
    eventually("the daemon alone", async || {
        let workers = get(world.url(), "/v1/workers").await?;
        let of_one = workers["items"].as_array()?.iter().find(|it| it["is_answering"] == true)?;
        (of_one["leases"][0] == "background").then_some(())
    })
    .await;
    world.stop().await;
}

async fn signal(name: &str, process: u32) {
    let sent = Command::new("kill").args([name, &process.to_string()]).status().await.unwrap();
    assert!(sent.success());
}

async fn put(url: &str, customer: &str) -> Option<reqwest::StatusCode> {
    let call = reqwest::Client::new().put(format!("{url}/v1/customers/{customer}"));
    Some(call.json(&serde_json::json!({})).send().await.ok()?.status())
}

/// As one whose machine is moved, or cut off from the server, in the middle of a write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_frozen_while_it_writes_keeps_the_others_from_it_for_a_minute_at_most() {
    let mut world = World::with_nothing_imported().await;
    if on_server(&world.database()).is_none() {
        return world.stop().await;
    }
    let url = format!("http://127.0.0.1:{}", free_port());
    let mut other = world.spawn_worker(&url);
    eventually("the other", async || get(&url, "/readyz").await).await;
    let slow = Trigger {
        table: "customers",
        at: "BEFORE INSERT",
        when: "new.id = 'frozen'",
        does: Some("PERFORM pg_sleep(3)"),
    };
    slow.set(&world.database());
    let daemon = world.take_daemon();
    let process = daemon.id().unwrap();
    world.give_daemon(daemon);
    let its_own = world.url().to_owned();
    let write = tokio::spawn(async move { put(&its_own, "frozen").await });
    eventually("the write", async || {
        let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        (sql::run(&world.database(), asleep).unwrap() == "1").then_some(())
    })
    .await;
    signal("-STOP", process).await;
    let frozen = std::time::Instant::now();
    eventually("a write of the other", async || {
        put(&url, "other").await.filter(reqwest::StatusCode::is_success)
    })
    .await;
    assert!(frozen.elapsed() < Duration::from_secs(60), "{:?}", frozen.elapsed());

    // Once it goes on, what it had begun is as if it had not been, or is done anew.
    signal("-CONT", process).await;
    let answer = write.await.unwrap().unwrap();
    assert!(answer.is_success() || answer == 503, "{answer}");
    eventually("its own next write", async || {
        put(world.url(), "thawed").await.filter(reqwest::StatusCode::is_success)
    })
    .await;
    let is_there = get(&url, "/v1/customers/frozen").await.is_some();
    assert_eq!(is_there, answer.is_success());
    other.kill().await.unwrap();
    world.stop().await;
}
