//! The webhook's place in the outbox: up to where every event was posted, and which ones beyond that.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::columns::{millis, optional_timestamp};
use super::outbox::newest_in;
use crate::store::{During, Store, StoreError};

/// Up to where the webhook has posted every event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebhookPlace {
    /// The last event of those.
    pub cursor: i64,
    /// The number of times that somebody set it to another place.
    pub turn: i64,
}

/// Events that a webhook is not told of, since the settings named none when they happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SkippedEvents {
    /// The cursor after which they are.
    pub after: i64,
    /// The number of events.
    pub events: usize,
    /// Since when the settings named no webhook.
    pub since: Timestamp,
}

fn place_row(row: &Row<'_>) -> rusqlite::Result<(WebhookPlace, Option<Timestamp>)> {
    let place = WebhookPlace { cursor: row.get("seq")?, turn: row.get("turn")? };
    Ok((place, optional_timestamp(row.get("left_at_ms")?)))
}

fn place_in(
    connection: &Connection,
) -> Result<Option<(WebhookPlace, Option<Timestamp>)>, StoreError> {
    connection
        .prepare_cached("SELECT seq, turn, left_at_ms FROM cursors WHERE reader = 'webhook'")
        .and_then(|mut select| select.query_row([], place_row).optional())
        .during("read the webhook's place")
}

fn count_after_in(connection: &Connection, cursor: i64) -> Result<usize, StoreError> {
    connection
        .prepare_cached("SELECT count(*) FROM events WHERE seq > ?1")
        .and_then(|mut select| select.query_row([cursor], |row| row.get(0)))
        .map(|count: i64| usize::try_from(count).unwrap_or(0))
        .during("count events")
}

/// Sets the webhook to a place, whatever was posted beyond it.
fn set_place_in(connection: &Connection, cursor: i64) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO cursors (reader, seq) VALUES ('webhook', ?1)
             ON CONFLICT DO UPDATE SET seq = excluded.seq, turn = turn + 1, left_at_ms = NULL",
        )
        .and_then(|mut upsert| upsert.execute([cursor]))
        .during("set the webhook's place")?;
    connection
        .prepare_cached("DELETE FROM webhook_posted")
        .and_then(|mut delete| delete.execute([]))
        .map(drop)
        .during("forget what was posted")
}

impl Store {
    /// Begins a webhook that the settings name: one that is new, or that a daemon has run without, is told what happens
    /// from now on. Returns what it is not told of.
    pub async fn begin_webhook(&self) -> Result<Option<SkippedEvents>, StoreError> {
        if let Some((_, None)) = self.read(place_in).await? {
            return Ok(None);
        }
        self.write(|connection| {
            let newest = newest_in(connection).during("read the newest event")?;
            let passed_over = match place_in(connection)? {
                None => None,
                Some((_, None)) => return Ok(None),
                Some((WebhookPlace { cursor: after, .. }, Some(since))) => {
                    Some(SkippedEvents { after, events: count_after_in(connection, after)?, since })
                }
            };
            set_place_in(connection, newest)?;
            Ok(passed_over)
        })
        .await
    }

    /// Notes that a daemon runs without a webhook: one that is set later begins with what happens then.
    pub async fn leave_webhook(&self, now: Timestamp) -> Result<(), StoreError> {
        if !matches!(self.read(place_in).await?, Some((_, None))) {
            return Ok(());
        }
        self.write(move |connection| {
            connection
                .prepare_cached(
                    "UPDATE cursors SET left_at_ms = ?1
                     WHERE reader = 'webhook' AND left_at_ms IS NULL",
                )
                .and_then(|mut update| update.execute([millis(now)]))
                .map(drop)
                .during("note that there is no webhook")
        })
        .await
    }

    /// Returns the webhook's place, which is the newest event for one that is new.
    pub async fn webhook_place(&self) -> Result<WebhookPlace, StoreError> {
        if let Some((place, _)) = self.read(place_in).await? {
            return Ok(place);
        }
        self.write(|connection| {
            if place_in(connection)?.is_none() {
                set_place_in(connection, newest_in(connection).during("read the newest event")?)?;
            }
            let place = place_in(connection)?.map(|(place, _)| place);
            Ok(place.unwrap_or(WebhookPlace { cursor: 0, turn: 0 }))
        })
        .await
    }

    /// Returns the number of events that the webhook has yet to be told of, or a few more: some are posted ahead of others.
    pub async fn webhook_backlog(&self) -> Result<u64, StoreError> {
        self.read(|connection| {
            let told = place_in(connection)?.map_or(0, |(place, _)| place.cursor);
            let newest = newest_in(connection).during("find the newest event")?;
            Ok(u64::try_from(newest.saturating_sub(told)).unwrap_or(0))
        })
        .await
    }

