//! Tenure: the time for which a subscription lasts, and the hours that it covers.

use jiff::Timestamp;

use super::super::{ClockHour, Status};
use crate::domain::aws_limits::FINAL_HOUR;

/// The tenure of what bears usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tenure {
    /// No end is known.
    Lasting,
    /// Its end was announced; AWS takes its usage until then, where that was told.
    Ending(Option<Timestamp>),
    /// It ended then, and AWS takes its usage for one more hour.
    Ended(Timestamp),
}

impl Tenure {
    /// Returns the tenure of a subscription. Of those that are ending only a pay-as-you-go one has an end that was
    /// announced; the date of a contract may be moved on.
    pub fn of(
        status: Status,
        pays_as_they_go: bool,
        ends_at: Option<Timestamp>,
        ended_at: Option<Timestamp>,
    ) -> Self {
        match (ended_at, status) {
            (Some(at), _) => Self::Ended(at),
            (None, Status::Ending) => Self::Ending(ends_at.filter(|_| pays_as_they_go)),
            (None, _) => Self::Lasting,
        }
    }

    /// Reports whether it is ending or has ended.
    pub const fn is_leaving(self) -> bool {
        !matches!(self, Self::Lasting)
    }

    /// Returns the time at which it ended, if it has.
    pub const fn ended_at(self) -> Option<Timestamp> {
        match self {
            Self::Ended(at) => Some(at),
            Self::Lasting | Self::Ending(_) => None,
        }
    }

    /// Returns the time at which it ended or is going to end, as far as that is known.
    pub const fn end(self) -> Option<Timestamp> {
        match self {
            Self::Lasting => None,
            Self::Ending(until) => until,
            Self::Ended(at) => Some(at),
        }
    }

    /// Returns the end of the time in which AWS takes its usage, as far as that is known.
    pub fn last_moment(self) -> Option<Timestamp> {
        match self {
            Self::Lasting => None,
            Self::Ending(until) => until,
            Self::Ended(at) => Some(at.saturating_add(FINAL_HOUR).unwrap_or(Timestamp::MAX)),
        }
    }

    /// Reports whether AWS still takes its usage at a moment.
    pub fn is_taken_at(self, now: Timestamp) -> bool {
        self.last_moment().is_none_or(|last| now < last)
    }

    /// Reports whether it covers some part of an hour. AWS refuses usage of an hour that began after the end.
    pub fn covers(self, hour: ClockHour) -> bool {
        match self {
            Self::Ended(until) | Self::Ending(Some(until)) => hour.start() < until,
            Self::Lasting | Self::Ending(None) => true,
        }
    }

    /// Returns the longer of two, for a holder of several subscriptions.
    #[must_use]
    pub fn longer(self, other: Self) -> Self {
        let rank = |tenure| match tenure {
            Self::Lasting => (2, None),
            Self::Ending(until) => (1, Some(until.unwrap_or(Timestamp::MAX))),
            Self::Ended(at) => (0, Some(at)),
        };
        if rank(other) > rank(self) { other } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_subscription_covers_the_hours_that_began_before_its_end() {
        let (nine, ten) = (time("2026-11-10T09:00:00Z"), time("2026-11-10T10:00:00Z"));
        let within = time("2026-11-10T09:00:01Z");
        let rows = [
            (Tenure::Lasting, true, true),
            (Tenure::Ending(None), true, true),
            (Tenure::Ending(Some(ten)), true, false),
            (Tenure::Ended(within), true, false),
            (Tenure::Ended(ten), true, false),
            (Tenure::Ended(nine), false, false),
        ];
        for (tenure, in_nine, in_ten) in rows {
            let covers = |at| tenure.covers(ClockHour::of(at));
            assert_eq!((covers(nine), covers(ten)), (in_nine, in_ten), "{tenure:?}");
        }
    }

    #[test]
    fn the_longest_of_a_holders_subscriptions_counts() {
        let (nine, ten) = (time("2026-11-10T09:00:00Z"), time("2026-11-10T10:00:00Z"));
        let in_order = [
            Tenure::Ended(nine),
            Tenure::Ended(ten),
            Tenure::Ending(Some(nine)),
            Tenure::Ending(Some(ten)),
            Tenure::Ending(None),
            Tenure::Lasting,
        ];
        for pair in in_order.windows(2) {
            assert_eq!(pair[0].longer(pair[1]), pair[1]);
            assert_eq!(pair[1].longer(pair[0]), pair[1]);
        }
    }
}
