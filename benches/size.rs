//! What the daemon takes of the machine: memory when idle, with many customers, and once each was asked about; the time to
//! readiness with a large ledger; the bytes on disk of a usage event; and the time of each of the console's pages.
//!
//! `cargo bench --bench size` starts the release binary on a socket of its own, with no AWS to be reached.
//! `MARKETD_BENCH_CUSTOMERS` and `MARKETD_BENCH_EVENTS` set how many there are.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]

mod support;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use marketd::domain::feature::{Feature, FeatureKind, WhenStale};
use marketd::domain::ledger::AgeLimits;
use marketd::domain::plan::Audience;
use marketd::domain::terms::EntitlementTerms;
use marketd::domain::{FeatureId, PlanId};
use marketd::store::Store;
use rusqlite::Connection;
use support::{customers, event, ledger, megabytes, memory, number, per_second};

/// Events of a report.
const REPORT: usize = 1_000;
/// The time after which a daemon that was started is idle.
const SETTLED: Duration = Duration::from_secs(5);

fn main() {
    let (people, events) =
        (number("MARKETD_BENCH_CUSTOMERS", 100_000), number("MARKETD_BENCH_EVENTS", 1_000_000));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("marketd.db");

    let daemon = Daemon::start(folder.path());
    std::thread::sleep(SETTLED);
    println!("an empty database: ready in {:.0?}; {}", daemon.ready_in, daemon.memory());
    drop(daemon);

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let store = runtime.block_on(fill(folder.path(), people));
    let before = bytes(&path);
    let took = runtime.block_on(report(&store, people, events));
    store.close();
    let each = (bytes(&path) - before) / events as u64;
    println!(
        "{events} usage events of {people} customers: {} a second; {each} bytes each on disk, their records included; \
         target 250",
        per_second(events, took)
    );

    let daemon = Daemon::start(folder.path());
    println!("with these: ready in {:.0?}; target 100 ms", daemon.ready_in);
    std::thread::sleep(SETTLED);
    println!("with {people} customers: {}; target 60 MB", daemon.memory());
    let begun = Instant::now();
    daemon.ask_about_each(people);
    println!(
        "each asked about once: {}, {} a second; target 120 MB",
        daemon.memory(),
        per_second(people, begun.elapsed())
    );
    println!("pages of the console, target 50 ms and 100 KB:");
    for (path, time, size) in daemon.pages() {
        println!("  {time:>10.1?} {size:>7} bytes  {path}");
    }
}

/// The console's pages that ask nothing of AWS.
const PAGES: [&str; 22] = [
    "/",
    "/customers",
    "/customers?q=customer-777",
    "/customers?q=stomer-77",
    "/customers?plan_id=pro",
    "/customers/customer-5000",
    "/subscriptions",
    "/subscriptions?status=active",
    "/subscriptions?ending_within=30d",
    "/subscriptions/sub-5000",
    "/metering",
    "/metering?state=parked",
    "/metering?customer_id=customer-7",
    "/metering/months",
    "/metering/resolve?action=write_off",
    "/notifications",
    "/events",
    "/activity",
    "/plans",
    "/plans/pro/publish",
    "/features/export",
    "/search?q=customer-7777",
];

/// Makes customers on a plan with a feature, as many as are asked for.
async fn fill(folder: &Path, people: usize) -> Store {
    let store = ledger(folder).await;
    let (plan, feature) = (PlanId::new("pro"), FeatureId::new("export"));
    let now = Timestamp::now();
    let described = Feature {
        id: feature.clone(),
        name: "Export".into(),
        kind: FeatureKind::Boolean,
        unit: None,
        dimensions: std::collections::BTreeMap::new(),
        when_stale: WhenStale::Allow,
    };
    store.put_feature(described, now).await.unwrap();
    store.put_plan(plan.clone(), "Pro".into(), None, now).await.unwrap();
    store.put_entitlement(plan.clone(), feature, EntitlementTerms::default(), now).await.unwrap();
    store.publish_plan(plan, Audience::All, now).await.unwrap();
    let path = folder.join("marketd.db");
    customers(&path, people);
    let file = Connection::open(&path).unwrap();
    file.execute("UPDATE subscriptions SET plan_id = 'pro'", []).unwrap();
    store
}

