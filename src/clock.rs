//! The only place that reads the time.
//!
//! Everything else takes a [`Clock`], so that tests and the sandbox can move it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;

/// A shared source of the current time in UTC.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    Manual(Arc<AtomicI64>),
    Other(Arc<dyn Fn() -> Timestamp + Send + Sync>),
}

impl Clock {
    /// The machine's clock.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until [`Clock::set`] moves it.
    pub fn manual(now: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(now.as_millisecond()))))
    }

    /// A clock that shows what another one shows, as the sandbox's.
    pub fn following(other: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Source::Other(Arc::new(other)))
    }

    /// The current time, to the millisecond.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => {
                let now = Timestamp::now();
                Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
            }
            Source::Other(now) => now(),
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

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}
