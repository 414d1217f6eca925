//! Between the database's numbers and the domain's types.

use jiff::Timestamp;

use crate::domain::Quantity;

/// Converts a time to what the database keeps.
pub(crate) fn millis(at: Timestamp) -> i64 {
    at.as_millisecond()
}

/// Converts a time from what the database kept. What is out of range was never written by [`millis`].
pub(crate) fn timestamp(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Converts a time that may be missing.
pub(crate) fn optional_timestamp(millis: Option<i64>) -> Option<Timestamp> {
    millis.map(timestamp)
}

/// Returns the quantity that a column of millionths holds.
pub(crate) fn quantity(millionths: i64) -> Quantity {
    Quantity::from_millionths(millionths).unwrap_or_default()
}
