//! Times as people write them: a point in time, its day, or how long ago it was.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// The reason why a text is no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MomentFault {
    /// It has none of the forms.
    #[error(
        "{0:?} is no time: write it as 2026-11-01T06:00:00Z, as 2026-11-01 for its midnight in UTC, or as how long ago, as 7d, 12h or 30m; today and yesterday are their midnights"
    )]
    Unreadable(String),
    /// It says no point in time.
    #[error(
        "{0:?} is no point in time: write it as 2026-11-01T06:00:00Z, or as 2026-11-01 for its midnight in UTC"
    )]
    Relative(String),
}

/// A time by which something is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A point in time.
    At(Timestamp),
    /// So long ago.
    Ago(SignedDuration),
    /// The midnight, UTC, with which the day began that was so many days ago.
    Midnight(i64),
}

impl Moment {
    /// Parses any of the forms.
    pub fn parse(text: &str) -> Result<Self, MomentFault> {
        let text = text.trim();
        match text {
            "now" => return Ok(Self::Ago(SignedDuration::ZERO)),
            "today" => return Ok(Self::Midnight(0)),
            "yesterday" => return Ok(Self::Midnight(1)),
            _ => {}
        }
        let parsed = point(text).map(Self::At).or_else(|| ago(text).map(Self::Ago));
        parsed.ok_or_else(|| MomentFault::Unreadable(text.to_owned()))
    }

    /// Returns the point in time that is meant now.
    pub fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => now.checked_sub(ago).unwrap_or(Timestamp::MIN),
            Self::Midnight(days) => {
                let day = now.as_second().div_euclid(86_400) - days;
                Timestamp::from_second(day * 86_400).unwrap_or(Timestamp::MIN)
            }
        }
    }
}

/// A point in time at which something is to be so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointInTime(Timestamp);

impl PointInTime {
    /// Parses a point in time, or a day for its midnight in UTC.
    pub fn parse(text: &str) -> Result<Self, MomentFault> {
        let text = text.trim();
        point(text).map(Self).ok_or_else(|| MomentFault::Relative(text.to_owned()))
    }
}

impl From<PointInTime> for Timestamp {
    fn from(PointInTime(at): PointInTime) -> Self {
        at
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for PointInTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

fn point(text: &str) -> Option<Timestamp> {
    let day = || {
        let day: Date = text.parse().ok()?;
        day.to_zoned(TimeZone::UTC).ok().map(|start| start.timestamp())
    };
    text.parse().ok().or_else(day)
}

/// Parses a number and a unit.
fn ago(text: &str) -> Option<SignedDuration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "d" => 86_400,
        "h" => 3_600,
        "m" => 60,
        "s" => 1,
        _ => return None,
    };
    let digits = !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit());
    let number: i64 = digits.then(|| number.parse().ok())??;
    number.checked_mul(unit).map(SignedDuration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_in_any_of_the_forms() {
        let now: Timestamp = "2026-11-10T09:30:00Z".parse().unwrap();
        let rows = [
            ("2026-11-01T06:00:00Z", "2026-11-01T06:00:00Z"),
            ("2026-11-01T07:00:00+01:00", "2026-11-01T06:00:00Z"),
            (" 2026-11-01 ", "2026-11-01T00:00:00Z"),
            ("now", "2026-11-10T09:30:00Z"),
            ("today", "2026-11-10T00:00:00Z"),
            ("yesterday", "2026-11-09T00:00:00Z"),
            ("7d", "2026-11-03T09:30:00Z"),
            ("12h", "2026-11-09T21:30:00Z"),
            ("30m", "2026-11-10T09:00:00Z"),
            ("0s", "2026-11-10T09:30:00Z"),
        ];
        for (text, expected) in rows {
            assert_eq!(Moment::parse(text).unwrap().at(now).to_string(), expected, "{text}");
        }
        assert_eq!(Moment::parse("999999999999d").unwrap().at(now), Timestamp::MIN);
    }

    #[test]
    fn what_is_no_time_is_named_with_the_forms_that_are() {
        for text in
            ["", "d", "7", "7w", "-7d", "+7d", "7 d", "2026-13-01", "tomorrow", "1.5h", "7é"]
        {
            let said = Moment::parse(text).unwrap_err().to_string();
            assert!(said.starts_with(&format!("{text:?} is no time")), "{said}");
            assert!(said.contains("2026-11-01T06:00:00Z") && said.contains("7d"), "{said}");
        }
        for text in ["7d", "yesterday", "now", "soon"] {
            let said = PointInTime::parse(text).unwrap_err().to_string();
            assert!(said.starts_with(&format!("{text:?} is no point in time")), "{said}");
        }
        let day = PointInTime::parse("2026-11-01").unwrap();
        assert_eq!(Timestamp::from(day).to_string(), "2026-11-01T00:00:00Z");
    }
}
