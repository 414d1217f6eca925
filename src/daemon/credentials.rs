//! The watch over AWS's credentials: it says how they stand, and asks again until AWS takes them.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::aws::{AwsClients, AwsError, Connection, Standing, ask_operation};
use crate::clock::Clock;
use crate::domain::event::EventType;
use crate::domain::event::data::{CredentialsRefused, NoData};
use crate::health::Health;
use crate::metering::Breaker;
use crate::store::{Store, StoreError, Waiter};

/// The longest sleep: a fallback beside what is told.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

/// The watch, which says that AWS refuses the credentials, and has AWS asked again until it takes them.
pub(super) struct CredentialWatch {
    pub(super) store: Store,
    pub(super) aws: Connection,
    pub(super) clock: Clock,
    pub(super) health: Health,
    pub(super) breaker: Breaker,
}

/// The reason to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    /// Those who failed.
    Failing,
    /// Everybody.
    All,
}

impl CredentialWatch {
    /// Runs until told to stop.
    pub(super) async fn run(self, shutdown: CancellationToken) -> Result<(), StoreError> {
        let mut switches = self.aws.switches();
        let mut before = Standing::default();
        while !shutdown.is_cancelled() {
            let clients = self.aws.clients();
            let mut changes = clients.standing_changes();
            changes.mark_unchanged();
            let standing = clients.standing();
            self.say(&before, &standing).await;
            let next = standing.next;
            before = standing;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                // Others may do what the former could not.
                _ = switches.changed() => self.wake(Woken::All).await,
                _ = changes.changed() => {}
                () = self.ask_on_time(&clients, &before, next) => {}
            }
        }
        Ok(())
    }

    /// Has AWS asked again when it is time; the outcome is how we stand next.
    async fn ask_on_time(&self, clients: &AwsClients, standing: &Standing, next: Option<Instant>) {
        let now = Instant::now();
        tokio::time::sleep_until(next.map_or(now + LONGEST_SLEEP, |next| next.max(now))).await;
        if standing.refused.is_some() {
            clients.ask_again().await.ok();
        } else if !standing.operations.is_empty() {
            for refused in &standing.operations {
                ask_operation(clients, refused.operation).await;
            }
            // Pollers and metering ask by what they have to do.
            self.aws.retry();
            self.breaker.doubt();
            self.store.wakeups().wake(Waiter::Metering);
            // Whoever tries moves the time for the next; where nobody has anything to ask, this goes on.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Says what has changed, and wakes who waits for it.
    async fn say(&self, before: &Standing, standing: &Standing) {
        let now = self.clock.now();
        metrics::gauge!("marketd_credentials_refused").set(if is_good(standing) {
            0.0
        } else {
            1.0
        });
        if let Some(error) = wrong(standing) {
            self.health.report("credentials", Err(&error.to_string()), now);
            if is_good(before) {
                let data =
                    CredentialsRefused { reason: &error.message, operation: error.operation };
                self.tell(EventType::CredentialsRefused, &data).await;
            }
        } else if !is_good(before) {
            self.health.report("credentials", Ok(()), now);
            self.tell(EventType::CredentialsAccepted, &NoData {}).await;
        }
        let freed = before.refused.is_some() && standing.refused.is_none()
            || before.operations.len() > standing.operations.len();
        if freed {
            self.wake(Woken::Failing).await;
        }
    }

    /// Has everybody try again what could not be asked meanwhile.
    async fn wake(&self, woken: Woken) {
        self.aws.retry();
        self.breaker.doubt();
        let (wakeups, now) = (self.store.wakeups(), self.clock.now());
        if let Err(error) = self.store.make_all_due(now).await {
            tracing::warn!(%error, "metering records that were held wait for their time");
        }
        wakeups.wake(Waiter::Metering);
        // What failed would wait for its next turn.
        let is_due = |parts: &[&str]| {
            woken == Woken::All || parts.iter().any(|part| self.health.failing(part).is_some())
        };
        if is_due(&["entitlements", "agreements"]) {
            wakeups.wake(Waiter::Sweep);
        }
        if is_due(&["catalog"]) {
            wakeups.wake(Waiter::Catalog);
        }
        if let Err(error) = self.store.hasten_buyers(now).await {
            tracing::warn!(%error, "buyers who were put off wait for their time");
        }
    }

    async fn tell(&self, kind: EventType, data: &impl Serialize) {
        if let Err(error) = self.store.tell(kind, data, self.clock.now()).await {
            tracing::warn!(%error, kind = kind.as_str(), "an event could not be recorded");
        }
    }
}

fn wrong(standing: &Standing) -> Option<&AwsError> {
    standing.refused.as_ref().or_else(|| standing.operations.first())
}

fn is_good(standing: &Standing) -> bool {
    wrong(standing).is_none()
}
