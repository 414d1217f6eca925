//! The metering ledger's rules: which hour bears a usage event, until when an hour is worth sending, what of
//! it goes out, and what AWS's answer makes of it.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

mod answer;
mod identity;
mod retry;
mod stretch;

pub use answer::{Answer, DUPLICATE_CONFLICT, NOT_SUBSCRIBED, Past, Settlement, Standing, settle};
pub use identity::{IdentityGap, MeteredBuyer, WireIdentity, is_licensed, wire_identity};
pub use retry::retry_at;
pub use stretch::{StretchCause, UnknownHours, UnknownStretch};

use super::reconciliation::FINAL_HOUR;
use super::{ClockHour, Quantity};

/// How far ahead of us the application's clock may be.
pub const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);
/// AWS takes the previous month's usage until this hour of the first.
const MONTH_END_HOUR: i8 = 6;

/// When AWS stops taking an hour: at the window's end, or at 06:00 UTC on the first of the next month,
/// whichever comes first. (AWS Marketplace Metering Service API reference, `BatchMeterUsage`.)
pub fn deadline(hour: ClockHour, window: SignedDuration) -> Timestamp {
    let by_window = hour.start().saturating_add(window).unwrap_or(Timestamp::MAX);
    let day = hour.start().to_zoned(TimeZone::UTC).date();
    let by_month = day
        .last_of_month()
        .tomorrow()
        .and_then(|first| first.at(MONTH_END_HOUR, 0, 0, 0).to_zoned(TimeZone::UTC))
        .map_or(Timestamp::MAX, |moment| moment.timestamp());
    by_window.min(by_month)
}

/// The moment within its hour that a record is stamped with. AWS deduplicates by the hour, and takes nothing from before a
/// subscription's start, be that its agreement's or a little later its licence's, and nothing from the future: so it is
/// the hour's beginning, but in the hour in which the subscription began the last moment that is over.
pub fn stamp(hour: ClockHour, starts_at: Option<Timestamp>, over: Timestamp) -> Timestamp {
    let begins_within = starts_at.is_some_and(|at| at > hour.start() && at < hour.end());
    if !begins_within {
        return hour.start();
    }
    let last = hour.end().as_second().saturating_sub(1).min(over.as_second());
    Timestamp::from_second(last.max(hour.start().as_second())).unwrap_or(hour.start())
}

/// How far an hour is on the way from its end to its deadline, where that is worth a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Half of the time has passed.
    Half,
    /// Four fifths have.
    FourFifths,
}

impl Stage {
    /// As events, metrics and the database write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Half => "half",
            Self::FourFifths => "four_fifths",
        }
    }
}

/// The last stage that an hour has reached without being settled.
pub fn stage(hour: ClockHour, deadline: Timestamp, now: Timestamp) -> Option<Stage> {
    // An hour can be sent from its end on; in a subscription's last hour, from that hour's beginning on.
    let last_hour = deadline.saturating_sub(FINAL_HOUR).unwrap_or(Timestamp::MIN);
    let begins = hour.end().min(last_hour);
    let way = deadline.duration_since(begins);
    let gone = now.duration_since(begins);
    if gone >= way / 5 * 4 {
        Some(Stage::FourFifths)
    } else if gone >= way / 2 {
        Some(Stage::Half)
    } else {
        None
    }
}

/// Where a usage event belongs by its own time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// In its own hour.
    Own(ClockHour),
    /// Too old for AWS, or as good as: in the hour that is open now, and marked late.
    Late(ClockHour),
    /// Further ahead than clocks differ: refused.
    Future,
    /// Before this century: no time of use, but a number in another unit. Refused.
    Nonsense,
}

/// From the start of a month's last hour to the time on the first until which AWS takes it.
const SHORTEST: SignedDuration = SignedDuration::from_hours(7);
/// What is so close to its hour's deadline would not be closed and sent before it.
const SENDING_TIME: SignedDuration = SignedDuration::from_mins(5);
/// 2000-01-01, in seconds since 1970.
const CENTURY: i64 = 946_684_800;

