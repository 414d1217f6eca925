//! Statements of several pieces of work, sent together.

use std::sync::Arc;

use futures::TryStreamExt as _;
use futures::future::try_join_all;
use tokio_postgres::Row;

use super::super::error::{Error, Result};
use super::pipeline::{Pipeline, WRITTEN_BY_TRIGGERS, key_of};
use super::prepared::{FoundRow, Prepared, found};
use super::value::Cell;
use super::wire::{Answered, Wire};

/// A statement of which the answer is waited for.
pub(super) struct Wanted {
    prepared: Arc<Prepared>,
    values: Vec<Cell>,
    /// Whether the number of rows that it changes is wanted, not the rows that it finds.
    counts: bool,
}

impl Wanted {
    /// Wants the rows that a statement finds.
    pub(super) fn rows(prepared: &Arc<Prepared>, values: Vec<Cell>) -> Self {
        Self { prepared: Arc::clone(prepared), values, counts: false }
    }

    /// Wants the number of rows that a statement changes.
    pub(super) fn count(prepared: &Arc<Prepared>, values: Vec<Cell>) -> Self {
        Self { prepared: Arc::clone(prepared), values, counts: true }
    }

    pub(super) const fn prepared(&self) -> &Arc<Prepared> {
        &self.prepared
    }

    /// Reports whether it only asks.
    fn only_reads(&self) -> bool {
        !self.counts && self.prepared.written().is_none()
    }
}

/// The answer to a statement.
pub(super) struct Answer {
    /// The rows that it has found; none where only their number was wanted.
    pub(super) rows: Vec<FoundRow>,
    /// The number of rows that were found or changed.
    pub(super) count: u64,
}

impl Answer {
    /// Makes the answer of the rows that were found.
    pub(super) const fn of(rows: Vec<FoundRow>) -> Self {
        let count = rows.len() as u64;
        Self { rows, count }
    }
}

impl Pipeline {
    /// Returns the answer to what is wanted, if it is here.
    pub(super) fn known(&self, wanted: &Wanted) -> Option<Answer> {
        let of = self.answers.get(wanted.prepared.text()).filter(|_| wanted.only_reads())?;
        of.get(&key_of(&wanted.values)).map(|rows| Answer::of(Vec::clone(rows)))
    }

    /// Sends statements together, those that write first; returns the answers in their order.
    pub(super) fn want_all(&mut self, wire: &mut Wire, all: Vec<Wanted>) -> Result<Vec<Answer>> {
        let (mut writes, mut wanted) = (Vec::new(), Vec::with_capacity(all.len()));
        for it in all {
            let only_reads = it.only_reads();
            let Wanted { prepared, values, counts } = it;
            if only_reads {
                let key = key_of(&values);
                self.ask(&prepared, values);
                wanted.push((prepared, Some(key)));
                continue;
            }
            self.forget_what_changes(&prepared);
            let (client, statement) = (wire.client(), prepared.statement().clone());
            writes.push(async move {
                if counts {
                    let changed = client.execute_raw(&statement, &values).await?;
                    return Answered::Ok((Vec::new(), changed));
                }
                let rows = client.query_raw(&statement, &values).await?;
                let rows: Vec<Row> = rows.try_collect().await?;
                let count = rows.len() as u64;
                Ok((rows, count))
            });
            wanted.push((prepared, None));
        }
        let mut written = self.ask_all_behind(wire, try_join_all(writes))?.into_iter();
        let answer = |(prepared, asked): (Arc<Prepared>, Option<Vec<u8>>)| {
            if let Some(key) = asked {
                let rows = self.answers.get(prepared.text()).and_then(|of| of.get(&key));
                return rows.map(|rows| Answer::of(Vec::clone(rows))).ok_or(Error::Abandoned);
            }
            let (rows, count) = written.next().ok_or(Error::Abandoned)?;
            let rows = rows.iter().map(|row| found(&prepared, row, 0));
            Ok(Answer { rows: rows.collect::<Result<_>>()?, count })
        };
        let answers = wanted.into_iter().map(answer).collect();
        // No statement says that it changes these.
        let is_told = |text: &str| !WRITTEN_BY_TRIGGERS.iter().any(|table| text.contains(table));
        self.answers.retain(|text, _| is_told(text));
        answers
    }
}
