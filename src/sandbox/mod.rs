//! A local AWS Marketplace that real AWS SDK clients can talk to.
pub mod clock;
pub mod control;
pub mod market;
pub mod shared;
