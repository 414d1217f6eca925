//! The only place that reads the time.
//!
//! Everything else takes a [`Clock`], so that tests and the sandbox can move it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

/// A shared source of the current time in UTC.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    Manual(Arc<AtomicI64>),
    Other(Arc<dyn Fn() -> Timestamp + Send + Sync>, watch::Receiver<u64>),
}

impl Clock {
    /// Returns the machine's clock.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// Makes a clock that stands still until [`Clock::set`] moves it.
    pub fn manual(now: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(now.as_millisecond()))))
    }

    /// Makes a clock that shows what another one shows, as the sandbox's; `moves` changes whenever that one is moved.
    pub fn following(
        other: impl Fn() -> Timestamp + Send + Sync + 'static,
        moves: watch::Receiver<u64>,
    ) -> Self {
        Self(Source::Other(Arc::new(other), moves))
    }

    /// Makes an alarm by this clock, armed from now on.
    pub fn alarm(&self) -> Alarm {
        let moves = match &self.0 {
            Source::Other(_, moves) => {
                let mut moves = moves.clone();
                moves.mark_unchanged();
                Some(moves)
            }
            Source::System | Source::Manual(_) => None,
        };
        Alarm { clock: self.clone(), moves }
    }

    /// Returns the current time, to the millisecond.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => {
                let now = Timestamp::now();
                Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
            }
            Source::Other(now, _) => now(),
            Source::Manual(millis) => Timestamp::from_millisecond(millis.load(Ordering::SeqCst))
                .unwrap_or(Timestamp::UNIX_EPOCH),
        }
    }

    /// Moves a manual clock; the system clock is not moved.
    pub fn set(&self, now: Timestamp) {
        if let Source::Manual(millis) = &self.0 {
            millis.store(now.as_millisecond(), Ordering::SeqCst);
        }
    }
}

/// An alarm that wakes a part which rests: after a while, or as soon as the clock is moved beyond it.
#[derive(Debug)]
pub struct Alarm {
    clock: Clock,
    /// The moves of the clock; none where nobody moves it.
    moves: Option<watch::Receiver<u64>>,
}

impl Alarm {
    /// Returns after so long, or as soon as a move has brought the clock so long after `since`. A move since the last
    /// rest counts too, so that none is lost while the part works. A clock that stands still holds nobody.
    pub async fn rest(&mut self, since: Timestamp, duration: Duration) {
        let slept = tokio::time::sleep(duration);
        let Some(moves) = &mut self.moves else { return slept.await };
        tokio::pin!(slept);
        let duration = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
        loop {
            tokio::select! {
                () = &mut slept => return,
                moved = moves.changed() => {
                    if moved.is_err() {
                        // Whoever moved the clock is gone.
                        return slept.await;
                    }
                    if self.clock.now().duration_since(since) >= duration {
                        return;
                    }
                }
            }
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn followed() -> (Clock, Clock, watch::Sender<u64>) {
        let shown = Clock::manual(Timestamp::UNIX_EPOCH);
        let moves = watch::Sender::new(0);
        let read = shown.clone();
        (shown, Clock::following(move || read.now(), moves.subscribe()), moves)
    }

    fn hours(count: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(count)
    }

    #[tokio::test(start_paused = true)]
    async fn a_move_wakes_whoever_waits_for_less() {
        let (shown, clock, moves) = followed();
        let mut alarm = clock.alarm();
        let begun = tokio::time::Instant::now();
        shown.set(hours(2));
        moves.send_modify(|count| *count += 1);
        // The move came before the rest began, as it does while a part works.
        alarm.rest(hours(0), HOUR).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_move_that_does_not_reach_the_time_wakes_nobody_and_a_frozen_clock_holds_nobody() {
        let (shown, clock, moves) = followed();
        let mut alarm = clock.alarm();
        let begun = tokio::time::Instant::now();
        shown.set(hours(2));
        moves.send_modify(|count| *count += 1);
        alarm.rest(hours(0), 3 * HOUR).await;
        assert_eq!(begun.elapsed(), 3 * HOUR);
    }
}
