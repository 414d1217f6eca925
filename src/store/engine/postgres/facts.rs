//! What `doctor` says of a server.

use jiff::Timestamp;

use super::super::sql::{Connection, Result};

/// The facts of a database on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// The server's version, as `15.18`.
    pub server_version: String,
    /// The version of the schema.
    pub schema_version: i64,
    /// The server's time.
    pub at: Timestamp,
    /// Set if the connection is encrypted.
    pub has_tls: bool,
}

pub(in crate::store) fn facts_in(connection: &Connection) -> Result<ServerFacts> {
    let asked = "SELECT current_setting('server_version'), (SELECT version FROM schema_version),
            CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint),
            (SELECT CAST(ssl AS integer) FROM pg_stat_ssl WHERE pid = pg_backend_pid())";
    connection.query_row(asked, [], |row| {
        Ok(ServerFacts {
            server_version: row.get(0)?,
            schema_version: row.get(1)?,
            at: Timestamp::from_millisecond(row.get(2)?).unwrap_or_default(),
            has_tls: row.get::<_, Option<i64>>(3)? == Some(1),
        })
    })
}
