//! The AWS clients: one file a service, credentials by role, one rate limit an operation.
