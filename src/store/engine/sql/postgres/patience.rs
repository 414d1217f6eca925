//! How long an answer of the server is waited for.

use std::time::Duration;

/// How long an answer is waited for. A server that works ends a statement that takes too long, and says so. One that says
/// nothing for longer is taken for gone, though its connection is open: its process hangs, or the way to it is mute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience {
    /// The time that the server has for a statement; as long as it takes where none is given.
    statement: Option<Duration>,
    /// The time of silence after which it is taken for gone.
    silence: Option<Duration>,
}

impl Patience {
    /// For a worker's word that it lives: the lease has to be kept meanwhile.
    pub(crate) const BEAT: Self = Self::of(Duration::from_secs(2), Duration::from_millis(2_500));
    /// For a statement of a verb, whose work is bounded. Waiting for the turn ends before it.
    pub(crate) const USUAL: Self = Self::of(Duration::from_secs(30), Duration::from_secs(35));
    /// For what sums over months.
    pub(crate) const LONG: Self = Self::of(Duration::from_secs(900), Duration::from_secs(905));
    /// For work of which nobody knows how long it takes, at which a person looks on: all rows are moved, or tables changed.
    pub(crate) const ENDLESS: Self = Self { statement: None, silence: None };

    pub(in crate::store::engine) const fn of(statement: Duration, silence: Duration) -> Self {
        Self { statement: Some(statement), silence: Some(silence) }
    }

    /// Returns the time of silence after which a server is taken for gone.
    pub(super) const fn silence(self) -> Option<Duration> {
        self.silence
    }

    /// Returns the statement that tells the server.
    pub(super) fn told(self) -> String {
        let millis = self.statement.map_or(0, |limit| limit.as_millis());
        format!("SET statement_timeout = {millis}")
    }
}
