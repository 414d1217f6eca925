//! The fence around what only the holder of the lease may do.
//!
//! A worker that was stopped for longer than its lease holds, as when its machine was frozen, goes on without knowing that
//! another has taken over. So what may be done once only is checked in the transaction that it begins with: the lease has
//! to be the one under which the work in the background was begun.

use std::sync::{Arc, Mutex};

use super::error::{During as _, StoreError};
use super::locked::locked;
use super::postgres::workers::holder_in;
use super::sql::Connection;
use super::worker::HeldLease;

/// The lease under which this process works in the background; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fence(Arc<Mutex<Option<HeldLease>>>);

impl Fence {
    /// Has work be done under a lease from now on; where none is given, nobody else could do it.
    pub(crate) fn set(&self, held: Option<HeldLease>) {
        *locked(&self.0) = held;
    }

    /// Refuses what only the holder of the lease may do, if that is another by now.
    pub(crate) fn check(&self, connection: &Connection) -> Result<(), StoreError> {
        let held = locked(&self.0).clone();
        let Some(held) = held else { return Ok(()) };
        let found = holder_in(connection).during("see whose the lease is")?;
        if found.as_ref() == Some(&held) {
            return Ok(());
        }
        let holder = found.map_or_else(|| "nobody".to_owned(), |it| format!("worker {}", it.owner));
        Err(StoreError::LeaseLost { holder })
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::event::PerLane;
    use crate::store::engine::place::Place;
    use crate::store::test_database::{open_store, place_on_server};

    fn lease(owner: &str, epoch: i64) -> HeldLease {
        HeldLease { owner: owner.to_owned(), epoch }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn whoever_was_overtaken_begins_nothing_that_is_done_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("marketd.db");
        let Some(place) = place_on_server(&path) else { return };
        let store = open_store(&path);
        let server = Place::Server(place);
        let server = tokio::task::block_in_place(|| server.open_writer()).unwrap();
        let is_held_by = |owner: &str, epoch: i64| {
            let held =
                "INSERT INTO leases (name, owner, epoch, until_ms) VALUES ('background', ?1, ?2, 0)
                 ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, epoch = excluded.epoch";
            tokio::task::block_in_place(|| server.execute(held, (owner, epoch))).unwrap();
        };
        store.begin_webhook().await.unwrap();
        let turn = store.webhook_place().await.unwrap().turn;
        let now = Timestamp::UNIX_EPOCH;
        let both = async || {
            let begun = store.begin_attempts(vec![1], now).await.map(drop);
            let noted = store.note_posted(turn, PerLane::default(), vec![]).await.map(drop);
            [begun, noted]
        };
        // (under which lease it works, who holds it, who is said to hold it where it may not)
        for (under, owner, epoch, refused) in [
            (Some(lease("us", 1)), "us", 1, None),
            (Some(lease("us", 1)), "them", 2, Some("worker them")),
            // Another has held it meanwhile: what was read before that is old.
            (Some(lease("us", 1)), "us", 3, Some("worker us")),
            (Some(lease("us", 3)), "us", 3, None),
            // As the only worker of a file.
            (None, "them", 4, None),
        ] {
            store.work_under(under.clone());
            is_held_by(owner, epoch);
            for done in both().await {
                match (done, refused) {
                    (Ok(()), None) => {}
                    (Err(StoreError::LeaseLost { holder }), Some(whose)) => {
                        assert_eq!(holder, whose, "{under:?}");
                    }
                    (done, _) => panic!("{under:?}, held by {owner} as {epoch}: {done:?}"),
                }
            }
        }
        // An answer of AWS's to what was begun before is written all the same.
        store.work_under(Some(lease("us", 1)));
        store.record_outcomes(vec![], now).await.unwrap();
        store.close();
    }
}
