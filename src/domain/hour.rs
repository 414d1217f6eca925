//! Clock hours: the unit in which AWS meters.

use std::fmt;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Serialize, Serializer};

const SECONDS: i64 = 3_600;

/// One clock hour in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClockHour(i64);

impl ClockHour {
    /// Returns the hour that holds this moment.
    pub fn of(moment: Timestamp) -> Self {
        Self(moment.as_second().div_euclid(SECONDS))
    }

    /// Returns the first hour that does not begin before this moment.
    pub fn not_before(moment: Timestamp) -> Self {
        let hour = Self::of(moment);
        if hour.start() < moment { hour.next() } else { hour }
    }

    /// Returns the hour with this number, counted from 1970; out of range falls to the nearest that exists.
    pub const fn from_number(hours_since_epoch: i64) -> Self {
        Self(hours_since_epoch)
    }

    /// Returns the hours since 1970, as the database keeps it.
    pub const fn number(self) -> i64 {
        self.0
    }

    /// Returns its first moment.
    pub fn start(self) -> Timestamp {
        Timestamp::from_second(self.0.saturating_mul(SECONDS)).unwrap_or(Timestamp::MAX)
    }

    /// Returns the first moment after it.
    pub fn end(self) -> Timestamp {
        self.start().saturating_add(SignedDuration::from_secs(SECONDS)).unwrap_or(Timestamp::MAX)
    }

    /// Returns the hour after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Returns the first hour of its month, in UTC.
    #[must_use]
    pub fn month_begin(self) -> Self {
        let first = self.start().to_zoned(TimeZone::UTC).date().first_of_month();
        first.to_zoned(TimeZone::UTC).map_or(self, |begin| Self::of(begin.timestamp()))
    }

    /// Returns the hour before it.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for ClockHour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.start())
    }
}

impl Serialize for ClockHour {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
