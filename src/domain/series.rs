//! Series: quantities over time, in steps of an hour or a day, UTC.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Quantity;

/// The step of a series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// An hour.
    Hour,
    /// A day, from midnight UTC.
    #[default]
    Day,
}

impl Step {
    /// Returns its length.
    pub const fn length(self) -> SignedDuration {
        match self {
            Self::Hour => SignedDuration::from_hours(1),
            Self::Day => SignedDuration::from_hours(24),
        }
    }

    /// Returns the most steps of a series: 31 days of hours, 400 days.
    pub const fn most(self) -> i64 {
        match self {
            Self::Hour => 31 * 24,
            Self::Day => 400,
        }
    }

    /// Returns the beginning of the step that a moment is in.
    pub fn begin(self, at: Timestamp) -> Timestamp {
        let length = self.length().as_secs();
        Timestamp::from_second(at.as_second().div_euclid(length) * length).unwrap_or(at)
    }
}

/// A quantity of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Point {
    /// The step's beginning.
    pub at: Timestamp,
    /// What was used in it.
    pub quantity: Quantity,
}

/// Sums amounts by step, from the step of `since` to the one before `until` ends, those without any as zero.
pub fn series(
    step: Step,
    since: Timestamp,
    until: Timestamp,
    amounts: impl IntoIterator<Item = (Timestamp, Quantity)>,
) -> Vec<Point> {
    let first = step.begin(since);
    let length = step.length().as_secs();
    let span = until.as_second() - first.as_second();
    let steps = span.div_euclid(length) + i64::from(span.rem_euclid(length) > 0);
    let mut points: Vec<Point> = (0..steps.clamp(0, step.most() + 1))
        .filter_map(|number| {
            let at = Timestamp::from_second(first.as_second() + number * length).ok()?;
            Some(Point { at, quantity: Quantity::ZERO })
        })
        .collect();
    for (at, amount) in amounts {
        let place = (at.as_second() - first.as_second()).div_euclid(length);
        let point = usize::try_from(place).ok().and_then(|place| points.get_mut(place));
        if let Some(point) = point {
            point.quantity = point.quantity.saturating_add(amount);
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn amounts_fall_into_their_steps_and_the_others_are_zero() {
        let amounts = || {
            [
                ("2026-11-10T23:59:59Z", 1),
                ("2026-11-11T00:00:00Z", 2),
                ("2026-11-11T05:30:00Z", 4),
                ("2026-11-13T00:00:00Z", 8),
            ]
            .map(|(time, units)| (at(time), Quantity::from_units(units)))
        };
        let shown = |step, since, until| {
            let points = series(step, at(since), at(until), amounts());
            points.iter().map(|it| it.quantity.to_string()).collect::<Vec<_>>()
        };
        // A day that has begun is one of them; what is before and after is none.
        assert_eq!(
            shown(Step::Day, "2026-11-10T12:00:00Z", "2026-11-12T00:00:01Z"),
            ["1", "6", "0"]
        );
        assert_eq!(
            shown(Step::Hour, "2026-11-11T04:00:00Z", "2026-11-11T07:00:00Z"),
            ["0", "4", "0"]
        );
        assert!(shown(Step::Hour, "2026-11-11T04:00:00Z", "2026-11-11T04:00:00Z").is_empty());
    }
}