/// Finds the hour of a usage event.
pub fn place(at: Timestamp, now: Timestamp, window: SignedDuration) -> Placement {
    if at.duration_since(now) > CLOCK_SKEW {
        return Placement::Future;
    }
    if at.as_second() < CENTURY {
        return Placement::Nonsense;
    }
    // A little ahead of us too: the same event has the same hour whenever it is reported.
    let hour = ClockHour::of(at);
    // No deadline is sooner than this, and most usage is of the last hours: theirs need no calendar.
    let surely = hour.start().saturating_add(window.min(SHORTEST)).unwrap_or(Timestamp::MAX);
    if now < surely.saturating_sub(SENDING_TIME).unwrap_or(Timestamp::MIN) {
        return Placement::Own(hour);
    }
    if now.saturating_add(SENDING_TIME).is_ok_and(|sent| sent >= deadline(hour, window)) {
        Placement::Late(ClockHour::of(now))
    } else {
        Placement::Own(hour)
    }
}

/// Whether an hour has seen all its usage: it is over, and late reports had their grace.
pub fn is_over(hour: ClockHour, now: Timestamp, grace: SignedDuration) -> bool {
    hour.end().saturating_add(grace).is_ok_and(|end| end <= now)
}

/// What of a quantity goes out with its hour, and what is left for a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// Whole units, at most what AWS takes in one record.
    pub whole: Quantity,
    /// The rest.
    pub rest: Quantity,
}

