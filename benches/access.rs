//! What an access check costs over HTTP: against a bare axum route that returns a constant, on the same machine, by
//! the same client, in the same run.
//!
//! `cargo bench --bench access` prints the ratio of the rates, that to `/healthz` of the same listener, the latency with two
//! connections and at half load, and what memory it takes.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::float_arithmetic,
    reason = "a bench prints what it measured"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use jiff::SignedDuration;
use marketd::access::AccessChecks;
use marketd::aws::{Connection, ConnectionOptions};
use marketd::clock::Clock;
use marketd::domain::AwsIds;
use marketd::domain::feature::{Feature, FeatureKind, WhenStale};
use marketd::domain::integration::Identity;
use marketd::domain::ledger::{AgeLimits, Timing};
use marketd::domain::plan::Audience;
use marketd::domain::terms::{EntitlementTerms, ResetPeriod};
use marketd::domain::usage::{UsageEvent, UsageSubject};
use marketd::domain::{CustomerId, FeatureId, PlanId, Quantity, SubscriptionId};
use marketd::health::Health;
use marketd::http::{Api, ApiParts, ApiState, Bound, Tokens};
use marketd::intake::sns::{HttpsFetch, SnsEndpoint};
use marketd::store::{
    DatabaseLock, DirectSubscription, LockPurpose, Membership, ProvisionCustomer, Store, Worker,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const CUSTOMERS: usize = 100_000;
const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_secs(2);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run());
}

async fn run() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("marketd.db")).unwrap();
    fill(&store).await;
    let before = resident();
    let checks = serve(api(store).await).await;
    let constant = bare(Router::new().route("/constant", get(async || CONSTANT))).await;

    let cold = Instant::now();
    let first = load(checks, path, Stop::After(CUSTOMERS), FULL).await;
    println!(
        "the first check of each of {CUSTOMERS} customers: {:.1} s, {:.0} a second; memory {} MB, before {} MB",
        cold.elapsed().as_secs_f64(),
        first.rate(),
        resident(),
        before,
    );
    let (mut rates, mut floors, mut probes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        floors.push(load(constant, |_| "/constant".into(), Stop::At(ROUND), FULL).await.rate());
        rates.push(load(checks, path, Stop::At(ROUND), FULL).await.rate());
        probes.push(load(checks, |_| "/healthz".into(), Stop::At(ROUND), FULL).await.rate());
    }
    let (rate, floor) = (median(&mut rates), median(&mut floors));
    println!(
        "median of {ROUNDS}: {rate:.0} checks a second ({:.0} to {:.0}), {floor:.0} constants ({:.0} to {:.0}): {:.2}",
        rates[0],
        rates[ROUNDS - 1],
        floors[0],
        floors[ROUNDS - 1],
        rate / floor,
    );
    let probe = median(&mut probes);
    println!("{probe:.0} answers of /healthz by the same listener: {:.2}", rate / probe);
    let few = Pace { connections: 2, rate: None };
    let two = load(checks, path, Stop::At(ROUND), few).await;
    println!("with 2 connections: median {:?}, p99 {:?}", two.percentile(50), two.percentile(99));
    let half = load(checks, path, Stop::At(ROUND), Pace { rate: Some(rate / 2.0), ..FULL }).await;
    let bare = load(
        constant,
        |_| "/constant".into(),
        Stop::At(ROUND),
        Pace { rate: Some(rate / 2.0), ..FULL },
    )
    .await;
    println!(
        "at half load: median {:?}, p99 {:?}; the constant: median {:?}, p99 {:?}",
        half.percentile(50),
        half.percentile(99),
        bare.percentile(50),
        bare.percentile(99),
    );
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// About as long as an answer.
const CONSTANT: &str = r#"{"feature_id":"calls","type":"metered","has_access":true,"reason":"granted","limit":1000,"unlimited":false,"usage":3,"remaining":997,"resets_at":"2026-12-01T00:00:00Z","plan_id":"plan","subscription_id":"sub-12345","subscription_status":"active"}"#;

async fn fill(store: &Store) {
    let now = Clock::system().now();
    let feature = FeatureId::new("calls");
    let described = Feature {
        id: feature.clone(),
        name: "Calls".into(),
        kind: FeatureKind::Metered,
        unit: None,
        dimensions: BTreeMap::new(),
        when_stale: WhenStale::Allow,
    };
    store.put_feature(described, now).await.unwrap();
    let plan = PlanId::new("plan");
    store.put_plan(plan.clone(), "Plan".into(), None, now).await.unwrap();
    let terms = EntitlementTerms {
        limit: Some(Quantity::from_units(1_000)),
        reset: Some(ResetPeriod::Month),
        ..EntitlementTerms::default()
    };
    store.put_entitlement(plan.clone(), feature.clone(), terms, now).await.unwrap();
    store.publish_plan(plan.clone(), Audience::All, now).await.unwrap();
    let numbers: Vec<usize> = (0..CUSTOMERS).collect();
    for chunk in numbers.chunks(500) {
        let made = chunk.iter().map(|number| make(store, *number, &plan, &feature));
        futures::future::join_all(made).await;
    }
}

