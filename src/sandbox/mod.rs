//! A local AWS Marketplace that real AWS SDK clients can talk to.
