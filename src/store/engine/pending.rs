//! Writes that wait for their transaction, each with the caller who waits for it.

use std::any::Any;

use tokio::sync::oneshot;

use super::error::{During, StoreError};
use super::sql::{self, Connection, ErrorKind};
use super::trouble::{self, TroubleCause};

/// A write with the caller who waits for it.
pub(super) trait Write: Any + Send {
    /// Runs inside the transaction, and once more if that one was undone. `settle` waits for what it posted, where its own
    /// failure has to be told from that of others.
    fn run(&mut self, connection: &Connection, settle: Settle<'_>) -> WriteOutcome;

    /// Runs together with those behind it that are of its kind, where one piece of work does for all of them.
    fn run_joined(
        &mut self,
        connection: &Connection,
        _behind: &mut [Box<dyn Write>],
    ) -> WriteOutcome {
        self.run(connection, None)
    }

    /// Reports whether it has run together with one in front of it.
    fn was_joined(&self) -> bool {
        false
    }

    /// Answers the caller once the transaction's outcome is known.
    fn answer(self: Box<Self>, ended: Result<(), TransactionError>);
}

/// The way in which what a write has posted is waited for, if it is.
pub(super) type Settle<'a> = Option<&'a dyn Fn() -> sql::Result<()>>;

/// The outcome of a write.
pub(super) enum WriteOutcome {
    Well,
    /// It was refused, by what it was to write; others may go well.
    Refused,
    /// The database can write nothing at the moment.
    Troubled(TroubleCause),
}

impl WriteOutcome {
    fn of<T, E: std::error::Error + 'static>(outcome: &Result<T, E>) -> Self {
        match outcome {
            Ok(_) => Self::Well,
            Err(error) => trouble::found_in(error).map_or(Self::Refused, Self::Troubled),
        }
    }
}

/// The reason why a transaction came to nothing.
#[derive(Clone, Debug)]
pub(super) struct TransactionError {
    said: String,
    kind: ErrorKind,
}

impl From<sql::Error> for TransactionError {
    fn from(error: sql::Error) -> Self {
        Self { said: error.to_string(), kind: error.kind() }
    }
}

impl From<TroubleCause> for TransactionError {
    fn from(TroubleCause { kind, said }: TroubleCause) -> Self {
        Self { said, kind }
    }
}

impl TransactionError {
    pub(super) fn trouble(&self) -> Option<TroubleCause> {
        let kind = Some(self.kind).filter(|kind| kind.is_trouble())?;
        Some(TroubleCause { kind, said: self.said.clone() })
    }
}

/// The caller of a write, and what it came to.
struct Caller<T, E> {
    outcome: Option<Result<T, E>>,
    answer: oneshot::Sender<Result<T, E>>,
}

impl<T, E: From<StoreError>> Caller<T, E> {
    fn answer(self, ended: Result<(), TransactionError>) {
        let answer = match (self.outcome, ended) {
            (Some(Err(error)), _) => Err(error),
            (_, Err(TransactionError { said: reason, kind })) => {
                Err(StoreError::Commit { reason, kind }.into())
            }
            (Some(done), Ok(())) => done,
            (None, Ok(())) => Err(StoreError::Closed.into()),
        };
        // A caller who went away does not need the answer.
        drop(self.answer.send(answer));
    }
}

/// Waits for what was posted by work that went well.
fn settled<T, E: From<StoreError>>(outcome: Result<T, E>, settle: Settle<'_>) -> Result<T, E> {
    match settle {
        Some(settle) if outcome.is_ok() => {
            settle().during("write what was decided").map_err(E::from).and(outcome)
        }
        _ => outcome,
    }
}

/// A write by itself.
pub(super) struct PendingWrite<W, T, E> {
    work: W,
    caller: Caller<T, E>,
}

impl<W, T, E> PendingWrite<W, T, E> {
    pub(super) const fn new(work: W, answer: oneshot::Sender<Result<T, E>>) -> Self {
        Self { work, caller: Caller { outcome: None, answer } }
    }
}

impl<W, T, E> Write for PendingWrite<W, T, E>
where
    W: Fn(&Connection) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: From<StoreError> + std::error::Error + Send + 'static,
{
    fn run(&mut self, connection: &Connection, settle: Settle<'_>) -> WriteOutcome {
        let outcome = settled((self.work)(connection), settle);
        WriteOutcome::of(self.caller.outcome.insert(outcome))
    }

    fn answer(self: Box<Self>, ended: Result<(), TransactionError>) {
        self.caller.answer(ended);
    }
}

/// A write that one piece of work does for several: `work` takes what each of them is about, and returns what it came to
/// for each.
pub(super) struct JoinedWrite<W, I, T, E> {
    work: W,
    about: I,
    caller: Caller<T, E>,
    was_joined: bool,
}

impl<W, I, T, E> JoinedWrite<W, I, T, E> {
    pub(super) const fn new(work: W, about: I, answer: oneshot::Sender<Result<T, E>>) -> Self {
        Self { work, about, caller: Caller { outcome: None, answer }, was_joined: false }
    }
}

impl<W, I, T, E> Write for JoinedWrite<W, I, T, E>
where
    W: Fn(&Connection, &[&I]) -> Result<Vec<T>, E> + Send + 'static,
    I: Send + 'static,
    T: Send + 'static,
    E: From<StoreError> + std::error::Error + Send + 'static,
{
    fn run(&mut self, connection: &Connection, settle: Settle<'_>) -> WriteOutcome {
        let done = (self.work)(connection, &[&self.about]);
        let missing = || Err(StoreError::Closed.into());
        let outcome = done.and_then(|done| done.into_iter().next().map_or_else(missing, Ok));
        WriteOutcome::of(self.caller.outcome.insert(settled(outcome, settle)))
    }

    fn run_joined(
        &mut self,
        connection: &Connection,
        behind: &mut [Box<dyn Write>],
    ) -> WriteOutcome {
        let behind = behind.iter_mut().map(|write| &mut **write as &mut dyn Any);
        let others: Vec<&mut Self> = behind.filter_map(|write| write.downcast_mut()).collect();
        let all: Vec<&I> =
            std::iter::once(&self.about).chain(others.iter().map(|it| &it.about)).collect();
        match (self.work)(connection, &all) {
            Ok(done) => {
                let mut done = done.into_iter();
                self.caller.outcome = done.next().map(Ok);
                for (other, done) in others.into_iter().zip(done) {
                    other.caller.outcome = Some(Ok(done));
                    other.was_joined = true;
                }
                WriteOutcome::Well
            }
            failed => {
                let failed = failed.map(drop);
                let outcome = WriteOutcome::of(&failed);
                self.caller.outcome = failed.err().map(Err);
                outcome
            }
        }
    }

    fn was_joined(&self) -> bool {
        self.was_joined
    }

    fn answer(self: Box<Self>, ended: Result<(), TransactionError>) {
        self.caller.answer(ended);
    }
}
