//! Trouble that passes: a lock that somebody else holds, a full disk. It is heard of by whoever shows how things stand.

use std::error::Error;

use rusqlite::ErrorCode;
use tokio::sync::watch;

/// Reports whether SQLite may do later what it could not do now.
pub(crate) const fn is_passing(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::CannotOpen
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::OperationInterrupted
            | ErrorCode::OutOfMemory
            | ErrorCode::PermissionDenied
            | ErrorCode::ReadOnly
            | ErrorCode::SystemIoFailure
    )
}

/// The reason why SQLite could not do something, by its code.
#[derive(Clone, Debug)]
pub(crate) struct TroubleCause {
    pub(crate) code: ErrorCode,
    pub(crate) said: String,
}

impl TroubleCause {
    pub(crate) fn of(error: &rusqlite::Error) -> Option<Self> {
        let code = error.sqlite_error_code().filter(|code| is_passing(*code))?;
        Some(Self { code, said: error.to_string() })
    }
}

/// Finds the trouble that an error of whatever operation comes from, if it is of this kind.
pub(crate) fn found_in(error: &(dyn Error + 'static)) -> Option<TroubleCause> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(sqlite) = error.downcast_ref::<rusqlite::Error>() {
            return TroubleCause::of(sqlite);
        }
        cause = error.source();
    }
    None
}

/// The present trouble, if there is any; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Trouble(watch::Sender<Option<String>>);

impl Default for Trouble {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Trouble {
    pub(crate) fn begin(&self, why: &TroubleCause) {
        self.0.send_if_modified(|held| {
            let is_news = held.as_ref() != Some(&why.said);
            *held = Some(why.said.clone());
            is_news
        });
    }

    pub(crate) fn is_over(&self) {
        self.0.send_if_modified(|held| held.take().is_some());
    }

    pub(crate) fn heard(&self) -> watch::Receiver<Option<String>> {
        self.0.subscribe()
    }
}
