//! The dates of subscriptions that the seller sold: no one else tells of them.

use tokio_util::sync::CancellationToken;

use super::{LONGEST_SLEEP, Reconciler, wait_until};
use crate::store::{StoreError, Waiter};
use crate::supervisor::Part;

/// The part that writes the status of direct subscriptions as their dates pass.
pub struct Dates(pub Reconciler);

impl Part for Dates {
    const NAME: &'static str = "direct";

    async fn work(&mut self, shutdown: &CancellationToken) -> Result<(), StoreError> {
        self.0.follow_dates(shutdown).await
    }
}

impl Reconciler {
    async fn follow_dates(&self, shutdown: &CancellationToken) -> Result<(), StoreError> {
        let mut alarm = self.clock.alarm();
        let mut woken = self.store.wakeups().of(Waiter::Direct);
        while !shutdown.is_cancelled() {
            woken.arm();
            let now = self.clock.now();
            let next = self.store.next_direct().await?;
            if next.is_some_and(|next| next <= now) {
                self.store.update_direct_statuses(now).await?;
                continue;
            }
            let sleep = next.map_or(LONGEST_SLEEP, |next| wait_until(next, now).min(LONGEST_SLEEP));
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = woken.woken() => {}
                () = alarm.rest(now, sleep) => {}
            }
        }
        Ok(())
    }
}
