//! The reasons why the store could not do something.

use std::path::PathBuf;

use super::sql::{self, ErrorKind};

/// The reason why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database's folder could not be made.
    #[error("could not create the folder {}", folder.display())]
    CreateFolder {
        /// The folder.
        folder: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The database could not be opened.
    #[error("could not open the database {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The database's error.
        source: sql::Error,
    },
    /// The schema could not be brought up to date.
    #[error("could not bring the schema of {} up to date", path.display())]
    Migrate {
        /// The file.
        path: PathBuf,
        /// The database's error.
        source: sql::Error,
    },
    /// The server could not be reached, or does not let us in.
    #[error("could not open the database {address}")]
    Connect {
        /// The address, without the password.
        address: String,
        /// The server's error.
        source: sql::Error,
    },
    /// The schema on the server could not be brought up to date.
    #[error("could not bring the schema on the database server up to date")]
    MigrateServer {
        /// The server's error.
        source: sql::Error,
    },
    /// The server's user may not make or change tables.
    #[error(
        "the database server's user may not make or change tables ({detail}): the first start of each version needs \
         `GRANT CREATE, USAGE ON SCHEMA name TO user`, or a schema of its own that `?schema=` names"
    )]
    MissingRight {
        /// The server's words.
        detail: String,
    },
    /// The server is older than those that this program is made for.
    #[error("the database server is PostgreSQL {found}: marketd needs 14 or newer")]
    OldServer {
        /// Its version.
        found: String,
    },
    /// Something between us and the server gives each transaction another connection.
    #[error(
        "a pool between marketd and the database server gives each transaction another connection, as pgbouncer does in \
         transaction mode: what a session holds would be lost. Use pool_mode=session, or connect to the server itself"
    )]
    PooledByTransaction,
    /// There is no database there yet, or an older one, and it is only to be read.
    #[error(
        "the schema on the database server {found}: start a daemon, which makes it or brings it up to date"
    )]
    UnmadeServerSchema {
        /// How it is.
        found: String,
    },
    /// The schema on the server is a newer marketd's.
    #[error(
        "the database server has schema version {found}, this marketd knows up to {known}: run the newer marketd"
    )]
    NewerServerSchema {
        /// Its version.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// What was asked is for a database in a file.
    #[error("the database is on a server: use the server's own tools, as pg_dump")]
    NoFile,
    /// Somebody else has locked the file.
    #[error("{} is locked by another program: wait for it or end it, as a backup tool, or a sqlite3 shell with a transaction open", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a newer marketd.
    #[error("{} has schema version {found}, this marketd knows up to {known}: run the newer marketd, or restore a backup", path.display())]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// The file was written by an older marketd, and is only to be read.
    #[error("{} has schema version {found}, this marketd reads {known}: start its daemon, which brings it up to date", path.display())]
    OlderSchema {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The version that this program has.
        known: i64,
    },
    /// The database's file could not be kept from others.
    #[error("could not keep {} from other users", path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The writer's thread could not be started.
    #[error("could not start the store's thread")]
    Thread {
        /// The system's error.
        source: std::io::Error,
    },
    /// A statement failed.
    #[error("the database refused: {operation}")]
    Sql {
        /// The operation.
        operation: &'static str,
        /// The database's error.
        source: sql::Error,
    },
    /// The transaction that held the write could not be committed; nothing of it remains.
    #[error("the database could not commit: {reason}")]
    Commit {
        /// The database's error.
        reason: String,
        /// Its kind.
        kind: ErrorKind,
    },
    /// Another worker does by now what only one may do at a time.
    #[error(
        "{holder} holds the lease of the work in the background, which this worker held before: it was stopped for too \
         long, and does nothing of that until the lease is its own again"
    )]
    LeaseLost {
        /// Whose it is.
        holder: String,
    },
    /// A row holds what this program cannot read.
    #[error("the database holds {what} that cannot be read: {detail}")]
    Corrupt {
        /// The kind of row.
        what: &'static str,
        /// The fault.
        detail: String,
    },
    /// A read panicked, which is a fault of this program's. The database is as it was.
    #[error(
        "marketd failed in reading its database: please report it, with the panic that its log shows before this"
    )]
    Panicked,
    /// The store is closing.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Reports whether the database refused what was to be written, rather than failing to write.
    pub(crate) fn is_refusal(&self) -> bool {
        let Self::Sql { source, .. } = self else { return false };
        source.kind() == ErrorKind::Refused
    }

    /// Reports whether this passes by itself, or when a person makes room: a lock, a full disk.
    pub(crate) fn is_passing(&self) -> bool {
        self.kind().is_some_and(ErrorKind::is_passing)
    }

    /// Returns what a person has to put right before anything is written again, if that is it.
    pub(crate) fn to_be_mended(&self) -> Option<String> {
        (self.kind() == Some(ErrorKind::Stuck)).then(|| self.in_full())
    }

    /// Reports whether this database can be used no more: waiting does not help, and neither does trying again.
    pub(crate) fn is_broken(&self) -> bool {
        match self {
            Self::Closed
            | Self::CreateFolder { .. }
            | Self::Open { .. }
            | Self::Migrate { .. }
            | Self::NewerServerSchema { .. }
            | Self::UnmadeServerSchema { .. }
            | Self::MissingRight { .. }
            | Self::OldServer { .. }
            | Self::PooledByTransaction
            | Self::NoFile
            | Self::Locked { .. }
            | Self::NewerSchema { .. }
            | Self::OlderSchema { .. }
            | Self::Mode { .. }
            | Self::Thread { .. } => true,
            Self::Sql { .. } | Self::Commit { .. } => self.kind() == Some(ErrorKind::Broken),
            // A server may come back, and one row is not the database.
            Self::Connect { .. }
            | Self::MigrateServer { .. }
            | Self::LeaseLost { .. }
            | Self::Corrupt { .. }
            | Self::Panicked => false,
        }
    }

    /// Reports whether somebody else had the database locked.
    pub(crate) fn is_locked(&self) -> bool {
        let kind = match self {
            Self::Open { source, .. } | Self::Migrate { source, .. } => Some(source.kind()),
            error => error.kind(),
        };
        kind == Some(ErrorKind::Locked)
    }

    /// Returns the error of a statement that found the database locked.
    #[cfg(test)]
    pub(crate) fn busy() -> Self {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
        let source = rusqlite::Error::SqliteFailure(code, None).into();
        Self::Sql { operation: "test", source }
    }

    fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Sql { source, .. }
            | Self::Connect { source, .. }
            | Self::MigrateServer { source } => Some(source.kind()),
            Self::Commit { kind, .. } => Some(*kind),
            _ => None,
        }
    }

    /// Returns the error's text with the database's own.
    pub(crate) fn in_full(&self) -> String {
        match self {
            Self::Sql { source, .. }
            | Self::Connect { source, .. }
            | Self::MigrateServer { source } => format!("{self}: {source}"),
            error => error.to_string(),
        }
    }
}

/// Gives the database's errors the name of the operation that met them.
pub(crate) trait During<T> {
    fn during(self, operation: &'static str) -> Result<T, StoreError>;
}

impl<T, E: Into<sql::Error>> During<T> for Result<T, E> {
    fn during(self, operation: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Sql { operation, source: source.into() })
    }
}
