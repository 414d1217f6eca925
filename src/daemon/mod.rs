//! Starts the parts, supervises them and stops them in order.

mod api;
mod background;
mod credentials;
mod database;
mod identity;
mod locked_out;
mod once;
mod rates;
mod start;

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use metrics_exporter_prometheus::PrometheusHandle;
use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use crate::access::AccessChecks;
use crate::aws::{Connection, ConnectionOptions};
use crate::catalog::Schedule;
use crate::clock::Clock;
use crate::domain::integration::Identity;
use crate::domain::reconciliation::Patience;
use crate::health::Health;
use crate::http::{Api, Bound, Tokens};
use crate::intake::sns::{HttpsFetch, SnsEndpoint};
use crate::intake::{Intake, IntakeError, Pace, QueueGauge};
use crate::metering::{AwsMetering, Breaker, MeteringEngine};
use crate::outgoing;
use crate::reconcile::Reconciler;
use crate::retention::Retention;
use crate::settings::{Listen, Settings};
use crate::store::{ClosingPolicy, LockError, Membership, Store, StoreError, Worker};
use crate::supervisor::{PartEnded, Supervisor};
use crate::telemetry::Masked;
use crate::webhook::{Receiver, Webhook};

use background::Background;
use credentials::CredentialWatch;
use identity::IdentityWatch;
use locked_out::LockedOut;
pub use once::{OnceEvents, OnceNotifications, OnceReconcile, OnceSummary, OnceSweep};
use start::{Claim, leave, open, take_up};

/// The connections that probes may have at once: some programs, each with one or two.
const PROBE_CONNECTIONS: usize = 128;

/// Calls to AWS's metering under way at once, so that its pace is kept though an answer takes most of a second; the rate is
/// kept besides.
const METERING_CONCURRENCY: usize = 8;
/// The time that requests and messages under way may take before a stop leaves them behind.
const INPUTS_GRACE: Duration = Duration::from_secs(4);
/// The time that questions, calls and posts under way may take besides.
const WORKERS_GRACE: Duration = Duration::from_secs(3);
/// The time that what was handed to the database may take to reach the disk.
const STORE_GRACE: Duration = Duration::from_secs(2);

/// The reason why the daemon could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Another daemon has the database, or a backup is being put back.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The address could not be bound.
    #[error("could not listen on {listen}")]
    Listen {
        /// The address.
        listen: Listen,
        /// The system's error.
        source: std::io::Error,
    },
    /// Nothing can be fetched over HTTPS.
    #[error("could not prepare to fetch over HTTPS")]
    Https {
        /// The fault.
        source: reqwest::Error,
    },
    /// A part stopped by itself.
    #[error(transparent)]
    Part(#[from] PartEnded),
    /// A pass would do what another worker does at the same time.
    #[error("a daemon runs on this database and does all that a pass does: {}", described(.0.as_deref()))]
    Occupied(Option<Box<Worker>>),
    /// The queue could not be read.
    #[error(transparent)]
    Intake(#[from] IntakeError),
}

fn described(worker: Option<&Worker>) -> String {
    match worker {
        Some(Worker { name, since, .. }) => format!("worker {name}, since {since}"),
        None => "one that has just come".to_owned(),
    }
}

/// The surroundings that the daemon takes from whoever starts it.
#[derive(Default)]
pub struct Surroundings {
    /// The time; the machine's if left out.
    pub clock: Option<Clock>,
    /// The metrics that `/metrics` renders.
    pub metrics: Option<PrometheusHandle>,
    /// A sandbox to speak to instead of AWS.
    pub sandbox_url: Option<String>,
    /// The purpose that it is built for.
    pub purpose: Purpose,
}

/// The purpose that a daemon is built for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// To run, alone on a file, or as one of several on a server.
    #[default]
    Run,
    /// For one pass, which is not made beside a daemon that runs.
    Pass,
}

