//! How fast notifications are taken in, and how fast they become subscriptions, as ratios to a bare
//! receive-and-delete loop with the same SDK against the same queue, and beside a worker in Node such as a seller would
//! write (`npm install` in `benches/peers`; left out, and said so, where that was not done). `cargo bench --bench intake`

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]

mod support;

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_sqs::types::DeleteMessageBatchRequestEntry;
use jiff::{SignedDuration, Timestamp};
use marketd::aws::{Connection, ConnectionOptions};
use marketd::clock::Clock;
use marketd::domain::PlanId;
use marketd::domain::integration::Identity;
use marketd::domain::reconciliation::{MaxEndings, Patience};
use marketd::health::Health;
use marketd::intake::{Intake, Pace, QueueGauge};
use marketd::reconcile::Reconciler;
use marketd::sandbox::market::{
    Action, Dimension, NewProduct, Order, Product, Protocol, Visibility,
};
use marketd::sandbox::{Fault, FaultKind, Sandbox, SandboxOptions};
use marketd::store::{ImportProduct, Store, StoreError};
use marketd::supervisor::endure;
use support::{contract, metered, middle, number, per_second, ratio, say, speed};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const MESSAGES: usize = 20_000;
/// The buyers whom the notices of a contract are about.
const BUYERS: usize = 5_000;
const POLLERS: usize = 2;
const ROUNDS: usize = 3;

#[tokio::main]
async fn main() {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let sandbox = Sandbox::start(SandboxOptions { listen, seed: 1 }).await.unwrap();
    let options = ConnectionOptions {
        metering_region: "us-east-1".into(),
        queue_url: Some(sandbox.queue_url()),
        // What AWS allows of an account is reached long before what is measured here.
        reconcile_rate: 1_000,
        metering_rate: 1_000,
        registration_rate: 1,
        clock: Clock::system(),
        sandbox_url: Some(sandbox.url()),
    };
    let aws = Connection::open(options, Identity::Environment).await;
    let only = std::env::args().nth(1).filter(|argument| !argument.starts_with('-'));
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    let mut floors = Vec::new();
    for round in 1..=ROUNDS {
        fill(&sandbox, round);
        floors.push(bare_loop(&sandbox, &aws).await);
    }
    let floor = middle(&floors);
    if wanted("recorded") {
        recorded(&sandbox, &aws, floor).await;
    }
    if wanted("notices") {
        notices(&sandbox, &aws, floor).await;
    }
    if wanted("new") {
        new_buyers(&sandbox, &aws, floor).await;
    }
    if wanted("far") {
        far_away(&sandbox, &aws).await;
    }
    sandbox.stop().await;
}

/// Prints how fast a round of messages was beside the bare loop.
fn beside_bare_loop(what: &str, took: Duration, target: &str, floor: Duration) {
    say(
        what,
        &format!("{} a second", per_second(MESSAGES, took)),
        target,
        &format!("{} a second by a bare loop", per_second(MESSAGES, floor)),
        &speed(floor, took),
    );
}

async fn recorded(sandbox: &Sandbox, aws: &Connection, floor: Duration) {
    let mut rounds = Vec::new();
    for round in 1..=ROUNDS {
        fill(sandbox, round);
        rounds.push(intake(sandbox, aws, most_pollers(), MESSAGES).await);
    }
    beside_bare_loop("received, recorded, deleted", middle(&rounds), "0.8", floor);
}

/// News of contracts: first and later ones, some of them told twice by AWS and some delivered twice.
async fn notices(sandbox: &Sandbox, aws: &Connection, floor: Duration) {
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let product = sell_contracts(sandbox, aws, round).await;
        tell(sandbox, &product, round);
        let import = contract(&product.entity_id, &product.product_code, "pro");
        ours.push(subscriptions(sandbox, aws, import, BUYERS).await);
        let product = sell_contracts(sandbox, aws, round + 100).await;
        tell(sandbox, &product, round + 100);
        peers.extend(peer(sandbox, &product).await);
    }
    let took = middle(&ours);
    let what = format!("notices of {BUYERS} buyers, to subscriptions on disk");
    beside_bare_loop(&what, took, "0.4", floor);
    if !peers.is_empty() {
        let peer = middle(&peers);
        say(
            "the same, by a worker in Node",
            &format!("{} a second", per_second(MESSAGES, peer)),
            "marketd 3 times as fast",
            "none",
            &ratio(peer.as_micros(), took.as_micros()),
        );
    }
}

