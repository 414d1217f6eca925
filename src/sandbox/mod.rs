//! A local AWS Marketplace that real AWS SDK clients can talk to.
//!
//! One port serves every service that a seller needs: SQS, STS, entitlements, metering, the catalog and
//! agreements, each in the protocols that the SDKs speak. `market` holds AWS's rules and is pure; the rest
//! carries them over the wire, loses answers on request, and moves the clock.

mod answer;
mod calls;
mod cbor;
pub mod clock;
pub mod control;
mod fanout;
mod faults;
mod harness;
pub mod market;
mod reset;
mod server;
pub mod shared;
mod sqs;
mod sts;
mod trust;
mod wire;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use calls::{CallRecord, CallSummary};
pub use faults::{Fault, FaultKind};
pub use reset::{Part, Resetting};
pub use sts::RoleGrant;
pub use trust::{Demands, SessionEnd};

use crate::clock::Clock;
use calls::Calls;
pub use clock::SandboxClock;
use fanout::FanOut;
use faults::Faults;
use market::Market;
use reset::CompanionSlot;
use shared::SharedMarket;
use sqs::Queues;
use sts::Sts;
use trust::Trust;

/// The name of the queue to which everything that AWS publishes comes.
const QUEUE: &str = "marketd";
const DEAD_LETTERS: &str = "marketd-dead";
/// The number of receives after which an undeleted message is a dead letter.
const RECEIVES_MOST: u32 = 50;

/// The options of a sandbox.
#[derive(Clone, Copy, Debug)]
pub struct SandboxOptions {
    /// The address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The seed of its ids: the same seed, the same ids.
    pub seed: u64,
}

/// A running sandbox.
pub struct Sandbox {
    address: SocketAddr,
    parts: Parts,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

/// The parts that the sandbox's handlers share.
#[derive(Clone)]
pub(crate) struct Parts {
    market: SharedMarket,
    queues: Queues,
    sts: Sts,
    faults: Faults,
    calls: Calls,
    fanout: FanOut,
    companion: CompanionSlot,
    trust: Trust,
}

impl Sandbox {
    /// Starts a sandbox.
    pub async fn start(options: SandboxOptions) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let clock = SandboxClock::new();
        let market = SharedMarket::new(Market::new(options.seed), clock.clone());
        // Streams of their own: two parts that draw the same numbers would make the same ids.
        let [queue_seed, fanout_seed, sts_seed, fault_seed] =
            [1, 2, 3, 4].map(|part: u64| options.seed ^ (part << 56));
        let queues = Queues::new(format!("http://{address}"), clock, queue_seed);
        begin_queues(&queues);
        let parts = Parts {
            fanout: FanOut::new(QUEUE.to_owned(), fanout_seed),
            sts: Sts::new(Clock::system(), sts_seed),
            faults: Faults::new(fault_seed),
            calls: Calls::default(),
            market,
            queues,
            companion: CompanionSlot::default(),
            trust: Trust::new(crate::clock::Clock::system()),
        };
        let shutdown = CancellationToken::new();
        let tasks = TaskTracker::new();
        tasks.spawn(fanout::run(parts.clone(), shutdown.clone()));
        tasks.spawn(server::serve(listener, parts.clone(), shutdown.clone(), tasks.clone()));
        Ok(Self { address, parts, shutdown, tasks })
    }

    /// Returns its address, as `AWS_ENDPOINT_URL` takes it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the URL of the queue that everything is published to.
    pub fn queue_url(&self) -> String {
        self.parts.queues.url(QUEUE)
    }

    /// Returns the market, to act on and to look into.
    pub fn market(&self) -> &SharedMarket {
        &self.parts.market
    }

    /// Returns the clock.
    pub fn clock(&self) -> &SandboxClock {
        self.parts.market.clock()
    }

    /// Adds a role that can be assumed.
    pub fn add_role(&self, role: RoleGrant) {
        self.parts.sts.add_role(role);
    }

    /// Changes the demands on signatures.
    pub fn demand(&self, demands: Demands) {
        self.parts.trust.demand(demands, self.parts.sts.session_keys());
    }

