//! The seam between the store's verbs and its database: one SQL text, in words that every engine here speaks.
//!
//! Verbs see a [`Connection`], its [`Statement`]s and their [`Row`]s, in the shape of `rusqlite`, and never learn which
//! engine answers. Values are those of `rusqlite` too: integers, text, bytes and null are all that the schema holds.
//! Parameters are `?1` or `:name`. Of the words that only SQLite knows, `OR FAIL` and `CROSS JOIN … ON` may be used: they
//! make it faster, and are left out elsewhere.

mod connection;
mod error;
mod numbers;
mod params;
pub(super) mod postgres;
mod rows;
mod statement;
mod transaction;

pub(crate) use connection::Connection;
pub(crate) use error::{Error, ErrorKind, OptionalExtension, Result};
pub(crate) use params::Params;
pub use postgres::address::{Address, AddressError};
pub(crate) use postgres::passfile::find as find_in_passfile;
pub use postgres::password::Password;
pub(crate) use postgres::patience::Patience;
pub(crate) use rows::{Row, Rows};
pub(crate) use rusqlite::types::{FromSql, ToSql, Value};
pub(crate) use rusqlite::{named_params, params};
pub(crate) use statement::Statement;
pub(crate) use transaction::Transaction;
