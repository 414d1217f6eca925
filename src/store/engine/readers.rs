//! Connections that can only read, beside the one that writes.

use std::path::Path;
use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::connection::{check_schema, open_reader};
use super::error::StoreError;

/// More readers than this would only wait for the same cores.
const READERS: usize = 4;

#[derive(Clone)]
pub(crate) struct Readers {
    /// None once they are closed.
    idle: Arc<Mutex<Option<Vec<Connection>>>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let connections = (0..READERS).map(|_| open_reader(path)).collect::<Result<Vec<_>, _>>()?;
        if let Some(first) = connections.first() {
            check_schema(first, path)?;
        }
        Ok(Self {
            idle: Arc::new(Mutex::new(Some(connections))),
            permits: Arc::new(Semaphore::new(READERS)),
        })
    }

    /// Closes those that rest; one at work is closed when it is done.
    pub(crate) fn close(&self) {
        if let Ok(mut list) = self.idle.lock() {
            *list = None;
        }
    }

    pub(crate) async fn run<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_closed| StoreError::Closed)?;
        let idle = Arc::clone(&self.idle);
        let done = tokio::task::spawn_blocking(move || {
            // Held until the connection is back, so that whoever gets the permit next finds one.
            let _permit = permit;
            let connection = idle
                .lock()
                .ok()
                .and_then(|mut list| list.as_mut()?.pop())
                .ok_or(StoreError::Closed)?;
            let outcome = work(&connection);
            if let Ok(mut list) = idle.lock()
                && let Some(list) = list.as_mut()
            {
                list.push(connection);
            }
            outcome
        });
        done.await.unwrap_or_else(|_panicked| Err(StoreError::Closed.into()))
    }
}
