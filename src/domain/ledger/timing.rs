//! Deadlines of clock hours: when an hour freezes, until when AWS takes it, and which hour bears usage of a given age.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::super::ClockHour;
use super::tenure::Tenure;
use crate::domain::aws_limits::FINAL_HOUR;

/// The most that the application's clock may be ahead of ours.
pub const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);
/// The age from which on AWS refuses records, and the whole call with them. (AWS Marketplace Metering Service API
/// reference, `BatchMeterUsage`.)
pub const AWS_WINDOW: SignedDuration = SignedDuration::from_hours(24);
/// The time that an hour is left for sending before its deadline, whatever grace it was given: a busy hour takes many
/// calls at AWS's rate, and a bad time many attempts. It is the time that AWS gives a subscription that ends, so that
/// such an hour freezes at once.
pub const SENDING_RESERVE: SignedDuration = FINAL_HOUR;
/// The shortest window: the hour itself, and the time for sending it.
pub const WINDOW_LEAST: SignedDuration = SignedDuration::from_hours(2);
/// The longest time between two passes of which one still falls well within the time for sending.
pub const INTERVAL_MOST: SignedDuration = SignedDuration::from_mins(30);
/// The shortest `usage.max_age`: usage of an hour may be reported when the hour is over.
pub const MAX_AGE_LEAST: SignedDuration = SignedDuration::from_hours(1);

/// The hour on the first of a month until which AWS takes the previous month's usage.
const MONTH_END_HOUR: i8 = 6;

/// The settings for how long hours wait and how long they are worth sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The time after its end at which an hour closes.
    pub grace: SignedDuration,
    /// The time for which an hour is worth sending.
    pub window: SignedDuration,
}

impl Timing {
    /// Returns the longest grace that some hour can be given in full within a window.
    pub fn grace_most(window: SignedDuration) -> SignedDuration {
        window.saturating_sub(WINDOW_LEAST).max(SignedDuration::ZERO)
    }

    /// Returns the last hour that is frozen for everybody who stays. No hour after it is.
    pub fn last_frozen(self, now: Timestamp) -> ClockHour {
        let mut hour = ClockHour::of(now).previous();
        while freezes_at(hour, self, Tenure::Lasting) > now {
            hour = hour.previous();
        }
        hour
    }
}

/// Returns the time at which AWS stops taking an hour: the window's end, or 06:00 UTC on the first of the next month,
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

/// Reports whether AWS takes an hour no more.
pub fn is_out_of_time(hour: ClockHour, window: SignedDuration, now: Timestamp) -> bool {
    // No deadline is sooner than this, and most that is asked about is of the last hours: theirs need no calendar.
    let surely = hour.start().saturating_add(window.min(SHORTEST)).unwrap_or(Timestamp::MAX);
    now >= surely && now >= deadline(hour, window)
}

/// Returns when an hour freezes: at its end and the grace, or so long before its deadline that it can still be sent,
/// whichever is first. The hour of a subscription that goes on is not frozen before it is over; that of one that leaves
/// is, as soon as the end is known.
pub fn freezes_at(hour: ClockHour, timing: Timing, tenure: Tenure) -> Timestamp {
    let by_hour = deadline(hour, timing.window);
    match tenure {
        Tenure::Lasting => sendable_from(hour, timing.grace, by_hour).max(hour.end()),
        Tenure::Ending(None) => hour.start(),
        Tenure::Ending(Some(_)) | Tenure::Ended(_) => {
            let last = tenure.last_moment().unwrap_or(Timestamp::MAX);
            sendable_from(hour, timing.grace, by_hour.min(last)).max(hour.start())
        }
    }
}

fn sendable_from(hour: ClockHour, grace: SignedDuration, deadline: Timestamp) -> Timestamp {
    let graced = hour.end().saturating_add(grace).unwrap_or(Timestamp::MAX);
    graced.min(deadline.saturating_sub(SENDING_RESERVE).unwrap_or(Timestamp::MIN))
}

/// The stage of an hour on the way from its freezing to its deadline, where that is worth a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Half of the time has passed.
    Half,
    /// Four fifths of the time have passed.
    FourFifths,
}

