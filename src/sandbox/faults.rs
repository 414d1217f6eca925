//! Fault injection: failures of networks and busy services, when a test or a demo asks for them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::locked;

/// A fault to inject.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The operation that fails, or `*` for every one.
    pub operation: String,
    /// The kind of the fault.
    pub kind: FaultKind,
    /// The number of calls that meet it; until taken back if left out.
    #[serde(default)]
    pub times: Option<u32>,
    /// The share of calls that meet it, one in this many; every one if left out.
    #[serde(default)]
    pub one_in: Option<u32>,
    /// The delay in milliseconds, for `slow`; the number of records, for `unprocessed`.
    #[serde(default)]
    pub amount: Option<u32>,
}

/// The kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// AWS throttles the call.
    Throttle,
    /// AWS fails with an internal error.
    Error500,
    /// The connection is cut before anything was done.
    CutBefore,
    /// The connection is cut after the work is done, before the answer.
    CutAfter,
    /// The answer is delayed.
    Slow,
    /// Metering leaves records unprocessed.
    Unprocessed,
    /// The answer is malformed after the work is done.
    Garble,
    /// The answer is well formed and lists nothing.
    Empty,
    /// The permission is missing.
    Deny,
    /// The credentials have expired.
    ExpiredCredentials,
    /// AWS does not know the credentials any more.
    RevokedCredentials,
}

impl FaultKind {
    /// Returns the delay of a slow answer.
    pub(super) fn delay(self, amount: Option<u32>) -> Duration {
        match self {
            Self::Slow => Duration::from_millis(amount.unwrap_or(1_000).into()),
            _ => Duration::ZERO,
        }
    }
}

/// The faults that are armed.
#[derive(Clone)]
pub(super) struct Faults {
    seed: u64,
    state: Arc<Mutex<State>>,
}

struct State {
    armed: Vec<Fault>,
    random: fastrand::Rng,
}

impl State {
    fn new(seed: u64) -> Self {
        Self { armed: Vec::new(), random: fastrand::Rng::with_seed(seed) }
    }
}

impl Faults {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, state: Arc::new(Mutex::new(State::new(seed))) }
    }

    pub(super) fn arm(&self, fault: Fault) {
        locked(&self.state).armed.push(fault);
    }

    pub(super) fn clear(&self) {
        locked(&self.state).armed.clear();
    }

    /// Disarms every fault, and seeds the random generator again.
    pub(super) fn reset(&self) {
        *locked(&self.state) = State::new(self.seed);
    }

    pub(super) fn list(&self) -> Vec<Fault> {
        locked(&self.state).armed.clone()
    }

    /// Returns the fault that this call meets, if any; each is spent as it is met.
    pub(super) fn strike(&self, operation: &str) -> Option<Fault> {
        let mut state = locked(&self.state);
        let State { armed, random } = &mut *state;
        let place = armed.iter().position(|fault| {
            (fault.operation == operation || fault.operation == "*")
                && fault.times != Some(0)
                && fault.one_in.is_none_or(|odds| random.u32(0..odds.max(1)) == 0)
        })?;
        let fault = armed.get_mut(place)?;
        fault.times = fault.times.map(|times| times - 1);
        let struck = fault.clone();
        armed.retain(|fault| fault.times != Some(0));
        Some(struck)
    }
}
