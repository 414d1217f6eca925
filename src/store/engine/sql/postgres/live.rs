//! A connection to the server with what is prepared on it and under way.

use std::collections::HashMap;
use std::sync::Arc;

use futures::TryStreamExt as _;
use tokio_postgres::SimpleQueryMessage;

use super::super::error::{Error, Result};
use super::address::Address;
use super::pipeline::Pipeline;
use super::prepared::{FoundRow, Prepared, found};
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
    pub(super) fn connect(address: &Address) -> Result<Self> {
        let (statements, pipeline) = Default::default();
        Ok(Self { wire: Wire::connect(address)?, statements, pipeline })
    }

    pub(super) fn simple(&mut self, sql: &str) -> Result<Vec<SimpleQueryMessage>> {
        let client = self.wire.client();
        Ok(self.wire.wait(client.simple_query(sql))??)
    }

    /// Runs statements without parameters.
    pub(super) fn batch(&mut self, sql: &str) -> Result<()> {
        self.pipeline.forget_all();
        self.pipeline.send_next(&mut self.wire)?;
        let client = self.wire.client();
        let ended = self.wire.wait(client.batch_execute(sql))?;
        // A failure of what was posted is the reason for whatever this says: a transaction that cannot be committed ends
        // without a word.
        self.pipeline.settle_sent(&mut self.wire)?;
        Ok(ended?)
    }

    /// Undoes a transaction, and what of it is under way.
    pub(super) fn rollback(&mut self) -> Result<()> {
        self.pipeline.forget_all();
        self.pipeline.drop_unsent();
        let client = self.wire.client();
        let undone = self.wire.wait(client.batch_execute("ROLLBACK"))?;
        // Whatever failed of it is undone with the rest.
        drop(self.pipeline.settle_sent(&mut self.wire));
        Ok(undone?)
    }

    pub(super) fn query(&mut self, prepared: &Prepared, values: &[Cell]) -> Result<Vec<FoundRow>> {
        if let Some(answer) = self.pipeline.answer(&mut self.wire, prepared, values)? {
            return Ok(Vec::clone(&answer));
        }
        self.pipeline.forget_what_changes(prepared);
        self.pipeline.send_next(&mut self.wire)?;
        let client = self.wire.client();
        let rows = self.wire.wait(async {
            let rows = client.query_raw(prepared.statement(), values).await?;
            rows.try_collect::<Vec<_>>().await
        })?;
        self.pipeline.settle_sent(&mut self.wire)?;
        rows?.iter().map(|row| found(prepared, row, 0)).collect()
    }

    pub(super) fn execute(&mut self, prepared: &Prepared, values: &[Cell]) -> Result<u64> {
        self.pipeline.forget_what_changes(prepared);
        self.pipeline.send_next(&mut self.wire)?;
        let client = self.wire.client();
        let count = self.wire.wait(client.execute_raw(prepared.statement(), values))?;
        self.pipeline.settle_sent(&mut self.wire)?;
        Ok(count?)
    }

    pub(super) fn prepare(&mut self, sql: &str) -> Result<Arc<Prepared>> {
        if let Some(prepared) = self.statements.get(sql) {
            return Ok(Arc::clone(prepared));
        }
        let Translated { text, names } = translate(sql);
        let client = self.wire.client();
        let statement = self
            .wire
            .wait(client.prepare(&text))?
            .map_err(|source| Error::Prepare { text: text.clone(), source })?;
        let prepared = Arc::new(Prepared::new(statement, text, names));
        self.statements.insert(sql.into(), Arc::clone(&prepared));
        Ok(prepared)
    }
}
