//! Notifications in: every wire format, committed before it is acknowledged.

mod poller;
pub mod wire;

pub use poller::{Intake, IntakeError};
