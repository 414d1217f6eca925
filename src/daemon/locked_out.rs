//! A start that cannot have the database yet: its file is locked, as a backup tool or somebody's shell has it for a while,
//! or its server is away. It waits, and says so. Another marketd is none of these; its lock is a file of its own, and it is
//! refused at once.

use std::time::Duration;

use tokio::time::Instant;

use crate::store::{Place, StoreError};

/// Shorter than a service manager waits for a start, which is 90 seconds.
const LOCKED_FOR: Duration = Duration::from_secs(60);
/// Each try has waited some seconds by itself, unless SQLite knew at once.
const PAUSE: Duration = Duration::from_millis(200);

/// The wait of a start that is locked out of its database.
#[derive(Debug)]
pub(super) struct LockedOut<'a> {
    place: &'a Place,
    until: Instant,
    was_said: bool,
}

impl<'a> LockedOut<'a> {
    pub(super) fn of(place: &'a Place) -> Self {
        Self { place, until: Instant::now() + LOCKED_FOR, was_said: false }
    }

    /// Waits a moment before another try, if the database is locked or away; not for ever. Any other error is returned.
    pub(super) async fn wait_out(&mut self, error: StoreError) -> Result<(), StoreError> {
        let file = self.place.file();
        let may_pass = if file.is_some() { error.is_locked() } else { error.is_passing() };
        if !may_pass {
            return Err(error);
        }
        if Instant::now() >= self.until {
            return Err(match file {
                Some(path) => StoreError::Locked { path: path.to_owned() },
                None => error,
            });
        }
        if !self.was_said {
            self.was_said = true;
            let place = self.place;
            if file.is_some() {
                tracing::warn!(
                    %place,
                    "the database is locked by another program: the start waits for it, for {LOCKED_FOR:?} at most"
                );
            } else {
                tracing::warn!(
                    %place,
                    error = error.in_full(),
                    "the database server does not let us in: the start waits for it, for {LOCKED_FOR:?} at most"
                );
            }
        }
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::store::{Address, ErrorKind, ServerPlace};

    #[tokio::test(start_paused = true)]
    async fn a_lock_is_waited_for_but_not_for_ever_and_nothing_else_is() {
        let begun = Instant::now();
        let place = Place::from(Path::new("marketd.db"));
        let mut waits = LockedOut::of(&place);
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

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_away_is_waited_for_too() {
        let begun = Instant::now();
        let address: Address = "postgres://me@127.0.0.1:9/x".parse().unwrap();
        let place = Place::Server(ServerPlace::new(address, 1));
        let mut waits = LockedOut::of(&place);
        let refused = || StoreError::Commit { reason: "away".into(), kind: ErrorKind::Passing };
        while waits.wait_out(refused()).await.is_ok() {}
        assert!(begun.elapsed() >= LOCKED_FOR, "{:?}", begun.elapsed());
    }
}
