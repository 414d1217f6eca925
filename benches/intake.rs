//! How fast notifications are taken in, and how fast they become subscriptions, as ratios to a bare
//! receive-and-delete loop with the same SDK against the same queue, and beside a worker in Node such as a seller would
//! write (`npm install` in `benches/peers`; left out, and said so, where that was not done). `cargo bench --bench intake`

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_sqs::types::DeleteMessageBatchRequestEntry;
use jiff::{SignedDuration, Timestamp};
use marketd::aws::{Connection, ConnectionOptions};
use marketd::clock::Clock;
use marketd::domain::integration::Identity;
use marketd::domain::product::Dimension;
use marketd::domain::reconciliation::{MaxEndings, Patience};
use marketd::domain::{DimensionKey, EntityId, PlanId, ProductCode};
use marketd::health::Health;
use marketd::intake::{Intake, Pace};
use marketd::reconcile::Reconciler;
use marketd::sandbox::market::{
    Action, Dimension as SandboxDimension, NewProduct, Order, Product, Protocol, Visibility,
};
use marketd::sandbox::{Fault, FaultKind, Sandbox, SandboxOptions};
use marketd::store::{ImportProduct, Listing, Store, StoreError};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const MESSAGES: usize = 20_000;
const POLLERS: usize = 2;

#[tokio::main]
async fn main() {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let sandbox = Sandbox::start(SandboxOptions { listen, seed: 1 }).await.unwrap();
    let options = ConnectionOptions {
        metering_region: "us-east-1".into(),
        queue_url: Some(sandbox.queue_url()),
        reconcile_rate: 1_000,
        metering_rate: 1_000,
        registration_rate: 1,
        clock: Clock::system(),
        sandbox_url: Some(sandbox.url()),
    };
    let aws = Connection::open(options, Identity::Environment).await;
    for round in 1..=3 {
        fill(&sandbox, round);
        let bare = bare_loop(&sandbox, &aws).await;
        fill(&sandbox, round);
        let taken_in = intake(&sandbox, &aws, most_pollers(), MESSAGES).await;
        let product = sell(&sandbox, round).await;
        let subscribed = subscriptions(&sandbox, &aws, &product).await;
        let product = sell(&sandbox, round + 100).await;
        let peer = peer(&sandbox, &product).await;
        let rate = |took: Duration| MESSAGES as u128 * 1_000_000 / took.as_micros();
        let ratio = |took: Duration| {
            let percent = bare.as_micros() * 100 / took.as_micros();
            format!("{}.{:02}", percent / 100, percent % 100)
        };
        println!(
            "round {round}: bare loop {}/s, taken in {}/s ({}), subscriptions {}/s ({})",
            rate(bare),
            rate(taken_in),
            ratio(taken_in),
            rate(subscribed),
            ratio(subscribed)
        );
        if let Some(peer) = peer {
            println!(
                "round {round}: a worker in Node {}/s ({}); marketd in {}% of its time",
                rate(peer),
                ratio(peer),
                subscribed.as_micros() * 100 / peer.as_micros()
            );
        }
    }
    far_away(&sandbox, &aws).await;
    sandbox.stop().await;
}

/// The same way by a worker in Node, from the moment at which it receives.
async fn peer(sandbox: &Sandbox, product: &Product) -> Option<Duration> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
    if !folder.join("node_modules").exists() {
        println!("the worker in Node is left out: `npm install` in {}", folder.display());
        return None;
    }
    let database = tempfile::tempdir().unwrap();
    let mut worker = Command::new("node");
    worker
        .arg(folder.join("worker.mjs"))
        .envs(sandbox.environment())
        .env("QUEUE_URL", sandbox.queue_url())
        .env("DATABASE", database.path().join("peer.db"))
        .env("PRODUCT_CODE", &product.product_code)
        .env("BUYERS", MESSAGES.to_string())
        .stdout(Stdio::piped());
    let took = tokio::task::spawn_blocking(move || {
        let mut worker = worker.spawn().unwrap();
        let mut said = BufReader::new(worker.stdout.take().unwrap()).lines();
        assert_eq!(said.next().unwrap().unwrap(), "ready");
        let begun = Instant::now();
        assert_eq!(said.next().unwrap().unwrap(), "done");
        let took = begun.elapsed();
        assert!(worker.wait().unwrap().success());
        took
    });
    Some(took.await.unwrap())
}

