//! The place of a database: a file, or a server.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::connection;
use super::error::{During as _, StoreError};
use super::postgres::schema;
use super::sql::postgres::session::Session;
use super::sql::{self, Address, Connection, Patience};

/// More readers of a file than this would only wait for the same cores.
const READERS_OF_FILE: usize = 4;

/// The place of a database; clones share it.
#[derive(Clone, Debug)]
pub enum Place {
    /// SQLite's file.
    File(Arc<Path>),
    /// A PostgreSQL server.
    Server(ServerPlace),
}

/// A database on a server.
#[derive(Clone, Debug)]
pub struct ServerPlace {
    address: Arc<Address>,
    /// The most connections that read.
    pool: usize,
}

impl From<&Path> for Place {
    fn from(path: &Path) -> Self {
        Self::File(path.into())
    }
}

/// The path, or the address without its password.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Server(server) => server.address.fmt(f),
        }
    }
}

impl Place {
    /// Returns the path of the file; none of a database on a server.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Server(_) => None,
        }
    }

    /// Returns the number of connections that may read at once.
    pub(crate) const fn readers(&self) -> usize {
        match self {
            Self::File(_) => READERS_OF_FILE,
            Self::Server(server) => server.pool,
        }
    }

    /// Opens (and makes) the database for writing and brings its schema up to date.
    pub(crate) fn open_writer(&self) -> Result<Connection, StoreError> {
        match self {
            Self::File(path) => connection::open_writer(path),
            Self::Server(server) => {
                let session = server.connect()?;
                server.refuse_pool_by_transaction(&session)?;
                let connection = Connection::Postgres(Box::new(session));
                schema::migrate(&connection, server.address.quoted_schema())?;
                Ok(connection)
            }
        }
    }

    /// Opens a connection that only reads, to a database whose schema is this program's; any other is refused.
    pub(crate) fn open_current_reader(&self) -> Result<Connection, StoreError> {
        let reader = self.open_reader()?;
        match self {
            Self::File(path) => connection::check_schema(&reader, path)?,
            Self::Server(_) => schema::check(&reader)?,
        }
        Ok(reader)
    }

    /// Opens one more connection that only reads, beside others that were let in: whatever refuses it may pass.
    pub(crate) fn open_another_reader(&self) -> Result<Connection, StoreError> {
        self.open_reader().map_err(|error| match error {
            StoreError::Connect { address, source } => {
                StoreError::Connect { address, source: sql::Error::ConnectAnew(Box::new(source)) }
            }
            error => error,
        })
    }

    /// Opens a connection that only reads.
    pub(crate) fn open_reader(&self) -> Result<Connection, StoreError> {
        match self {
            Self::File(path) => connection::open_reader(path),
            Self::Server(server) => {
                let session = server.connect()?;
                session
                    .run_first("SET default_transaction_read_only = on")
                    .during("have a connection only read")?;
                Ok(Connection::Postgres(Box::new(session)))
            }
        }
    }
}

impl ServerPlace {
    /// Makes one that is read on so many connections at most.
    pub fn new(address: Address, pool: usize) -> Self {
        Self { address: Arc::new(address), pool }
    }

    /// Connects to the server.
    pub(crate) fn connect(&self) -> Result<Session, StoreError> {
        self.connect_with(Patience::USUAL)
    }

    /// Does the same, for one whose answers are waited for otherwise.
    pub(crate) fn connect_with(&self, patience: Patience) -> Result<Session, StoreError> {
        Session::connect(Arc::clone(&self.address), patience)
            .map_err(|source| StoreError::Connect { address: self.address.to_string(), source })
    }

    /// Refuses a pool that gives each transaction another of the server's processes: two that are connected have then
    /// the same one, or one of them has another each time.
    fn refuse_pool_by_transaction(&self, session: &Session) -> Result<(), StoreError> {
        let process = |of: &Session| of.server_process().during("ask who serves the connection");
        let first = process(session)?;
        let other = process(&self.connect()?)?;
        if first == other || process(session)? != first {
            return Err(StoreError::PooledByTransaction);
        }
        Ok(())
    }
}
