//! Brakes on what AWS's answers would end too much of at once: said aloud, and let go once AWS lists it again.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Reconciler;
use crate::domain::ProductId;
use crate::store::StoreError;
use crate::supervisor::Part;

const REVIEW_EVERY: Duration = Duration::from_secs(2);

/// The part that reviews what is held back.
pub struct Brakes {
    reconciler: Reconciler,
    told: BTreeSet<(ProductId, &'static str)>,
}

impl Brakes {
    /// Makes one that has told of nothing yet.
    pub fn of(reconciler: Reconciler) -> Self {
        Self { reconciler, told: BTreeSet::new() }
    }
}

impl Part for Brakes {
    const NAME: &'static str = "brakes";

    async fn work(&mut self, shutdown: &CancellationToken) -> Result<(), StoreError> {
        self.reconciler.keep_reviewing(&mut self.told, shutdown).await
    }
}

impl Reconciler {
    async fn keep_reviewing(
        &self,
        told: &mut BTreeSet<(ProductId, &'static str)>,
        shutdown: &CancellationToken,
    ) -> Result<(), StoreError> {
        while !shutdown.is_cancelled() {
            self.review_brakes(told).await?;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(REVIEW_EVERY) => {}
            }
        }
        Ok(())
    }

    /// Lets go of what AWS lists again, and says what is still held back.
    #[expect(clippy::cast_precision_loss, reason = "metrics are floats")]
    async fn review_brakes(
        &self,
        told: &mut BTreeSet<(ProductId, &'static str)>,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        let held = self.store.review_brakes(self.patience.max_endings, now).await?;
        let problems: Vec<String> = held.iter().map(|(id, held)| held.problem(id)).collect();
        let gauge = |product: &ProductId, what: &'static str, count: u64| {
            metrics::gauge!(
                "marketd_endings_held", "product_id" => product.to_string(), "what" => what
            )
            .set(count as f64);
        };
        let held_now: BTreeSet<_> = held.iter().map(|(id, held)| (id.clone(), held.what)).collect();
        for (product, what) in told.difference(&held_now) {
            gauge(product, what, 0);
            tracing::info!(product.id = %product, what, "endings are not held back any more");
        }
        for ((product, held), problem) in held.iter().zip(&problems) {
            gauge(product, held.what, held.unlisted);
            if !told.contains(&(product.clone(), held.what)) {
                tracing::warn!(
                    product.id = %product,
                    what = held.what,
                    unlisted = held.unlisted,
                    live = held.live,
                    allowed = held.allowed,
                    "{problem}"
                );
            }
        }
        if problems.is_empty() && told.is_empty() {
            return Ok(());
        }
        let outcome = if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) };
        self.health.report("endings", outcome.as_ref().copied().map_err(String::as_str), now);
        *told = held_now;
        Ok(())
    }
}
