//! A session with the server, used by one thread at a time.

use std::cell::{Cell as Flag, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::Value;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, SimpleQueryMessage, Statement};

use super::super::error::{Error, Result};
use super::super::params::Params;
use super::address::Address;
use super::translate::{Translated, translate};
use super::value::Cell;

/// The tables of which the writer remembers rows between transactions.
const REMEMBERED: [&str; 5] =
    ["subscriptions", "licenses", "agreements", "customers", "customer_aliases"];

/// Begins a transaction and takes its turn: the number of it, and the id by which the server knows what came of it.
const TURN: &str =
    "BEGIN; UPDATE turns SET n = n + 1 RETURNING n, CAST(pg_current_xact_id() AS text)";

/// A session, connected anew where it was lost.
pub(crate) struct Session {
    address: Arc<Address>,
    live: RefCell<Option<Live>>,
    /// Run on each connection before anything else.
    at_first: Flag<&'static str>,
    changes: Flag<u64>,
    /// The number of the present or last transaction that may write, and its id at the server.
    turn: Flag<Option<(i64, u64)>>,
    /// Called when a statement may have changed a row that is remembered.
    touched: RefCell<Option<Box<dyn Fn() + Send>>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("address", &self.address).finish_non_exhaustive()
    }
}

/// A connection, and what is prepared on it.
struct Live {
    /// Its own: a request and its answer stay on the thread that waits for them. None once it is dropped.
    runtime: Option<Runtime>,
    client: Client,
    statements: HashMap<Box<str>, Arc<Prepared>>,
}

impl Drop for Live {
    fn drop(&mut self) {
        // A session may be let go where nothing may block.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A statement that the server has prepared.
pub(crate) struct Prepared {
    statement: Statement,
    names: Vec<String>,
    /// The names of the columns that it finds.
    columns: Arc<[Box<str>]>,
    /// Set if it changes rows, and if they may be of those that are remembered.
    writes: bool,
    touches: bool,
}

/// A row that came from the server.
#[derive(Debug)]
pub(crate) struct FoundRow {
    columns: Arc<[Box<str>]>,
    values: Vec<Value>,
}

impl FoundRow {
    /// Returns the names of the columns.
    pub(crate) fn columns(&self) -> &[Box<str>] {
        &self.columns
    }

    /// Returns the value of a column.
    pub(crate) fn value(&self, place: usize) -> Option<&Value> {
        self.values.get(place)
    }
}

impl Session {
    /// Connects to the server.
    pub(crate) fn connect(address: Arc<Address>) -> Result<Self> {
        let live = RefCell::new(Some(Live::connect(&address)?));
        let (at_first, changes, turn, touched) = Default::default();
        Ok(Self { address, live, at_first, changes, turn, touched })
    }

    /// Has `touched` called whenever a statement may have changed a row that is remembered.
    pub(crate) fn on_touch(&self, touched: impl Fn() + Send + 'static) {
        *self.touched.borrow_mut() = Some(Box::new(touched));
    }

    /// Runs statements now, and again on each connection that is made anew.
    pub(crate) fn run_first(&self, statements: &'static str) -> Result<()> {
        self.at_first.set(statements);
        self.batch(statements)
    }

    /// Connects anew if the connection was lost.
    pub(crate) fn reconnect_if_lost(&self) -> Result<()> {
        if !self.is_lost() {
            return Ok(());
        }
        *self.live.borrow_mut() = None;
        let live = Live::connect(&self.address)?;
        live.batch(self.at_first.get())?;
        *self.live.borrow_mut() = Some(live);
        Ok(())
    }

    /// Runs statements without parameters.
    pub(crate) fn batch(&self, sql: &str) -> Result<()> {
        self.with(|live| live.batch(sql))
    }

    /// Begins a transaction once it is its turn: the row of turns is locked before the first look at the data, and a
    /// statement sees what was committed by the time that it begins.
    pub(crate) fn begin_turn(&self) -> Result<()> {
        self.turn.set(None);
        self.reconnect_if_lost()?;
        let messages =
            self.with(|live| Ok(live.runtime()?.block_on(live.client.simple_query(TURN))?))?;
        let row = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let number = |place| row.and_then(|row| row.get(place));
        let turn = number(0).and_then(|text| text.parse().ok());
        let id = number(1).and_then(|text| text.parse().ok());
        self.turn.set(turn.zip(id));
        // Without a number nothing is locked either.
        if self.turn().is_none() {
            self.batch("ROLLBACK")?;
            return Err(Error::NoTurn);
        }
        Ok(())
    }

    /// Returns the server's process that answers at the moment, which behind a pool may be another each time.
    pub(crate) fn server_process(&self) -> Result<Option<String>> {
        let ask = "SELECT pg_backend_pid()";
        let messages =
            self.with(|live| Ok(live.runtime()?.block_on(live.client.simple_query(ask))?))?;
        Ok(messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        }))
    }