/// Splits a quantity: AWS's SDK sends whole units only.
pub fn split(quantity: Quantity) -> Split {
    let units = quantity.saturating_sub(quantity.fraction()).min(Quantity::MAX_RECORD);
    Split { whole: units, rest: quantity.saturating_sub(units) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: SignedDuration = SignedDuration::from_hours(24);

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn an_hour_is_worth_sending_until_its_window_or_its_month_ends() {
        let rows = [
            ("2026-11-10T05:30:00Z", "2026-11-11T05:00:00Z", "24 hours after the hour's start"),
            ("2026-11-30T23:10:00Z", "2026-12-01T06:00:00Z", "the month's end comes first"),
            ("2026-11-30T05:00:00Z", "2026-12-01T05:00:00Z", "the window comes first"),
            ("2026-12-31T22:00:00Z", "2027-01-01T06:00:00Z", "the year's end is a month's end"),
            ("2028-02-29T20:00:00Z", "2028-03-01T06:00:00Z", "leap day"),
            ("2026-12-01T01:00:00Z", "2026-12-02T01:00:00Z", "the new month's own hours"),
        ];
        for (at, expected, why) in rows {
            assert_eq!(deadline(ClockHour::of(time(at)), WINDOW), time(expected), "{why}");
        }
    }

    #[test]
    fn events_find_their_hour() {
        let now = time("2026-11-10T12:30:00Z");
        let rows = [
            ("2026-11-10T12:10:00Z", Placement::Own(ClockHour::of(now))),
            ("2026-11-10T12:34:00Z", Placement::Own(ClockHour::of(now))),
            ("2026-11-10T12:36:00Z", Placement::Future),
            ("2026-11-09T13:00:00Z", Placement::Own(ClockHour::of(time("2026-11-09T13:00:00Z")))),
            ("2026-11-09T12:59:59Z", Placement::Late(ClockHour::of(now))),
            ("1970-01-21T17:03:00Z", Placement::Nonsense),
        ];
        for (at, expected) in rows {
            assert_eq!(place(time(at), now, WINDOW), expected, "{at}");
        }
        // An hour is its own as long as there is time to send it.
        let at = time("2026-11-09T13:00:00Z");
        for (now, own) in [("2026-11-10T12:54:59Z", true), ("2026-11-10T12:55:00Z", false)] {
            let placed = place(at, time(now), WINDOW);
            assert_eq!(matches!(placed, Placement::Own(_)), own, "{now}: {placed:?}");
        }
    }

    #[test]
    fn warnings_come_at_half_and_at_four_fifths_of_the_way() {
        let hour = ClockHour::of(time("2026-11-10T09:00:00Z"));
        let deadline = time("2026-11-10T20:00:00Z");
        for (at, expected) in [
            ("2026-11-10T14:59:59Z", None),
            ("2026-11-10T15:00:00Z", Some(Stage::Half)),
            ("2026-11-10T17:59:59Z", Some(Stage::Half)),
            ("2026-11-10T18:00:00Z", Some(Stage::FourFifths)),
            ("2026-11-11T18:00:00Z", Some(Stage::FourFifths)),
        ] {
            assert_eq!(stage(hour, deadline, time(at)), expected, "{at}");
        }
        // Left at 09:10, with the hour still open: AWS takes it until 10:10.
        let deadline = time("2026-11-10T10:10:00Z");
        for (at, expected) in [
            ("2026-11-10T09:39:59Z", None),
            ("2026-11-10T09:40:00Z", Some(Stage::Half)),
            ("2026-11-10T09:58:00Z", Some(Stage::FourFifths)),
        ] {
            assert_eq!(stage(hour, deadline, time(at)), expected, "{at}");
        }
    }

    #[test]
    fn a_record_is_stamped_within_its_hour_and_not_before_the_subscription() {
        let hour = ClockHour::of(time("2026-11-10T09:00:00Z"));
        for (starts_at, over, expected) in [
            (None, "2026-11-10T10:05:00Z", "2026-11-10T09:00:00Z"),
            (Some("2026-11-10T08:59:59Z"), "2026-11-10T10:05:00Z", "2026-11-10T09:00:00Z"),
            (Some("2026-11-10T09:00:00Z"), "2026-11-10T10:05:00Z", "2026-11-10T09:00:00Z"),
            (Some("2026-11-10T09:00:00.5Z"), "2026-11-10T10:05:00Z", "2026-11-10T09:59:59Z"),
            (Some("2026-11-10T09:40:07Z"), "2026-11-10T10:05:00Z", "2026-11-10T09:59:59Z"),
            (Some("2026-11-10T09:40:07Z"), "2026-11-10T09:45:00.9Z", "2026-11-10T09:45:00Z"),
            (Some("2026-11-10T09:40:07Z"), "2026-11-10T08:00:00Z", "2026-11-10T09:00:00Z"),
            (Some("2026-11-10T10:00:00Z"), "2026-11-10T10:05:00Z", "2026-11-10T09:00:00Z"),
        ] {
            let stamped = stamp(hour, starts_at.map(time), time(over));
            assert_eq!(stamped, time(expected), "{starts_at:?} {over}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_by_splitting(millionths in 0_i64..=9_000_000_000_000_000) {
            let quantity = Quantity::from_millionths(millionths).unwrap();
            let Split { whole, rest } = split(quantity);
            prop_assert_eq!(whole.checked_add(rest), Some(quantity));
            prop_assert_eq!(whole.fraction(), Quantity::ZERO);
            prop_assert!(whole <= Quantity::MAX_RECORD);
            prop_assert!(rest < Quantity::from_units(1) || whole == Quantity::MAX_RECORD);
        }

        #[test]
        fn no_hour_is_worth_sending_past_its_month(hours in 0_i64..1_000_000, ahead in 0_i64..40) {
            let hour = ClockHour::from_number(hours);
            let day = hour.start().to_zoned(TimeZone::UTC);
            let next_month = day.first_of_month().unwrap().checked_add(jiff::Span::new().months(1)).unwrap();
            let closes = next_month.start_of_day().unwrap().timestamp() + SignedDuration::from_hours(6);
            let end = deadline(hour, WINDOW);
            prop_assert!(end <= closes);
            // It is the window's end, or the month's.
            prop_assert!(end == closes || end == hour.start() + WINDOW);
            prop_assert!(deadline(hour, SignedDuration::from_hours(ahead)) <= end || ahead > 24);
        }

        /// Whatever clocks say: usage has one hour, never one further ahead than clocks differ, and its own as long as AWS
        /// takes it.
        #[test]
        fn usage_has_an_hour_whatever_the_clocks_say(at in 0_i64..100_000_000, skew in -200_000_i64..200_000) {
            let at = Timestamp::from_second(at + 1_000_000_000).unwrap();
            let now = at + SignedDuration::from_secs(skew);
            match place(at, now, WINDOW) {
                Placement::Own(hour) => {
                    prop_assert!(hour.start() <= now + CLOCK_SKEW && now < deadline(hour, WINDOW));
                    prop_assert_eq!(hour, ClockHour::of(at));
                }
                Placement::Late(hour) => {
                    prop_assert_eq!(hour, ClockHour::of(now));
                    prop_assert!(now + SENDING_TIME >= deadline(ClockHour::of(at), WINDOW));
                }
                Placement::Future => prop_assert!(at.duration_since(now) > CLOCK_SKEW),
                Placement::Nonsense => prop_assert!(at.as_second() < CENTURY),
            }
        }

        #[test]
        fn a_deadline_is_after_its_hour_and_within_the_window(hours in 0_i64..1_000_000) {
            let hour = ClockHour::from_number(hours);
            let end = deadline(hour, WINDOW);
            prop_assert!(end > hour.end());
            prop_assert!(end.duration_since(hour.start()) <= WINDOW);
        }
    }
}
