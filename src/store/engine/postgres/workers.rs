//! The rows of the workers and their leases. All times are the server's, since the clocks of workers differ.

use jiff::Timestamp;

use super::super::sql::postgres::session::Session;
use super::super::sql::{Connection, OptionalExtension as _, Params, Result, Row, Value};
use super::super::worker::{BACKGROUND, HeldLease, LEASE, Worker};

/// The server's time in milliseconds.
const NOW: &str = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)";

/// What a worker hears when it says that it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store::engine) struct Beat {
    /// The number that it has among those that held the lease, if it holds it.
    pub(in crate::store::engine) epoch: Option<i64>,
    /// The number of workers that live, itself among them.
    pub(in crate::store::engine) workers: u32,
}

/// Says that a worker lives, and takes or keeps the lease if nobody else has it.
pub(in crate::store::engine) fn beat(session: &Session, worker: &Worker) -> Result<Beat> {
    let lives = format!(
        "INSERT INTO workers (id, name, version, since_ms, seen_ms) VALUES (?1, ?2, ?3, {NOW}, {NOW})
         ON CONFLICT (id) DO UPDATE SET seen_ms = excluded.seen_ms"
    );
    let (id, name, version) = (worker.id.as_str(), worker.name.as_str(), worker.version.as_str());
    run(session, &lives, &(id, name, version))?;
    let forget = format!("DELETE FROM workers WHERE seen_ms < {NOW} - 3 * {}", LEASE.as_millis());
    run(session, &forget, &[])?;
    let hold = format!(
        "INSERT INTO leases (name, owner, epoch, until_ms) VALUES ('{BACKGROUND}', ?1, 1, {NOW} + {lease})
         ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until_ms = excluded.until_ms,
             epoch = leases.epoch + CASE WHEN leases.owner = excluded.owner THEN 0 ELSE 1 END
         WHERE leases.owner = excluded.owner OR leases.until_ms < {NOW}
             -- The server's clock was set back.
             OR leases.until_ms > {NOW} + 2 * {lease}
         RETURNING epoch",
        lease = LEASE.as_millis()
    );
    let epoch = number(session, &hold, &(id,))?;
    let alive = format!("SELECT count(*) FROM workers w WHERE {}", is_alive());
    let workers = number(session, &alive, &[])?;
    let workers = workers.map_or(1, |count| u32::try_from(count).unwrap_or(u32::MAX));
    Ok(Beat { epoch, workers })
}

/// Returns who holds the lease, or did last.
pub(in crate::store::engine) fn holder_in(connection: &Connection) -> Result<Option<HeldLease>> {
    let asked = format!("SELECT owner, epoch FROM leases WHERE name = '{BACKGROUND}'");
    let held = |row: &Row<'_>| Ok(HeldLease { owner: row.get(0)?, epoch: row.get(1)? });
    connection.prepare_cached(&asked)?.query_row([], held).optional()
}

/// Returns the condition on a worker `w` that lives.
fn is_alive() -> String {
    format!("w.seen_ms >= {NOW} - {}", LEASE.as_millis())
}

/// Removes a worker, and gives back its lease.
pub(in crate::store::engine) fn leave(session: &Session, worker: &Worker) -> Result<()> {
    let id = (worker.id.as_str(),);
    run(session, "UPDATE leases SET until_ms = 0 WHERE owner = ?1", &id)?;
    run(session, "DELETE FROM workers WHERE id = ?1", &id)?;
    Ok(())
}

/// Lists the workers that live, the oldest first.
pub(in crate::store) fn workers_in(connection: &Connection) -> Result<Vec<Worker>> {
    let sql = format!(
        "SELECT w.id, w.name, w.version, w.since_ms, w.seen_ms,
             (SELECT l.name FROM leases l WHERE l.owner = w.id AND l.until_ms >= {NOW})
         FROM workers w WHERE {} ORDER BY w.since_ms, w.id",
        is_alive()
    );
    let mut select = connection.prepare_cached(&sql)?;
    let found = select.query_map([], |row| {
        Ok(Worker {
            id: row.get(0)?,
            name: row.get(1)?,
            version: row.get(2)?,
            since: at(row.get(3)?),
            last_seen: at(row.get(4)?),
            leases: row.get::<_, Option<String>>(5)?.into_iter().collect(),
        })
    })?;
    found.collect()
}

fn run(session: &Session, sql: &str, params: &impl Params) -> Result<usize> {
    let prepared = session.prepare(sql)?;
    session.execute(&prepared, params)
}

/// Returns the number that a statement finds, if it finds one.
fn number(session: &Session, sql: &str, params: &impl Params) -> Result<Option<i64>> {
    let found = session.query(&session.prepare(sql)?, params)?;
    Ok(match found.first().and_then(|row| row.value(0)) {
        Some(Value::Integer(number)) => Some(*number),
        _ => None,
    })
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or_default()
}
