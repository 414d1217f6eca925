//! A local AWS Marketplace that real AWS SDK clients can talk to.
mod answer;
pub mod clock;
pub mod control;
pub mod market;
mod sqs;
pub mod shared;