async fn make(store: &Store, number: usize, plan: &PlanId, feature: &FeatureId) {
    let now = Clock::system().now();
    let id = CustomerId::new(customer(number));
    let request = ProvisionCustomer {
        id: id.clone(),
        name: None,
        email: None,
        aws: AwsIds::default(),
        metadata: None,
    };
    store.provision_customer(request, now).await.unwrap();
    let request = DirectSubscription {
        id: SubscriptionId::new(format!("sub-{number}")),
        customer_id: id.clone(),
        plan_id: plan.clone(),
        quantity: None,
        trial: false,
        starts_at: None,
        ends_at: None,
    };
    store.put_direct(request, now).await.unwrap();
    let event = UsageEvent {
        id: number.to_string(),
        customer_id: id,
        subject: UsageSubject::Feature(feature.clone()),
        quantity: Quantity::from_units(3),
        timestamp: None,
        license_arn: None,
        tags: BTreeMap::new(),
    };
    store.append_usage(vec![event], AgeLimits::default(), now).await.unwrap();
}

fn customer(number: usize) -> String {
    format!("customer-{number}")
}

/// Neighbours in time are no neighbours in memory.
fn path(at: usize) -> String {
    format!("/v1/customers/{}/entitlements/calls", customer(at.wrapping_mul(7_919) % CUSTOMERS))
}

async fn api(store: Store) -> Api {
    let clock = Clock::system();
    let health = Health::default();
    let options = ConnectionOptions {
        metering_region: "us-east-1".into(),
        queue_url: None,
        reconcile_rate: 1,
        metering_rate: 1,
        registration_rate: 1,
        clock: clock.clone(),
        sandbox_url: Some("http://127.0.0.1:9".into()),
    };
    let stale_after = SignedDuration::from_hours(24);
    let access = AccessChecks::start(store.clone(), clock.clone(), health.clone(), stale_after)
        .await
        .unwrap();
    let path = store.path().unwrap();
    let lock = DatabaseLock::take(path, LockPurpose::Run, clock.now()).unwrap();
    Api::new(ApiState::new(ApiParts {
        store: store.clone(),
        membership: Membership::alone(Worker::this(clock.now()), lock),
        aws: Connection::open(options, Identity::Environment).await,
        access,
        clock: clock.clone(),
        started_at: clock.now(),
        sweep_interval: SignedDuration::from_hours(6),
        health,
        sns: SnsEndpoint::new(
            store.clone(),
            clock.clone(),
            std::sync::Arc::new(HttpsFetch::new().unwrap()),
            Vec::new(),
        ),
        webhook: None,
        queue: None,
        registration_redirect: None,
        arrivals: marketd::http::Arrivals::new(Vec::new(), 512),
        tokens: Tokens::default(),
        path_prefix: "".into(),
        settings: Vec::new(),
        settings_file: None,
        sessions: marketd::http::Sessions::default(),
        queue_url: None,
        metering_timing: Timing {
            grace: SignedDuration::from_mins(5),
            window: SignedDuration::from_hours(24),
        },
        usage_ages: AgeLimits::default(),
        metrics: None,
        recent_findings: marketd::http::RecentFindings::default(),
        seller: marketd::http::Seller::default(),
        stopping: CancellationToken::new(),
    }))
}

/// As the daemon serves.
async fn serve(api: Api) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(Bound::Tcp(listener).serve(api, 512, CancellationToken::new()));
    address
}

async fn bare(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[derive(Clone, Copy)]
enum Stop {
    After(usize),
    At(Duration),
}

struct Loaded {
    took: Duration,
    latencies: Vec<Duration>,
}

impl Loaded {
    fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
    }

    fn percentile(&self, percent: usize) -> Duration {
        self.latencies[(self.latencies.len() - 1) * percent / 100]
    }
}

/// How many ask, and how often all of them together.
#[derive(Clone, Copy)]
struct Pace {
    connections: usize,
    /// As fast as answers come, if there is none.
    rate: Option<f64>,
}

const FULL: Pace = Pace { connections: 32, rate: None };

/// Asks over kept connections: as fast as answers come, or at a rate, each answer awaited before the next question.
async fn load(
    address: SocketAddr,
    path: impl Fn(usize) -> String + Copy + Send + 'static,
    stop: Stop,
    pace: Pace,
) -> Loaded {
    let Pace { connections, rate } = pace;
    let begun = Instant::now();
    let tasks = (0..connections).map(|connection| {
        tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut buffer = vec![0; 4_096];
            let mut latencies = Vec::new();
            let pause = rate.map(|rate| Duration::from_secs_f64(connections as f64 / rate));
            let mut at = connection;
            loop {
                match stop {
                    Stop::After(count) if at >= count => return latencies,
                    Stop::At(length) if begun.elapsed() >= length => return latencies,
                    _ => {}
                }
                let asked = Instant::now();
                ask(&mut stream, &path(at), &mut buffer).await;
                latencies.push(asked.elapsed());
                at += connections;
                if let Some(pause) = pause {
                    tokio::time::sleep(pause.saturating_sub(asked.elapsed())).await;
                }
            }
        })
    });
    let mut latencies: Vec<Duration> =
        futures::future::join_all(tasks).await.into_iter().flat_map(Result::unwrap).collect();
    latencies.sort();
    Loaded { took: begun.elapsed(), latencies }
}

async fn ask(stream: &mut TcpStream, path: &str, buffer: &mut [u8]) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut length = 0;
    loop {
        length += stream.read(&mut buffer[length..]).await.unwrap();
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        assert!(head.starts_with("HTTP/1.1 200"), "{text}");
        let said = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if body.len() >= said.parse().unwrap() {
            assert!(path == "/healthz" || body.contains("granted"), "{text}");
            return;
        }
    }
}

/// Megabytes of this process in memory, the client among them.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|text| text.parse::<usize>().ok()).unwrap_or(0) / 1_024
}
