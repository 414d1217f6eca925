//! The windows in which usage counts against a limit.

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};

use super::terms::{Anchor, EntitlementTerms, ResetPeriod};

/// The rule by which usage is cut into windows. Each holds the usage whose own time lies in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// One that never ends.
    Lifetime,
    /// Clock-aligned periods in UTC; weeks begin on Monday.
    Calendar(ResetPeriod),
    /// Periods that run from a moment on.
    From(Timestamp, ResetPeriod),
}

/// One window: usage from its start on, before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSpan {
    /// Its first moment.
    pub start: Timestamp,
    /// The first moment after it: when the count begins anew. None if it never does.
    pub end: Option<Timestamp>,
}

impl Window {
    /// Returns the windows of a plan entitlement. A subscription whose start is not known counts by the calendar.
    pub fn of(terms: &EntitlementTerms, starts_at: Option<Timestamp>) -> Self {
        match (terms.reset, terms.anchor, starts_at) {
            (None, ..) => Self::Lifetime,
            (Some(period), Anchor::Subscription, Some(start)) => Self::From(start, period),
            (Some(period), ..) => Self::Calendar(period),
        }
    }

    /// Returns the window that holds a moment.
    pub fn around(self, at: Timestamp) -> WindowSpan {
        match self {
            Self::Lifetime => WindowSpan { start: Timestamp::MIN, end: None },
            Self::Calendar(period) => calendar(at, period),
            Self::From(anchor, period) => anchored(anchor, at, period),
        }
    }
}

/// Returns the moment so many periods after another; none beyond the calendar.
fn after(moment: &Zoned, period: ResetPeriod, times: i64) -> Option<Zoned> {
    let span = Span::new();
    let span = match period {
        ResetPeriod::Hour => span.try_hours(times),
        ResetPeriod::Day => span.try_days(times),
        ResetPeriod::Week => span.try_weeks(times),
        ResetPeriod::Month => span.try_months(times),
        ResetPeriod::Year => span.try_years(times),
    };
    moment.checked_add(span.ok()?).ok()
}

fn utc(at: Timestamp) -> Zoned {
    at.to_zoned(TimeZone::UTC)
}

fn calendar(at: Timestamp, period: ResetPeriod) -> WindowSpan {
    let moment = utc(at);
    let day = moment.date();
    let midnight = day.to_zoned(TimeZone::UTC);
    let start = match period {
        ResetPeriod::Hour => moment
            .round(jiff::ZonedRound::new().smallest(jiff::Unit::Hour).mode(jiff::RoundMode::Trunc)),
        ResetPeriod::Day => midnight,
        ResetPeriod::Week => {
            let back = i64::from(day.weekday().since(Weekday::Monday));
            midnight.map(|it| after(&it, ResetPeriod::Day, -back).unwrap_or(it))
        }
        ResetPeriod::Month => day.first_of_month().to_zoned(TimeZone::UTC),
        ResetPeriod::Year => day.first_of_year().to_zoned(TimeZone::UTC),
    };
    let start = start.unwrap_or(moment);
    let end = after(&start, period, 1).map(|end| end.timestamp());
    WindowSpan { start: start.timestamp(), end }
}