/// The daemon, built and not yet running: the database is open, nothing is bound.
pub struct Daemon {
    settings: Settings,
    store: Store,
    aws: Connection,
    clock: Clock,
    health: Health,
    metrics: Option<PrometheusHandle>,
    tokens: Tokens,
    /// The last, so that it is given back when the database is closed.
    membership: Membership,
}

impl Daemon {
    /// Opens the database and connects to AWS, by the role that is set or was connected before.
    pub async fn build(
        settings: Settings,
        surroundings: Surroundings,
    ) -> Result<Self, DaemonError> {
        let clock = surroundings.clock.unwrap_or_else(Clock::system);
        let place = &settings.database;
        let claim = Claim::of(place, surroundings.purpose, clock.now())?;
        let mut waits = LockedOut::of(place);
        let store = loop {
            match open(place).await {
                Ok(store) => break store,
                Err(error) => waits.wait_out(error).await?,
            }
        };
        let identity = loop {
            match take_up(&settings, &store, &clock, surroundings.purpose).await {
                Ok(identity) => break identity,
                Err(error) => waits.wait_out(error).await?,
            }
        };
        let membership = claim.join(&store, surroundings.purpose, clock.now()).await?;
        match &identity {
            Identity::Role(role) => {
                tracing::info!(role = %Masked(&role.arn), "AWS is called by a role");
            }
            Identity::Removed => tracing::warn!("the integration was removed: AWS is not called"),
            Identity::Environment => {}
        }
        let options = ConnectionOptions {
            metering_region: settings.metering.region.to_string(),
            queue_url: settings.queue.as_ref().map(|queue| queue.url.to_string()),
            reconcile_rate: settings.reconcile.rate,
            metering_rate: settings.metering.rate,
            registration_rate: settings.seller.rate,
            clock: clock.clone(),
            sandbox_url: surroundings.sandbox_url,
        };
        if !outgoing::has_authorities() {
            tracing::warn!("{}", outgoing::NO_AUTHORITIES);
        }
        let aws = Connection::open(options, identity).await;
        let (metrics, health) = (surroundings.metrics, Health::default());
        let tokens = Tokens::new(settings.http.tokens.clone());
        Ok(Self { settings, store, aws, clock, health, metrics, tokens, membership })
    }

    /// Returns the database, for those who run the daemon inside their own process.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the tokens of the API, which may be replaced while it runs.
    pub fn tokens(&self) -> Tokens {
        self.tokens.clone()
    }

    /// Binds the API's address.
    pub async fn bind(&self) -> Result<Bound, DaemonError> {
        self.bind_to(&self.settings.http.listen).await
    }

    async fn bind_to(&self, listen: &Listen) -> Result<Bound, DaemonError> {
        Bound::to(listen, self.settings.http.socket_mode)
            .await
            .map_err(|source| DaemonError::Listen { listen: listen.clone(), source })
    }

