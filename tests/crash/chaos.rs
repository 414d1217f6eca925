//! Everything that goes wrong on a machine, at random, while a seller sells: kills and stops, a locked database, a full disk,
//! dead credentials, connections that nobody uses, a receiver of events that fails. In between virtual hours pass. At the end
//! every unit that was taken is billed, once, and every event was delivered.
//!
//! The daemon's clock moves by libfaketime and its disk is filled on a file system in memory, where this machine has them;
//! what it has not is left out, and said so.

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fastrand::Rng;
use futures::future::join_all;
use jiff::SignedDuration;
use marketd::sandbox::market::{Action, Order, Product};
use marketd::sandbox::{Fault, FaultKind, SandboxClock};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::application::Application;
use crate::check_bill;
use crate::support::receiver::Receiver;
use crate::support::world::{World, eventually};

const HOURS: u32 = 3;
const BUYERS: u64 = 4;
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
/// Within this a daemon ends that is asked to, whatever it is doing.
const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    Kill,
    Stop,
    LockedDatabase,
    FullDisk,
    DeadCredentials,
    IdleConnections,
    FailingReceiver,
}

const TROUBLES: [Trouble; 7] = [
    Trouble::Kill,
    Trouble::Stop,
    Trouble::LockedDatabase,
    Trouble::FullDisk,
    Trouble::DeadCredentials,
    Trouble::IdleConnections,
    Trouble::FailingReceiver,
];

/// A file system in memory, for the daemon's folder, that can be filled.
struct Disk(PathBuf);

impl Disk {
    fn mount() -> Option<Self> {
        let folder = std::env::temp_dir().join(format!("marketd-chaos-{}", std::process::id()));
        std::fs::create_dir_all(&folder).ok()?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=96m", "tmpfs"])
            .arg(&folder)
            .output()
            .is_ok_and(|output| output.status.success());
        if mounted {
            return Some(Self(folder));
        }
        std::fs::remove_dir(&folder).ok();
        None
    }

    fn fill(&self) {
        let filler = std::fs::File::create(self.filler());
        filler.and_then(|mut file| std::io::copy(&mut std::io::repeat(0), &mut file)).ok();
    }

    fn free(&self) {
        std::fs::remove_file(self.filler()).ok();
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(&self.0).status().ok();
        std::fs::remove_dir(&self.0).ok();
    }
}

/// The clock of a daemon that runs under libfaketime.
struct DaemonClock(PathBuf);

