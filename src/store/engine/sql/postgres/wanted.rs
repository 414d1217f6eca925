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
pub(super) enum Answer {
    Rows(Vec<FoundRow>),
    Count(u64),
}

impl Answer {
    /// Returns the number of rows that were found or changed.
    pub(super) const fn count(&self) -> u64 {
        match self {
            Self::Rows(rows) => rows.len() as u64,
            Self::Count(count) => *count,
        }
    }

    pub(super) fn into_rows(self) -> Result<Vec<FoundRow>> {
        match self {
            Self::Rows(rows) => Ok(rows),
            Self::Count(_) => Err(Error::Abandoned),
        }
    }

    pub(super) fn into_count(self) -> Result<u64> {
        match self {
            Self::Count(count) => Ok(count),
            Self::Rows(_) => Err(Error::Abandoned),
        }
    }
}

/// What a statement that writes has found, or the number of rows that it changed.
enum Written {
    Rows(Vec<Row>),
    Count(u64),
}

impl Pipeline {
    /// Returns the answer to what is wanted, if it is here.
    pub(super) fn known(&self, wanted: &Wanted) -> Option<Vec<FoundRow>> {
        let of = self.answers.get(wanted.prepared.text()).filter(|_| wanted.only_reads())?;
        of.get(&key_of(&wanted.values)).map(|rows| Vec::clone(rows))
    }

    /// Sends statements together, those that write first; returns the answers in their order.
    pub(super) fn want_all(&mut self, wire: &mut Wire, all: Vec<Wanted>) -> Result<Vec<Answer>> {
        let (mut writes, mut wanted) = (Vec::new(), Vec::with_capacity(all.len()));
        for Wanted { prepared, values, counts } in all {
            if !counts && prepared.written().is_none() {
                wanted.push((prepared, Some((key_of(&values), values))));
                continue;
            }
            self.forget_what_changes(&prepared);
            let (client, statement) = (wire.client(), prepared.statement().clone());
            writes.push(async move {
                Answered::Ok(if counts {
                    Written::Count(client.execute_raw(&statement, &values).await?)
                } else {
                    let rows = client.query_raw(&statement, &values).await?;
                    Written::Rows(rows.try_collect().await?)
                })
            });
            wanted.push((prepared, None));
        }
        for (prepared, asked) in &mut wanted {
            if let Some((_, values)) = asked {
                self.ask(prepared, std::mem::take(values));
            }
        }
        self.send_next(wire)?;
        let mut written = self.ask_all_behind(wire, try_join_all(writes))?.into_iter();
        let answer = |(prepared, asked): (Arc<Prepared>, Option<(Vec<u8>, _)>)| {
            if let Some((key, _)) = asked {
                let rows = self.answers.get(prepared.text()).and_then(|of| of.get(&key));
                return rows.map(|rows| Answer::Rows(Vec::clone(rows))).ok_or(Error::Abandoned);
            }
            Ok(match written.next().ok_or(Error::Abandoned)? {
                Written::Count(changed) => Answer::Count(changed),
                Written::Rows(rows) => {
                    let rows = rows.iter().map(|row| found(&prepared, row, 0));
                    Answer::Rows(rows.collect::<Result<_>>()?)
                }
            })
        };
        let answers = wanted.into_iter().map(answer).collect();
        // No statement says that it changes these.
        let is_told = |text: &str| !WRITTEN_BY_TRIGGERS.iter().any(|table| text.contains(table));
        self.answers.retain(|text, _| is_told(text));
        answers
    }
}
