//! A connection to the server with what is prepared on it and under way.

use std::collections::HashMap;
use std::sync::Arc;

use futures::TryStreamExt as _;
use tokio_postgres::{SimpleQueryMessage, Statement};

use super::super::error::Result;
use super::address::Address;
use super::patience::Patience;
use super::pipeline::Pipeline;
use super::prepared::{FoundRow, Prepared, by_name, found};
use super::translate::{Translated, translate};
use super::value::Cell;
use super::wire::Wire;

/// A connection, and what is prepared on it.
pub(super) struct Live {
    pub(super) wire: Wire,
    statements: HashMap<Box<str>, Arc<Prepared>>,
    pub(super) pipeline: Pipeline,
}

impl Live {
    pub(super) fn connect(address: &Address, patience: Patience) -> Result<Self> {
        let (statements, pipeline) = Default::default();
        Ok(Self { wire: Wire::connect(address, patience)?, statements, pipeline })
    }

    pub(super) fn simple(&mut self, sql: &str) -> Result<Vec<SimpleQueryMessage>> {
        let client = self.wire.client();
        Ok(self.wire.wait(client.simple_query(sql))??)
    }

    /// Does the same, and asks what was noted to be asked behind it.
    pub(super) fn simple_before_questions(&mut self, sql: &str) -> Result<Vec<SimpleQueryMessage>> {
        let client = self.wire.client();
        self.pipeline.ask_all_behind(&mut self.wire, client.simple_query(sql))
    }

    /// Runs statements without parameters.
    pub(super) fn batch(&mut self, sql: &str) -> Result<()> {
        self.pipeline.forget_all();
        let client = self.wire.client();
        self.pipeline.wait(&mut self.wire, client.batch_execute(sql))
    }

    pub(super) fn query(&mut self, prepared: &Prepared, values: &[Cell]) -> Result<Vec<FoundRow>> {
        if let Some(answer) = self.pipeline.answer(&mut self.wire, prepared, values)? {
            return Ok(Vec::clone(&answer));
        }
        self.pipeline.forget_what_changes(prepared);
        let client = self.wire.client();
        let asked = async {
            let rows = client.query_raw(prepared.statement(), values).await?;
            rows.try_collect::<Vec<_>>().await
        };
        let rows = self.pipeline.wait(&mut self.wire, asked)?;
        rows.iter().map(|row| found(prepared, row, 0)).collect()
    }

    pub(super) fn execute(&mut self, prepared: &Prepared, values: &[Cell]) -> Result<u64> {
        self.pipeline.forget_what_changes(prepared);
        let client = self.wire.client();
        self.pipeline.wait(&mut self.wire, client.execute_raw(prepared.statement(), values))
    }

    pub(super) fn prepare(&mut self, sql: &str) -> Result<Arc<Prepared>> {
        if let Some(prepared) = self.statements.get(sql) {
            return Ok(Arc::clone(prepared));
        }
        let Translated { text, names } = translate(sql);
        let statement = self.prepare_text(&text)?;
        let (statement, text) = match by_name(&text, &statement) {
            Some(text) => (self.prepare_text(&text)?, text),
            None => (statement, text),
        };
        let prepared = Arc::new(Prepared::new(statement, text, names));
        self.statements.insert(sql.into(), Arc::clone(&prepared));
        Ok(prepared)
    }

    fn prepare_text(&mut self, text: &str) -> Result<Statement> {
        self.wire.prepare(text)
    }
}