    /// Returns the number of the present or last transaction that may write.
    pub(crate) const fn turn(&self) -> Option<i64> {
        match self.turn.get() {
            Some((turn, _)) => Some(turn),
            None => None,
        }
    }

    /// Commits. Where the answer is lost, the server is asked what came of it.
    pub(crate) fn commit(&self) -> Result<()> {
        match self.batch("COMMIT") {
            Err(error) if self.is_lost() => match self.turn.get().map(|(_, id)| self.outcome(id)) {
                Some(Ok(true)) => Ok(()),
                _ => Err(error),
            },
            ended => ended,
        }
    }

    fn is_lost(&self) -> bool {
        self.live.borrow().as_ref().is_none_or(|live| live.client.is_closed())
    }

    /// Reports whether a transaction was committed, once the server can be reached again.
    fn outcome(&self, id: u64) -> Result<bool> {
        const ASKED: u32 = 50;
        const PAUSE: Duration = Duration::from_millis(200);
        let ask = || {
            self.reconnect_if_lost()?;
            let prepared = self.prepare("SELECT pg_xact_status(CAST(?1 AS text)::xid8)")?;
            let rows = self.query(&prepared, &[id.to_string()])?;
            let Some(Value::Text(status)) = rows.first().and_then(|row| row.value(0)) else {
                return Ok(Some(false));
            };
            Ok::<_, Error>(match status.as_str() {
                "committed" => Some(true),
                "aborted" => Some(false),
                _ => None,
            })
        };
        let mut last = Error::Lost;
        for _ in 0..ASKED {
            match ask() {
                Ok(Some(committed)) => return Ok(committed),
                Ok(None) => {}
                Err(error) => last = error,
            }
            std::thread::sleep(PAUSE);
        }
        Err(last)
    }

    /// Prepares a statement, or takes it as it was prepared before.
    pub(crate) fn prepare(&self, sql: &str) -> Result<Arc<Prepared>> {
        self.with(|live| live.prepare(sql))
    }

