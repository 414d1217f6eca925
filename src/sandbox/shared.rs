//! The market behind a lock, with the clock, as the sandbox's parts share it; changes wake the fan-out.

use std::sync::{Arc, Mutex, MutexGuard};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::clock::SandboxClock;
use super::market::Market;

/// A handle on the one market of a sandbox. The lock is never held across an await.
#[derive(Clone)]
pub struct SharedMarket {
    market: Arc<Mutex<Market>>,
    clock: SandboxClock,
    acted: Arc<Notify>,
}

impl SharedMarket {
    /// Shares a market that takes its time from the clock.
    pub fn new(market: Market, clock: SandboxClock) -> Self {
        Self { market: Arc::new(Mutex::new(market)), clock, acted: Arc::new(Notify::new()) }
    }

    /// Acts on the market at the clock's current time, then wakes the fan-out.
    pub fn with<R>(&self, act: impl FnOnce(&mut Market, Timestamp) -> R) -> R {
        let result = self.peek(act);
        self.acted.notify_one();
        result
    }

    /// Acts on the market like [`SharedMarket::with`], without waking the fan-out: for the fan-out itself.
    pub(super) fn peek<R>(&self, act: impl FnOnce(&mut Market, Timestamp) -> R) -> R {
        let now = self.clock.now();
        act(&mut self.lock(), now)
    }

    /// Returns the market itself, for tests that look inside.
    pub fn market(&self) -> Arc<Mutex<Market>> {
        Arc::clone(&self.market)
    }

    /// Returns the clock whose time the market is told.
    pub fn clock(&self) -> &SandboxClock {
        &self.clock
    }

    /// Waits until something was done with the market since the last call.
    pub(super) async fn acted(&self) {
        self.acted.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Market> {
        // A panic inside the market must not hide the state that led to it.
        self.market.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
