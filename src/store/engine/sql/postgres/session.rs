//! A session with the server, used by one thread at a time.

use std::cell::{Cell as Flag, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::SimpleQueryMessage;

use super::super::error::{Error, ErrorKind, Result};
use super::super::params::Params;
use super::address::Address;
use super::live::Live;
use super::patience::Patience;
pub(crate) use super::pipeline::RowChanges;
pub(crate) use super::prepared::{FoundRow, Prepared};
use super::value::Cell;
use super::wanted::{Answer, Wanted};

/// Begins a transaction and takes its turn, by the number of it.
const TURN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; UPDATE turns SET n = n + 1 RETURNING n";
/// Waits until no transaction has the turn: until then, one that was sent may still be committed. It writes, so that its own
/// commit waits for a standby that has to have all that was committed before.
const NO_TURN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; UPDATE turns SET n = n";
/// Finds the word that a turn has left. By its number alone it might be another's: the number of one that came to nothing is
/// given again. So is the number by which the server itself knows a transaction, after a crash, and it then says of the one
/// that was lost what came of the other (`pg_xact_status`).
const COMMITTED: &str = "SELECT 1 FROM turn_changes WHERE turn = ?1 AND token = ?2";

/// A turn to write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    /// Its number.
    pub(crate) number: i64,
    /// What tells it from every other with its number.
    pub(crate) token: i64,
    /// Whether it leaves word with its commit, by which it is known afterwards.
    leaves_word: bool,
    /// Whether its word names no customer.
    pub(crate) names_nobody: bool,
}

