//! The way to the server and back.
//!
//! The server answers in the order in which it was asked, and the connection hands on no answer before the ones in front of
//! it were taken. So whoever waits for an answer takes in those to what was posted before, however many pieces each comes in.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;
use tokio_postgres::{Client, Statement};

use super::super::error::{Error, Result};
use super::address::Address;
use super::patience::Patience;

pub(super) type Answered<T> = std::result::Result<T, tokio_postgres::Error>;

/// A connection to the server.
pub(super) struct Wire {
    /// Its own: a request and its answer stay on the thread that waits for them. None once it is dropped, or lost.
    runtime: Option<Runtime>,
    client: Arc<Client>,
    /// Statements whose answers are not waited for yet.
    posted: Posted,
    /// The number of times that an answer was waited for.
    waited: u64,
    pub(super) patience: Patience,
}

/// Statements that write and were sent, the oldest first.
#[derive(Default)]
struct Posted {
    statements: VecDeque<PostedStatement>,
    /// The number of those in front whose answers are here.
    answered: usize,
}

struct PostedStatement {
    /// The number of rows that it must have changed, if that is known.
    expected: Option<u64>,
    answer: Pin<Box<dyn Future<Output = Answered<u64>> + Send>>,
    /// The outcome, once it is here.
    outcome: Option<Answered<u64>>,
}

impl PostedStatement {
    /// Takes the outcome if it is here; returns whether it is.
    fn take_in(&mut self, context: &mut Context<'_>) -> bool {
        if self.outcome.is_none()
            && let Poll::Ready(outcome) = self.answer.as_mut().poll(context)
        {
            self.outcome = Some(outcome);
        }
        self.outcome.is_some()
    }
}

impl Posted {
    /// Takes the answers that are here; returns whether all are.
    fn take_in(&mut self, context: &mut Context<'_>) -> bool {
        while let Some(next) = self.statements.get_mut(self.answered) {
            if !next.take_in(context) {
                return false;
            }
            self.answered += 1;
        }
        true
    }
}

/// The outcome of what was posted.
#[derive(Default)]
pub(super) struct PostedOutcome {
    /// The number of rows that it changed.
    pub(super) changed: u64,
    /// The first failure: whatever follows it in the transaction fails because of it.
    pub(super) failure: Option<Error>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.lose();
    }
}

impl Wire {
    pub(super) fn connect(address: &Address, patience: Patience) -> Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| Error::Runtime(source.to_string()))?;
        let client = runtime.block_on(address.connect(patience))?;
        let posted = Posted::default();
        Ok(Self { runtime: Some(runtime), client: Arc::new(client), posted, waited: 0, patience })
    }

    /// Closes the connection, which may be let go where nothing may block.
    fn lose(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub(super) fn client(&self) -> Arc<Client> {
        Arc::clone(&self.client)
    }

    /// Reports whether the connection is gone. It is looked at first: nothing else does while nobody waits for an answer.
    pub(super) fn is_closed(&self) -> bool {
        /// One to see that there is news, one to take it in, and one to be safe.
        const LOOKS: usize = 3;
        let look = async {
            for _ in 0..LOOKS {
                tokio::task::yield_now().await;
            }
        };
        self.run(look).is_err() || self.client.is_closed()
    }

    /// Runs what does not wait for the server, or no longer.
    pub(super) fn run<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        Ok(self.runtime.as_ref().ok_or(Error::Lost)?.block_on(work))
    }

    /// Waits for an answer of the server, and takes in those to what was posted before.
    pub(super) fn wait<T>(&mut self, answer: impl Future<Output = T>) -> Result<T> {
        self.waited += 1;
        let mut answer = pin!(answer);
        self.until(|posted, context| {
            posted.take_in(context);
            answer.as_mut().poll(context)
        })
    }

    /// Waits until the server has said something, for as long as it says anything at all. One that falls silent is lost.
    fn until<T>(
        &mut self,
        mut is_said: impl FnMut(&mut Posted, &mut Context<'_>) -> Poll<T>,
    ) -> Result<T> {
        let (posted, silence) = (&mut self.posted, self.patience.silence());
        let runtime = self.runtime.as_ref().ok_or(Error::Lost)?;
        let waiting = async {
            let Some(silence) = silence else {
                return Some(poll_fn(|context| is_said(posted, context)).await);
            };
            let mut heard = Instant::now();
            loop {
                let mut is_late = pin!(sleep(silence.saturating_sub(heard.elapsed())));
                let said = poll_fn(|context| {
                    if let Poll::Ready(said) = is_said(posted, context) {
                        return Poll::Ready(Some(said));
                    }
                    if is_late.as_mut().poll(context).is_ready() {
                        return Poll::Ready(None);
                    }
                    // Nothing else wakes whoever waits here than an answer, be it to something else.
                    heard = Instant::now();
                    Poll::Pending
                });
                let said = said.await;
                if said.is_some() || heard.elapsed() >= silence {
                    return said;
                }
            }
        };
        let said = runtime.block_on(waiting);
        if said.is_none() {
            self.lose();
        }
        said.ok_or(Error::Unanswered(silence.unwrap_or_default()))
    }

    /// Prepares a statement. What failed of that which was posted before is the reason why the server takes no more.
    pub(super) fn prepare(&mut self, text: &str) -> Result<Statement> {
        let client = self.client();
        match self.wait(client.prepare(text))? {
            Ok(statement) => Ok(statement),
            Err(source) => {
                let failed = self.settle()?.failure;
                Err(failed.unwrap_or_else(|| Error::Prepare { text: text.to_owned(), source }))
            }
        }
    }

    /// Sends a statement whose answer is not waited for, with the number of rows that it must change if that is known.
    pub(super) fn post(
        &mut self,
        expected: Option<u64>,
        answer: impl Future<Output = Answered<u64>> + Send + 'static,
    ) -> Result<()> {
        let mut statement = PostedStatement { expected, answer: Box::pin(answer), outcome: None };
        // The first poll puts it into the connection's queue.
        self.run(poll_fn(|context| {
            statement.take_in(context);
            Poll::Ready(())
        }))?;
        self.posted.statements.push_back(statement);
        Ok(())
    }

    /// Reports whether something was posted that was not settled.
    pub(super) fn has_posted(&self) -> bool {
        !self.posted.statements.is_empty()
    }

    /// Waits for the answers to all that was posted.
    pub(super) fn settle(&mut self) -> Result<PostedOutcome> {
        let posted = &mut self.posted;
        let is_here = |context: &mut Context<'_>| Poll::Ready(posted.take_in(context));
        let runtime = self.runtime.as_ref().ok_or(Error::Lost)?;
        if !runtime.block_on(poll_fn(is_here)) {
            self.waited += 1;
            self.until(
                |posted, context| {
                    if posted.take_in(context) { Poll::Ready(()) } else { Poll::Pending }
                },
            )?;
        }
        let mut all = PostedOutcome::default();
        for PostedStatement { expected, outcome, .. } in std::mem::take(&mut self.posted).statements
        {
            let failure = match outcome {
                Some(Ok(rows)) if expected.is_some_and(|expected| expected != rows) => {
                    Some(Error::OtherRows { rows })
                }
                Some(Ok(rows)) => {
                    all.changed += rows;
                    None
                }
                Some(Err(error)) => Some(error.into()),
                None => Some(Error::Lost),
            };
            all.failure = all.failure.or(failure);
        }
        Ok(all)
    }

    /// Returns the number of times that an answer was waited for.
    #[cfg(test)]
    pub(super) const fn waited(&self) -> u64 {
        self.waited
    }
}
