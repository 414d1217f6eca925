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
#[derive(Clone)]
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
        let Ok(kept) = self.kept().await else { return Ok(()) };
        if *self.aws.clients().identity() != kept {
            self.take_up(kept).await;
        }
        Ok(())
    }

    async fn kept(&self) -> Result<Identity, StoreError> {
        let row = self.store.integration().await?;
        Ok(row.map_or(Identity::Environment, IntegrationRow::into_identity))
    }

    /// Has AWS called as an identity that was read, unless that is old by now: this worker itself may have changed it since,
    /// or be about to, and only changes keep each other waiting.
    async fn take_up(&self, found: Identity) {
        let (this, wanted) = (self.clone(), found.clone());
        let still = async move {
            let is_used = *this.aws.clients().identity() == wanted;
            match this.kept().await {
                Ok(kept) if kept == wanted && !is_used => Ok(()),
                _ => Err(Overtaken),
            }
        };
        let clients = self.aws.try_identity(found);
        if self.aws.change(clients, still).await.is_ok() {
            tracing::info!("another worker has changed whose credentials AWS is called with");
        }
    }
}

/// What was read is old by now.
struct Overtaken;

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::aws::ConnectionOptions;
    use crate::store::test_database::open_store;

    fn row(name: &str) -> IntegrationRow {
        IntegrationRow::of_role(name, Timestamp::UNIX_EPOCH)
    }

    #[tokio::test]
    async fn what_was_read_before_a_change_of_our_own_undoes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = open_store(&folder.path().join("marketd.db"));
        let options = ConnectionOptions::to_nobody();
        let aws = Connection::open(options, row("former").into_identity()).await;
        let watch = IdentityWatch { store: store.clone(), aws: aws.clone(), is_set: false };
        store.connect(row("former"), Timestamp::UNIX_EPOCH).await.unwrap();
        let read = watch.kept().await.unwrap();
        // Meanwhile a person connects another role by this worker.
        let (keeping, now) = (store.clone(), row("ours"));
        let kept = async move { keeping.connect(now, Timestamp::UNIX_EPOCH).await.map(drop) };
        aws.change(aws.try_identity(row("ours").into_identity()), kept).await.unwrap();
        let mut switches = aws.switches();
        switches.mark_unchanged();
        watch.take_up(read).await;
        assert_eq!(*aws.clients().identity(), row("ours").into_identity());
        watch.take_up(watch.kept().await.unwrap()).await;
        assert!(!switches.has_changed().unwrap(), "nothing is used that was not before");

        store.connect(row("theirs"), Timestamp::UNIX_EPOCH).await.unwrap();
        watch.follow().await.unwrap();
        assert_eq!(*aws.clients().identity(), row("theirs").into_identity());
        store.close();
    }
}
