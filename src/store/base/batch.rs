//! Writing several at once so that one which the database refuses does not hold up the others.

use std::sync::Arc;

use futures::future::join_all;

use crate::store::engine::sql::Connection;
use crate::store::{Store, StoreError};

/// The result of writing several.
#[derive(Debug)]
pub(crate) struct BatchOutcome<I, T> {
    /// The results of those that were written, in one piece or in several.
    pub(crate) done: Vec<T>,
    /// Those that the database refused; nothing of them remains.
    pub(crate) refused: Vec<(I, StoreError)>,
}

impl Store {
    /// Writes all of these in one transaction. Where the database refuses something, each is written by itself and
    /// those that are refused are returned: the mistake lies in them, and would be met again after a restart. Where
    /// the database itself fails, all of them fail, and are to be tried again.
    pub(crate) async fn write_isolated<I, T>(
        &self,
        items: Vec<I>,
        work: impl Fn(&Connection, &[I]) -> Result<T, StoreError> + Send + Sync + 'static,
    ) -> Result<BatchOutcome<I, T>, StoreError>
    where
        I: Clone + Send + Sync + 'static,
        T: Send + 'static,
    {
        let job = Arc::new((items, work));
        let whole = Arc::clone(&job);
        match self.write(move |connection| (whole.1)(connection, &whole.0)).await {
            Ok(done) => return Ok(BatchOutcome { done: vec![done], refused: Vec::new() }),
            Err(error) if error.is_refusal() => {}
            Err(error) => return Err(error),
        }
        let each = job.0.iter().map(|item| {
            let (one, job) = (item.clone(), Arc::clone(&job));
            self.write(move |connection| (job.1)(connection, std::slice::from_ref(&one)))
        });
        let mut apart = BatchOutcome { done: Vec::new(), refused: Vec::new() };
        for (item, outcome) in job.0.iter().zip(join_all(each).await) {
            match outcome {
                Ok(done) => apart.done.push(done),
                Err(error) if error.is_refusal() => apart.refused.push((item.clone(), error)),
                Err(error) => return Err(error),
            }
        }
        Ok(apart)
    }
}