    /// Returns the events beyond the webhook's cursor that were posted.
    pub async fn posted_ahead(&self) -> Result<BTreeSet<i64>, StoreError> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT seq FROM webhook_posted")
                .and_then(|mut select| select.query_map([], |row| row.get(0))?.collect())
                .during("read what was posted")
        })
        .await
    }

    /// Notes which events were posted, and up to where all were, unless somebody has set the webhook to another place
    /// since; returns whether it was noted.
    pub async fn note_posted(
        &self,
        turn: i64,
        cursor: i64,
        posted: Vec<i64>,
    ) -> Result<bool, StoreError> {
        self.write(move |connection| {
            // Another process may have come further, as a pass does beside a daemon.
            let moved = connection
                .prepare_cached(
                    "UPDATE cursors SET seq = max(seq, :cursor)
                     WHERE reader = 'webhook' AND turn = :turn",
                )
                .and_then(|mut update| {
                    update.execute(named_params! {":cursor": cursor, ":turn": turn})
                })
                .during("note the webhook's place")?;
            if moved == 0 {
                return Ok(false);
            }
            let mut insert = connection
                .prepare_cached("INSERT OR IGNORE INTO webhook_posted (seq) VALUES (?1)")
                .during("note what was posted")?;
            for seq in posted.iter().filter(|seq| **seq > cursor) {
                insert.execute([seq]).during("note what was posted")?;
            }
            connection
                .prepare_cached("DELETE FROM webhook_posted WHERE seq <= ?1")
                .and_then(|mut delete| delete.execute([cursor]))
                .map(|_| true)
                .during("note what was posted")
        })
        .await
    }

    /// Has the webhook post again what was told after a place; how many events that is.
    pub async fn replay_webhook(&self, after: i64) -> Result<usize, StoreError> {
        self.write(move |connection| {
            set_place_in(connection, after)?;
            count_after_in(connection, after)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    async fn store_with_events(folder: &tempfile::TempDir, count: i64) -> Store {
        let store = Store::open(&folder.path().join("marketd.db")).unwrap();
        for second in 0..count {
            store.tell("x", json!({}), at(second)).await.unwrap();
        }
        store
    }

    #[tokio::test]
    async fn what_was_posted_ahead_is_kept_until_the_cursor_passes_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = store_with_events(&folder, 0).await;
        assert_eq!(store.begin_webhook().await.unwrap(), None);
        let turn = store.webhook_place().await.unwrap().turn;
        assert!(store.note_posted(turn, 2, vec![2, 4, 5]).await.unwrap());
        assert_eq!(store.posted_ahead().await.unwrap(), BTreeSet::from([4, 5]));
        assert!(store.note_posted(turn, 4, vec![3, 4]).await.unwrap());
        assert_eq!(store.posted_ahead().await.unwrap(), BTreeSet::from([5]));
        // Whoever lags behind takes nothing back.
        assert!(store.note_posted(turn, 3, vec![]).await.unwrap());
        assert_eq!(store.webhook_place().await.unwrap().cursor, 4);
    }

    #[tokio::test]
    async fn what_was_under_way_when_somebody_sets_it_back_counts_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let store = store_with_events(&folder, 5).await;
        store.replay_webhook(0).await.unwrap();
        let before = store.webhook_place().await.unwrap();
        assert!(store.note_posted(before.turn, 0, vec![3]).await.unwrap());
        // To the very same place: what is beyond it is wanted again.
        assert_eq!(store.replay_webhook(0).await.unwrap(), 5);
        assert_eq!(store.posted_ahead().await.unwrap(), BTreeSet::new());
        assert!(!store.note_posted(before.turn, 5, vec![1, 2, 3, 4, 5]).await.unwrap());
        assert_eq!(store.webhook_place().await.unwrap().cursor, 0);
    }

    #[tokio::test]
    async fn one_that_was_left_begins_at_now_and_says_what_it_is_not_told() {
        let folder = tempfile::tempdir().unwrap();
        let store = store_with_events(&folder, 2).await;
        // Nobody had one yet, so none is left.
        store.leave_webhook(at(10)).await.unwrap();
        assert_eq!(store.begin_webhook().await.unwrap(), None);
        assert_eq!(store.webhook_place().await.unwrap().cursor, 2);
        store.tell("x", json!({}), at(11)).await.unwrap();
        store.leave_webhook(at(12)).await.unwrap();
        store.leave_webhook(at(13)).await.unwrap();
        store.tell("x", json!({}), at(14)).await.unwrap();
        let passed_over = store.begin_webhook().await.unwrap();
        assert_eq!(passed_over, Some(SkippedEvents { after: 2, events: 2, since: at(12) }));
        assert_eq!(store.webhook_place().await.unwrap().cursor, 4);
        assert_eq!(store.begin_webhook().await.unwrap(), None, "it is said once");
        // What somebody asks for meanwhile is posted once there is a webhook again.
        store.leave_webhook(at(15)).await.unwrap();
        store.replay_webhook(1).await.unwrap();
        assert_eq!(store.begin_webhook().await.unwrap(), None);
        assert_eq!(store.webhook_place().await.unwrap().cursor, 1);
    }
}
