//! The place of a database: a file, or a server.

use std::fmt;
use std::path::{Path, PathBuf};
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

impl From<&PathBuf> for Place {
    fn from(path: &PathBuf) -> Self {
        Self::File(path.as_path().into())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Server(address) => address.fmt(f),
        }
    }
}

impl Place {
    /// Opens (and makes) the database for writing and brings its schema up to date.
    pub(crate) fn open_writer(&self) -> Result<Connection, StoreError> {
        match self {
            Self::File(path) => connection::open_writer(path),
            Self::Server(address) => {
                let connection = connect(address)?;
                schema::migrate(&connection, address.schema())?;
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
