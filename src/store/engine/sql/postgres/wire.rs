//! The way to the server and back.
//!
//! The server answers in the order in which it was asked, and the connection hands on no answer before the ones in front of
//! it were taken. So whoever waits for an answer takes in those to what was posted before, however many pieces each comes in.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::Client;

use super::super::error::{Error, Result};
use super::address::Address;

/// How statements are planned: as SQLite does, for which they are written. Each has the index that it needs, and most are
/// prepared while the server has no statistics of a table or takes it for empty: it would read all of it, and go on with
/// that as the table grows. A plan is made once. Compiling one costs more than it saves, and what makes other ways look
/// dear would have it done.
const PLANS: &str =
    "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
    SET jit = off; SET plan_cache_mode = force_generic_plan";

pub(super) type Answered<T> = std::result::Result<T, tokio_postgres::Error>;

/// A connection to the server.
pub(super) struct Wire {
    /// Its own: a request and its answer stay on the thread that waits for them. None once it is dropped.
    runtime: Option<Runtime>,
    client: Arc<Client>,
    /// Statements whose answers are not waited for yet.
    posted: Posted,
    /// The number of times that an answer was waited for.
    waited: u64,
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
        // A session may be let go where nothing may block.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Wire {
    pub(super) fn connect(address: &Address) -> Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| Error::Runtime(source.to_string()))?;
        let connecting = async {
            let client = address.connect().await?;
            client.batch_execute(PLANS).await?;
            Ok::<_, Error>(client)
        };
        // The driver's own limit ends with the handshake of TCP.
        let within = address.connect_within();
        let in_time = async { tokio::time::timeout(within, connecting).await };
        let client = runtime.block_on(in_time).map_err(|_elapsed| Error::Silent(within))??;
        let posted = Posted::default();
        Ok(Self { runtime: Some(runtime), client: Arc::new(client), posted, waited: 0 })
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
        let runtime = self.runtime.as_ref().ok_or(Error::Lost)?;
        let (posted, mut answer) = (&mut self.posted, pin!(answer));
        Ok(runtime.block_on(poll_fn(|context| {
            posted.take_in(context);
            answer.as_mut().poll(context)
        })))
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
            let posted = &mut self.posted;
            runtime.block_on(poll_fn(|context| {
                if posted.take_in(context) { Poll::Ready(()) } else { Poll::Pending }
            }));
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
