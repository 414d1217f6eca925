//! A start that finds the database locked, as a backup tool or somebody's shell has it for a while: it waits, and says so.
//! Another marketd is none of these; its lock is a file of its own, and it is refused at once.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::store::StoreError;

/// Shorter than a service manager waits for a start, which is 90 seconds.
const LOCKED_FOR: Duration = Duration::from_secs(60);
/// Each try has waited some seconds by itself, unless SQLite knew at once.
const PAUSE: Duration = Duration::from_millis(200);

/// The wait of a start that is locked out of its database.
#[derive(Debug)]
pub(super) struct LockedOut<'a> {
    path: &'a Path,
    until: Instant,
    was_said: bool,
}

impl<'a> LockedOut<'a> {
    pub(super) fn of(path: &'a Path) -> Self {
        Self { path, until: Instant::now() + LOCKED_FOR, was_said: false }
    }

    /// Waits a moment before another try, if the database is locked; not for ever. Any other error is returned.
    pub(super) async fn wait_out(&mut self, error: StoreError) -> Result<(), StoreError> {
        if !error.is_locked() {
            return Err(error);
        }
        if Instant::now() >= self.until {
            return Err(StoreError::Locked { path: self.path.to_owned() });
        }
        if !self.was_said {
            self.was_said = true;
            tracing::warn!(
                path = %self.path.display(),
                "the database is locked by another program: the start waits for it, for {LOCKED_FOR:?} at most"
            );
        }
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lock_is_waited_for_but_not_for_ever_and_nothing_else_is() {
        let begun = Instant::now();
        let mut waits = LockedOut::of(Path::new("marketd.db"));
        let other = waits.wait_out(StoreError::Closed).await;
        assert!(matches!(other, Err(StoreError::Closed)) && begun.elapsed().is_zero());
        let error = loop {
            match waits.wait_out(StoreError::busy()).await {
                Ok(()) => assert!(begun.elapsed() <= LOCKED_FOR + PAUSE, "{:?}", begun.elapsed()),
                Err(error) => break error,
            }
        };
        assert!(begun.elapsed() >= LOCKED_FOR, "{:?}", begun.elapsed());
        assert!(error.to_string().contains("marketd.db is locked by another program"), "{error}");
    }
}