/// A queue that takes as long to answer as one across a network: what limits then is how many receive at once.
async fn far_away(sandbox: &Sandbox, aws: &Connection) {
    const FEW: usize = 4_000;
    let slow = |operation: &str| Fault {
        operation: operation.into(),
        kind: FaultKind::Slow,
        times: None,
        one_in: None,
        amount: Some(20),
    };
    for round in 1..=3 {
        let mut took = Vec::new();
        for most in [POLLERS, most_pollers()] {
            for number in 0..FEW {
                sandbox.inject(subscribed(&format!("far-{round}-{most}-{number}"), number));
            }
            sandbox.arm(slow("ReceiveMessage"));
            sandbox.arm(slow("DeleteMessageBatch"));
            took.push(FEW as u128 * 1_000_000 / intake(sandbox, aws, most, FEW).await.as_micros());
            sandbox.disarm();
        }
        println!(
            "round {round}, a queue 20 ms away: {}/s with {POLLERS} pollers, {}/s with up to {}",
            took[0],
            took[1],
            most_pollers()
        );
    }
}

fn fill(sandbox: &Sandbox, round: usize) {
    for number in 0..MESSAGES {
        sandbox.inject(subscribed(&format!("{round}-{number}"), number));
    }
}

fn subscribed(id: &str, buyer: usize) -> String {
    format!(
        r#"{{"Type":"Notification","MessageId":"{id}","Timestamp":"2026-11-23T07:14:32.942Z",
        "Message":"{{\"action\":\"subscribe-success\",\"customer-identifier\":\"b{buyer}\",\"product-code\":\"code\"}}"}}"#
    )
}

/// As many as the settings have by default, or what `MAX_POLLERS` says.
fn most_pollers() -> usize {
    std::env::var("MAX_POLLERS").map_or(16, |most| most.parse().unwrap())
}

async fn bare_loop(sandbox: &Sandbox, aws: &Connection) -> Duration {
    let begun = Instant::now();
    let loops = (0..POLLERS).map(|_| {
        let (clients, url) = (aws.clients(), sandbox.queue_url());
        tokio::spawn(async move {
            loop {
                let receive =
                    clients.sqs.receive_message().queue_url(&url).max_number_of_messages(10);
                let messages = receive.send().await.unwrap().messages.unwrap_or_default();
                if messages.is_empty() {
                    return;
                }
                let entries = messages.iter().enumerate().map(|(at, message)| {
                    DeleteMessageBatchRequestEntry::builder()
                        .id(at.to_string())
                        .receipt_handle(message.receipt_handle().unwrap())
                        .build()
                        .unwrap()
                });
                let delete = clients.sqs.delete_message_batch().queue_url(&url);
                delete.set_entries(Some(entries.collect())).send().await.unwrap();
            }
        })
    });
    for done in loops.collect::<Vec<_>>() {
        done.await.unwrap();
    }
    begun.elapsed()
}

/// A contract of everybody's for a new product, and a notification of each in the queue.
async fn sell(sandbox: &Sandbox, round: usize) -> Product {
    let new = NewProduct {
        title: format!("Product {round}"),
        protocol: Protocol::Legacy,
        visibility: Visibility::Public,
        dimensions: vec![SandboxDimension::entitled("pro", "Pro")],
        product_code: None,
        entity_id: None,
    };
    let product = sandbox.market().with(|market, now| {
        let product = market.add_product(new, now).unwrap().clone();
        for number in 0..MESSAGES {
            let order = Order::of(&product.product_code).with("pro", 1);
            market.act(now, &format!("{number:012}"), Action::Purchase(order)).unwrap();
        }
        product
    });
    while sandbox.queued() < MESSAGES as u64 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    product
}

