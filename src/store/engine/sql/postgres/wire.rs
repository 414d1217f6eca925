//! The way to the server and back.

use std::sync::Arc;

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

/// A connection to the server.
pub(super) struct Wire {
    /// Its own: a request and its answer stay on the thread that waits for them. None once it is dropped.
    runtime: Option<Runtime>,
    client: Arc<Client>,
    /// The number of times that an answer was waited for.
    waited: u64,
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
        let client = runtime.block_on(address.connect())?;
        runtime.block_on(client.batch_execute(PLANS))?;
        Ok(Self { runtime: Some(runtime), client: Arc::new(client), waited: 0 })
    }

    pub(super) fn client(&self) -> Arc<Client> {
        Arc::clone(&self.client)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Runs what does not wait for the server, or no longer.
    pub(super) fn run<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        Ok(self.runtime.as_ref().ok_or(Error::Lost)?.block_on(work))
    }

    /// Waits for an answer of the server.
    pub(super) fn wait<T>(&mut self, answer: impl Future<Output = T>) -> Result<T> {
        self.waited += 1;
        self.run(answer)
    }

    /// Returns the number of times that an answer was waited for.
    #[cfg(test)]
    pub(super) const fn waited(&self) -> u64 {
        self.waited
    }
}