impl Stage {
    /// Returns the word that events, metrics and the database write for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Half => "half",
            Self::FourFifths => "four_fifths",
        }
    }
}

/// Returns the last stage that an hour has reached without being settled. Its deadline is that of the hour, or of a
/// last hour.
pub fn stage(
    hour: ClockHour,
    grace: SignedDuration,
    deadline: Timestamp,
    now: Timestamp,
) -> Option<Stage> {
    let begins = sendable_from(hour, grace, deadline);
    let total = deadline.duration_since(begins);
    let passed = now.duration_since(begins);
    if passed >= total / 5 * 4 {
        Some(Stage::FourFifths)
    } else if passed >= total / 2 {
        Some(Stage::Half)
    } else {
        None
    }
}

/// The limits of the age of usage: to be billed to its own hour, and to be taken at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgeLimits {
    /// The time for which an hour is worth sending.
    pub window: SignedDuration,
    /// The time that closing and sending an hour takes. Usage that is reported closer to its deadline is late.
    pub sending: SignedDuration,
    /// The age from which on usage is not taken.
    pub max_age: SignedDuration,
}

impl AgeLimits {
    /// Makes the limits where a pass is made every so often.
    pub fn new(window: SignedDuration, interval: SignedDuration, max_age: SignedDuration) -> Self {
        // The pass that freezes an hour may have begun just before the report, and the next one must still be in time.
        let sending = SENDING_TIME.max(interval.saturating_mul(2));
        Self { window, sending, max_age }
    }
}

impl Default for AgeLimits {
    /// Returns the limits of the default settings.
    fn default() -> Self {
        Self::new(AWS_WINDOW, SignedDuration::from_mins(1), SignedDuration::from_hours(31 * 24))
    }
}

/// The placement of a usage event by its own time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// In its own hour.
    Own(ClockHour),
    /// Too old for AWS, or as good as: in the hour that is open now, and marked late.
    Late(ClockHour),
    /// Further ahead than clocks differ: refused.
    Future,
    /// Older than anything that is taken: refused.
    TooOld,
    /// Before this century: no time of use, but a number in another unit. Refused.
    Nonsense,
}

/// The time from the start of a month's last hour until AWS takes it no more, on the first.
const SHORTEST: SignedDuration = SignedDuration::from_hours(7);
/// The time before its hour's deadline within which usage would not be closed and sent any more.
const SENDING_TIME: SignedDuration = SignedDuration::from_mins(5);
/// 2000-01-01, in seconds since 1970.
const CENTURY: i64 = 946_684_800;