impl DaemonClock {
    fn environment(file: &Path) -> Vec<(String, String)> {
        [
            ("LD_PRELOAD", FAKETIME),
            ("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// Writes aside and renames: the daemon may read at any moment.
    fn set(&self, ahead: SignedDuration) {
        let aside = self.0.with_extension("new");
        std::fs::write(&aside, format!("+{}\n", ahead.as_secs())).unwrap();
        std::fs::rename(aside, &self.0).unwrap();
    }
}

struct Chaos {
    world: World,
    rng: Rng,
    disk: Option<Disk>,
    clock: Option<DaemonClock>,
    ahead: SignedDuration,
    receiver: Receiver,
}

impl Chaos {
    async fn begin(seed: u64) -> Self {
        let disk = Disk::mount();
        if disk.is_none() {
            eprintln!("nothing can be mounted here: no disk runs full");
        }
        let folder = match &disk {
            Some(disk) => tempfile::tempdir_in(&disk.0).unwrap(),
            None => tempfile::tempdir().unwrap(),
        };
        let receiver = Receiver::listening().await;
        let secret = folder.path().join("webhook-secret");
        std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let mut environment = vec![
            ("MARKETD__WEBHOOK__URL".to_owned(), receiver.url()),
            ("MARKETD__WEBHOOK__SECRET_FILE".to_owned(), secret.to_str().unwrap().to_owned()),
            ("MARKETD__LOG__FILTER".to_owned(), "error".to_owned()),
        ];
        let clock = Path::new(FAKETIME).exists().then(|| {
            let clock = DaemonClock(folder.path().join("clock"));
            clock.set(SignedDuration::ZERO);
            environment.extend(DaemonClock::environment(&clock.0));
            clock
        });
        if clock.is_none() {
            eprintln!("libfaketime is not installed here: no virtual hours pass");
        }
        let world = World::in_folder(folder, environment).await;
        let rng = Rng::with_seed(seed);
        Self { world, rng, disk, clock, ahead: SignedDuration::ZERO, receiver }
    }

    /// AWS's clock goes first: a daemon that is behind stamps nothing in AWS's future.
    fn pass_hour(&mut self) {
        let Some(clock) = &self.clock else { return };
        let hour = SignedDuration::from_hours(1);
        self.world.sandbox().clock().advance(hour).unwrap();
        self.ahead += hour;
        clock.set(self.ahead);
    }

    async fn trouble(&mut self, trouble: Trouble) {
        let while_it_lasts = Duration::from_millis(self.rng.u64(200..2_500));
        match trouble {
            Trouble::Kill => {
                self.world.take_daemon().kill().await.unwrap();
                self.world.start_daemon().await;
            }
            Trouble::Stop => {
                let begun = tokio::time::Instant::now();
                self.world.stop_daemon().await;
                assert!(begun.elapsed() < STOPS_WITHIN, "it took {:?} to stop", begun.elapsed());
                self.world.start_daemon().await;
            }
            Trouble::LockedDatabase => {
                let other = rusqlite::Connection::open(self.world.file("marketd.db")).unwrap();
                other.busy_timeout(Duration::from_secs(20)).unwrap();
                other.execute_batch("BEGIN IMMEDIATE").unwrap();
                // Beyond the time that the daemon waits for a lock.
                tokio::time::sleep(while_it_lasts * 3).await;
                other.execute_batch("ROLLBACK").unwrap();
            }
            Trouble::FullDisk => {
                let Some(disk) = &self.disk else { return };
                disk.fill();
                tokio::time::sleep(while_it_lasts).await;
                disk.free();
            }
            Trouble::DeadCredentials => {
                let kind = if self.rng.bool() {
                    FaultKind::ExpiredCredentials
                } else {
                    FaultKind::RevokedCredentials
                };
                self.world.arm(fault("*", kind, None));
                tokio::time::sleep(while_it_lasts).await;
                self.world.sandbox().disarm();
                arm_aws(&self.world);
            }
            Trouble::IdleConnections => {
                let address = self.world.url().trim_start_matches("http://").to_owned();
                let held: Vec<TcpStream> =
                    (0..600).map_while(|_| TcpStream::connect(&address).ok()).collect();
                tokio::time::sleep(while_it_lasts).await;
                drop(held);
            }
            Trouble::FailingReceiver => {
                self.receiver.fails(self.rng.u64(1..4));
            }
        }
    }
}

fn fault(operation: &str, kind: FaultKind, one_in: Option<u32>) -> Fault {
    Fault { operation: operation.into(), kind, times: None, one_in, amount: None }
}

fn arm_aws(world: &World) {
    for operation in ["BatchMeterUsage", "GetEntitlements", "ReceiveMessage"] {
        for kind in
            [FaultKind::CutAfter, FaultKind::CutBefore, FaultKind::Throttle, FaultKind::Garble]
        {
            world.arm(fault(operation, kind, Some(16)));
        }
    }
}

/// A buyer who stays until the end, and what they used.
struct Buyer {
    number: u64,
    product: Product,
    used: u64,
}

impl Buyer {
    async fn subscribe(world: &World, application: &Application, number: u64) -> Self {
        let product = world.market(|market, _| {
            let mut by_usage = market.products().filter(|it| !it.pricing.has_contract());
            by_usage.nth(usize::try_from(number % 2).unwrap()).unwrap().clone()
        });
        let buyer = Self { number, product, used: 0 };
        let account = buyer.account();
        let identifier = world.market(|market, now| {
            market.act(now, &account, Action::Subscribe(buyer.order())).unwrap();
            market.buyer(&account).unwrap().customer_identifier.clone()
        });
        let aws = json!({"account_id": account, "customer_identifier": identifier});
        application.put(&format!("/v1/customers/{}", buyer.customer()), &json!({"aws": aws})).await;
        buyer
    }

    fn customer(&self) -> String {
        format!("buyer-{}", self.number)
    }

    fn account(&self) -> String {
        format!("{:012}", 500_000_000_000 + self.number)
    }

    fn order(&self) -> Order {
        Order::of(&self.product.product_code)
    }

    /// Reports until told to stop; every report is made until it is answered.
    async fn use_it(
        &mut self,
        clock: &SandboxClock,
        application: &Application,
        hour: u32,
        stop: &CancellationToken,
    ) {
        let mut report = 0;
        while !stop.is_cancelled() {
            report += 1;
            let at = clock.now().to_string();
            let events: Vec<Value> = (0..5)
                .map(|event| {
                    json!({
                        "id": format!("{}-{hour}-{report}-{event}", self.number),
                        "customer_id": self.customer(), "product_id": self.product.entity_id,
                        "dimension": if event % 2 == 0 { "gb" } else { "requests" },
                        "quantity": 1 + (report + event) % 7, "timestamp": at,
                    })
                })
                .collect();
            self.used += application.report(&events).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_goes_wrong_every_unit_is_billed_once_and_every_event_is_told() {
    let number = |name: &str, usual| {
        std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
    };
    let mut chaos = Chaos::begin(number("MARKETD_SEED", 1).into()).await;
    let application = Application::of(&chaos.world);
    let clock = chaos.world.sandbox().clock().clone();
    let mut buyers = Vec::new();
    for number in 0..BUYERS {
        buyers.push(Buyer::subscribe(&chaos.world, &application, number).await);
    }
    for hour in 0..number("MARKETD_CHAOS_HOURS", HOURS) {
        arm_aws(&chaos.world);
        let stop = CancellationToken::new();
        let load = buyers.iter_mut().map(|it| it.use_it(&clock, &application, hour, &stop));
        let troubles = async {
            let mut order = TROUBLES;
            chaos.rng.shuffle(&mut order);
            for trouble in order {
                chaos.trouble(trouble).await;
            }
            stop.cancel();
        };
        tokio::join!(join_all(load), troubles);
        chaos.pass_hour();
    }
    let world = &chaos.world;
    world.sandbox().disarm();
    for buyer in &buyers {
        let account = buyer.account();
        world.market(|market, now| {
            market.act(now, &account, Action::Cancel(buyer.order())).unwrap()
        });
    }
    let used: u64 = buyers.iter().map(|buyer| buyer.used).sum();
    check_bill(world, used).await;
    check_events(world, &chaos.receiver).await;
    chaos.world.stop().await;
}

async fn check_events(world: &World, receiver: &Receiver) {
    let mut told = BTreeSet::new();
    let mut after = "0".to_owned();
    loop {
        let page = world.get(&format!("/v1/events?after={after}&limit=500")).await;
        let items = page["items"].as_array().unwrap();
        told.extend(items.iter().map(|event| event["id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) if !items.is_empty() => next.clone_into(&mut after),
            _ => break,
        }
    }
    assert!(!told.is_empty());
    eventually("every event at the receiver", async || {
        told.is_subset(&receiver.times().into_keys().collect()).then_some(())
    })
    .await;
}
