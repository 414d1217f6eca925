//! Usage out: closing hours, freezing records, sending them exactly once.
//!
//! A pass closes what is over and then sends what is due. Every step is committed before the next begins, so
//! a pass may be cut anywhere: what was frozen stays as it is, and an attempt without an answer is repeated
//! with the very same record.

mod aws;
mod sender;

use std::time::Duration;

use jiff::SignedDuration;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

pub use aws::AwsMetering;
pub use sender::{CallAnswer, FrozenCall, MeteringApi};

use crate::clock::Clock;
use crate::health::Health;
use crate::store::{Closing, Store, StoreError};

/// Closes hours and sends records.
#[derive(Clone)]
pub struct MeteringEngine<A> {
    /// The ledger.
    pub store: Store,
    /// AWS.
    pub api: A,
    /// The time.
    pub clock: Clock,
    /// The board.
    pub health: Health,
    /// When and how hours close.
    pub closing: Closing,
    /// How often a pass is made.
    pub interval: Duration,
    /// How many calls may be under way at once; AWS's rate is kept besides.
    pub concurrency: usize,
}

/// What one pass came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PassSummary {
    /// Records frozen.
    pub frozen: usize,
    /// Calls made.
    pub calls: usize,
    /// Records billed.
    pub accepted: usize,
    /// Records parked.
    pub parked: usize,
    /// Records to be sent again.
    pub waiting: usize,
    /// Why nothing more is sent until a person acts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked: Option<String>,
}

impl<A: MeteringApi> MeteringEngine<A> {
    /// Makes passes until told to stop; a pass under way is finished.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), StoreError> {
        while !shutdown.is_cancelled() {
            let nudged = self.store.nudges().metering.notified();
            let summary = self.run_pass().await?;
            if summary != PassSummary::default() {
                tracing::info!(
                    metering.frozen = summary.frozen,
                    metering.calls = summary.calls,
                    metering.accepted = summary.accepted,
                    metering.parked = summary.parked,
                    metering.waiting = summary.waiting,
                    "metered usage"
                );
            }
            let sleep = self.until_next().await?;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = nudged => {}
                () = tokio::time::sleep(sleep) => {}
            }
        }
        Ok(())
    }

    /// Closes what is over and sends everything that is due now.
    pub async fn run_pass(&self) -> Result<PassSummary, StoreError> {
        let closed = self.store.close_hours(self.closing.clone(), self.clock.now()).await?;
        let mut summary =
            PassSummary { frozen: closed.frozen, parked: closed.parked, ..PassSummary::default() };
        self.send_due(&mut summary).await?;
        let outcome = summary.blocked.as_deref().map_or(Ok(()), Err);
        if summary.calls > 0 {
            self.health.report("metering", outcome, self.clock.now());
        }
        // Summing the ledger costs: only when something has changed.
        if summary != PassSummary::default() {
            self.gauge().await?;
        }
        Ok(summary)
    }

    async fn until_next(&self) -> Result<Duration, StoreError> {
        let now = self.clock.now();
        let next = self.store.next_sendable().await?;
        let wait = next.map_or(self.interval, |next| {
            let due = Duration::try_from(next.duration_since(now)).unwrap_or(Duration::ZERO);
            due.min(self.interval)
        });
        // A pass that finds nothing costs little, but not nothing.
        Ok(wait.max(Duration::from_millis(100)))
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::float_arithmetic,
        reason = "metrics are floats; the ledger's own sums are exact"
    )]
    async fn gauge(&self) -> Result<(), StoreError> {
        for (product, balance) in self.store.metering_balance().await? {
            let parts = [
                ("reported", balance.reported),
                ("accepted", balance.accepted),
                ("pending", balance.pending),
                ("parked", balance.parked),
                ("written_off", balance.written_off),
            ];
            for (state, units) in parts {
                metrics::gauge!(
                    "marketd_metering_units", "product_id" => product.to_string(), "state" => state
                )
                .set(units.millionths() as f64 / 1e6);
            }
            if !balance.adds_up() {
                tracing::error!(product.id = %product, ?balance, "the metering balance does not add up");
            }
        }
        Ok(())
    }

    fn window(&self) -> SignedDuration {
        self.closing.window
    }
}