/// Returns the period that holds a moment. The n-th begins n periods after the anchor, counted from the anchor each
/// time: what began on the 31st begins on the 28th of a February and on the 31st again in March.
fn anchored(anchor: Timestamp, at: Timestamp, period: ResetPeriod) -> WindowSpan {
    let begin = |number: i64| {
        let beyond = if number < 0 { Timestamp::MIN } else { Timestamp::MAX };
        after(&utc(anchor), period, number).map_or(beyond, |it| it.timestamp())
    };
    let (from, to) = (utc(anchor).date(), utc(at).date());
    let months = (i64::from(to.year()) - i64::from(from.year())) * 12 + i64::from(to.month())
        - i64::from(from.month());
    let seconds = at.as_second() - anchor.as_second();
    let mut number = match period {
        ResetPeriod::Hour => seconds.div_euclid(3_600),
        ResetPeriod::Day => seconds.div_euclid(86_400),
        ResetPeriod::Week => seconds.div_euclid(7 * 86_400),
        ResetPeriod::Month => months,
        ResetPeriod::Year => i64::from(to.year()) - i64::from(from.year()),
    };
    // The guess is off by one at most: a part of a second, a day of the month.
    if begin(number) > at {
        number -= 1;
    }
    if begin(number + 1) <= at {
        number += 1;
    }
    WindowSpan { start: begin(number), end: Some(begin(number + 1)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn windows_lie_where_a_person_would_put_them() {
        use ResetPeriod::{Day, Hour, Month, Week, Year};
        let from = |text| move |period| Window::From(time(text), period);
        let january = from("2026-01-31T09:17:00Z");
        let leap = from("2028-02-29T00:00:00Z");
        let rows = [
            (
                Window::Calendar(Hour),
                "2026-11-10T12:30:00Z",
                "2026-11-10T12:00:00Z",
                "2026-11-10T13:00:00Z",
            ),
            (
                Window::Calendar(Day),
                "2026-11-10T12:30:00Z",
                "2026-11-10T00:00:00Z",
                "2026-11-11T00:00:00Z",
            ),
            (
                Window::Calendar(Week),
                "2026-11-15T23:59:59Z",
                "2026-11-09T00:00:00Z",
                "2026-11-16T00:00:00Z",
            ),
            (
                Window::Calendar(Month),
                "2028-02-29T12:00:00Z",
                "2028-02-01T00:00:00Z",
                "2028-03-01T00:00:00Z",
            ),
            (
                Window::Calendar(Year),
                "2026-12-31T23:59:59Z",
                "2026-01-01T00:00:00Z",
                "2027-01-01T00:00:00Z",
            ),
            (
                january(Month),
                "2026-02-28T09:16:59Z",
                "2026-01-31T09:17:00Z",
                "2026-02-28T09:17:00Z",
            ),
            (
                january(Month),
                "2026-03-30T00:00:00Z",
                "2026-02-28T09:17:00Z",
                "2026-03-31T09:17:00Z",
            ),
            (
                january(Month),
                "2026-01-30T00:00:00Z",
                "2025-12-31T09:17:00Z",
                "2026-01-31T09:17:00Z",
            ),
            (january(Day), "2026-02-01T09:17:00Z", "2026-02-01T09:17:00Z", "2026-02-02T09:17:00Z"),
            (leap(Year), "2029-03-01T00:00:00Z", "2029-02-28T00:00:00Z", "2030-02-28T00:00:00Z"),
            (leap(Year), "2032-02-28T23:00:00Z", "2031-02-28T00:00:00Z", "2032-02-29T00:00:00Z"),
        ];
        for (window, at, start, end) in rows {
            let expected = WindowSpan { start: time(start), end: Some(time(end)) };
            assert_eq!(window.around(time(at)), expected, "{window:?} around {at}");
        }
    }

    #[test]
    fn the_edges_of_time_have_their_window_too() {
        use ResetPeriod::{Day, Hour, Month, Week, Year};
        let anchor = time("2026-01-31T09:17:00Z");
        for period in [Hour, Day, Week, Month, Year] {
            for at in [Timestamp::MIN, Timestamp::MAX] {
                for window in [Window::Calendar(period), Window::From(anchor, period)] {
                    let found = window.around(at);
                    assert!(found.start <= at, "{window:?} {at}: {found:?}");
                    assert!(found.end.is_none_or(|end| end >= at), "{window:?} {at}: {found:?}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn windows_meet_without_gap_or_overlap(
            anchor in 0_i64..4_000_000_000,
            at in 0_i64..4_000_000_000,
            period in prop::sample::select(vec![
                ResetPeriod::Hour, ResetPeriod::Day, ResetPeriod::Week, ResetPeriod::Month, ResetPeriod::Year,
            ]),
            by_calendar in any::<bool>(),
        ) {
            let moment = |second| Timestamp::from_second(second).unwrap();
            let window = if by_calendar { Window::Calendar(period) } else { Window::From(moment(anchor), period) };
            let found = window.around(moment(at));
            let end = found.end.unwrap();
            prop_assert!(found.start <= moment(at) && moment(at) < end);
            let next = window.around(end);
            prop_assert_eq!(next.start, end);
            let last = window.around(end - jiff::SignedDuration::from_nanos(1));
            prop_assert_eq!(last, found);
        }
    }
}
