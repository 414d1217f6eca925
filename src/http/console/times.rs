//! Times, as pages show them: to the minute in UTC, with how long ago that was or how far ahead it is.

use std::borrow::Borrow;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::domain::ClockHour;

/// A time, as people read it and as it is.
pub(super) struct When {
    /// As it is.
    pub(super) exact: String,
    /// To the minute.
    pub(super) minute: String,
    /// How long ago it was, or how far ahead it is.
    pub(super) relative: String,
    /// Set once it has been.
    pub(super) is_over: bool,
}

impl When {
    pub(super) fn of(at: Timestamp, now: Timestamp) -> Self {
        Self {
            exact: at.to_string(),
            minute: minute(at),
            relative: relative(at, now),
            is_over: at <= now,
        }
    }
}

/// Returns a time to the minute, in UTC.
pub(super) fn minute(at: impl Borrow<Timestamp>) -> String {
    at.borrow().to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M").to_string()
}

/// Returns an hour by its beginning, in UTC.
pub(super) fn hour(hour: impl Borrow<ClockHour>) -> String {
    minute(hour.borrow().start())
}

/// Returns a text of the API's with its times as pages show them.
pub(super) fn with_readable_times(text: &str) -> String {
    text.split_inclusive(char::is_whitespace).map(readable).collect()
}

/// Returns a word, which may be a time with marks after it.
fn readable(word: &str) -> String {
    let end = word.find('Z').map_or(0, |place| place + 1);
    let (time, rest) = word.split_at(end);
    match time.parse::<Timestamp>() {
        Ok(at) if time.contains('T') => format!("{} UTC{rest}", minute(at)),
        _ => word.to_owned(),
    }
}

/// Returns how long ago a time was, or how far ahead it is, in one unit.
fn relative(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(at).as_secs();
    let length = seconds.unsigned_abs();
    let (count, unit) = match length {
        0..60 => (length, "s"),
        60..3_600 => (length / 60, "min"),
        3_600..172_800 => (length / 3_600, "h"),
        _ => (length / 86_400, "d"),
    };
    if seconds >= 0 { format!("{count} {unit} ago") } else { format!("in {count} {unit}") }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn times_are_said_to_the_minute_and_in_one_unit() {
        let now: Timestamp = "2026-11-10T09:00:00Z".parse().unwrap();
        let rows = [
            (0, "0 s ago", "2026-11-10 09:00"),
            (59, "59 s ago", "2026-11-10 08:59"),
            (60, "1 min ago", "2026-11-10 08:59"),
            (7_200, "2 h ago", "2026-11-10 07:00"),
            (172_800, "2 d ago", "2026-11-08 09:00"),
            (-3_600, "in 1 h", "2026-11-10 10:00"),
            (-31_449_600, "in 364 d", "2027-11-09 09:00"),
        ];
        for (seconds, said, minute) in rows {
            let when = When::of(now - SignedDuration::from_secs(seconds), now);
            assert_eq!((&*when.relative, &*when.minute), (said, minute));
            assert_eq!(when.is_over, seconds >= 0);
        }
    }

    #[test]
    fn a_text_has_its_times_in_the_same_form() {
        let rows = [
            (
                "metering is failing since 2026-11-10T09:05:07.123456789Z: no",
                "metering is failing since 2026-11-10 09:05 UTC: no",
            ),
            (
                "from 2026-11-10T09:00:00Z to 2026-11-10T10:00:00Z",
                "from 2026-11-10 09:00 UTC to 2026-11-10 10:00 UTC",
            ),
            ("arn:aws:Z and prod-Z", "arn:aws:Z and prod-Z"),
            ("", ""),
        ];
        for (text, expected) in rows {
            assert_eq!(with_readable_times(text), expected);
        }
    }
}
