//! The policy by which hours close, and the result of closing them.

use jiff::SignedDuration;

use crate::domain::ledger::Timing;

/// The policy by which hours close.
#[derive(Clone, Debug)]
pub struct ClosingPolicy {
    /// The time after its end when an hour closes, as long as that leaves time to send it.
    pub grace: SignedDuration,
    /// The time from its start for which an hour is worth sending.
    pub window: SignedDuration,
    /// The region in which usage is metered.
    pub region: String,
    /// True if an hour without usage gets a record of zero.
    pub zero_usage: bool,
}

impl ClosingPolicy {
    /// Returns the times of closing and sending.
    pub const fn timing(&self) -> Timing {
        Timing { grace: self.grace, window: self.window }
    }
}

/// The result of closing hours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClosedCounts {
    /// The number of records frozen.
    pub frozen: usize,
    /// The number of records parked: nobody turned up who could bear them.
    pub parked: usize,
}