    /// Runs a statement; returns the number of rows that it changed.
    pub(crate) fn execute(&self, prepared: &Prepared, params: &impl Params) -> Result<usize> {
        let values = cells(params, &prepared.names)?;
        let count = self.with(|live| {
            Ok(live.runtime()?.block_on(live.client.execute_raw(&prepared.statement, &values))?)
        })?;
        self.note(prepared, count);
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// Runs a statement; returns the rows that it finds.
    pub(crate) fn query(&self, prepared: &Prepared, params: &impl Params) -> Result<Vec<FoundRow>> {
        let values = cells(params, &prepared.names)?;
        let rows = self.with(|live| {
            let asked = async {
                use futures::TryStreamExt as _;
                let rows = live.client.query_raw(&prepared.statement, &values).await?;
                rows.try_collect::<Vec<_>>().await
            };
            Ok(live.runtime()?.block_on(asked)?)
        })?;
        self.note(prepared, rows.len() as u64);
        rows.iter()
            .map(|row| {
                let values = (0..row.len())
                    .map(|place| Ok(row.try_get::<_, Cell>(place)?.0))
                    .collect::<Result<_>>()?;
                Ok(FoundRow { columns: Arc::clone(&prepared.columns), values })
            })
            .collect()
    }

    /// Returns the number of rows that its statements changed.
    pub(crate) const fn changes(&self) -> u64 {
        self.changes.get()
    }

    fn note(&self, prepared: &Prepared, rows: u64) {
        if !prepared.writes {
            return;
        }
        self.changes.set(self.changes.get() + rows);
        if prepared.touches
            && let Some(touched) = &*self.touched.borrow()
        {
            touched();
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Live) -> Result<T>) -> Result<T> {
        let mut live = self.live.borrow_mut();
        work(live.as_mut().ok_or(Error::Lost)?)
    }
}

impl Live {
    fn connect(address: &Address) -> Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| Error::Runtime(source.to_string()))?;
        let client = runtime.block_on(address.connect())?;
        Ok(Self { runtime: Some(runtime), client, statements: HashMap::new() })
    }

    fn runtime(&self) -> Result<&Runtime> {
        self.runtime.as_ref().ok_or(Error::Lost)
    }

    fn batch(&self, sql: &str) -> Result<()> {
        Ok(self.runtime()?.block_on(self.client.batch_execute(sql))?)
    }

    fn prepare(&mut self, sql: &str) -> Result<Arc<Prepared>> {
        if let Some(prepared) = self.statements.get(sql) {
            return Ok(Arc::clone(prepared));
        }
        let Translated { text, names } = translate(sql);
        let statement = self
            .runtime()?
            .block_on(self.client.prepare(&text))
            .map_err(|source| Error::Prepare { text: text.clone(), source })?;
        let (writes, touches) = (written_by(&text).is_some(), touches(&text));
        let columns = statement.columns().iter().map(|it| it.name().into()).collect();
        let prepared = Arc::new(Prepared { statement, names, columns, writes, touches });
        self.statements.insert(sql.into(), Arc::clone(&prepared));
        Ok(prepared)
    }
}

fn cells(params: &impl Params, names: &[String]) -> Result<Vec<Cell>> {
    Ok(params.values(names)?.into_iter().map(Cell).collect())
}

/// Returns the table that a statement writes to; empty if it cannot be told, none if it only reads.
fn written_by(text: &str) -> Option<&str> {
    let mut words = text.split_whitespace();
    match words.next()? {
        "INSERT" | "DELETE" => words.nth(1),
        "UPDATE" => words.next(),
        // One that begins with a table of its own may write to any.
        "WITH" => {
            let writes = ["UPDATE ", "INSERT ", "DELETE "].iter().any(|word| text.contains(word));
            writes.then_some("")
        }
        _ => None,
    }
}

/// Reports whether a statement may write to a table of which rows are remembered.
fn touches(text: &str) -> bool {
    written_by(text).is_some_and(|table| table.is_empty() || REMEMBERED.contains(&table))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_statement_writes_is_read_from_its_text() {
        for (text, writes, touched) in [
            ("SELECT * FROM customers", false, false),
            ("INSERT INTO customers (id) VALUES ($1)", true, true),
            ("UPDATE subscriptions SET status = $1", true, true),
            ("UPDATE events SET data = $1", true, false),
            ("DELETE FROM licenses", true, true),
            ("INSERT INTO metering_records (id) VALUES ($1) RETURNING id", true, false),
            ("WITH old AS (SELECT 1) SELECT * FROM old", false, false),
            ("WITH old AS (SELECT 1) UPDATE events SET data = $1", true, true),
        ] {
            let read = (written_by(text).is_some(), touches(text));
            assert_eq!(read, (writes, touched), "{text}");
        }
    }
}