/// A session, connected anew where it was lost.
pub(crate) struct Session {
    address: Arc<Address>,
    live: RefCell<Option<Live>>,
    /// Run on each connection before anything else.
    at_first: Flag<&'static str>,
    patience: Flag<Patience>,
    changes: Flag<u64>,
    /// The number of times that it was connected anew.
    number: Flag<u64>,
    /// The turn of the present or last transaction that may write.
    turn: Flag<Option<Turn>>,
    /// Called when a statement may have changed a row that is remembered.
    touched: RefCell<Option<Box<dyn Fn() + Send>>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Session {
    /// Connects to the server.
    pub(crate) fn connect(address: Arc<Address>, patience: Patience) -> Result<Self> {
        let live = RefCell::new(Some(Live::connect(&address, patience)?));
        let patience = Flag::new(patience);
        let (at_first, changes, number, turn, touched) = Default::default();
        Ok(Self { address, live, at_first, patience, changes, number, turn, touched })
    }

    /// Has answers waited for longer, or less long, from now on. Not within a transaction.
    pub(crate) fn be_patient(&self, patience: Patience) -> Result<()> {
        self.patience.set(patience);
        self.with(|live| {
            live.wire.patience = patience;
            live.batch(&patience.told())
        })
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
        // It was let in before, so whatever the reason is it may pass.
        let anew = |error| Error::ConnectAnew(Box::new(error));
        let mut live = Live::connect(&self.address, self.patience.get()).map_err(anew)?;
        live.batch(self.at_first.get()).map_err(anew)?;
        *self.live.borrow_mut() = Some(live);
        self.number.set(self.number.get() + 1);
        Ok(())
    }

    /// Returns the number of times that it was connected anew.
    pub(crate) const fn number(&self) -> u64 {
        self.number.get()
    }

    /// Returns the answer to what is wanted, if it was asked for ahead.
    pub(super) fn known(&self, wanted: &Wanted) -> Option<Answer> {
        self.live.borrow().as_ref().and_then(|live| live.pipeline.known(wanted))
    }

    /// Has the next that is waited for fail, if nothing before it does.
    pub(super) fn fail(&self, error: Error) {
        if let Some(live) = self.live.borrow_mut().as_mut() {
            live.pipeline.fail(error);
        }
    }

    /// Sends statements together, and waits for all answers.
    pub(super) fn want_all(&self, all: Vec<Wanted>) -> Result<Vec<Answer>> {
        let prepared: Vec<_> = all.iter().map(|it| Arc::clone(it.prepared())).collect();
        let answers = self.with(|live| live.pipeline.want_all(&mut live.wire, all))?;
        for (prepared, answer) in prepared.iter().zip(&answers) {
            self.note(prepared, answer.count);
        }
        Ok(answers)
    }

    /// Runs statements without parameters.
    pub(crate) fn batch(&self, sql: &str) -> Result<()> {
        self.with(|live| live.batch(sql))
    }

    /// Undoes a transaction, and what of it is under way.
    pub(crate) fn rollback(&self) -> Result<()> {
        self.with(|live| live.pipeline.rollback(&mut live.wire))
    }

    /// Begins a transaction once it is its turn: the row of turns is locked before the first look at the data, and a
    /// statement sees what was committed by the time that it begins. What was asked ahead comes with it.
    pub(crate) fn begin_turn(&self) -> Result<()> {
        self.turn.set(None);
        self.reconnect_if_lost()?;
        let begun = self.with(|live| live.simple_before_questions(TURN));
        if begun.is_err() && self.rollback().is_err() {
            // Whatever state it is in, it is left.
            *self.live.borrow_mut() = None;
        }
        let messages = begun?;
        let row = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let number = row.and_then(|row| row.get(0)).and_then(|text| text.parse().ok());
        let turn = |number| Turn {
            number,
            token: fastrand::i64(..),
            leaves_word: false,
            names_nobody: false,
        };
        self.turn.set(number.map(turn));
        // Without a number nothing is locked either.
        if self.turn().is_none() {
            self.rollback()?;
            return Err(Error::NoTurn);
        }
        Ok(())
    }

    /// Returns the server's process that answers at the moment, which behind a pool may be another each time.
    pub(crate) fn server_process(&self) -> Result<Option<String>> {
        let ask = "SELECT pg_backend_pid()";
        let messages = self.with(|live| live.simple(ask))?;
        Ok(messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        }))
    }

    /// Returns the turn of the present or last transaction that may write.
    pub(crate) const fn turn(&self) -> Option<Turn> {
        self.turn.get()
    }

    /// Has the word of the present turn name no customer.
    pub(crate) fn names_nobody(&self) {
        self.turn.set(self.turn.get().map(|turn| Turn { names_nobody: true, ..turn }));
    }

    /// Notes that the present turn leaves word with its commit.
    pub(crate) fn leaves_word(&self) {
        self.turn.set(self.turn.get().map(|turn| Turn { leaves_word: true, ..turn }));
    }

    /// Commits. Where the answer is lost, the server is asked what came of it.
    pub(crate) fn commit(&self) -> Result<()> {
        let turn = self.turn.get().filter(|turn| turn.leaves_word);
        match self.batch("COMMIT") {
            Err(error) if is_unknown(&error) => match turn.map(|turn| self.was_committed(turn)) {
                Some(Ok(true)) => Ok(()),
                Some(Err(unknown)) => {
                    tracing::error!(
                        error = %unknown,
                        "the answer to a COMMIT was lost, and the server does not say what came of it"
                    );
                    Err(error)
                }
                Some(Ok(false)) | None => Err(error),
            },
            ended => ended,
        }
    }

    fn is_lost(&self) -> bool {
        self.live.borrow().as_ref().is_none_or(|live| live.wire.is_closed())
    }

    /// Reports whether a turn was committed, once the server can be reached again.
    fn was_committed(&self, turn: Turn) -> Result<bool> {
        const ASKED: u32 = 50;
        /// For each of them may have to wait until somebody is taken for gone.
        const WITHIN: Duration = Duration::from_secs(60);
        const PAUSE: Duration = Duration::from_millis(200);
        let ask = || {
            self.reconnect_if_lost()?;
            self.batch(NO_TURN)?;
            let prepared = self.prepare(COMMITTED)?;
            let is_there = !self.query(&prepared, &(turn.number, turn.token))?.is_empty();
            self.batch("COMMIT")?;
            Ok(is_there)
        };
        let (mut last, begun) = (Error::Lost, Instant::now());
        for _ in 0..ASKED {
            if begun.elapsed() > WITHIN {
                break;
            }
            let answer = ask();
            match answer {
                Ok(committed) => return Ok(committed),
                Err(error) => last = error,
            }
            // What cannot be undone is lost, and connected anew.
            drop(self.rollback());
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
        let count = self.with(|live| live.execute(prepared, &values))?;
        self.note(prepared, count);
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// Has a statement that writes sent before the next that is waited for, and does not wait for it. A failure comes out
    /// of the next that is waited for.
    pub(crate) fn post(
        &self,
        prepared: &Arc<Prepared>,
        params: &impl Params,
        changes: RowChanges,
    ) -> Result<()> {
        self.post_cells(prepared, cells(params, &prepared.names)?, changes)
    }

    pub(super) fn post_cells(
        &self,
        prepared: &Arc<Prepared>,
        values: Vec<Cell>,
        changes: RowChanges,
    ) -> Result<()> {
        self.with(|live| live.pipeline.post(&mut live.wire, prepared, values, changes))?;
        self.note(prepared, 0);
        Ok(())
    }

    /// Asks ahead for what is going to be read in this transaction. The answer serves each [`query`](Self::query) for
    /// the same, until a table that the statement names is written to. Not for what triggers write.
    pub(crate) fn ask(&self, prepared: &Arc<Prepared>, params: &impl Params) -> Result<()> {
        self.ask_cells(prepared, cells(params, &prepared.names)?)
    }

    pub(super) fn ask_cells(&self, prepared: &Arc<Prepared>, values: Vec<Cell>) -> Result<()> {
        self.with(|live| {
            live.pipeline.ask(prepared, values);
            Ok(())
        })
    }

    /// Runs a statement that returns a row for each of these; returns them in this order.
    pub(crate) fn query_each<P: Params>(
        &self,
        prepared: &Arc<Prepared>,
        all: &[P],
    ) -> Result<Vec<FoundRow>> {
        let values = all.iter().map(|params| cells(params, &prepared.names));
        let values = values.collect::<Result<_>>()?;
        let rows = self.with(|live| live.pipeline.query_each(&mut live.wire, prepared, values))?;
        self.note(prepared, rows.len() as u64);
        Ok(rows)
    }

    /// Waits until what was posted is done; returns the first failure.
    pub(crate) fn settle(&self) -> Result<()> {
        let is_open =
            self.live.borrow().as_ref().is_some_and(|live| live.pipeline.is_open(&live.wire));
        if is_open { self.with(|live| live.pipeline.settle(&mut live.wire)) } else { Ok(()) }
    }

    /// Runs a statement; returns the rows that it finds.
    pub(crate) fn query(
        &self,
        prepared: &Arc<Prepared>,
        params: &impl Params,
    ) -> Result<Vec<FoundRow>> {
        let values = cells(params, &prepared.names)?;
        let rows = self.with(|live| live.query(prepared, &values))?;
        self.note(prepared, rows.len() as u64);
        Ok(rows)
    }

    /// Returns the number of rows that its statements changed.
    pub(crate) fn changes(&self) -> u64 {
        let posted = self.live.borrow().as_ref().map_or(0, |live| live.pipeline.changed());
        self.changes.get() + posted
    }

    /// Returns the number of times that an answer of the server was waited for.
    #[cfg(test)]
    pub(crate) fn round_trips(&self) -> u64 {
        self.live.borrow().as_ref().map_or(0, |live| live.wire.waited())
    }

    fn note(&self, prepared: &Prepared, rows: u64) {
        if prepared.written().is_none() {
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

/// Reports whether a `COMMIT` that failed so may have been done all the same. What the server refused was not.
fn is_unknown(error: &Error) -> bool {
    !matches!(error.kind(), ErrorKind::Refused | ErrorKind::Locked)
}

pub(super) fn cells(params: &impl Params, names: &[String]) -> Result<Vec<Cell>> {
    Ok(params.values(names)?.into_iter().map(Cell).collect())
}
