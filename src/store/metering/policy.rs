//! When and how hours close, and what closing them came to.

use jiff::SignedDuration;

use crate::domain::ledger::Timing;

/// When and how hours close.
#[derive(Clone, Debug)]
pub struct ClosingPolicy {
    /// The time after its end when an hour closes, as long as that leaves time to send it.
    pub grace: SignedDuration,
    /// The time from its start for which an hour is worth sending.
    pub window: SignedDuration,
    /// Where usage is metered.
    pub region: String,
    /// True if an hour without usage gets a record of zero.
    pub zero_usage: bool,
}

impl ClosingPolicy {
    /// When hours freeze and until when they are worth sending.
    pub const fn timing(&self) -> Timing {
        Timing { grace: self.grace, window: self.window }
    }
}

/// The result of closing hours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClosedCounts {
    /// Records frozen.
    pub frozen: usize,
    /// Records parked: nobody turned up who could bear them.
    pub parked: usize,
}