/// Buyers who subscribe to what is paid as it is used, and were never seen before.
async fn new_buyers(sandbox: &Sandbox, aws: &Connection, floor: Duration) {
    let mut rounds = Vec::new();
    for round in 1..=ROUNDS {
        let product = new_product(sandbox, Dimension::metered("gb", "GB"), &format!("New {round}"));
        sandbox.market().with(|market, now| {
            for number in 0..MESSAGES {
                let order = Order::of(&product.product_code);
                market.act(now, &account(round, number), Action::Subscribe(order)).unwrap();
            }
        });
        hold(sandbox, MESSAGES).await;
        let mut import = metered(&product.entity_id, &product.product_code, &["gb"]);
        import.usage_plan = Some(PlanId::new("usage"));
        rounds.push(subscriptions(sandbox, aws, import, MESSAGES).await);
    }
    let target = "10000 a second";
    beside_bare_loop("new buyers who pay as they go", middle(&rounds), target, floor);
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
        .env("MESSAGES", MESSAGES.to_string())
        .env("BUYERS", BUYERS.to_string())
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
    message(id, "subscribe-success", &format!("b{buyer}"), "code")
}

fn message(id: &str, action: &str, customer: &str, code: &str) -> String {
    format!(
        r#"{{"Type":"Notification","MessageId":"{id}","Timestamp":"2026-11-23T07:14:32.942Z",
        "Message":"{{\"action\":\"{action}\",\"customer-identifier\":\"{customer}\",\"product-code\":\"{code}\"}}"}}"#
    )
}

/// As many as the settings have by default, or what `MAX_POLLERS` says.
fn most_pollers() -> usize {
    number("MAX_POLLERS", 16)
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

fn new_product(sandbox: &Sandbox, dimension: Dimension, title: &str) -> Product {
    let new = NewProduct {
        title: title.into(),
        protocol: Protocol::Legacy,
        visibility: Visibility::Public,
        dimensions: vec![dimension],
        product_code: None,
        entity_id: None,
    };
    sandbox.market().with(|market, now| market.add_product(new, now).unwrap().clone())
}

/// Buyers of their own in each round.
fn account(round: usize, buyer: usize) -> String {
    format!("{round:04}{buyer:08}")
}

/// Waits until the queue has so many messages.
async fn hold(sandbox: &Sandbox, messages: usize) {
    while sandbox.queued() < messages as u64 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A contract of every buyer's for a new product, of which nothing was told yet.
async fn sell_contracts(sandbox: &Sandbox, aws: &Connection, round: usize) -> Product {
    let title = format!("Contract {round}");
    let product = new_product(sandbox, Dimension::entitled("pro", "Pro"), &title);
    sandbox.market().with(|market, now| {
        for number in 0..BUYERS {
            let order = Order::of(&product.product_code).with("pro", 1);
            market.act(now, &account(round, number), Action::Purchase(order)).unwrap();
        }
    });
    hold(sandbox, BUYERS).await;
    bare_loop(sandbox, aws).await;
    product
}

/// Puts notices of every buyer into the queue, in any order: three fifths are news, a fifth is a second notice of the
/// same, and a fifth the same notice again.
fn tell(sandbox: &Sandbox, product: &Product, round: usize) {
    let names: Vec<String> = sandbox.market().with(|market, _| {
        let buyers = (0..BUYERS).map(|number| market.buyer(&account(round, number)).unwrap());
        buyers.map(|buyer| buyer.customer_identifier.clone()).collect()
    });
    let notice = |id: String, number: usize| {
        message(&id, "entitlement-updated", &names[number % BUYERS], &product.product_code)
    };
    let (news, fifth) = (MESSAGES * 3 / 5, MESSAGES / 5);
    let mut notices: Vec<String> =
        (0..news).map(|it| notice(format!("{round}-{it}"), it)).collect();
    notices.extend((0..fifth).map(|it| notice(format!("{round}-second-{it}"), it)));
    notices.extend((0..fifth).map(|it| notice(format!("{round}-{it}"), it)));
    fastrand::Rng::with_seed(7).shuffle(&mut notices);
    for notice in notices {
        sandbox.inject(notice);
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
async fn subscriptions(
    sandbox: &Sandbox,
    aws: &Connection,
    import: ImportProduct,
    buyers: usize,
) -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("marketd.db")).unwrap();
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
    let reconciling = tokio::spawn(endure(reconciler, shutdown.clone()));
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
    assert_eq!(usize::try_from(active).unwrap(), buyers);
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
        gauge: QueueGauge::default(),
        pace: Pace::new(POLLERS, most),
        wait: Duration::from_secs(1),
        visibility_timeout: Duration::from_secs(120),
        verify: None,
    };
    (0..intake.pace.most())
        .map(|poller| tokio::spawn(intake.clone().run(poller, shutdown.clone())))
        .collect()
}