fn listing(product: &Product) -> Listing {
    Listing {
        owner: None,
        entity_id: EntityId::new(&product.entity_id),
        product_code: Some(ProductCode::new(&product.product_code)),
        title: product.title.clone(),
        visibility: "Public".into(),
        dimensions: vec![Dimension {
            key: DimensionKey::new("pro"),
            name: "Pro".into(),
            unit: None,
            types: vec!["Entitled".into()],
            plan_id: None,
            removed_at: None,
        }],
        problems: Vec::new(),
        document: serde_json::Value::Null,
    }
}

async fn intake(sandbox: &Sandbox, aws: &Connection, most: usize, messages: usize) -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("marketd.db")).unwrap();
    let shutdown = CancellationToken::new();
    let begun = Instant::now();
    let pollers = pollers(sandbox, aws, &store, most, &shutdown);
    while sandbox.queued() > 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let took = begun.elapsed();
    shutdown.cancel();
    for poller in pollers {
        poller.await.unwrap().unwrap();
    }
    let counts = store.notification_counts().await.unwrap();
    let recorded: i64 = counts.iter().map(|(_, count)| count).sum();
    assert_eq!(usize::try_from(recorded).unwrap(), messages);
    store.close();
    took
}

/// The whole way: from the queue, by a look at AWS, to a subscription on disk.
async fn subscriptions(sandbox: &Sandbox, aws: &Connection, product: &Product) -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("marketd.db")).unwrap();
    let import = ImportProduct {
        product_id: None,
        listing: listing(product),
        plans: BTreeMap::from([(DimensionKey::new("pro"), PlanId::new("pro"))]),
        usage_plan: None,
        features: BTreeMap::new(),
    };
    store.import_product(import, Timestamp::now()).await.unwrap();
    let reconciler = Reconciler {
        store: store.clone(),
        aws: aws.clone(),
        clock: Clock::system(),
        health: Health::default(),
        patience: Patience {
            second_look: SignedDuration::from_secs(60),
            expiry_grace: SignedDuration::from_hours(1),
            max_endings: MaxEndings::default(),
        },
        concurrency: 8,
        sweep_interval: Duration::from_secs(3_600),
    };
    let shutdown = CancellationToken::new();
    let begun = Instant::now();
    let pollers = pollers(sandbox, aws, &store, most_pollers(), &shutdown);
    let reconciling = tokio::spawn(reconciler.run(shutdown.clone()));
    while sandbox.queued() > 0 || store.buyer_counts(Timestamp::now()).await.unwrap().due > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = begun.elapsed();
    shutdown.cancel();
    for poller in pollers {
        poller.await.unwrap().unwrap();
    }
    reconciling.await.unwrap().unwrap();
    let file = rusqlite::Connection::open(folder.path().join("marketd.db")).unwrap();
    let sql = "SELECT count(*) FROM subscriptions WHERE status = 'active'";
    let active: i64 = file.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(usize::try_from(active).unwrap(), MESSAGES);
    store.close();
    took
}

fn pollers(
    sandbox: &Sandbox,
    aws: &Connection,
    store: &Store,
    most: usize,
    shutdown: &CancellationToken,
) -> Vec<JoinHandle<Result<(), StoreError>>> {
    let intake = Intake {
        store: store.clone(),
        aws: aws.clone(),
        clock: Clock::system(),
        health: Health::default(),
        queue_url: sandbox.queue_url(),
        pace: Pace::new(POLLERS, most),
        wait: Duration::from_secs(1),
        visibility_timeout: Duration::from_secs(120),
        verify: None,
    };
    (0..intake.pace.most())
        .map(|poller| tokio::spawn(intake.clone().run(poller, shutdown.clone())))
        .collect()
}
