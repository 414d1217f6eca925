//! One pass over everything, for those who run marketd from a timer.

use std::time::Duration;

use serde::Serialize;

use super::{Daemon, DaemonError, leave};
use crate::domain::counted::{agreeing, counted};
use crate::intake::{Drained, IntakeError};
use crate::metering::{Breaker, PassSummary};
use crate::webhook::Posted;

/// The time for which a pass posts events.
const POSTED_WITHIN: Duration = Duration::from_secs(30);
/// The time for which a pass prunes; the next one goes on.
const PRUNED_WITHIN: Duration = Duration::from_secs(30);

impl Daemon {
    /// Makes one pass over everything: the queue, every product, every due buyer, due metering.
    pub async fn run_once(self) -> Result<OnceSummary, DaemonError> {
        let mut summary = OnceSummary::default();
        let lease = *self.membership.lease().borrow();
        self.store.work_under(self.membership.taken(lease));
        let receiver = self.receiver()?;
        if let Some(intake) = self.intake(&self.sns_endpoint()?) {
            match intake.drain().await {
                Ok(Drained { recorded, left, why, undeleted }) => {
                    summary.errors.extend(undeleted);
                    summary.notifications.new = recorded.new;
                    summary.notifications.duplicates = recorded.duplicates;
                    summary.notifications.quarantined = recorded.quarantined;
                    if let Some(why) = why {
                        summary.errors.push(unverified(left.len() as u64, &why));
                    }
                }
                Err(IntakeError::Record(error)) => return Err(error.into()),
                Err(error) => summary.errors.push(error.to_string()),
            }
        }
        self.store.update_direct_statuses(self.clock.now()).await?;
        let reconciler = self.reconciler();
        let swept = reconciler.sweep().await?;
        summary.sweep.products = swept.products;
        summary.sweep.buyers = swept.buyers;
        summary.sweep.changes = swept.changes;
        summary.sweep.agreements = swept.agreements;
        for (product, error) in swept.failed {
            summary.errors.push(format!("could not sweep product {product}: {error}"));
        }
        let reconciled = reconciler.run_once().await?;
        summary.reconcile.buyers = reconciled.buyers;
        summary.reconcile.changes = reconciled.changes;
        summary.reconcile.failing =
            usize::try_from(self.store.buyer_counts(self.clock.now()).await?.failing).unwrap_or(0);
        if summary.reconcile.failing > 0 {
            summary.errors.push(not_looked_at(summary.reconcile.failing as u64));
        }
        let most = reconciler.patience.max_endings;
        for (product, held) in self.store.review_brakes(most, self.clock.now()).await? {
            summary.errors.push(held.problem(&product));
        }
        summary.metering = self.metering(Breaker::default()).run_pass().await?;
        if let Some(reason) = &summary.metering.blocked {
            summary.errors.push(format!("metering is blocked: {reason}"));
        } else if let Some(reason) = &summary.metering.unanswered {
            summary.errors.push(format!("AWS answered no metering call: {reason}"));
        } else if summary.metering.waiting > 0 {
            let waiting = counted(summary.metering.waiting as u64, "metering record");
            summary.errors.push(format!("{waiting} could not be sent yet"));
        }
        if let Some(receiver) = receiver {
            let Posted { posted, left, is_paused } =
                self.webhook(receiver).run_once(POSTED_WITHIN).await?;
            summary.events = OnceEvents { posted, left };
            // What a person has paused is left on purpose.
            if left > 0 && !is_paused {
                summary
                    .errors
                    .push(format!("{} could not be posted yet", counted(left as u64, "event")));
            }
        }
        self.retention().run_once(PRUNED_WITHIN).await?;
        summary.ok = summary.errors.is_empty();
        self.store.close();
        leave(self.membership).await;
        Ok(summary)
    }
}

/// The outcome of a single pass.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OnceSummary {
    /// Set if everything could be done.
    pub ok: bool,
    /// The messages that came from the queue.
    pub notifications: OnceNotifications,
    /// The outcome of listing whole products.
    pub sweep: OnceSweep,
    /// The outcome of asking about due buyers.
    pub reconcile: OnceReconcile,
    /// The outcome of billing.
    pub metering: PassSummary,
    /// The events that the webhook was told.
    pub events: OnceEvents,
    /// The things that could not be done.
    pub errors: Vec<String>,
}

/// The events that the webhook was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OnceEvents {
    /// Events that it took.
    pub posted: usize,
    /// Events that it has not taken yet.
    pub left: usize,
}

/// The messages that came from the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OnceNotifications {
    /// Seen for the first time.
    pub new: usize,
    /// Seen before.
    pub duplicates: usize,
    /// Not readable.
    pub quarantined: usize,
}

/// The outcome of listing whole products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OnceSweep {
    /// Products listed.
    pub products: usize,
    /// Buyers compared.
    pub buyers: usize,
    /// Subscriptions created or changed.
    pub changes: usize,
    /// Agreements compared.
    pub agreements: usize,
}

/// The outcome of asking about due buyers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OnceReconcile {
    /// Buyers taken over.
    pub buyers: usize,
    /// Subscriptions created or changed.
    pub changes: usize,
    /// Buyers about whom asking failed.
    pub failing: usize,
}

fn unverified(left: u64, why: impl std::fmt::Display) -> String {
    let stay = agreeing(left, "stays", "stay");
    format!("{} could not be verified and {stay} in the queue: {why}", counted(left, "message"))
}

fn not_looked_at(failing: u64) -> String {
    let they = agreeing(failing, "it is", "they are");
    format!("looking at {} failed; {they} tried again", counted(failing, "buyer"))
}
