//! The word that each turn leaves with its commit: what it changed, for the other workers.

use std::collections::BTreeSet;

use super::super::noted::{ByOthers, Notes};
use super::super::sql::postgres::session::{Session, Turn};
use super::super::sql::{self, Connection};
use crate::domain::CustomerId;

/// The customers that one turn names at most: beyond, reading all of them anew costs the others no more.
const MOST_NAMED: usize = 5_000;
/// The turns that are kept: others look for them twice a second, and who lost an answer asks within a minute.
const KEPT: i64 = 16_384;
/// The old ones are removed once in so many turns.
const REMOVED_EVERY: i64 = 256;

const WRITE: &str =
    "INSERT INTO turn_changes (turn, token, changed, used, catalogue, licenses, woken)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

const READ: &str =
    "SELECT turn, changed, used, catalogue, licenses, woken FROM turn_changes WHERE turn > ?1";

/// Has the session's turn leave word of what it changed.
pub(in crate::store::engine) fn write(
    connection: &Connection,
    session: &Session,
    notes: &Notes,
) -> sql::Result<()> {
    let Some(Turn { number, token, names_nobody, .. }) = session.turn() else { return Ok(()) };
    let may_name = |named: Option<String>| named.filter(|_| !names_nobody);
    let changed = may_name(named(notes.changes.customers.iter()));
    let used = may_name(named(notes.changes.used.iter().map(|it| &it.customer_id)));
    let flags = (i64::from(notes.changes.catalogue), i64::from(notes.licenses));
    let woken = i64::from(notes.woken.bits());
    let row = (number, token, changed, used, flags.0, flags.1, woken);
    connection.prepare_cached(WRITE)?.post(row)?;
    session.leaves_word();
    if number % REMOVED_EVERY == 0 {
        connection
            .prepare_cached("DELETE FROM turn_changes WHERE turn <= ?1")?
            .post([number - KEPT])?;
    }
    Ok(())
}

/// Takes the names of customers out of the words that were left so far, and out of the present turn's: an erased customer is
/// named nowhere. The other workers forget all of them.
pub(in crate::store) fn name_nobody(connection: &Connection) -> sql::Result<()> {
    let Connection::Postgres(session) = connection else { return Ok(()) };
    session.names_nobody();
    let unname = "UPDATE turn_changes SET changed = NULL, used = NULL
         WHERE coalesce(changed, '[]') <> '[]' OR coalesce(used, '[]') <> '[]'";
    connection.prepare_cached(unname)?.post([])
}

/// Returns the customers as JSON; none if they are too many to name.
fn named<'a>(customers: impl Iterator<Item = &'a CustomerId>) -> Option<String> {
    let all: BTreeSet<&str> = customers.map(CustomerId::as_str).collect();
    if all.len() > MOST_NAMED { None } else { serde_json::to_string(&all).ok() }
}

/// Asks ahead for what [`read`] reads.
pub(in crate::store::engine) fn ask_ahead(connection: &Connection, seen: i64) -> sql::Result<()> {
    connection.ask_ahead(READ, &[seen])
}

/// Reads what the turns after `seen` have changed, up to `last`; none if that is not known of each.
pub(in crate::store::engine) fn read(
    connection: &Connection,
    seen: i64,
    last: i64,
) -> sql::Result<Option<ByOthers>> {
    let (mut all, mut turns) = (ByOthers::default(), 0);
    let mut select = connection.prepare_cached(READ)?;
    let mut rows = select.query([seen])?;
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(0)? > last {
            continue;
        }
        turns += 1;
        let (changed, used): (Option<String>, Option<String>) = (row.get(1)?, row.get(2)?);
        let (Some(changed), Some(used)) = (customers(changed), customers(used)) else {
            return Ok(None);
        };
        all.changed.extend(changed);
        all.used.extend(used);
        all.catalogue |= row.get::<_, i64>(3)? != 0;
        all.licenses |= row.get::<_, i64>(4)? != 0;
        all.woken.add(row.get(5)?);
    }
    Ok((turns == last - seen).then_some(all))
}

fn customers(named: Option<String>) -> Option<BTreeSet<CustomerId>> {
    serde_json::from_str(&named?).ok()
}
