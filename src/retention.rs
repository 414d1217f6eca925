//! Retention: history that is older than the settings say is pruned, a little at a time beside everything else.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::settings::RetentionSettings;
use crate::store::{History, PRUNE_FROM, Store, StoreError};
use crate::supervisor::Part;

/// The longest time between two rounds. Each prunes what has grown old since the last.
const REST_MOST: Duration = Duration::from_secs(3_600);
/// The shortest.
const REST_LEAST: Duration = Duration::from_secs(1);
/// Rounds in the shortest time for which something is kept.
const ROUNDS: u32 = 24;
/// The pause after a piece, in times that it took: pruning has a fifth of the writer at most.
const PAUSE: u32 = 4;
/// The shortest pause.
const PAUSE_LEAST: Duration = Duration::from_millis(10);

/// Prunes history that is old enough.
#[derive(Clone)]
pub struct Retention {
    /// The store.
    pub store: Store,
    /// The time.
    pub clock: Clock,
    /// The time for which each kind is kept.
    pub settings: RetentionSettings,
}

impl Part for Retention {
    const NAME: &'static str = "retention";

    async fn work(&mut self, shutdown: &CancellationToken) -> Result<(), StoreError> {
        self.store.finish_erasures(self.clock.now()).await?;
        let Some(rest) = self.rest() else {
            shutdown.cancelled().await;
            return Ok(());
        };
        let mut alarm = self.clock.alarm();
        while !shutdown.is_cancelled() {
            let begun = self.clock.now();
            self.round(shutdown, None).await?;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = alarm.rest(begun, rest) => {}
            }
        }
        Ok(())
    }
}

impl Retention {
    /// Prunes what there is to prune, for so long at most.
    pub async fn run_once(&self, within: Duration) -> Result<(), StoreError> {
        self.round(&CancellationToken::new(), Some(Instant::now() + within)).await
    }

    /// Returns the time between two rounds; none where everything is kept for ever.
    fn rest(&self) -> Option<Duration> {
        let shortest = History::ALL.into_iter().filter_map(|it| self.settings.of(it)).min()?;
        Some((shortest / ROUNDS).clamp(REST_LEAST, REST_MOST))
    }

    async fn round(
        &self,
        shutdown: &CancellationToken,
        until: Option<Instant>,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        // Those whose request was cut off.
        self.store.finish_erasures(now).await?;
        for history in History::ALL {
            let Some(before) = self.settings.of(history).and_then(|kept| ago(now, kept)) else {
                continue;
            };
            let mut place = Some(PRUNE_FROM);
            let mut rows = 0;
            while let Some(after) = place {
                if shutdown.is_cancelled() || until.is_some_and(|until| until <= Instant::now()) {
                    break;
                }
                let begun = Instant::now();
                let piece = self.store.prune(history, before, after, now).await?;
                place = piece.next;
                rows += piece.rows;
                let pruned = u64::try_from(piece.rows).unwrap_or(u64::MAX);
                metrics::counter!("marketd_pruned_total", "history" => history.as_str())
                    .increment(pruned);
                if piece.rows > 0 {
                    let pause = (begun.elapsed() * PAUSE).max(PAUSE_LEAST);
                    tokio::select! {
                        biased;
                        () = shutdown.cancelled() => {}
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
            if rows > 0 {
                tracing::info!(
                    history = history.as_str(),
                    rows,
                    %before,
                    "pruned what is older than retention.{} says", history.as_str()
                );
            }
        }
        Ok(())
    }
}

fn ago(now: Timestamp, kept: Duration) -> Option<Timestamp> {
    now.checked_sub(SignedDuration::try_from(kept).ok()?).ok()
}
