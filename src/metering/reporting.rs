//! Reports of how metering goes, as time goes by: on the board, in the log, the metrics and the events.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::breaker::{Failure, Opened};
use super::sender::{MeteringApi, Tried};
use super::{MeteringEngine, PassSummary};
use crate::domain::ProductId;
use crate::domain::event::EventType;
use crate::domain::event::data::{AwsTrouble, NoData};
use crate::domain::ledger::StandstillCause;
use crate::store::StoreError;

/// The interval at which a pass that takes longer tells how far it is.
const TELL_EVERY: Duration = Duration::from_secs(15);

/// The part of a pass that has been told.
pub(super) struct Progress {
    since: Instant,
    told: PassSummary,
}

impl Progress {
    pub(super) fn begin() -> Self {
        Self { since: Instant::now(), told: PassSummary::default() }
    }

    pub(super) fn is_due(&self) -> bool {
        self.since.elapsed() >= TELL_EVERY
    }
}

impl<A: MeteringApi> MeteringEngine<A> {
    /// Tells what was done since it was last told.
    pub(super) async fn tell_progress(
        &self,
        progress: &mut Progress,
        summary: &PassSummary,
    ) -> Result<(), StoreError> {
        let told = std::mem::replace(&mut progress.told, summary.clone());
        progress.since = Instant::now();
        self.watch_deadlines().await?;
        if told == *summary {
            return Ok(());
        }
        let (accepted, parked) = (summary.accepted - told.accepted, summary.parked - told.parked);
        let (frozen, calls) = (summary.frozen - told.frozen, summary.calls - told.calls);
        // While AWS is only asked whether it is back, the board has said so.
        if accepted + parked + frozen > 0 || !self.breaker.is_open() {
            let waiting = summary.waiting - told.waiting;
            tracing::info!(
                metering.frozen = frozen,
                metering.calls = calls,
                metering.accepted = accepted,
                metering.parked = parked,
                metering.waiting = waiting,
                "metered usage"
            );
        }
        self.gauge_balance().await
    }

    /// Reports metering's health: it is well if AWS answered something of the last try.
    pub(super) fn report_health(&self, tried: &Tried) {
        let outcome = match &tried.failed {
            _ if tried.calls == 0 => return,
            Some((Failure::Blocked, reason)) => Err(reason.as_str()),
            Some((Failure::Unanswered, reason)) if tried.answered == 0 => Err(reason.as_str()),
            _ => Ok(()),
        };
        self.health.report("metering", outcome, self.clock.now());
    }

    /// Notes that AWS answered a call. If none was answered before, all that waits is due.
    pub(super) async fn note_answer(
        &self,
        product: &ProductId,
        tried: &mut Tried,
    ) -> Result<(), StoreError> {
        tried.answered += 1;
        if self.breaker.goes(product) {
            self.store.end_standstill(product.clone()).await?;
        }
        let Some(failure) = self.breaker.answered() else { return Ok(()) };
        let now = self.clock.now();
        self.store.make_all_due(now).await?;
        let kind = match failure {
            Failure::Blocked => EventType::MeteringUnblocked,
            Failure::Unanswered => EventType::MeteringAnswered,
        };
        self.store.tell(kind, &NoData {}, now).await
    }

    /// Notes what keeps a product's records, where calls go through no more.
    pub(super) async fn note_standstill(
        &self,
        product: ProductId,
        cause: StandstillCause,
        error: String,
    ) -> Result<(), StoreError> {
        if !self.breaker.stands_still(&product) {
            return Ok(());
        }
        self.store.note_standstill(product, cause, error, self.clock.now()).await
    }

    /// Notes that a call came to nothing. A sender that stops for it is said in the log, the metrics and the events,
    /// once for each time.
    pub(super) async fn note_failure(
        &self,
        failure: Failure,
        reason: &str,
        records: &[i64],
        tried: &mut Tried,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        tried.failed = Some((failure, reason.to_owned()));
        if self.breaker.failed(failure, records, now) == Opened::No {
            return Ok(());
        }
        let kind = match failure {
            Failure::Blocked => EventType::MeteringBlocked,
            Failure::Unanswered => EventType::MeteringUnanswered,
        };
        self.store.tell(kind, &AwsTrouble { reason }, now).await
    }

    /// Warns of usage that nears the end of its time, which is money: in the log, the metrics and the events.
    #[expect(clippy::cast_precision_loss, reason = "metrics are floats")]
    async fn watch_deadlines(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let watched = self.store.watch_deadlines(self.closing.timing(), now).await?;
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
                ("uncertain", balance.uncertain),
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
}
