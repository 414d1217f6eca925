//! The place of a database: a file, or a server.

use std::path::Path;
use std::sync::Arc;

use super::connection;
use super::error::StoreError;
use super::postgres::schema;
use super::sql::{Address, Connection};

/// The place of a database; clones share it.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    File(Arc<Path>),
    Server(Arc<Address>),
}

impl From<&Path> for Place {
    fn from(path: &Path) -> Self {
        Self::File(path.into())
    }
}

impl Place {
    /// Opens (and makes) the database for writing and brings its schema up to date.
    pub(crate) fn open_writer(&self) -> Result<Connection, StoreError> {
        match self {
            Self::File(path) => connection::open_writer(path),
            Self::Server(address) => {
                let connection = connect(address)?;
                schema::migrate(&connection, address.quoted_schema())?;
                Ok(connection)
            }
        }
    }

    /// Opens a connection that only reads.
    pub(crate) fn open_reader(&self) -> Result<Connection, StoreError> {
        match self {
            Self::File(path) => connection::open_reader(path),
            Self::Server(address) => connect(address),
        }
    }
}

fn connect(address: &Arc<Address>) -> Result<Connection, StoreError> {
    Connection::connect(Arc::clone(address))
        .map_err(|source| StoreError::Connect { address: address.to_string(), source })
}
