//! Usage out: the passes that have hours closed and records sent; `store::metering` freezes, `domain::ledger` decides.
//!
//! A pass closes what is over and then sends what is due. Every step is committed before the next begins, so
//! a pass may be cut anywhere: what was frozen stays as it is, and an attempt without an answer is repeated
//! with the very same record.

mod aws_adapter;
mod breaker;
mod reporting;
mod sender;

use std::time::Duration;

use jiff::SignedDuration;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

pub use aws_adapter::AwsMetering;
pub use breaker::Breaker;
pub use sender::{CallAnswer, FrozenCall, MeteringApi};

use breaker::Failure;
use reporting::Progress;
use sender::Tried;

use crate::clock::Clock;
use crate::health::Health;
use crate::store::{ClosingPolicy, Store, StoreError, Waiter};
use crate::supervisor::Part;

/// The engine that closes hours and sends records.
#[derive(Clone)]
pub struct MeteringEngine<A> {
    /// The ledger.
    pub store: Store,
    /// The metering API.
    pub api: A,
    /// The time.
    pub clock: Clock,
    /// The health board.
    pub health: Health,
    /// The policy by which hours close.
    pub closing: ClosingPolicy,
    /// The interval between passes.
    pub interval: Duration,
    /// The most calls that may be under way at once; AWS's rate is kept besides.
    pub concurrency: usize,
    /// The breaker, which holds calls back while AWS answers none.
    pub breaker: Breaker,
}

/// The outcome of one pass.
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
    /// The reason why nothing more is sent until a person acts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked: Option<String>,
    /// The reason why the last call came to nothing, where none of the last try was answered. It is tried again by
    /// itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unanswered: Option<String>,
}

impl PassSummary {
    fn add(&mut self, tried: &Tried) {
        self.calls += tried.calls;
        self.accepted += tried.settled.accepted;
        self.parked += tried.settled.parked;
        self.waiting += tried.settled.waiting;
        if tried.calls == 0 {
            return;
        }
        (self.blocked, self.unanswered) = match &tried.failed {
            Some((Failure::Blocked, reason)) => (Some(reason.clone()), None),
            Some((Failure::Unanswered, reason)) if tried.answered == 0 => {
                (None, Some(reason.clone()))
            }
            _ => (None, None),
        };
    }
}

impl<A: MeteringApi> Part for MeteringEngine<A> {
    const NAME: &'static str = "metering";

    /// Makes passes until told to stop; calls under way are finished.
    async fn work(&mut self, shutdown: &CancellationToken) -> Result<(), StoreError> {
        let mut alarm = self.clock.alarm();
        let mut woken = self.store.wakeups().of(Waiter::Metering);
        while !shutdown.is_cancelled() {
            woken.arm();
            let begun = self.clock.now();
            self.pass(shutdown).await?;
            let sleep = self.until_next().await?;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = woken.woken() => {}
                () = alarm.rest(begun, sleep) => {}
            }
        }
        Ok(())
    }
}

impl<A: MeteringApi> MeteringEngine<A> {
    /// Closes what is over and sends everything that is due now.
    pub async fn run_pass(&self) -> Result<PassSummary, StoreError> {
        self.pass(&CancellationToken::new()).await
    }

    /// Makes a pass, which goes on for as long as there is something to send, be it hours: how it goes is told
    /// meanwhile.
    async fn pass(&self, shutdown: &CancellationToken) -> Result<PassSummary, StoreError> {
        let mut summary = PassSummary::default();
        let mut progress = Progress::begin();
        while self.step(&mut summary, shutdown).await? && !shutdown.is_cancelled() {
            if progress.is_due() {
                self.tell_progress(&mut progress, &summary).await?;
            }
        }
        self.tell_progress(&mut progress, &summary).await?;
        Ok(summary)
    }

    /// Closes what is over and sends a batch of what is due; returns whether there may be more. Hours are closed anew
    /// before each batch: who leaves while a long backlog goes out has an hour, not the time that the backlog takes.
    async fn step(
        &self,
        summary: &mut PassSummary,
        shutdown: &CancellationToken,
    ) -> Result<bool, StoreError> {
        let closed = self.store.close_hours(self.closing.clone(), self.clock.now()).await?;
        summary.frozen += closed.frozen;
        summary.parked += closed.parked;
        let tried = self.send(shutdown).await?;
        self.report_health(&tried);
        summary.add(&tried);
        Ok(tried.more)
    }

    async fn until_next(&self) -> Result<Duration, StoreError> {
        let now = self.clock.now();
        let next = if self.breaker.is_open() {
            self.breaker.next(self.store.nearest_deadline(now).await?)
        } else {
            self.store.next_send_at().await?
        };
        let wait = next.map_or(self.interval, |next| {
            let due = Duration::try_from(next.duration_since(now)).unwrap_or(Duration::ZERO);
            due.min(self.interval)
        });
        // A pass that finds nothing costs little, but not nothing.
        Ok(wait.max(Duration::from_millis(100)))
    }

    fn window(&self) -> SignedDuration {
        self.closing.window
    }
}
