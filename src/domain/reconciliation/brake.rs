//! The brake on endings that nobody told: an answer of AWS's that lists nothing must not end everybody.
//!
//! What a notification ended, or its date, ends by that. What AWS only lists no more ends by a second look, and of that no
//! more than a part of a product's subscriptions within a day, however many looks it takes.

use jiff::{SignedDuration, Timestamp};

/// The time for which an ending counts.
pub const COUNTED_FOR: SignedDuration = SignedDuration::from_hours(24);
/// The least that a share allows: of few subscriptions a few may well end on one day.
const LEAST: u64 = 20;

/// The most subscriptions of a product that may end within a day because AWS lists them no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxEndings {
    /// A percentage of those that live, and 20 at least.
    Percent(u32),
    /// A number of them.
    Count(u32),
}

impl Default for MaxEndings {
    fn default() -> Self {
        Self::Percent(10)
    }
}

impl MaxEndings {
    /// Returns the number that may end of so many that live.
    pub fn of(self, live: u64) -> u64 {
        match self {
            Self::Percent(percent) => (live * u64::from(percent) / 100).max(LEAST),
            Self::Count(count) => count.into(),
        }
    }
}

/// The subscriptions of a product that AWS lists no more, counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unlisted {
    /// The number of subscriptions that live.
    pub live: u64,
    /// The number of these that AWS lists no more.
    pub unlisted: u64,
    /// The number of subscriptions that ended by that within a day.
    pub ended: u64,
}

impl Unlisted {
    /// Returns the number of these that may end.
    pub fn allowed(self, most: MaxEndings) -> u64 {
        most.of(self.live + self.ended)
    }

    /// Reports whether they are too many to be believed.
    pub fn is_too_many(self, most: MaxEndings) -> bool {
        self.unlisted + self.ended > self.allowed(most)
    }
}

/// The state of the brake: whether what AWS lists no more ends by a second look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Brake {
    /// Set if it does not: a person is waited for.
    pub is_held: bool,
    /// The time up to which a person has let go what was missing.
    pub confirmed_at: Option<Timestamp>,
}

impl Brake {
    /// Reports whether a person has let go what has been missing since then.
    pub fn is_confirmed(self, missing_since: Timestamp) -> bool {
        self.confirmed_at.is_some_and(|at| missing_since <= at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_a_number_and_none() {
        use MaxEndings::{Count, Percent};
        // (live, unlisted, ended today, at most, too many)
        let rows = [
            (20, 20, 0, Percent(10), false),
            (21, 21, 0, Percent(10), true),
            (400, 40, 0, Percent(10), false),
            (400, 41, 0, Percent(10), true),
            (380, 1, 20, Percent(10), false),
            (361, 2, 39, Percent(10), true),
            (50, 50, 0, Percent(100), false),
            (5, 3, 0, Count(3), false),
            (5, 3, 1, Count(3), true),
            (1, 1, 0, Count(0), true),
            (1_000, 0, 0, Count(0), false),
        ];
        for (live, unlisted, ended, most, too_many) in rows {
            let seen = Unlisted { live, unlisted, ended };
            assert_eq!(seen.is_too_many(most), too_many, "{seen:?} {most:?}");
        }
    }
}
