//! One breaker for all calls: while AWS answers none, it is asked now and then by a call, not by every record.
//!
//! The longer it lasts, the more seldom AWS is asked, in proportion: so the wait after AWS is back is short beside the time
//! that it was away, and beside the time that the backlog takes to go out.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::domain::ProductId;

/// The number of calls in a row without an answer that are not those calls' own fault.
const IN_A_ROW: u32 = 3;
/// The part of the time that AWS has been away after which it is asked again.
const PART_OF_OUTAGE: i32 = 8;
const SHORTEST_WAIT: SignedDuration = SignedDuration::from_secs(1);
const LONGEST_WAIT: SignedDuration = SignedDuration::from_secs(30);
/// The longest wait for what a person has to mend, so that it is noticed soon after.
const LONGEST_WAIT_FOR_PERSON: SignedDuration = SignedDuration::from_secs(5);
/// Records that a later question is put with: their outcome is unknown already.
const SUSPECTS: usize = 25;

/// The reason why calls come to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// AWS does not answer, or throttles whatever is asked.
    Unanswered,
    /// Nothing is sent until a person acts.
    Blocked,
}

/// The change that a failed call made to the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// It has just opened, or opened for another reason than before.
    Now,
    /// It is as it was.
    No,
}

/// The breaker's decision on whether calls may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// They may.
    Closed,
    /// One may, to see whether AWS answers.
    Ask {
        /// The failure of the last one.
        failure: Failure,
        /// A record to ask with, of those that failed.
        suspect: Option<i64>,
    },
    /// None may before this time.
    Wait(Timestamp),
}

/// The breaker; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    failed_in_a_row: u32,
    suspects: VecDeque<i64>,
    open: Option<Open>,
    /// The products whose calls go through. Of others it may be that a standstill is noted, be it by an earlier process.
    going: HashSet<ProductId>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    failure: Failure,
    since: Timestamp,
    asked_at: Timestamp,
    /// Somebody has reason to think that calls come to something again.
    is_doubted: bool,
}

impl Open {
    /// Returns when AWS is to be asked again: before half of the time to the nearest deadline has passed.
    fn next(self, nearest_deadline: Option<Timestamp>) -> Timestamp {
        if self.is_doubted {
            return self.asked_at;
        }
        let longest = match self.failure {
            Failure::Unanswered => LONGEST_WAIT,
            Failure::Blocked => LONGEST_WAIT_FOR_PERSON,
        };
        let in_proportion = self.asked_at.duration_since(self.since) / PART_OF_OUTAGE;
        let left = nearest_deadline.map(|deadline| deadline.duration_since(self.asked_at));
        let longest =
            left.filter(SignedDuration::is_positive).map_or(longest, |it| longest.min(it / 2));
        let wait = in_proportion.min(longest).max(SHORTEST_WAIT);
        self.asked_at.saturating_add(wait).unwrap_or(self.asked_at)
    }
}

impl Breaker {
    /// Reports whether calls are held back.
    pub(super) fn is_open(&self) -> bool {
        self.state().open.is_some()
    }

    /// Decides whether calls may go out now. Whoever is told to ask, does.
    pub(super) fn gate(&self, nearest_deadline: Option<Timestamp>, now: Timestamp) -> Gate {
        let mut state = self.state();
        let Some(open) = &mut state.open else { return Gate::Closed };
        let next = open.next(nearest_deadline);
        // A clock that was set back must not have everybody wait for the old time.
        if next > now && open.asked_at <= now {
            return Gate::Wait(next);
        }
        open.asked_at = now;
        open.is_doubted = false;
        open.since = open.since.min(now);
        let failure = open.failure;
        Gate::Ask { failure, suspect: state.suspects.pop_front() }
    }

    /// Returns when AWS is asked next, where calls are held back.
    pub(super) fn next(&self, nearest_deadline: Option<Timestamp>) -> Option<Timestamp> {
        self.state().open.map(|open| open.next(nearest_deadline))
    }

    /// Has the next call ask at once, where nothing was sent until now: what kept it may be mended.
    pub fn doubt(&self) {
        if let Some(open) = self.state().open.as_mut().filter(|it| it.failure == Failure::Blocked) {
            open.is_doubted = true;
        }
    }

    /// Notes a call that AWS did not answer, and the records that it held.
    pub(super) fn failed(&self, failure: Failure, records: &[i64], now: Timestamp) -> Opened {
        let mut state = self.state();
        state.failed_in_a_row = state.failed_in_a_row.saturating_add(1);
        for record in records {
            if state.suspects.len() < SUSPECTS && !state.suspects.contains(record) {
                state.suspects.push_back(*record);
            }
        }
        let enough = failure == Failure::Blocked || state.failed_in_a_row >= IN_A_ROW;
        match &mut state.open {
            Some(open) if open.failure == failure => Opened::No,
            Some(open) => {
                open.failure = failure;
                Opened::Now
            }
            None if enough => {
                state.open = Some(Open { failure, since: now, asked_at: now, is_doubted: false });
                Opened::Now
            }
            None => Opened::No,
        }
    }

