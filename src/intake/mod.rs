//! Notifications in: every wire format, committed before it is acknowledged.

pub mod wire;
