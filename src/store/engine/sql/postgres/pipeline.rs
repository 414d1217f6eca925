//! Statements that are not waited for one by one.
//!
//! A round trip to a server costs more than most statements. What a transaction writes need not be waited for before the
//! next statement is sent, and what it is going to read can be asked for ahead, many questions at a time. The server
//! answers in the order in which it was asked.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use bytes::BytesMut;
use futures::TryStreamExt as _;
use futures::future::{try_join, try_join_all};
use rusqlite::types::Value;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Row, Statement};

use super::super::error::{Error, Result};
use super::prepared::{FoundRow, Prepared, found};
use super::several::for_several;
use super::value::{Cell, Failure};
use super::wire::{Answered, Wire};

/// The most rows of parameters that are sent as one statement: the server works on these while more are made.
const ROWS_TOGETHER: usize = 250;

/// The statements that are under way on a connection, or about to be.
#[derive(Default)]
pub(super) struct Pipeline {
    /// The rows that the next statement writes.
    next: Option<NextRows>,
    /// The number of rows that what was posted has changed, as far as it was waited for.
    changed: u64,
    /// Questions that are to be asked.
    questions: HashMap<Box<str>, Questions>,
    /// Statements that do for several rows what one does for one; none where there is no such statement.
    several: HashMap<Box<str>, Option<Statement>>,
    /// Answers, by the statement and what it was asked for.
    pub(super) answers: HashMap<Box<str>, Answers>,
    /// The failure of something that nobody waited for.
    failed: Option<Error>,
}

/// What a statement is to be asked for, by the bytes of its parameters.
struct Questions {
    prepared: Arc<Prepared>,
    asked: HashMap<Vec<u8>, Vec<Cell>>,
}

/// The rows that a statement found, by the bytes of its parameters.
pub(super) type Answers = HashMap<Vec<u8>, Arc<Vec<FoundRow>>>;

/// Rows of parameters for the same statement.
struct NextRows {
    prepared: Arc<Prepared>,
    changes: RowChanges,
    rows: Vec<Vec<Cell>>,
}

/// A statement that is about to be sent.
struct Sent {
    statement: Statement,
    /// The number of rows of parameters that it is for.
    rows: usize,
    values: Vec<Given>,
}

/// A parameter of a statement: of one row, or of each of several.
#[derive(Debug)]
enum Given {
    One(Cell),
    Each(Vec<Cell>),
}