    /// Reports whether calls of a product are at a standstill, of which a call has just come to nothing.
    pub(super) fn stands_still(&self, product: &ProductId) -> bool {
        let mut state = self.state();
        let is_open = state.open.is_some();
        if is_open {
            state.going.remove(product);
        }
        is_open
    }

    /// Notes that a call of a product went through; reports whether that may be the end of a standstill.
    pub(super) fn goes(&self, product: &ProductId) -> bool {
        let mut state = self.state();
        !state.going.contains(product) && state.going.insert(product.clone())
    }

    /// Notes a call that AWS answered, whatever it said; returns why calls were held back until now, if they were.
    pub(super) fn answered(&self) -> Option<Failure> {
        let mut state = self.state();
        state.failed_in_a_row = 0;
        state.suspects.clear();
        state.open.take().map(|open| open.failure)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn it_opens_for_calls_that_fail_in_a_row_and_closes_with_an_answer() {
        let breaker = Breaker::default();
        for _ in 0..10 {
            assert_eq!(breaker.failed(Failure::Unanswered, &[1], at(0)), Opened::No);
            assert_eq!(breaker.failed(Failure::Unanswered, &[2], at(0)), Opened::No);
            assert_eq!(breaker.answered(), None);
        }
        breaker.failed(Failure::Unanswered, &[1, 2], at(0));
        breaker.failed(Failure::Unanswered, &[2, 3], at(0));
        assert_eq!(breaker.gate(None, at(0)), Gate::Closed);
        assert_eq!(breaker.failed(Failure::Unanswered, &[4], at(0)), Opened::Now);
        assert_eq!(breaker.gate(None, at(0)), Gate::Wait(at(1)));
        // Another one each time, in case it is the record's own fault.
        for (second, record) in [(1, 1), (2, 2), (3, 3), (4, 4), (5, 1)] {
            let Gate::Ask { suspect, .. } = breaker.gate(None, at(second)) else { panic!() };
            assert_eq!(suspect, Some(record));
            assert_eq!(breaker.failed(Failure::Unanswered, &[record], at(second)), Opened::No);
        }
        assert_eq!(breaker.answered(), Some(Failure::Unanswered));
        assert_eq!(breaker.gate(None, at(6)), Gate::Closed);
        assert_eq!(breaker.failed(Failure::Blocked, &[1], at(7)), Opened::Now, "at once");
    }

    #[test]
    fn what_may_be_mended_is_asked_about_at_once_and_only_once() {
        let breaker = Breaker::default();
        breaker.failed(Failure::Blocked, &[1], at(0));
        let ask = Gate::Ask { failure: Failure::Blocked, suspect: Some(1) };
        assert_eq!(breaker.gate(None, at(60)), ask);
        breaker.failed(Failure::Blocked, &[1], at(60));
        assert_eq!(breaker.gate(None, at(61)), Gate::Wait(at(65)));
        breaker.doubt();
        assert_eq!(breaker.next(None), Some(at(60)), "whoever waits for it is late already");
        assert!(matches!(breaker.gate(None, at(61)), Gate::Ask { .. }));
        assert!(matches!(breaker.gate(None, at(61)), Gate::Wait(_)), "and then as before");
        // That AWS does not answer is no trouble that a person could have mended.
        let silent = Breaker::default();
        for _ in 0..IN_A_ROW {
            silent.failed(Failure::Unanswered, &[1], at(0));
        }
        silent.doubt();
        assert!(matches!(silent.gate(None, at(0)), Gate::Wait(_)));
    }

    #[test]
    fn it_asks_ever_more_seldom_but_never_later_than_half_way_to_a_deadline() {
        let breaker = Breaker::default();
        for _ in 0..IN_A_ROW {
            breaker.failed(Failure::Unanswered, &[1], at(0));
        }
        let asked = |breaker: &Breaker, seconds: std::ops::Range<i64>, deadline: Option<i64>| {
            let asks = |second: &i64| {
                matches!(breaker.gate(deadline.map(at), at(*second)), Gate::Ask { .. })
            };
            seconds.filter(asks).count()
        };
        let first = asked(&breaker, 0..60, None);
        assert!((15..30).contains(&first), "{first} in the first minute");
        let day = asked(&breaker, 60..72_000, None);
        assert!((2_390..2_450).contains(&day), "{day} in twenty hours");
        let last = asked(&breaker, 72_000..72_030, Some(72_020));
        assert!(last >= 5, "{last} as a deadline comes near");
        // The clock is set back.
        assert!(matches!(breaker.gate(None, at(0)), Gate::Ask { .. }));
        assert_eq!(breaker.gate(None, at(0)), Gate::Wait(at(1)));
    }
}
