//! What a daemon does by itself, and of several on one database only the one that holds the lease.

use std::time::Instant;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{WORKERS_GRACE, in_time};
use crate::catalog::Schedule;
use crate::health::Health;
use crate::metering::{AwsMetering, MeteringEngine};
use crate::reconcile::{Brakes, Dates, Reconciler, Sweeps};
use crate::retention::Retention;
use crate::store::{Lease, Membership, Store};
use crate::supervisor::{PartEnded, Supervisor};
use crate::webhook::Webhook;

/// The parts that work in the background.
#[derive(Clone)]
pub(super) struct Background {
    pub(super) catalog: Schedule,
    pub(super) reconciler: Reconciler,
    pub(super) metering: MeteringEngine<AwsMetering>,
    pub(super) webhook: Option<Webhook>,
    pub(super) retention: Retention,
    pub(super) health: Health,
    pub(super) store: Store,
    pub(super) membership: Membership,
}

/// The parts of the board that only the holder of the lease reports.
const REPORTED: [&str; 7] =
    ["agreements", "catalog", "endings", "entitlements", "metering", "sweep", "webhook"];

impl Background {
    /// Works whenever the lease is held, until told to stop.
    pub(super) async fn run(self, shutdown: CancellationToken) -> Result<(), PartEnded> {
        let mut lease = self.membership.lease();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                () = held(&mut lease) => {}
            }
            let found = *lease.borrow();
            if !found.is_held() {
                continue;
            }
            let under = self.membership.taken(found);
            if under.is_some() {
                tracing::info!("this worker does the work in the background");
            }
            let epoch = under.as_ref().map(|it| it.epoch);
            self.store.work_under(under);
            let mut parts = self.start();
            let watched = tokio::select! {
                biased;
                () = shutdown.cancelled() => Ok(()),
                watched = parts.watch() => watched,
                () = lost(&mut lease, epoch) => {
                    tracing::warn!(
                        "another worker may do the work in the background: this one stops until the lease is its own again"
                    );
                    Ok(())
                }
            };
            let stopped = in_time(WORKERS_GRACE, "working", parts.stop()).await;
            self.health.leave_to_others(&REPORTED);
            watched.and(stopped)?;
        }
    }

    fn start(&self) -> Supervisor {
        let mut parts = Supervisor::new(CancellationToken::new());
        let reconciler = &self.reconciler;
        parts.start_part(self.catalog.clone());
        parts.start_part(Sweeps(reconciler.clone()));
        parts.start_part(Dates(reconciler.clone()));
        parts.start_part(Brakes::of(reconciler.clone()));
        parts.start_part(reconciler.clone());
        parts.start_part(self.metering.clone());
        if let Some(webhook) = &self.webhook {
            parts.start_part(webhook.clone().posts());
        }
        parts.start_part(self.retention.clone());
        parts
    }
}

/// Waits until the lease is held.
async fn held(lease: &mut watch::Receiver<Lease>) {
    // Where nobody tells of changes any more it stays as it is.
    if lease.wait_for(|lease| lease.is_held()).await.is_err() && !lease.borrow().is_held() {
        std::future::pending::<()>().await;
    }
}

/// Waits until the lease is held no longer as it was: it was lost, its holder has not got through to the server for too
/// long, or another one has held it meanwhile.
async fn lost(lease: &mut watch::Receiver<Lease>, taken: Option<i64>) {
    loop {
        let until = match *lease.borrow_and_update() {
            Lease::Elsewhere => return,
            Lease::Held { epoch, .. } if taken.is_some_and(|taken| taken != epoch) => return,
            Lease::Held { until, .. } => until,
        };
        let runs_out = async {
            match until {
                Some(until) => tokio::time::sleep(until - Instant::now()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Where nobody tells of changes any more it runs out.
            Ok(()) = lease.changed() => {}
            () = runs_out => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_lease_is_lost_when_it_is_said_to_be_or_runs_out() {
        let (told, mut lease) = watch::channel(Lease::Elsewhere);
        assert!(tokio::time::timeout(Duration::from_millis(10), held(&mut lease)).await.is_err());
        let held_for = |millis| Lease::Held {
            until: Some(Instant::now() + Duration::from_millis(millis)),
            epoch: 1,
        };
        told.send_replace(held_for(60_000));
        held(&mut lease).await;
        assert!(
            tokio::time::timeout(Duration::from_millis(10), lost(&mut lease, Some(1)))
                .await
                .is_err()
        );
        told.send_replace(Lease::Elsewhere);
        lost(&mut lease, Some(1)).await;
        told.send_replace(held_for(5));
        held(&mut lease).await;
        lost(&mut lease, Some(1)).await;
        // Another has held it meanwhile, and left it.
        told.send_replace(held_for(60_000));
        held(&mut lease).await;
        lost(&mut lease, Some(0)).await;
        // Nobody who could say so is left.
        told.send_replace(held_for(5));
        drop(told);
        lost(&mut lease, Some(1)).await;
    }

    #[tokio::test]
    async fn the_lease_of_a_file_is_never_lost() {
        let (told, mut lease) = watch::channel(Lease::Held { until: None, epoch: 0 });
        drop(told);
        held(&mut lease).await;
        assert!(
            tokio::time::timeout(Duration::from_millis(10), lost(&mut lease, None)).await.is_err()
        );
    }
}
