//! What a database answers instead of rows.

use std::time::Duration;

use rusqlite::ErrorCode;
use rusqlite::types::FromSqlError;
use tokio_postgres::error::SqlState;

/// The result of something that a database was asked.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// The reason why a database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite's reason.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// PostgreSQL's reason, or that of the way to it.
    #[error("{}", with_cause(.0))]
    Postgres(tokio_postgres::Error),
    /// PostgreSQL does not take a statement.
    #[error("PostgreSQL does not take {text:?}: {}", with_cause(.source))]
    Prepare {
        /// The statement.
        text: String,
        /// PostgreSQL's reason.
        source: tokio_postgres::Error,
    },
    /// A column does not hold what it should.
    #[error("the column {column} cannot be read: {source}")]
    Column {
        /// The column.
        column: String,
        /// The fault.
        source: FromSqlError,
    },
    /// A row was asked for, and there is none.
    #[error("there is no such row")]
    NoRow,
    /// The row by which writers take turns is not there.
    #[error(
        "the table `turns` has no row, so that nothing may be written: put it back by \
         INSERT INTO turns SELECT 1, coalesce(max(turn), 0) FROM turn_changes"
    )]
    NoTurn,
    /// A statement changed more or fewer rows than it was to change.
    #[error("{rows} rows were changed, which is not as many as were to be changed")]
    OtherRows {
        /// The number of rows that were changed.
        rows: u64,
    },
    /// Something else of the same transaction has failed.
    #[error("another part of the same transaction has failed")]
    Abandoned,
    /// A piece of interleaved work does what only the whole transaction may.
    #[error("a piece of interleaved work begins and ends no transaction")]
    WithinStrand,
    /// The server was reached before, and cannot be reached any more.
    #[error("connect anew: {0}")]
    ConnectAnew(Box<Self>),
    /// The server does not answer whoever connects.
    #[error("the database server did not let us in within {} s", .0.as_secs())]
    Silent(Duration),
    /// A server that was asked something says nothing any more.
    #[error("the database server says nothing for {:.1?}: its process hangs, or the way to it is mute", .0)]
    Unanswered(Duration),
    /// The name of a server's host leads nowhere.
    #[error("the database server's host cannot be found: {0}")]
    Unknown(String),
    /// The password cannot be had from where it is kept.
    #[error("the password of the database server's user: {0}")]
    Password(String),
    /// The connection to the server is gone.
    #[error("the connection to the database server was lost")]
    Lost,
    /// TLS cannot be had as the address demands it.
    #[error("no TLS to the database server: {0}")]
    Tls(String),
    /// The connection has nothing to run on.
    #[error("the connection could not be made: {0}")]
    Runtime(String),
}

fn with_cause(error: &tokio_postgres::Error) -> String {
    use std::error::Error as _;
    match (error.as_db_error(), error.source()) {
        (Some(said), _) => {
            let detail = said.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
            format!("{}{detail}", said.message())
        }
        (None, Some(cause)) => format!("{error}: {cause}"),
        (None, None) => error.to_string(),
    }
}

/// The kind of an error, by what is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// A row was asked for, and there is none.
    NoRow,
    /// What was to be written breaks a rule of the schema.
    Refused,
    /// Somebody else has the database locked.
    Locked,
    /// It may go well later: a full disk, a file that cannot be read at the moment, a server that is away.
    Passing,
    /// Nothing goes well until a person has put something right, which the error says how.
    Stuck,
    /// The file is no database, or is damaged.
    Broken,
    /// A fault of the program's.
    Other,
}

impl ErrorKind {
    /// Reports whether the database may do later what it could not do now.
    pub(crate) const fn is_passing(self) -> bool {
        matches!(self, Self::Locked | Self::Passing)
    }

    /// Reports whether the database can do nothing at the moment, whatever it is asked.
    pub(crate) const fn is_trouble(self) -> bool {
        self.is_passing() || matches!(self, Self::Stuck)
    }
}

impl Error {
    /// Reports whether the server's user may not do what was asked.
    pub(crate) fn is_missing_right(&self) -> bool {
        self.server_code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE)
    }

    fn server_code(&self) -> Option<&SqlState> {
        match self {
            Self::Postgres(error) | Self::Prepare { source: error, .. } => error.code(),
            _ => None,
        }
    }

    /// Returns the error's kind.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Sqlite(rusqlite::Error::QueryReturnedNoRows) | Self::NoRow => ErrorKind::NoRow,
            Self::Sqlite(error) => {
                error.sqlite_error_code().map_or(ErrorKind::Other, kind_of_sqlite)
            }
            Self::Postgres(error) | Self::Prepare { source: error, .. } => kind_of_postgres(error),
            Self::Lost
            | Self::Silent(_)
            | Self::Unanswered(_)
            | Self::Unknown(_)
            | Self::Password(_)
            | Self::ConnectAnew(_)
            | Self::Runtime(_) => ErrorKind::Passing,
            Self::NoTurn => ErrorKind::Stuck,
            Self::Column { .. }
            | Self::OtherRows { .. }
            | Self::Abandoned
            | Self::WithinStrand
            | Self::Tls(_) => ErrorKind::Other,
        }
    }
}

const fn kind_of_sqlite(code: ErrorCode) -> ErrorKind {
    match code {
        ErrorCode::ConstraintViolation => ErrorKind::Refused,
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => ErrorKind::Locked,
        ErrorCode::CannotOpen
        | ErrorCode::DiskFull
        | ErrorCode::FileLockingProtocolFailed
        | ErrorCode::OperationInterrupted
        | ErrorCode::OutOfMemory
        | ErrorCode::PermissionDenied
        | ErrorCode::ReadOnly
        | ErrorCode::SystemIoFailure => ErrorKind::Passing,
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => ErrorKind::Broken,
        _ => ErrorKind::Other,
    }
}

/// Classifies by the class of the server's code: the first two of its five characters.
fn kind_of_postgres(error: &tokio_postgres::Error) -> ErrorKind {
    let Some(code) = error.code() else {
        // It did not come from the server: the way there is cut, or closed. What cannot be encoded is ours.
        let is_ours = error.to_string().starts_with("error serializing")
            || error.to_string().starts_with("error deserializing");
        return if is_ours { ErrorKind::Other } else { ErrorKind::Passing };
    };
    if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        return ErrorKind::Passing;
    }
    match code.code().get(..2) {
        // A rule of the schema, a value that no column takes, a row that is too large.
        Some("22" | "23" | "54") => ErrorKind::Refused,
        Some("40" | "55") => ErrorKind::Locked,
        Some("08" | "53" | "57" | "58") => ErrorKind::Passing,
        Some("XX") => ErrorKind::Broken,
        _ => ErrorKind::Other,
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<FromSqlError> for Error {
    fn from(error: FromSqlError) -> Self {
        Self::Sqlite(error.into())
    }
}

/// Takes a row that is not there for none.
pub(crate) trait OptionalExtension<T> {
    /// Returns the row, or none.
    fn optional(self) -> Result<Option<T>, Error>;
}

impl<T> OptionalExtension<T> for Result<T, Error> {
    fn optional(self) -> Result<Option<T>, Error> {
        match self {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == ErrorKind::NoRow => Ok(None),
            Err(error) => Err(error),
        }
    }
}
