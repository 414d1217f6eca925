//! Drawings that are made on the server: bars, days and a map of hours. Each page shows the numbers beside them too.

use jiff::Timestamp;

use super::parts::grouped;
use crate::domain::series::Point;
use crate::domain::{ClockHour, Quantity};
use crate::store::HourState;

/// The width of a chart, in the units of its drawing.
const WIDTH: u64 = 960;
/// The height of its columns.
const HEIGHT: u64 = 110;

fn millionths(quantity: Quantity) -> u128 {
    u128::from(quantity.millionths().unsigned_abs())
}

/// Returns a part of a whole, of so many; all of it where it is more.
fn share(part: Quantity, whole: Quantity, of: u64) -> u64 {
    let whole = millionths(whole);
    if whole == 0 {
        return if part == Quantity::ZERO { 0 } else { of };
    }
    let share = millionths(part).saturating_mul(u128::from(of)) / whole;
    u64::try_from(share).unwrap_or(of).min(of)
}

/// A bar of usage against a limit.
pub(super) struct Meter {
    /// The width of what is used, of 100.
    pub(super) used: u64,
    /// A word for how close to the limit it is.
    pub(super) level: &'static str,
}

impl Meter {
    pub(super) fn of(used: Quantity, limit: Quantity) -> Self {
        let share = share(used, limit, 100);
        let level = match share {
            100.. => "over",
            80..100 => "near",
            _ => "fine",
        };
        Self { used: share, level }
    }
}

/// A chart of quantities by day.
pub(super) struct Chart {
    pub(super) columns: Vec<Column>,
    pub(super) most: String,
    pub(super) total: String,
}

/// A column of a chart.
pub(super) struct Column {
    pub(super) day: String,
    pub(super) quantity: String,
    pub(super) x: u64,
    pub(super) y: u64,
    pub(super) width: u64,
    pub(super) height: u64,
}

impl Chart {
    pub(super) fn of(points: &[Point]) -> Self {
        let most = points.iter().map(|it| it.quantity).max().unwrap_or(Quantity::ZERO);
        let step = WIDTH / u64::try_from(points.len()).unwrap_or(1).max(1);
        let column = |(place, point): (u64, &Point)| {
            let height = share(point.quantity, most, HEIGHT);
            Column {
                day: point.at.to_string().chars().take(10).collect(),
                quantity: grouped(point.quantity),
                x: place * step,
                y: HEIGHT - height,
                width: step.saturating_sub(4).max(1),
                height,
            }
        };
        Self {
            columns: (0..).zip(points).map(column).collect(),
            most: grouped(most),
            total: grouped(points.iter().map(|it| it.quantity).sum::<Quantity>()),
        }
    }
}

/// A map of hours by their state: a row a day, the newest first.
pub(super) struct HourMap {
    days: Vec<Day>,
}

/// The days of a map that are seen at once: what stands below the map is to be seen too.
const RECENT: usize = 7;

/// A day of a map, and its hours.
pub(super) struct Day {
    pub(super) name: String,
    /// The span that a list of its records is asked by.
    pub(super) since: Timestamp,
    pub(super) until: Timestamp,
    pub(super) hours: Vec<Hour>,
}

/// An hour of a map: its beginning, two letters for its state, and the span that a list of its records is asked by.
pub(super) struct Hour {
    pub(super) state: Option<&'static str>,
    pub(super) letters: &'static str,
    pub(super) since: Timestamp,
    pub(super) until: Timestamp,
}

impl HourMap {
    /// Makes the map of whole days.
    pub(super) fn of(first: ClockHour, states: &[Option<HourState>]) -> Self {
        let hour = |(number, state): (i64, &Option<HourState>)| {
            let hour = ClockHour::from_number(first.number() + number);
            Hour {
                state: state.map(HourState::as_str),
                letters: match state {
                    Some(HourState::Parked) => "pa",
                    Some(HourState::Pending) => "pe",
                    Some(HourState::WrittenOff) => "wo",
                    Some(HourState::CarriedForward) => "cf",
                    Some(HourState::Accepted) => "ac",
                    None => "",
                },
                since: hour.start(),
                until: hour.next().start(),
            }
        };
        let hours: Vec<Hour> = (0..).zip(states).map(hour).collect();
        let mut days = Vec::new();
        let mut hours = hours.into_iter().peekable();
        while let Some(first) = hours.peek() {
            let since = first.since;
            let hours: Vec<Hour> = hours.by_ref().take(24).collect();
            days.push(Day {
                name: since.to_string().chars().take(10).collect(),
                since,
                until: hours.last().map_or(since, |last| last.until),
                hours,
            });
        }
        days.reverse();
        Self { days }
    }

    /// Returns the newest days.
    pub(super) fn recent(&self) -> &[Day] {
        self.days.get(..RECENT).unwrap_or(&self.days)
    }

    /// Returns the days before those.
    pub(super) fn earlier(&self) -> &[Day] {
        self.days.get(RECENT..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(text: &str) -> Quantity {
        text.parse().unwrap()
    }

    #[test]
    fn a_meter_says_how_close_to_the_limit_usage_is() {
        let rows = [
            ("0", "10", 0, "fine"),
            ("7.9", "10", 79, "fine"),
            ("8", "10", 80, "near"),
            ("10", "10", 100, "over"),
            ("25", "10", 100, "over"),
            ("0", "0", 0, "fine"),
            ("1", "0", 100, "over"),
        ];
        for (used, limit, share, level) in rows {
            let meter = Meter::of(units(used), units(limit));
            assert_eq!((meter.used, meter.level), (share, level), "{used} of {limit}");
        }
    }

    #[test]
    fn the_highest_column_is_as_high_as_the_chart_and_none_leaves_it() {
        let day = |number: i64, quantity: &str| Point {
            at: Timestamp::from_second(number * 86_400).unwrap(),
            quantity: units(quantity),
        };
        let chart = Chart::of(&[day(0, "0"), day(1, "2.5"), day(2, "5")]);
        let heights: Vec<u64> = chart.columns.iter().map(|it| it.height).collect();
        assert_eq!(heights, [0, HEIGHT / 2, HEIGHT]);
        assert!(chart.columns.iter().all(|it| it.y + it.height == HEIGHT));
        assert!(chart.columns.iter().all(|it| it.x + it.width <= WIDTH));
        assert_eq!((&*chart.most, &*chart.total), ("5", "7.5"));
    }

    #[test]
    fn a_map_has_a_row_for_each_day_the_newest_first() {
        let first = ClockHour::of("2026-11-01T00:00:00Z".parse().unwrap());
        let mut states = vec![None; 30];
        states[25] = Some(HourState::Parked);
        let map = HourMap::of(first, &states);
        let days: Vec<(&str, usize)> =
            map.days.iter().map(|it| (&*it.name, it.hours.len())).collect();
        assert_eq!(days, [("2026-11-02", 6), ("2026-11-01", 24)]);
        assert_eq!(map.days[0].hours[1].state, Some("parked"));
        assert_eq!((map.recent().len(), map.earlier().len()), (2, 0));
        let map = HourMap::of(first, &[None; 24 * 9]);
        assert_eq!((map.recent().len(), map.earlier().len()), (7, 2));
        assert_eq!((&*map.recent()[6].name, &*map.earlier()[0].name), ("2026-11-03", "2026-11-02"));
    }
}
