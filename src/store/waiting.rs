//! Frozen records that wait: what they wait for is over.

use jiff::Timestamp;

use super::convert::millis;
use super::{During, Store, StoreError};

impl Store {
    /// Has everything that waits be due, since AWS answers again.
    pub async fn make_all_due(&self, now: Timestamp) -> Result<usize, StoreError> {
        self.write(move |connection| {
            connection
                .prepare_cached(
                    "UPDATE metering_records SET next_attempt_at_ms = ?1
                     WHERE state IN ('ready', 'sending') AND next_attempt_at_ms > ?1",
                )
                .and_then(|mut update| update.execute([millis(now)]))
                .during("have what waits be due")
        })
        .await
    }
}
