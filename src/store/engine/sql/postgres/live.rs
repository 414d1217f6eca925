//! A connection to the server, and what is prepared on it.

use std::collections::HashMap;
use std::sync::Arc;

use futures::TryStreamExt as _;
use rusqlite::types::Value;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, Row, SimpleQueryMessage, Statement};

use super::super::error::{Error, Result};
use super::address::Address;
use super::pipeline::Pipeline;
use super::translate::{Translated, translate};
use super::value::Cell;

/// The tables of which the writer remembers rows between transactions.
const REMEMBERED: [&str; 5] =
    ["subscriptions", "licenses", "agreements", "customers", "customer_aliases"];

/// How statements are planned: as SQLite does, for which they are written. Each has the index that it needs, and most are
/// prepared while the server has no statistics of a table or takes it for empty: it would read all of it, and go on with
/// that as the table grows. A plan is made once. Compiling one costs more than it saves, and what makes other ways look
/// dear would have it done.
const PLANS: &str =
    "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
    SET jit = off; SET plan_cache_mode = force_generic_plan";

/// A connection, and what is prepared on it.
pub(super) struct Live {
    /// Its own: a request and its answer stay on the thread that waits for them. None once it is dropped.
    runtime: Option<Runtime>,
    pub(super) client: Arc<Client>,
    statements: HashMap<Box<str>, Arc<Prepared>>,
    /// Those that do for several rows what one does for one; none where there is no such statement.
    pub(super) several: HashMap<Box<str>, Option<Statement>>,
    pub(super) pipeline: Pipeline,
    /// The number of times that an answer was waited for.
    waited: u64,
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
    text: Box<str>,
    pub(super) names: Vec<String>,
    /// The names of the columns that it finds.
    columns: Arc<[Box<str>]>,
    /// The table that it changes, empty if it may be any; none if it only reads.
    written: Option<Box<str>>,
    /// Set if it may change rows of which something is remembered.
    pub(super) touches: bool,
}

impl Prepared {
    pub(super) const fn statement(&self) -> &Statement {
        &self.statement
    }

    /// Returns the table that it changes, empty if it may be any; none if it only reads.
    pub(super) fn written(&self) -> Option<&str> {
        self.written.as_deref()
    }

    /// Reports whether it changes rows that are there already.
    pub(super) fn changes_what_is_there(&self) -> bool {
        !self.text.starts_with("INSERT") || self.text.contains("DO UPDATE")
    }

    /// Returns the statement as the server knows it.
    pub(super) const fn text(&self) -> &str {
        &self.text
    }
}

/// A row that came from the server.
#[derive(Clone, Debug)]
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

/// Reads a row, but for so many columns in front that are not the statement's.
pub(super) fn found(prepared: &Prepared, row: &Row, from: usize) -> Result<FoundRow> {
    let values = (from..row.len()).map(|place| Ok(row.try_get::<_, Cell>(place)?.0));
    Ok(FoundRow { columns: Arc::clone(&prepared.columns), values: values.collect::<Result<_>>()? })
}

impl Live {
    pub(super) fn connect(address: &Address) -> Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| Error::Runtime(source.to_string()))?;
        let client = runtime.block_on(address.connect())?;
        runtime.block_on(client.batch_execute(PLANS))?;
        let (statements, several, pipeline) = Default::default();
        let client = Arc::new(client);
        Ok(Self { runtime: Some(runtime), client, statements, several, pipeline, waited: 0 })
    }

    pub(super) fn runtime(&self) -> Result<&Runtime> {
        self.runtime.as_ref().ok_or(Error::Lost)
    }

    /// Waits for an answer of the server.
    pub(super) fn wait<T>(&mut self, answer: impl Future<Output = T>) -> Result<T> {
        let runtime = self.runtime.as_ref().ok_or(Error::Lost)?;
        self.waited += 1;
        Ok(runtime.block_on(answer))
    }

    pub(super) fn simple(&mut self, sql: &str) -> Result<Vec<SimpleQueryMessage>> {
        let client = Arc::clone(&self.client);
        Ok(self.wait(client.simple_query(sql))??)
    }

    /// Runs statements without parameters.
    pub(super) fn batch(&mut self, sql: &str) -> Result<()> {
        self.pipeline.forget_all();
        self.send_next()?;
        let client = Arc::clone(&self.client);
        let ended = self.wait(client.batch_execute(sql))?;
        // A failure of what was posted is the reason for whatever this says: a transaction that cannot be committed ends
        // without a word.
        self.settle_sent()?;
        Ok(ended?)
    }

    /// Undoes a transaction, and what of it is under way.
    pub(super) fn rollback(&mut self) -> Result<()> {
        self.pipeline.forget_all();
        self.pipeline.drop_unsent();
        let client = Arc::clone(&self.client);
        let undone = self.wait(client.batch_execute("ROLLBACK"))?;
        // Whatever failed of it is undone with the rest.
        drop(self.settle_sent());
        Ok(undone?)
    }

    pub(super) fn query(&mut self, prepared: &Prepared, values: &[Cell]) -> Result<Vec<FoundRow>> {
        if let Some(answer) = self.answer(prepared, values)? {
            return Ok(Vec::clone(&answer));
        }
        self.pipeline.forget_what_changes(prepared);
        self.send_next()?;
        let client = Arc::clone(&self.client);
        let rows = self.wait(async {
            let rows = client.query_raw(&prepared.statement, values).await?;
            rows.try_collect::<Vec<_>>().await
        })?;
        self.settle_sent()?;
        rows?.iter().map(|row| found(prepared, row, 0)).collect()
    }

    pub(super) fn execute(&mut self, prepared: &Prepared, values: &[Cell]) -> Result<u64> {
        self.pipeline.forget_what_changes(prepared);
        self.send_next()?;
        let client = Arc::clone(&self.client);
        let count = self.wait(client.execute_raw(&prepared.statement, values))?;
        self.settle_sent()?;
        Ok(count?)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Returns the number of times that an answer was waited for.
    #[cfg(test)]
    pub(super) const fn waited(&self) -> u64 {
        self.waited
    }

    pub(super) fn prepare(&mut self, sql: &str) -> Result<Arc<Prepared>> {
        if let Some(prepared) = self.statements.get(sql) {
            return Ok(Arc::clone(prepared));
        }
        let Translated { text, names } = translate(sql);
        let client = Arc::clone(&self.client);
        let statement = self
            .wait(client.prepare(&text))?
            .map_err(|source| Error::Prepare { text: text.clone(), source })?;
        let (written, touches) = (written_by(&text).map(Into::into), touches(&text));
        let columns = statement.columns().iter().map(|it| it.name().into()).collect();
        let prepared =
            Arc::new(Prepared { statement, text: text.into(), names, columns, written, touches });
        self.statements.insert(sql.into(), Arc::clone(&prepared));
        Ok(prepared)
    }
}

/// Returns the table that a statement writes to; empty if it cannot be told, none if it only reads.
fn written_by(text: &str) -> Option<&str> {
    let mut words = text.split_whitespace();
    match words.next()? {
        "INSERT" | "DELETE" => words.nth(1),
        "UPDATE" => words.next(),
        // Whatever was read since may hold no longer.
        "ROLLBACK" => Some(""),
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
            ("ROLLBACK TO job", true, true),
            ("SAVEPOINT job", false, false),
            ("WITH old AS (SELECT 1) SELECT * FROM old", false, false),
            ("WITH old AS (SELECT 1) UPDATE events SET data = $1", true, true),
        ] {
            let read = (written_by(text).is_some(), touches(text));
            assert_eq!(read, (writes, touched), "{text}");
        }
    }
}
