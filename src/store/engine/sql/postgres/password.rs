//! The password of the server's user, where it is kept: it may be another by the next time that somebody connects.

use std::fs;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::super::error::{Error, Result};
use super::passfile::{self, Named};

/// The place where a password is kept.
#[derive(Clone, Debug)]
pub enum Password {
    /// It was given, and stays as it is.
    Given(SecretString),
    /// A file that holds nothing else.
    File(PathBuf),
    /// libpq's file of passwords, in which there may be none for this server.
    Passfile(PathBuf),
}

impl Password {
    /// Reads the password as it is now.
    pub(super) fn read(&self, named: &Named<'_>) -> Result<Option<SecretString>> {
        let fault =
            |path: &Path, what: String| Error::Password(format!("{} {what}", path.display()));
        match self {
            Self::Given(password) => Ok(Some(password.clone())),
            Self::File(path) => {
                let text = fs::read_to_string(path)
                    .map_err(|error| fault(path, format!("cannot be read: {error}")))?;
                let password = text.trim();
                if password.is_empty() {
                    return Err(fault(path, "is empty".to_owned()));
                }
                Ok(Some(SecretString::from(password)))
            }
            Self::Passfile(path) => passfile::find(path, named).map_err(|what| fault(path, what)),
        }
    }
}