/// Reports usage, four reports at once, each of as many customers as it has events.
async fn report(store: &Store, people: usize, events: usize) -> Duration {
    let begun = Instant::now();
    let next = Arc::new(AtomicUsize::new(0));
    let reporters = (0..4).map(|_| {
        let (store, next) = (store.clone(), Arc::clone(&next));
        tokio::spawn(async move {
            loop {
                let from = next.fetch_add(REPORT, Ordering::Relaxed);
                if from >= events {
                    return;
                }
                let now = Timestamp::now();
                let made = (from..from + REPORT).map(|number| {
                    let mut used = event(uuid::Uuid::now_v7().to_string(), number % people);
                    used.timestamp = Some(now);
                    used
                });
                let taken = store.append_usage(made.collect(), AgeLimits::default(), now).await;
                assert_eq!(taken.unwrap().accepted, REPORT);
            }
        })
    });
    for reporter in reporters.collect::<Vec<_>>() {
        reporter.await.unwrap();
    }
    begun.elapsed()
}

/// Returns the size of a database whose log is folded in.
fn bytes(path: &Path) -> u64 {
    let file = Connection::open(path).unwrap();
    file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    std::fs::metadata(path).unwrap().len()
}

struct Daemon {
    process: Child,
    socket: std::path::PathBuf,
    ready_in: Duration,
}

impl Daemon {
    fn start(folder: &Path) -> Self {
        let socket = folder.join("api.sock");
        drop(std::fs::remove_file(&socket));
        let nowhere = "http://127.0.0.1:9";
        let begun = Instant::now();
        let process = Command::new(env!("CARGO_BIN_EXE_marketd"))
            .arg("run")
            .env("MARKETD__DATABASE__PATH", folder.join("marketd.db"))
            .env("MARKETD__HTTP__LISTEN", format!("unix:{}", socket.display()))
            .envs([("AWS_ENDPOINT_URL", nowhere), ("AWS_EC2_METADATA_DISABLED", "true")])
            .envs([("AWS_ACCESS_KEY_ID", "none"), ("AWS_SECRET_ACCESS_KEY", "none")])
            .envs([("AWS_REGION", "us-east-1"), ("MALLOC_ARENA_MAX", "2")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut daemon = Self { process, socket, ready_in: Duration::ZERO };
        while !daemon.is_ready() {
            assert!(begun.elapsed() < Duration::from_mins(2), "the daemon does not become ready");
            assert!(daemon.process.try_wait().unwrap().is_none(), "the daemon has stopped");
            std::thread::sleep(Duration::from_millis(1));
        }
        daemon.ready_in = begun.elapsed();
        daemon
    }

    fn is_ready(&self) -> bool {
        let Ok(mut stream) = UnixStream::connect(&self.socket) else { return false };
        ask(&mut stream, "/readyz").starts_with("HTTP/1.1 200")
    }

    fn ask_about_each(&self, people: usize) {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        for number in 0..people {
            let path = format!("/v1/customers/customer-{number}/entitlements/export");
            let answer = ask(&mut stream, &path);
            assert!(answer.contains("\"has_access\":true"), "{answer}");
        }
    }

    /// Returns the middle of five times that each page takes, and its size. Follows a page that leads to another.
    fn pages(&self) -> Vec<(String, Duration, usize)> {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        let mut taken = Vec::new();
        for path in PAGES {
            let mut path = path.to_owned();
            let first = ask(&mut stream, &path);
            if let Some(place) = first.lines().find_map(|line| line.strip_prefix("location: ")) {
                place.trim().clone_into(&mut path);
            }
            let mut times = Vec::new();
            let mut size = 0;
            for _ in 0..5 {
                let begun = Instant::now();
                let answer = ask(&mut stream, &path);
                times.push(begun.elapsed());
                assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
                size = answer.len();
            }
            times.sort();
            taken.push((path, times[2], size));
        }
        taken
    }

    fn memory(&self) -> String {
        let (all, own) = memory(&self.process.id().to_string());
        format!("{} resident, {} of it not shared with the file", megabytes(all), megabytes(own))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let id = self.process.id().to_string();
        drop(Command::new("kill").args(["-TERM", &id]).status());
        drop(self.process.wait());
    }
}

fn ask(stream: &mut UnixStream, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4_096];
    loop {
        let read = stream.read(&mut buffer).unwrap();
        answer.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&answer);
        let length = text.split_once("\r\n\r\n").map(|(head, body)| (length_of(head), body.len()));
        if read == 0 || length.is_some_and(|(said, read)| read >= said) {
            return text.into_owned();
        }
    }
}

fn length_of(head: &str) -> usize {
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.map_or(0, |text| text.parse().unwrap())
}
