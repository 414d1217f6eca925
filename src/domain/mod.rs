//! The rules, pure: no I/O, no async, no clock. Time is an argument.

mod hour;
mod id;
mod quantity;

pub use hour::ClockHour;
pub use id::*;
pub use quantity::{Quantity, QuantityError};