    /// Runs until told to stop, or until a part ends by itself.
    pub async fn run(self, bound: Bound, shutdown: CancellationToken) -> Result<(), DaemonError> {
        let address = bound.address();
        // Two groups, so that a stop takes in nothing more before the work that is left is finished.
        let mut inputs = Supervisor::new(shutdown);
        let mut workers = Supervisor::new(CancellationToken::new());
        let access = self.access_checks().await?;
        let sns = self.sns_endpoint()?;
        // One for both ways in, so that what it refused shows whichever way it came.
        let intake = self.intake(&sns);
        let receiver = self.receiver()?;
        let gauge = intake.as_ref().map(|intake| intake.gauge.clone());
        let state = self.api_state(access, sns, receiver.clone(), gauge, inputs.token());
        if let Some(listen) = &self.settings.http.probe_listen {
            let bound = self.bind_to(listen).await?;
            let probes = Api::probes(state.clone());
            inputs.start("probes", bound.serve(probes, PROBE_CONNECTIONS, inputs.token()));
        }
        let connections = self.settings.http.connections;
        inputs.start("http", bound.serve(Api::new(state), connections, inputs.token()));
        if let Some(intake) = intake {
            workers.start("queue_depth", intake.watch().run(workers.token()));
            for poller in 0..intake.pace.most() {
                inputs.start("intake", intake.clone().run(poller, inputs.token()));
            }
        } else {
            tracing::warn!("queue.url is not set: only the sweep brings news from AWS");
        }
        let breaker = Breaker::default();
        let background = self.background(receiver, breaker.clone());
        workers.start("background", background.run(workers.token()));
        workers.start("credentials", self.credential_watch(breaker).run(workers.token()));
        workers.start("watchdog", watchdog(workers.token()));
        workers.start("database", self.watch_database(workers.token()));
        workers.start("identity", self.identity_watch().run(workers.token()));
        workers.start("rates", self.share_rates(workers.token()));
        notify(&[NotifyState::Ready, NotifyState::Status(&format!("serving on {address}"))]);
        tracing::info!(http.address = address, "marketd serves");
        if self.tokens.is_empty() {
            tracing::info!("the API has no token: whoever reaches its address may use it");
        }

        let watched = tokio::select! {
            watched = inputs.watch() => watched,
            watched = workers.watch() => watched,
        };
        notify(&[NotifyState::Stopping]);
        tracing::info!("stopping");
        let stopped = in_time(INPUTS_GRACE, "taking in", inputs.stop()).await;
        let stopped = stopped.and(in_time(WORKERS_GRACE, "working", workers.stop()).await);
        let (store, membership) = (self.store.clone(), self.membership.clone());
        let closed = tokio::task::spawn_blocking(move || {
            store.close();
            membership.leave();
        });
        if tokio::time::timeout(STORE_GRACE, closed).await.is_err() {
            tracing::error!("the database took longer than {STORE_GRACE:?} to close and was left");
        }
        watched?;
        stopped?;
        Ok(())
    }

    async fn access_checks(&self) -> Result<AccessChecks, StoreError> {
        let stale_after = signed(self.settings.access.stale_after);
        let (store, clock) = (self.store.clone(), self.clock.clone());
        AccessChecks::start(store, clock, self.health.clone(), stale_after).await
    }

    fn sns_endpoint(&self) -> Result<SnsEndpoint, DaemonError> {
        let fetch = HttpsFetch::new().map_err(|source| DaemonError::Https { source })?;
        let topics = self.settings.sns.topics.clone();
        Ok(SnsEndpoint::new(self.store.clone(), self.clock.clone(), Arc::new(fetch), topics))
    }

    fn intake(&self, sns: &SnsEndpoint) -> Option<Intake> {
        let queue = self.settings.queue.as_ref()?;
        Some(Intake {
            store: self.store.clone(),
            aws: self.aws.clone(),
            clock: self.clock.clone(),
            health: self.health.clone(),
            queue_url: queue.url.to_string(),
            gauge: QueueGauge::default(),
            pace: Pace::new(queue.pollers as usize, queue.max_pollers as usize),
            wait: queue.wait,
            visibility_timeout: queue.visibility_timeout,
            verify: queue.verify_signatures.then(|| sns.clone()),
        })
    }

    fn reconciler(&self) -> Reconciler {
        let settings = &self.settings.reconcile;
        Reconciler {
            store: self.store.clone(),
            aws: self.aws.clone(),
            clock: self.clock.clone(),
            health: self.health.clone(),
            patience: Patience {
                second_look: signed(settings.second_look),
                expiry_grace: signed(settings.expiry_grace),
                max_endings: settings.max_endings,
            },
            concurrency: settings.concurrency as usize,
            sweep_interval: settings.sweep_interval,
        }
    }

