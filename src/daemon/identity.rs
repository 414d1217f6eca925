//! The watch over whose credentials AWS is called with, where several workers share a database: what one of them connects
//! or removes holds for all.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::aws::Connection;
use crate::domain::integration::Identity;
use crate::store::{IntegrationRow, Store, StoreError};

/// The interval at which the row is read.
const EVERY: Duration = Duration::from_secs(1);

/// The watch.
pub(super) struct IdentityWatch {
    pub(super) store: Store,
    pub(super) aws: Connection,
    /// Set if this worker's settings name the role.
    pub(super) is_set: bool,
}

impl IdentityWatch {
    /// Follows what other workers do, until told to stop. On a file there are none.
    pub(super) async fn run(self, shutdown: CancellationToken) -> Result<(), StoreError> {
        if self.is_set || self.store.path().is_some() {
            shutdown.cancelled().await;
            return Ok(());
        }
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(EVERY) => self.follow().await?,
            }
        }
    }

    async fn follow(&self) -> Result<(), StoreError> {
        // A server that is away is said by those who need it.
        let Ok(row) = self.store.integration().await else { return Ok(()) };
        let identity = row.map_or(Identity::Environment, IntegrationRow::into_identity);
        if *self.aws.clients().identity() != identity {
            tracing::info!("another worker has changed whose credentials AWS is called with");
            let clients = self.aws.try_identity(identity);
            self.aws.change(clients, async { Ok(()) }).await?;
        }
        Ok(())
    }
}
