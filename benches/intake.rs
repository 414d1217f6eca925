//! How fast notifications are taken in, as a ratio to a bare receive-and-delete loop with the same SDK
//! against the same queue. `cargo bench --bench intake`

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use aws_sdk_sqs::types::DeleteMessageBatchRequestEntry;
use marketd::aws::{Connection, ConnectionOptions, Identity};
use marketd::clock::Clock;
use marketd::health::Health;
use marketd::intake::Intake;
use marketd::sandbox::{Sandbox, SandboxOptions};
use marketd::store::Store;
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
        clock: Clock::system(),
        sandbox_url: Some(sandbox.url()),
    };
    let aws = Connection::open(options, Identity::Environment).await;
    for round in 1..=3 {
        fill(&sandbox, round);
        let bare = bare_loop(&sandbox, &aws).await;
        fill(&sandbox, round);
        let ours = intake(&sandbox, &aws).await;
        let rate = |took: Duration| MESSAGES as u128 * 1_000_000 / took.as_micros();
        let percent = bare.as_micros() * 100 / ours.as_micros();
        println!(
            "round {round}: bare loop {}/s, intake {}/s, ratio 0.{percent:02}",
            rate(bare),
            rate(ours)
        );
    }
    sandbox.stop().await;
}

fn fill(sandbox: &Sandbox, round: usize) {
    for number in 0..MESSAGES {
        sandbox.inject(format!(
            r#"{{"Type":"Notification","MessageId":"{round}-{number}","Timestamp":"2026-11-23T07:14:32.942Z",
            "Message":"{{\"action\":\"subscribe-success\",\"customer-identifier\":\"b{number}\",\"product-code\":\"code\"}}"}}"#
        ));
    }
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

async fn intake(sandbox: &Sandbox, aws: &Connection) -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("marketd.db")).unwrap();
    let intake = Intake {
        store: store.clone(),
        aws: aws.clone(),
        clock: Clock::system(),
        health: Health::default(),
        queue_url: sandbox.queue_url(),
        wait: Duration::from_secs(1),
        visibility_timeout: Duration::from_secs(120),
        verify: None,
    };
    let shutdown = CancellationToken::new();
    let begun = Instant::now();
    let pollers: Vec<_> =
        (0..POLLERS).map(|_| tokio::spawn(intake.clone().run(shutdown.clone()))).collect();
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
    assert_eq!(usize::try_from(recorded).unwrap(), MESSAGES);
    store.close();
    took
}