impl ToSql for Given {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> std::result::Result<IsNull, Failure> {
        match self {
            Self::One(value) => value.to_sql(kind, out),
            Self::Each(values) => values.to_sql(kind, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// The number of rows that a statement changes for each row of parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowChanges {
    /// Any.
    Any,
    /// One, and no two of them the same.
    OneEach,
}

/// The tables that triggers write to: no statement says that it changes them.
pub(super) const WRITTEN_BY_TRIGGERS: [&str; 2] = ["metering_totals", "marketd_notes"];

impl Pipeline {
    /// Forgets the answers that a statement makes old.
    pub(super) fn forget_what_changes(&mut self, prepared: &Prepared) {
        if let Some(table) = prepared.written()
            && !self.answers.is_empty()
        {
            self.answers.retain(|text, _| !table.is_empty() && !text.contains(table));
        }
    }

    /// Forgets all questions and answers.
    pub(super) fn forget_all(&mut self) {
        self.questions.clear();
        self.answers.clear();
    }

    /// Returns the number of rows that were changed by what was posted and waited for.
    pub(super) const fn changed(&self) -> u64 {
        self.changed
    }

    /// Has the next that is waited for fail, if nothing before it does.
    pub(super) fn fail(&mut self, error: Error) {
        self.failed.get_or_insert(error);
    }

    /// Reports whether something that was posted was not waited for.
    pub(super) fn is_open(&self, wire: &Wire) -> bool {
        self.failed.is_some() || self.next.is_some() || wire.has_posted()
    }

    /// Has a statement that writes sent before the next that is waited for. Rows that change one row each go together, and
    /// those that are only added.
    pub(super) fn post(
        &mut self,
        wire: &mut Wire,
        prepared: &Arc<Prepared>,
        values: Vec<Cell>,
        changes: RowChanges,
    ) -> Result<()> {
        self.forget_what_changes(prepared);
        if let Some(next) = &mut self.next
            && Arc::ptr_eq(&next.prepared, prepared)
            && next.changes == changes
        {
            next.rows.push(values);
            let is_full = next.rows.len() == ROWS_TOGETHER;
            return if is_full { self.send_next(wire) } else { Ok(()) };
        }
        self.send_next(wire)?;
        let (prepared, rows) = (Arc::clone(prepared), vec![values]);
        self.next = Some(NextRows { prepared, changes, rows });
        Ok(())
    }

    /// Sends what is to be written next.
    fn send_next(&mut self, wire: &mut Wire) -> Result<()> {
        let Some(NextRows { prepared, changes, rows }) = self.next.take() else {
            return Ok(());
        };
        // Of several that change one row, one statement would change it once.
        let statements = if changes == RowChanges::OneEach || prepared.only_adds() {
            self.together(wire, &prepared, rows)?
        } else {
            rows.into_iter().map(|row| one_by_one(&prepared, row)).collect()
        };
        for Sent { statement, rows, values } in statements {
            let expected = (changes == RowChanges::OneEach).then_some(rows as u64);
            let client = wire.client();
            wire.post(expected, async move { client.execute_raw(&statement, &values).await })?;
        }
        // The server works while more is made.
        wire.run(tokio::task::yield_now())
    }

    /// Makes one statement of rows of parameters, or one for each where it cannot be said so; each has the number of its
    /// rows.
    fn together(
        &mut self,
        wire: &mut Wire,
        prepared: &Arc<Prepared>,
        rows: Vec<Vec<Cell>>,
    ) -> Result<Vec<Sent>> {
        let several = if rows.len() == 1 { None } else { self.several(wire, prepared)? };
        let Some(statement) = several else {
            return Ok(rows.into_iter().map(|row| one_by_one(prepared, row)).collect());
        };
        let (count, width) = (rows.len(), prepared.statement().params().len());
        let mut columns: Vec<Vec<Cell>> = (0..width).map(|_| Vec::with_capacity(count)).collect();
        for row in rows {
            for (column, value) in columns.iter_mut().zip(row) {
                column.push(value);
            }
        }
        let values = columns.into_iter().map(Given::Each).collect();
        Ok(vec![Sent { statement, rows: count, values }])
    }

    /// Prepares the statement that does for several rows what one does for one; none where it cannot be said so.
    fn several(&mut self, wire: &mut Wire, prepared: &Prepared) -> Result<Option<Statement>> {
        if let Some(known) = self.several.get(prepared.text()) {
            return Ok(known.clone());
        }
        let types: Vec<&str> = prepared.statement().params().iter().map(Type::name).collect();
        let several = match for_several(prepared.text(), &types) {
            Some(text) => Some(wire.prepare(&text)?),
            None => None,
        };
        self.several.insert(prepared.text().into(), several.clone());
        Ok(several)
    }

    /// Notes a question that is asked together with others as soon as one of the answers is wanted.
    pub(super) fn ask(&mut self, prepared: &Arc<Prepared>, values: Vec<Cell>) {
        let (text, key) = (prepared.text(), key_of(&values));
        if self.answers.get(text).is_some_and(|of| of.contains_key(&key)) {
            return;
        }
        if !self.questions.contains_key(text) {
            let none = Questions { prepared: Arc::clone(prepared), asked: HashMap::new() };
            self.questions.insert(text.into(), none);
        }
        if let Some(of) = self.questions.get_mut(text) {
            of.asked.insert(key, values);
        }
    }

    /// Returns the answer to a question that was asked ahead; none if it was not.
    pub(super) fn answer(
        &mut self,
        wire: &mut Wire,
        prepared: &Prepared,
        values: &[Cell],
    ) -> Result<Option<Arc<Vec<FoundRow>>>> {
        let text = prepared.text();
        if !self.questions.contains_key(text) && !self.answers.contains_key(text) {
            return Ok(None);
        }
        let key = key_of(values);
        if self.questions.get(text).is_some_and(|of| of.asked.contains_key(&key)) {
            self.ask_all(wire)?;
        }
        Ok(self.answers.get(text).and_then(|of| of.get(&key)).map(Arc::clone))
    }

    /// Asks all questions that were noted, and waits for the answers.
    pub(super) fn ask_all(&mut self, wire: &mut Wire) -> Result<()> {
        self.ask_all_behind(wire, async { Ok(()) })
    }

    /// Asks all questions that were noted behind something else that is sent first, and waits for the answers to both.
    pub(super) fn ask_all_behind<T>(
        &mut self,
        wire: &mut Wire,
        first: impl Future<Output = Answered<T>>,
    ) -> Result<T> {
        let (mut asked, mut kept) = (Vec::new(), Vec::new());
        for (text, of) in mem::take(&mut self.questions) {
            let Questions { prepared, asked: questions } = of;
            let (keys, rows): (Vec<_>, Vec<_>) = questions.into_iter().unzip();
            let mut keys = keys.into_iter();
            for Sent { statement, rows, values } in self.together(wire, &prepared, rows)? {
                let keys: Vec<Vec<u8>> = keys.by_ref().take(rows).collect();
                let client = wire.client();
                asked.push(async move {
                    let rows = client.query_raw(&statement, &values).await?;
                    rows.try_collect::<Vec<Row>>().await
                });
                kept.push((text.clone(), Arc::clone(&prepared), keys));
            }
        }
        let (first, answers) = self.wait(wire, try_join(first, try_join_all(asked)))?;
        for ((text, prepared, keys), rows) in kept.into_iter().zip(answers) {
            let known = self.answers.entry(text).or_default();
            keep(known, &prepared, keys, &rows)?;
        }
        Ok(first)
    }

    /// Undoes a transaction, and what of it is under way or was to be sent.
    pub(super) fn rollback(&mut self, wire: &mut Wire) -> Result<()> {
        self.forget_all();
        self.next = None;
        self.failed = None;
        let client = wire.client();
        let undone = wire.wait(client.batch_execute("ROLLBACK"))?;
        // Whatever failed of it is undone with the rest.
        drop(self.settle_posted(wire));
        Ok(undone?)
    }

    /// Waits for what was posted, and for what was asked ahead with it; returns the first failure.
    pub(super) fn settle(&mut self, wire: &mut Wire) -> Result<()> {
        if !self.questions.is_empty() {
            return self.ask_all(wire);
        }
        self.send_next(wire)?;
        self.settle_posted(wire)
    }

    /// Waits for an answer behind all that was posted. What failed of that is the reason for whatever failed here, and a
    /// transaction that cannot be committed ends without a word.
    pub(super) fn wait<T>(
        &mut self,
        wire: &mut Wire,
        answer: impl Future<Output = Answered<T>>,
    ) -> Result<T> {
        self.send_next(wire)?;
        let answer = wire.wait(answer)?;
        self.settle_posted(wire)?;
        Ok(answer?)
    }

    /// Waits for what was posted; returns the first failure.
    fn settle_posted(&mut self, wire: &mut Wire) -> Result<()> {
        let outcome = wire.settle()?;
        self.changed += outcome.changed;
        outcome.failure.or(self.failed.take()).map_or(Ok(()), Err)
    }

    /// Runs a statement that returns a row for each of these rows of parameters; returns them in this order.
    pub(super) fn query_each(
        &mut self,
        wire: &mut Wire,
        prepared: &Arc<Prepared>,
        all: Vec<Vec<Cell>>,
    ) -> Result<Vec<FoundRow>> {
        self.forget_what_changes(prepared);
        let one = |values: Vec<Cell>| {
            let (client, prepared) = (wire.client(), Arc::clone(prepared));
            async move { client.query_one(prepared.statement(), &refer(&values)).await }
        };
        let asked: Vec<_> = all.into_iter().map(one).collect();
        let rows = self.wait(wire, try_join_all(asked))?;
        rows.iter().map(|row| found(prepared, row, 0)).collect()
    }
}

fn refer(values: &[Cell]) -> Vec<&(dyn tokio_postgres::types::ToSql + Sync)> {
    values.iter().map(|value| value as _).collect()
}

/// Returns the statement for one row of parameters.
fn one_by_one(prepared: &Prepared, row: Vec<Cell>) -> Sent {
    let values = row.into_iter().map(Given::One).collect();
    Sent { statement: prepared.statement().clone(), rows: 1, values }
}

/// Keeps the rows that a statement found: those of several questions have the number of theirs in front.
fn keep(known: &mut Answers, prepared: &Prepared, keys: Vec<Vec<u8>>, rows: &[Row]) -> Result<()> {
    if let [key] = &*keys {
        let rows = rows.iter().map(|row| found(prepared, row, 0)).collect::<Result<_>>()?;
        known.insert(key.clone(), Arc::new(rows));
        return Ok(());
    }
    let mut of_each: Vec<Vec<FoundRow>> = keys.iter().map(|_| Vec::new()).collect();
    for row in rows {
        let number: i64 = row.try_get(0)?;
        if let Some(of) = usize::try_from(number - 1).ok().and_then(|at| of_each.get_mut(at)) {
            of.push(found(prepared, row, 1)?);
        }
    }
    known.extend(keys.into_iter().zip(of_each.into_iter().map(Arc::new)));
    Ok(())
}

/// Returns values as bytes that no other values have.
pub(super) fn key_of(values: &[Cell]) -> Vec<u8> {
    let mut key = Vec::new();
    let mut put = |kind: u8, bytes: &[u8]| {
        key.push(kind);
        key.extend_from_slice(&bytes.len().to_be_bytes());
        key.extend_from_slice(bytes);
    };
    for Cell(value) in values {
        match value {
            Value::Null => put(0, &[]),
            Value::Integer(number) => put(1, &number.to_be_bytes()),
            Value::Real(number) => put(2, &number.to_be_bytes()),
            Value::Text(text) => put(3, text.as_bytes()),
            Value::Blob(bytes) => put(4, bytes),
        }
    }
    key
}
