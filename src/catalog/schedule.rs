//! Keeping products in step with their listings without being asked.

use std::time::Duration;

use jiff::SignedDuration;
use tokio_util::sync::CancellationToken;

use super::{CatalogError, sync};
use crate::aws;
use crate::clock::Clock;
use crate::health::Health;
use crate::store::{Store, StoreError, Waiter};
use crate::supervisor::Part;

/// The interval at which the schedule looks whose turn it is; also the pause before a product that failed is tried again.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// Compares each product with its listing once an interval.
#[derive(Clone)]
pub struct Schedule {
    /// The store.
    pub store: Store,
    /// AWS.
    pub aws: aws::Connection,
    /// The time.
    pub clock: Clock,
    /// The board.
    pub health: Health,
    /// The interval.
    pub interval: SignedDuration,
}

impl Part for Schedule {
    const NAME: &'static str = "catalog";

    async fn work(&mut self, shutdown: &CancellationToken) -> Result<(), StoreError> {
        let every = Duration::try_from(self.interval).unwrap_or(LOOK_EVERY).min(LOOK_EVERY);
        let mut alarm = self.clock.alarm();
        let mut woken = self.store.wakeups().of(Waiter::Catalog);
        while !shutdown.is_cancelled() {
            woken.arm();
            let begun = self.clock.now();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                done = self.sync_due() => done?,
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = woken.woken() => {}
                () = alarm.rest(begun, every.max(Duration::from_millis(100))) => {}
            }
        }
        Ok(())
    }
}

impl Schedule {
    async fn sync_due(&self) -> Result<(), StoreError> {
        let before = self.clock.now().saturating_sub(self.interval).unwrap_or_default();
        let due = self.store.entities_synced_before(before).await?;
        if due.is_empty() {
            return Ok(());
        }
        let mut outcome = Ok(());
        for entity in due {
            let now = self.clock.now();
            match sync(&self.aws.clients(), &self.store, &entity, now).await {
                Ok(_) => {}
                Err(CatalogError::Store(error)) => return Err(error),
                Err(error) => outcome = Err(error.to_string()),
            }
        }
        let outcome = outcome.as_ref().map(drop).map_err(String::as_str);
        self.health.report("catalog", outcome, self.clock.now());
        Ok(())
    }
}