    /// Arms a fault.
    pub fn arm(&self, fault: Fault) {
        self.parts.faults.arm(fault);
    }

    /// Disarms every fault.
    pub fn disarm(&self) {
        self.parts.faults.clear();
    }

    /// Delivers every notification twice, or once again.
    pub fn repeat_every_notification(&self, repeat: bool) {
        let mut delivery = self.parts.fanout.delivery();
        delivery.repeat_one_in = repeat.then_some(1);
        self.parts.fanout.set_delivery(&self.parts, delivery);
    }

    /// Holds every notification back.
    pub fn hold_notifications(&self, hold: bool) {
        let mut delivery = self.parts.fanout.delivery();
        delivery.hold = hold;
        self.parts.fanout.set_delivery(&self.parts, delivery);
    }

    /// Returns the number of notifications that are held back.
    pub fn held(&self) -> usize {
        self.parts.fanout.held()
    }

    /// Delivers what was held back in any order, and one in `one_in` of it twice.
    pub fn release_shuffled_and_repeated(&self, one_in: u32) {
        self.parts.fanout.repeat_held(one_in);
        self.hold_notifications(false);
    }

    /// Loses every notification on the way, or none again.
    pub fn lose_notifications(&self, lose: bool) {
        let mut delivery = self.parts.fanout.delivery();
        delivery.lose = lose;
        self.parts.fanout.set_delivery(&self.parts, delivery);
    }

    /// Returns every call by operation, caller and outcome.
    pub fn calls(&self) -> Vec<CallSummary> {
        self.parts.calls.summary()
    }

    /// Returns the latest calls of an operation, the newest first.
    pub fn recent_calls(&self, operation: &str, limit: usize) -> Vec<CallRecord> {
        self.parts.calls.recent(Some(operation), limit)
    }

    /// Puts any body on the queue.
    pub fn inject(&self, body: impl Into<String>) {
        self.parts.queues.deliver(QUEUE, body.into());
    }

    /// Returns the number of messages that the queue holds, received and not deleted ones included.
    pub fn queued(&self) -> u64 {
        let summary = self.parts.queues.summary();
        let queues = summary["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let ours = queues.iter().find(|queue| queue["name"] == QUEUE);
        let count = |key: &str| ours.and_then(|queue| queue[key].as_u64()).unwrap_or(0);
        count("visible") + count("in_flight") + count("delayed")
    }

    /// Returns the environment that any AWS SDK, and marketd, needs to talk to it.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.url()),
            ("AWS_REGION", "us-east-1".into()),
            // What boto3 and the AWS command line read.
            ("AWS_DEFAULT_REGION", "us-east-1".into()),
            ("AWS_ACCESS_KEY_ID", "sandbox".into()),
            ("AWS_SECRET_ACCESS_KEY", "sandbox".into()),
            ("MARKETD__QUEUE__URL", self.queue_url()),
        ]
    }

    /// Resets the sandbox, except for the parts to keep.
    pub async fn reset(&self, keep: Vec<Part>) -> Result<(), String> {
        self.parts.reset(keep).await
    }

    /// Registers a companion that resets together with the sandbox.
    pub fn accompany(
        &self,
        companion: impl Fn(Resetting) -> BoxFuture<'static, Result<(), String>> + Send + Sync + 'static,
    ) {
        self.parts.companion.register(companion);
    }

    /// Stops the sandbox.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Creates the queue that everything comes to, and the dead-letter queue.
fn begin_queues(queues: &Queues) {
    queues.create(DEAD_LETTERS, BTreeMap::new());
    let redrive = json!({
        "deadLetterTargetArn":
            format!("arn:aws:sqs:us-east-1:{}:{DEAD_LETTERS}", market::SELLER_ACCOUNT),
        "maxReceiveCount": RECEIVES_MOST,
    });
    queues.create(QUEUE, BTreeMap::from([("RedrivePolicy".to_owned(), redrive.to_string())]));
}

fn locked<T>(mutex: &Arc<Mutex<T>>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
