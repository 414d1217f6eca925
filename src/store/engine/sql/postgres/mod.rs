//! The driver of PostgreSQL: sessions, statements in its own form, and values on their way.

pub(in crate::store::engine) mod address;
pub(in crate::store::engine) mod session;
mod tls;
mod translate;
mod value;
