//! Usage out: closing hours, freezing records, sending them exactly once.
//!
//! A pass closes what is over and then sends what is due. Every step is committed before the next begins, so
//! a pass may be cut anywhere: what was frozen stays as it is, and an attempt without an answer is repeated
//! with the very same record.

mod aws;
mod sender;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::json;
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
    /// Makes passes until told to stop; the batch under way is finished.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), StoreError> {
        let mut alarm = self.clock.alarm();
        while !shutdown.is_cancelled() {
            let nudged = self.store.nudges().metering.notified();
            let begun = self.clock.now();
            let summary = self.pass(&shutdown).await?;
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
                () = alarm.rest(begun, sleep) => {}
            }
        }
        Ok(())
    }

    /// Closes what is over and sends everything that is due now.
    pub async fn run_pass(&self) -> Result<PassSummary, StoreError> {
        self.pass(&CancellationToken::new()).await
    }

    async fn pass(&self, shutdown: &CancellationToken) -> Result<PassSummary, StoreError> {
        let mut summary = PassSummary::default();
        while self.step(&mut summary).await? && !shutdown.is_cancelled() {}
        self.report_health(&summary).await?;
        if summary != PassSummary::default() {
            self.gauge_balance().await?;
        }
        Ok(summary)
    }

    /// Closes what is over and sends a batch of what is due; whether there may be more. Hours are closed anew before
    /// each batch: who leaves while a long backlog goes out has an hour, not the time that the backlog takes.
    async fn step(&self, summary: &mut PassSummary) -> Result<bool, StoreError> {
        let closed = self.store.close_hours(self.closing.clone(), self.clock.now()).await?;
        summary.frozen += closed.frozen;
        summary.parked += closed.parked;
        let more = self.send_batch(summary).await?;
        self.watch_deadlines().await?;
        Ok(more)
    }

    /// A sender that stopped is said in the log, the metrics and the events, once for each time it stops.
    async fn report_health(&self, summary: &PassSummary) -> Result<(), StoreError> {
        if summary.calls == 0 {
            return Ok(());
        }
        let now = self.clock.now();
        let was_ok = self.health.parts().get("metering").is_none_or(|part| part.ok);
        let outcome = summary.blocked.as_deref().map_or(Ok(()), Err);
        self.health.report("metering", outcome, now);
        match &summary.blocked {
            Some(reason) if was_ok => {
                self.store.tell("metering.blocked", json!({"reason": reason}), now).await
            }
            None if !was_ok => self.store.tell("metering.unblocked", json!({}), now).await,
            _ => Ok(()),
        }
    }

    /// Usage that nears the end of its time is money: said in the log, the metrics and the events.
    #[expect(clippy::cast_precision_loss, reason = "metrics are floats")]
    async fn watch_deadlines(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let watched = self.store.watch_deadlines(self.window(), now).await?;
        for warning in &watched.warnings {
            tracing::warn!(
                product.id = %warning.due.product_id,
                hour = %warning.due.hour,
                metering.units = %warning.due.units,
                metering.records = warning.due.records,
                deadline = %warning.due.deadline,
                seconds_left = warning.seconds_left,
                stage = warning.stage,
                "usage is close to the time after which AWS does not take it"
            );
            metrics::counter!("marketd_metering_deadline_warnings_total", "stage" => warning.stage)
                .increment(1);
        }
        let left = |deadline: Timestamp| deadline.duration_since(now).as_secs();
        // With nothing due there is all the time that AWS gives.
        let nearest = watched.due.iter().map(|due| left(due.deadline)).min();
        let nearest = nearest.unwrap_or(self.window().as_secs());
        metrics::gauge!("marketd_metering_seconds_left").set(nearest as f64);
        Ok(())
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
    async fn gauge_balance(&self) -> Result<(), StoreError> {
        let stretches = self.store.unknown_stretches().await?.len();
        metrics::gauge!("marketd_metering_unknown_stretches").set(stretches as f64);
        for (product, balance) in self.store.metering_balance().await? {
            let parts = [
                ("reported", balance.reported),
                ("accepted", balance.accepted),
                ("pending", balance.pending),
                ("parked", balance.parked),
                ("written_off", balance.written_off),
                ("included", balance.included),
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
