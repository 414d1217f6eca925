//! The watch over the database: whether it can be used.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Daemon;
use crate::store::StoreError;

/// The interval at which a database that cannot be used is tried.
const TRY_DATABASE_EVERY: Duration = Duration::from_secs(1);

impl Daemon {
    /// Shows whether the database can be used, until told to stop. While it cannot, it is tried now and then, since there
    /// may be nothing else to write.
    pub(super) fn watch_database(
        &self,
        shutdown: CancellationToken,
    ) -> impl Future<Output = Result<(), StoreError>> + use<> {
        let (store, health, clock) = (self.store.clone(), self.health.clone(), self.clock.clone());
        async move {
            let mut trouble = store.trouble();
            while !shutdown.is_cancelled() {
                let why = trouble.borrow_and_update().clone();
                health.report("database", why.as_deref().map_or(Ok(()), Err), clock.now());
                let again = async {
                    match why {
                        Some(_) => tokio::time::sleep(TRY_DATABASE_EVERY).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => {}
                    _ = trouble.changed() => {}
                    () = again => match store.try_writing().await {
                        Err(error) if error.is_broken() => return Err(error),
                        _ => {}
                    },
                }
            }
            Ok(())
        }
    }
}
