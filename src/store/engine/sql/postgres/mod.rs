//! The driver of PostgreSQL: sessions, statements in its own form, and values on their way.

pub(in crate::store::engine) mod address;
mod connecting;
mod live;
pub(super) mod passfile;
pub(super) mod password;
pub(in crate::store::engine) mod patience;
mod pipeline;
mod prepared;
pub(in crate::store::engine) mod session;
mod several;
pub(in crate::store::engine) mod strand;
mod tls;
mod translate;
mod value;
mod wanted;
mod wire;
