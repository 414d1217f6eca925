//! Limits that AWS sets.

use jiff::SignedDuration;

/// AWS takes usage for about this long after a subscription's end was announced.
pub const FINAL_HOUR: SignedDuration = SignedDuration::from_hours(1);
