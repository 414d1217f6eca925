//! The notes that the triggers of a transaction leave in a table of the session's own.

use super::super::log_lines::LogLine;
use super::super::noted::{CountedUsage, Notes};
use super::super::sql::{self, Connection};
use crate::domain::{CustomerId, FeatureId};

/// How long a session that writes may keep others waiting, as a literal.
///
/// Whoever waits for the turn for so long is told so, as with a file that somebody else has locked. A worker whose machine is
/// gone in the middle of a transaction ends nothing by itself: the server does, so that others get the turn. And a commit is on
/// disk before it is answered, whatever the database's own settings say.
macro_rules! timeouts {
    () => {
        "SET lock_timeout = '10s';
         SET idle_in_transaction_session_timeout = '10s';
         SET tcp_user_timeout = '10s';
         SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';"
    };
}

/// Prepares the session of one who changes the schema.
pub(in crate::store::engine) const MIGRATOR: &str = timeouts!();
/// Prepares the session of the one who writes, with the table that it notes in.
pub(in crate::store::engine) const WRITER: &str = concat!(
    timeouts!(),
    "CREATE TEMP TABLE marketd_notes (
         n bigint GENERATED ALWAYS AS IDENTITY,
         kind text, a text, b text, c text, d text, e bigint, f bigint
     ) ON COMMIT DELETE ROWS"
);

const READ: &str = "SELECT kind, a, b, c, d, e, f FROM pg_temp.marketd_notes ORDER BY n";

/// Asks ahead for what [`read`] reads.
pub(in crate::store::engine) fn ask_ahead(connection: &Connection) -> sql::Result<()> {
    connection.ask_ahead(READ, &[])
}

/// Reads what the transaction has noted so far.
pub(in crate::store::engine) fn read(connection: &Connection) -> sql::Result<Notes> {
    let mut notes = Notes::default();
    let mut select = connection.prepare_cached(READ)?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        match row.get_ref(0)?.as_str()? {
            "customer" => {
                notes.changes.customers.push(CustomerId::new(row.get::<_, String>(1)?));
            }
            "catalogue" => notes.changes.catalogue = true,
            "used" => notes.changes.used.push(CountedUsage {
                customer_id: CustomerId::new(row.get::<_, String>(1)?),
                feature_id: FeatureId::new(row.get::<_, String>(2)?),
                product: row.get(3)?,
                holder: row.get(4)?,
                from_ms: row.get(5)?,
                millionths: row.get(6)?,
            }),
            "licenses" => notes.licenses = true,
            "woken" => notes.woken.add(row.get(5)?),
            "loss" => notes.lines.push(LogLine::Loss { kind: row.get(1)?, data: row.get(2)? }),
            "activity" => notes.lines.push(LogLine::Activity {
                actor: row.get(1)?,
                door: row.get(2)?,
                operation: row.get(3)?,
                path: row.get(4)?,
            }),
            // The triggers may be those of a newer version, which runs beside this one for a while.
            _ => {}
        }
    }
    Ok(notes)
}
