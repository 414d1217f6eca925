//! What a database answers instead of rows.

use rusqlite::ErrorCode;

/// The reason why a database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite's reason.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
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
    /// It may go well later: a full disk, a file that cannot be read at the moment.
    Passing,
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
}

impl Error {
    /// Returns the error's kind.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Sqlite(rusqlite::Error::QueryReturnedNoRows) => ErrorKind::NoRow,
            Self::Sqlite(error) => {
                error.sqlite_error_code().map_or(ErrorKind::Other, kind_of_sqlite)
            }
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

impl From<rusqlite::types::FromSqlError> for Error {
    fn from(error: rusqlite::types::FromSqlError) -> Self {
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