/// Finds the hour of a usage event.
pub fn place(at: Timestamp, now: Timestamp, limits: AgeLimits) -> Placement {
    if at.duration_since(now) > CLOCK_SKEW {
        return Placement::Future;
    }
    if at.as_second() < CENTURY {
        return Placement::Nonsense;
    }
    if now.duration_since(at) > limits.max_age {
        return Placement::TooOld;
    }
    // A little ahead of us too: the same event has the same hour whenever it is reported.
    let hour = ClockHour::of(at);
    let sent = now.saturating_add(limits.sending).unwrap_or(Timestamp::MAX);
    if is_out_of_time(hour, limits.window, sent) {
        Placement::Late(ClockHour::of(now))
    } else {
        Placement::Own(hour)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: SignedDuration = AWS_WINDOW;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn minutes(minutes: i64) -> SignedDuration {
        SignedDuration::from_mins(minutes)
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
    fn an_hour_freezes_after_its_grace_or_while_it_can_still_be_sent() {
        let lasting = Tenure::Lasting;
        let ended = |at| Tenure::Ended(time(at));
        let announced = |until| Tenure::Ending(Some(time(until)));
        let (middle, last) = ("2026-11-10T09:00:00Z", "2026-11-30T23:00:00Z");
        let rows = [
            (middle, 0, lasting, "2026-11-10T10:00:00Z", "no grace at all"),
            (middle, 5, lasting, "2026-11-10T10:05:00Z", "the grace"),
            (middle, 22 * 60, lasting, "2026-11-11T08:00:00Z", "the longest that there is"),
            (middle, 23 * 60, lasting, "2026-11-11T08:00:00Z", "longer than the window"),
            (last, 5, lasting, "2026-12-01T00:05:00Z", "the grace, at a month's end"),
            (last, 6 * 60, lasting, "2026-12-01T05:00:00Z", "longer than a month's end leaves"),
            ("2026-11-30T20:00:00Z", 9 * 60, lasting, "2026-12-01T05:00:00Z", "the same"),
            (middle, 5, ended("2026-11-10T09:20:00Z"), "2026-11-10T09:20:00Z", "a last hour"),
            (middle, 60, ended("2026-11-10T10:30:00Z"), "2026-11-10T10:30:00Z", "the one before"),
            (middle, 5, announced("2026-11-10T10:20:00Z"), "2026-11-10T09:20:00Z", "an hour left"),
            (
                "2026-11-10T10:00:00Z",
                5,
                announced("2026-11-10T10:20:00Z"),
                "2026-11-10T10:00:00Z",
                "not before it begins",
            ),
            (middle, 5, Tenure::Ending(None), "2026-11-10T09:00:00Z", "ends at any time"),
        ];
        for (hour, grace, tenure, expected, why) in rows {
            let timing = Timing { grace: minutes(grace), window: WINDOW };
            let freezes = freezes_at(ClockHour::of(time(hour)), timing, tenure);
            assert_eq!(freezes, time(expected), "{why}");
        }
    }

    #[test]
    fn events_find_their_hour() {
        let now = time("2026-11-10T12:30:00Z");
        let limits = AgeLimits::default();
        let rows = [
            ("2026-11-10T12:10:00Z", Placement::Own(ClockHour::of(now))),
            ("2026-11-10T12:34:00Z", Placement::Own(ClockHour::of(now))),
            ("2026-11-10T12:36:00Z", Placement::Future),
            ("2026-11-09T13:00:00Z", Placement::Own(ClockHour::of(time("2026-11-09T13:00:00Z")))),
            ("2026-11-09T12:59:59Z", Placement::Late(ClockHour::of(now))),
            ("2026-10-10T12:30:00Z", Placement::Late(ClockHour::of(now))),
            ("2026-10-10T12:29:59Z", Placement::TooOld),
            ("2016-11-10T12:30:00Z", Placement::TooOld),
            ("1970-01-21T17:03:00Z", Placement::Nonsense),
        ];
        for (at, expected) in rows {
            assert_eq!(place(time(at), now, limits), expected, "{at}");
        }
        // An hour is its own as long as there is time to close and send it.
        let at = time("2026-11-09T13:00:00Z");
        let seldom = AgeLimits::new(WINDOW, INTERVAL_MOST, limits.max_age);
        for (limits, now, own) in [
            (limits, "2026-11-10T12:54:59Z", true),
            (limits, "2026-11-10T12:55:00Z", false),
            (seldom, "2026-11-10T11:59:59Z", true),
            (seldom, "2026-11-10T12:00:00Z", false),
        ] {
            let placed = place(at, time(now), limits);
            assert_eq!(matches!(placed, Placement::Own(_)), own, "{now}: {placed:?}");
        }
    }

    #[test]
    fn warnings_come_at_half_and_at_four_fifths_of_the_way() {
        let hour = ClockHour::of(time("2026-11-10T09:00:00Z"));
        let rows = [
            (0, "2026-11-10T20:00:00Z", "2026-11-10T14:59:59Z", None),
            (0, "2026-11-10T20:00:00Z", "2026-11-10T15:00:00Z", Some(Stage::Half)),
            (0, "2026-11-10T20:00:00Z", "2026-11-10T17:59:59Z", Some(Stage::Half)),
            (0, "2026-11-10T20:00:00Z", "2026-11-10T18:00:00Z", Some(Stage::FourFifths)),
            (0, "2026-11-10T20:00:00Z", "2026-11-11T18:00:00Z", Some(Stage::FourFifths)),
            // A long grace is no sign of trouble.
            (22 * 60, "2026-11-11T09:00:00Z", "2026-11-11T08:29:59Z", None),
            (22 * 60, "2026-11-11T09:00:00Z", "2026-11-11T08:30:00Z", Some(Stage::Half)),
            // Left at 09:10, with the hour still open: AWS takes it until 10:10.
            (5, "2026-11-10T10:10:00Z", "2026-11-10T09:39:59Z", None),
            (5, "2026-11-10T10:10:00Z", "2026-11-10T09:40:00Z", Some(Stage::Half)),
            (5, "2026-11-10T10:10:00Z", "2026-11-10T09:58:00Z", Some(Stage::FourFifths)),
        ];
        for (grace, deadline, at, expected) in rows {
            assert_eq!(stage(hour, minutes(grace), time(deadline), time(at)), expected, "{at}");
        }
    }

    proptest! {
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

        /// Whatever the grace, and whenever the month ends: nothing freezes before it is over, and all of it in time.
        #[test]
        fn every_hour_freezes_when_it_is_over_and_in_time_to_be_sent(
            hours in 400_000_i64..500_000, grace in 0_i64..3_000, window in 120_i64..=1_440,
        ) {
            let hour = ClockHour::from_number(hours);
            let timing = Timing { grace: minutes(grace), window: minutes(window) };
            let freezes = freezes_at(hour, timing, Tenure::Lasting);
            prop_assert!(freezes >= hour.end());
            prop_assert!(freezes + SENDING_RESERVE <= deadline(hour, timing.window));
            // No sooner than it must.
            let graced = hour.end() + timing.grace;
            prop_assert!(freezes == graced || freezes + SENDING_RESERVE == deadline(hour, timing.window));
            prop_assert!(freezes <= freezes_at(hour.next(), timing, Tenure::Lasting));
        }

        /// AWS gives who leaves an hour, and all of it is for sending.
        #[test]
        fn a_last_hour_freezes_when_its_end_is_known(
            hours in 400_000_i64..500_000, grace in 0_i64..3_000, left in -7_200_i64..7_200,
        ) {
            let hour = ClockHour::from_number(hours);
            let timing = Timing { grace: minutes(grace), window: WINDOW };
            let ended = hour.start() + SignedDuration::from_secs(left);
            let freezes = freezes_at(hour, timing, Tenure::Ended(ended));
            prop_assert!(freezes <= ended.max(hour.start()));
            prop_assert!(freezes >= hour.start());
        }

        #[test]
        fn the_last_frozen_hour_is_frozen_and_the_next_is_not(
            now in 1_700_000_000_i64..1_900_000_000, grace in 0_i64..3_000, window in 120_i64..=1_440,
        ) {
            let now = Timestamp::from_second(now).unwrap();
            let timing = Timing { grace: minutes(grace), window: minutes(window) };
            let last = timing.last_frozen(now);
            prop_assert!(freezes_at(last, timing, Tenure::Lasting) <= now);
            prop_assert!(freezes_at(last.next(), timing, Tenure::Lasting) > now);
        }

        /// Whatever clocks say: usage has one hour, never one further ahead than clocks differ, and its own as long as AWS
        /// takes it.
        #[test]
        fn usage_has_an_hour_whatever_the_clocks_say(
            at in 0_i64..100_000_000, skew in -200_000_i64..4_000_000,
        ) {
            let at = Timestamp::from_second(at + 1_000_000_000).unwrap();
            let now = at + SignedDuration::from_secs(skew);
            let limits = AgeLimits::default();
            match place(at, now, limits) {
                Placement::Own(hour) => {
                    prop_assert!(hour.start() <= now + CLOCK_SKEW && now < deadline(hour, WINDOW));
                    prop_assert_eq!(hour, ClockHour::of(at));
                }
                Placement::Late(hour) => {
                    prop_assert_eq!(hour, ClockHour::of(now));
                    prop_assert!(now + SENDING_TIME >= deadline(ClockHour::of(at), WINDOW));
                }
                Placement::TooOld => prop_assert!(now.duration_since(at) > limits.max_age),
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
