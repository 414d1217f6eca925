//! The sandbox's movable clock: the machine's clock plus an offset, or standing still.
//!
//! Everything that waits in the sandbox waits through this clock, so that moving it wakes long
//! polls and delivers what has become due.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use crate::clock::Clock;

/// The clock that everything in one sandbox shares.
#[derive(Clone, Debug)]
pub struct SandboxClock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    machine: Clock,
    setting: Mutex<Setting>,
    moves: watch::Sender<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Setting {
    Offset(SignedDuration),
    Frozen(Timestamp),
}

/// A move that would leave the range of representable times.
#[derive(Debug, thiserror::Error)]
#[error("the clock cannot be moved that far")]
pub struct ClockOutOfRange;

impl SandboxClock {
    /// Makes a clock that runs with the machine's until it is moved.
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            machine: Clock::system(),
            setting: Mutex::new(Setting::Offset(SignedDuration::ZERO)),
            moves: watch::Sender::new(0),
        }))
    }

    /// Returns the sandbox's current time, to the millisecond.
    pub fn now(&self) -> Timestamp {
        let setting = *self.setting();
        self.read(setting)
    }

    /// Reports whether the clock stands still.
    pub fn is_frozen(&self) -> bool {
        matches!(*self.setting(), Setting::Frozen(_))
    }

    /// Moves the clock by a duration, which may be negative.
    pub fn advance(&self, by: SignedDuration) -> Result<Timestamp, ClockOutOfRange> {
        let mut setting = self.setting();
        let target = self.read(*setting).checked_add(by).map_err(|_| ClockOutOfRange)?;
        *setting = self.at(target, matches!(*setting, Setting::Frozen(_)));
        drop(setting);
        self.wake();
        Ok(target)
    }

    /// Moves the clock to a time.
    pub fn set(&self, now: Timestamp) {
        let mut setting = self.setting();
        *setting = self.at(now, matches!(*setting, Setting::Frozen(_)));
        drop(setting);
        self.wake();
    }

    /// Stops the clock where it is, or lets it run on from there.
    pub fn freeze(&self, frozen: bool) {
        let mut setting = self.setting();
        let now = self.read(*setting);
        *setting = self.at(now, frozen);
        drop(setting);
        self.wake();
    }

    /// Lets the clock run with the machine's again.
    pub fn reset(&self) {
        *self.setting() = Setting::Offset(SignedDuration::ZERO);
        self.wake();
    }

    /// Returns this clock for others to read, and to be woken by when it is moved.
    pub fn shared(&self) -> Clock {
        let clock = self.clone();
        Clock::following(move || clock.now(), self.moves())
    }

    /// Waits until the clock has reached a time.
    pub async fn sleep_until(&self, at: Timestamp) {
        let mut moves = self.0.moves.subscribe();
        loop {
            moves.mark_unchanged();
            let left = self.now().duration_until(at);
            if left <= SignedDuration::ZERO {
                return;
            }
            // A frozen clock only gets there by being moved.
            let left = if self.is_frozen() { Duration::MAX } else { left.unsigned_abs() };
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                moved = moves.changed() => if moved.is_err() { return },
            }
        }
    }

    /// Returns a receiver that changes when the clock is moved, frozen or released.
    pub fn moves(&self) -> watch::Receiver<u64> {
        self.0.moves.subscribe()
    }

    fn setting(&self) -> MutexGuard<'_, Setting> {
        self.0.setting.lock().expect("nothing panics while the setting is locked")
    }

    fn read(&self, setting: Setting) -> Timestamp {
        match setting {
            Setting::Offset(offset) => {
                let machine = self.0.machine.now();
                machine.checked_add(offset).unwrap_or(Timestamp::MAX)
            }
            Setting::Frozen(at) => at,
        }
    }

    fn at(&self, now: Timestamp, frozen: bool) -> Setting {
        if frozen {
            Setting::Frozen(now)
        } else {
            Setting::Offset(self.0.machine.now().duration_until(now))
        }
    }

    fn wake(&self) {
        self.0.moves.send_modify(|moves| *moves += 1);
    }
}

impl Default for SandboxClock {
    fn default() -> Self {
        Self::new()
    }
}