    fn background(&self, receiver: Option<Arc<Receiver>>, breaker: Breaker) -> Background {
        Background {
            catalog: self.catalog_schedule(),
            reconciler: self.reconciler(),
            metering: self.metering(breaker),
            webhook: receiver.map(|receiver| self.webhook(receiver)),
            retention: self.retention(),
            health: self.health.clone(),
            store: self.store.clone(),
            membership: self.membership.clone(),
        }
    }

    fn identity_watch(&self) -> IdentityWatch {
        IdentityWatch {
            store: self.store.clone(),
            aws: self.aws.clone(),
            is_set: self.settings.integration.role_arn.is_some(),
        }
    }

    fn catalog_schedule(&self) -> Schedule {
        Schedule {
            store: self.store.clone(),
            aws: self.aws.clone(),
            clock: self.clock.clone(),
            health: self.health.clone(),
            interval: signed(self.settings.catalog.sync_interval),
        }
    }

    fn retention(&self) -> Retention {
        Retention {
            store: self.store.clone(),
            clock: self.clock.clone(),
            settings: self.settings.retention,
        }
    }

    fn closing(&self) -> ClosingPolicy {
        let settings = &self.settings.metering;
        ClosingPolicy {
            grace: signed(settings.grace),
            window: signed(settings.window),
            region: settings.region.to_string(),
            zero_usage: settings.zero_usage,
        }
    }

    fn metering(&self, breaker: Breaker) -> MeteringEngine<AwsMetering> {
        let settings = &self.settings.metering;
        MeteringEngine {
            store: self.store.clone(),
            api: AwsMetering(self.aws.clone()),
            clock: self.clock.clone(),
            health: self.health.clone(),
            closing: self.closing(),
            interval: settings.interval,
            concurrency: METERING_CONCURRENCY,
            breaker,
        }
    }

    fn credential_watch(&self, breaker: Breaker) -> CredentialWatch {
        CredentialWatch {
            store: self.store.clone(),
            aws: self.aws.clone(),
            clock: self.clock.clone(),
            health: self.health.clone(),
            breaker,
        }
    }

    /// Returns the application that events are posted to, if the settings name one.
    fn receiver(&self) -> Result<Option<Arc<Receiver>>, DaemonError> {
        let receiver = self.settings.webhook.clone().map(Receiver::new).transpose();
        Ok(receiver.map_err(|source| DaemonError::Https { source })?.map(Arc::new))
    }

    fn webhook(&self, receiver: Arc<Receiver>) -> Webhook {
        Webhook::new(receiver, self.store.clone(), self.clock.clone(), self.health.clone())
    }
}

/// Waits for parts to stop, but not for ever: what they leave is taken up at the next start.
async fn in_time(
    grace: Duration,
    what: &str,
    stopped: impl Future<Output = Result<(), PartEnded>>,
) -> Result<(), PartEnded> {
    tokio::time::timeout(grace, stopped).await.unwrap_or_else(|_elapsed| {
        tracing::warn!("what was {what} took longer than {grace:?} to stop and was left");
        Ok(())
    })
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// Tells the service manager, where there is one.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager could not be told");
    }
}

/// Tells the service manager that the runtime turns.
async fn watchdog(shutdown: CancellationToken) -> Result<(), StoreError> {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        shutdown.cancelled().await;
        return Ok(());
    };
    while !shutdown.is_cancelled() {
        notify(&[NotifyState::Watchdog]);
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(limit / 2) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_manager_waits_longer_than_a_stop_takes() {
        // Threads that hang are left behind after half a second more.
        let longest = INPUTS_GRACE + WORKERS_GRACE + STORE_GRACE + Duration::from_millis(500);
        assert!(longest <= Duration::from_secs(10), "{longest:?}");
        let unit = include_str!("../../systemd/marketd.service");
        let set = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).unwrap();
        let waits: u64 = set.trim_end_matches('s').parse().unwrap();
        assert!(Duration::from_secs(waits) > longest, "{set}");
        assert!(unit.contains("10 s at most"));
    }
}
