//! One rate for one AWS operation, shared by all who call it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How far a throttled operation slows down, as a multiple of its usual spacing.
const SLOWEST: u32 = 16;

/// Spaces calls evenly; slows down when AWS says so and recovers by itself.
#[derive(Debug)]
pub struct RateLimit {
    spacing: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    next: Instant,
    slowness: u32,
    good_calls: u32,
}

impl RateLimit {
    /// At most so many calls a second.
    pub fn per_second(calls: u32) -> Self {
        Self {
            spacing: Duration::from_secs(1) / calls.max(1),
            state: Mutex::new(State { next: Instant::now(), slowness: 1, good_calls: 0 }),
        }
    }

    /// Waits for this call's turn.
    pub async fn acquire(&self) {
        let turn = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = state.next.max(Instant::now());
            state.next = turn + self.spacing * state.slowness;
            turn
        };
        tokio::time::sleep_until(turn).await;
    }

    /// Waits for this call's turn, if it comes soon enough; whoever does not want to wait so long takes no turn.
    pub async fn acquire_within(&self, patience: Duration) -> bool {
        let turn = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = state.next.max(Instant::now());
            if turn > Instant::now() + patience {
                return false;
            }
            state.next = turn + self.spacing * state.slowness;
            turn
        };
        tokio::time::sleep_until(turn).await;
        true
    }

    /// AWS throttled a call: halve the rate.
    pub fn slow_down(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.slowness = (state.slowness * 2).min(SLOWEST);
        state.good_calls = 0;
    }

    /// AWS answered a call: after enough of them the rate recovers.
    pub fn speed_up(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.good_calls += 1;
        if state.slowness > 1 && state.good_calls >= 10 {
            state.slowness /= 2;
            state.good_calls = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn calls_are_spaced_and_slow_down_when_throttled() {
        let rate = RateLimit::per_second(10);
        let start = Instant::now();
        for _ in 0..11 {
            rate.acquire().await;
        }
        assert_eq!(start.elapsed(), Duration::from_secs(1));
        rate.slow_down();
        rate.acquire().await;
        let throttled = Instant::now();
        rate.acquire().await;
        assert_eq!(throttled.elapsed(), Duration::from_millis(200));
    }
}
