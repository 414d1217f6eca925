//! Connections that can only read, beside the one that writes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use tokio::sync::Semaphore;

use super::error::{During as _, StoreError};
use super::place::Place;
use super::sql::Connection;

#[derive(Clone)]
pub(crate) struct Readers {
    place: Place,
    /// None once they are closed.
    idle: Arc<Mutex<Option<Vec<Connection>>>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    /// Makes readers of a database. The first of a file is opened at once, to see whether it can be read; every other is
    /// opened when it is needed.
    pub(crate) fn open(place: &Place) -> Result<Self, StoreError> {
        let mut resting = Vec::new();
        if place.file().is_some() {
            resting.push(place.open_current_reader()?);
        }
        Ok(Self {
            place: place.clone(),
            idle: Arc::new(Mutex::new(Some(resting))),
            permits: Arc::new(Semaphore::new(place.readers())),
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
        let (idle, place) = (Arc::clone(&self.idle), self.place.clone());
        let done = tokio::task::spawn_blocking(move || {
            // Held until the connection is back, so that whoever gets the permit next finds one.
            let _permit = permit;
            let resting = idle.lock().ok().and_then(|mut list| Some(list.as_mut()?.pop()));
            let connection = match resting.ok_or(StoreError::Closed)? {
                Some(connection) => connection.ready().during("connect anew")?,
                None => place.open_another_reader()?,
            };
            // A read that panics has changed nothing; its connection serves the next one.
            let outcome = catch_unwind(AssertUnwindSafe(|| work(&connection)));
            if let Ok(mut list) = idle.lock()
                && let Some(list) = list.as_mut()
            {
                list.push(connection);
            }
            outcome.unwrap_or_else(|_panicked| Err(StoreError::Panicked.into()))
        });
        done.await.unwrap_or_else(|_cut_off| Err(StoreError::Closed.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::engine::connection::open_writer;

    #[tokio::test]
    async fn a_read_that_panics_costs_no_reader() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("marketd.db");
        drop(open_writer(&path).unwrap());
        let place = Place::from(path.as_path());
        let readers = Readers::open(&place).unwrap();
        for _ in 0..=place.readers() {
            let read: Result<(), StoreError> =
                readers.run(|_| panic!("a fault of this test's own")).await;
            assert!(matches!(read, Err(StoreError::Panicked)), "{read:?}");
        }
        // As many at once as there are connections.
        let together = (0..place.readers()).map(|_| {
            let readers = readers.clone();
            tokio::spawn(async move { readers.run(|_| Ok::<_, StoreError>(())).await })
        });
        for read in together.collect::<Vec<_>>() {
            read.await.unwrap().unwrap();
        }
    }
}
