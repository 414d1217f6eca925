//! Times on the command line: read before anything is sent, so that a slip is said with the forms that are taken.

use crate::domain::{Moment, PointInTime};

/// Reads a time by which something is looked for; the daemon makes a point in time of it.
pub(super) fn moment(text: &str) -> Result<String, String> {
    Moment::parse(text).map(|_| text.to_owned()).map_err(|fault| fault.to_string())
}

/// Reads a point in time at which something is to be so.
pub(super) fn point(text: &str) -> Result<String, String> {
    PointInTime::parse(text).map(|_| text.to_owned()).map_err(|fault| fault.to_string())
}
