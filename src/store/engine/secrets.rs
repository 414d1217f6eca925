//! Keys that an installation makes for itself, on its first start, and keeps. They travel with a backup.

use uuid::Uuid;

use super::error::{During, StoreError};
use super::sql::{self, Connection, OptionalExtension};

/// A key, by the name of what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secret {
    /// Signs the references that browsers carry from `/aws/register`.
    Reference,
    /// Makes the ids of customers whom nobody has provisioned.
    CustomerIds,
}

impl Secret {
    const ALL: [Self; 2] = [Self::Reference, Self::CustomerIds];

    const fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::CustomerIds => "customer_ids",
        }
    }
}

/// Makes the keys that are missing.
pub(crate) fn make_secrets_in(connection: &Connection) -> sql::Result<()> {
    for secret in Secret::ALL {
        // Two random UUIDs hold 244 random bits, from the operating system's source.
        let made = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat();
        connection.execute(
            "INSERT INTO secrets (name, value) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            (secret.name(), made),
        )?;
    }
    Ok(())
}

/// Reads a key.
pub(crate) fn secret_in(connection: &Connection, secret: Secret) -> Result<Vec<u8>, StoreError> {
    let missing = || StoreError::Corrupt {
        what: "a key",
        detail: format!("{} is missing; a restart makes a new one", secret.name()),
    };
    connection
        .prepare_cached("SELECT value FROM secrets WHERE name = ?1")
        .and_then(|mut select| select.query_row([secret.name()], |row| row.get(0)).optional())
        .during("read a key")?
        .ok_or_else(missing)
}
