//! The webhook's place in the outbox: up to where every event of a lane was posted, and which ones beyond that.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::columns::{millis, optional_timestamp};
use super::outbox::newest_in;
use super::webhook_deliveries::{DeliveryAttempt, note_attempt_in};
use super::webhook_lanes::waiting_in;
use crate::domain::event::{Lane, PerLane};
use crate::store::engine::sql::{self, Connection, OptionalExtension, Row};
use crate::store::{During, Store, StoreError};

/// Up to where the webhook has posted every event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebhookPlace {
    /// The last event of those, by lane.
    pub lanes: PerLane<i64>,
    /// The number of times that somebody set it to another place.
    pub turn: i64,
    /// Set while a person has it post nothing.
    pub is_paused: bool,
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

impl WebhookPlace {
    /// Returns the place up to which every event was posted, whatever its lane.
    pub fn cursor(&self) -> i64 {
        self.lanes.values().copied().min().unwrap_or(0)
    }
}

fn place_row(row: &Row<'_>) -> sql::Result<(WebhookPlace, Option<Timestamp>)> {
    let lanes = PerLane::new(row.get("prompt")?, row.get("bulk")?);
    let place = WebhookPlace { lanes, turn: row.get("turn")?, is_paused: row.get("is_paused")? };
    Ok((place, optional_timestamp(row.get("left_at_ms")?)))
}

pub(super) fn place_in(
    connection: &Connection,
) -> Result<Option<(WebhookPlace, Option<Timestamp>)>, StoreError> {
    connection
        .prepare_cached(
            "SELECT p.seq AS prompt, b.seq AS bulk, c.turn, c.left_at_ms, c.paused_at_ms IS NOT NULL AS is_paused
             FROM cursors c
             CROSS JOIN webhook_lanes p ON p.lane = 'prompt' CROSS JOIN webhook_lanes b ON b.lane = 'bulk'
             WHERE c.reader = 'webhook'",
        )
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
             ON CONFLICT (reader) DO UPDATE SET seq = excluded.seq, turn = cursors.turn + 1, left_at_ms = NULL",
        )
        .and_then(|mut upsert| upsert.post([cursor]))
        .during("set the webhook's place")?;
    for lane in Lane::ALL {
        connection
            .prepare_cached(
                "INSERT INTO webhook_lanes (lane, seq) VALUES (?1, ?2)
                 ON CONFLICT (lane) DO UPDATE SET seq = excluded.seq",
            )
            .and_then(|mut upsert| upsert.post((lane.as_str(), cursor)))
            .during("set the webhook's place")?;
    }
    connection
        .prepare_cached("DELETE FROM webhook_ahead")
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
                Some((place, Some(since))) => {
                    let after = place.cursor();
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
            let nowhere = WebhookPlace { lanes: PerLane::default(), turn: 0, is_paused: false };
            Ok(place.unwrap_or(nowhere))
        })
        .await
    }

    /// Returns the number of events that the webhook has yet to be told of, or a few more: some are posted ahead of others.
    pub async fn webhook_backlog(&self) -> Result<u64, StoreError> {
        self.read(|connection| {
            let Some((place, _)) = place_in(connection)? else { return Ok(0) };
            let mut waiting = 0;
            for lane in Lane::ALL {
                waiting += waiting_in(connection, lane, *place.lanes.of(lane))?;
            }
            Ok(waiting)
        })
        .await
    }

    /// Returns the events beyond a lane's place that were posted.
    pub async fn posted_ahead(&self, lane: Lane) -> Result<BTreeSet<i64>, StoreError> {
        self.read(move |connection| {
            connection
                .prepare_cached("SELECT seq FROM webhook_ahead WHERE lane = ?1")
                .and_then(|mut select| {
                    select.query_map([lane.as_str()], |row| row.get(0))?.collect()
                })
                .during("read what was posted")
        })
        .await
    }

    /// Notes attempts to post, and up to where all of a lane were posted, unless somebody has set the webhook to another
    /// place since; returns whether the place was noted.
    pub async fn note_posted(
        &self,
        turn: i64,
        lanes: PerLane<i64>,
        attempts: Vec<DeliveryAttempt>,
    ) -> Result<bool, StoreError> {
        self.write_as_holder(move |connection| {
            for attempt in &attempts {
                note_attempt_in(connection, attempt)?;
            }
            note_posted_in(connection, turn, &lanes, &attempts)
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

fn note_posted_in(
    connection: &Connection,
    turn: i64,
    lanes: &PerLane<i64>,
    attempts: &[DeliveryAttempt],
) -> Result<bool, StoreError> {
    let held = place_in(connection)?;
    if held.is_none_or(|(place, _)| place.turn != turn) {
        return Ok(false);
    }
    let during = "note the webhook's place";
    for lane in Lane::ALL {
        let to = *lanes.of(lane);
        // Another process may have come further, as a pass does beside a daemon.
        connection
            .prepare_cached("UPDATE webhook_lanes SET seq = greatest(seq, ?2) WHERE lane = ?1")
            .and_then(|mut update| update.execute((lane.as_str(), to)))
            .during(during)?;
        let mut insert = connection
            .prepare_cached(
                "INSERT INTO webhook_ahead (lane, seq) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            )
            .during(during)?;
        let is_ahead = |it: &&DeliveryAttempt| it.is_over() && it.lane == lane && it.seq > to;
        for attempt in attempts.iter().filter(is_ahead) {
            insert.execute((lane.as_str(), attempt.seq)).during(during)?;
        }
        connection
            .prepare_cached("DELETE FROM webhook_ahead WHERE lane = ?1 AND seq <= ?2")
            .and_then(|mut delete| delete.execute((lane.as_str(), to)))
            .during(during)?;
    }
    connection
        .prepare_cached(
            "UPDATE cursors SET seq = (SELECT min(seq) FROM webhook_lanes) WHERE reader = 'webhook'",
        )
        .and_then(|mut update| update.post([]))
        .during(during)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::event::EventType;
    use crate::store::DeliveryOutcome;
    use crate::store::test_database::open_store;

    const KIND: EventType = EventType::CustomerUpdated;

    fn taken(lane: Lane, seq: i64) -> DeliveryAttempt {
        DeliveryAttempt { lane, seq, at: at(0), outcome: DeliveryOutcome::Taken(204) }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    async fn store_with_events(folder: &tempfile::TempDir, count: i64) -> Store {
        let store = open_store(&folder.path().join("marketd.db"));
        for second in 0..count {
            store.tell(KIND, &json!({}), at(second)).await.unwrap();
        }
        store
    }

    #[tokio::test]
    async fn what_was_posted_ahead_is_kept_until_the_cursor_passes_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = store_with_events(&folder, 0).await;
        assert_eq!(store.begin_webhook().await.unwrap(), None);
        let turn = store.webhook_place().await.unwrap().turn;
        let places = PerLane::new;
        let prompt = |seqs: &[i64]| seqs.iter().map(|seq| taken(Lane::Prompt, *seq)).collect();
        let ahead = async |lane| store.posted_ahead(lane).await.unwrap();
        assert!(store.note_posted(turn, places(2, 0), prompt(&[2, 4, 5])).await.unwrap());
        assert_eq!(ahead(Lane::Prompt).await, BTreeSet::from([4, 5]));
        let both = [(Lane::Prompt, 3), (Lane::Bulk, 1), (Lane::Prompt, 4), (Lane::Bulk, 6)];
        let both = both.map(|(lane, seq)| taken(lane, seq)).into();
        assert!(store.note_posted(turn, places(4, 1), both).await.unwrap());
        assert_eq!(ahead(Lane::Prompt).await, BTreeSet::from([5]));
        assert_eq!(ahead(Lane::Bulk).await, BTreeSet::from([6]));
        assert_eq!(store.webhook_place().await.unwrap().cursor(), 1, "the lane that is behind");
        // Whoever lags behind takes nothing back.
        assert!(store.note_posted(turn, places(3, 1), vec![]).await.unwrap());
        assert_eq!(store.webhook_place().await.unwrap().lanes, places(4, 1));
    }

    #[tokio::test]
    async fn what_was_under_way_when_somebody_sets_it_back_counts_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let store = store_with_events(&folder, 5).await;
        store.replay_webhook(0).await.unwrap();
        let before = store.webhook_place().await.unwrap();
        let at = |seq| PerLane::from_fn(|_| seq);
        let posted = |seqs: &[i64]| seqs.iter().map(|seq| taken(Lane::Prompt, *seq)).collect();
        assert!(store.note_posted(before.turn, at(0), posted(&[3])).await.unwrap());
        // To the very same place: what is beyond it is wanted again.
        assert_eq!(store.replay_webhook(0).await.unwrap(), 5);
        assert_eq!(store.posted_ahead(Lane::Prompt).await.unwrap(), BTreeSet::new());
        assert!(!store.note_posted(before.turn, at(5), posted(&[1, 2, 3, 4, 5])).await.unwrap());
        assert_eq!(store.webhook_place().await.unwrap().cursor(), 0);
    }

    #[tokio::test]
    async fn one_that_was_left_begins_at_now_and_says_what_it_is_not_told() {
        let folder = tempfile::tempdir().unwrap();
        let store = store_with_events(&folder, 2).await;
        // Nobody had one yet, so none is left.
        store.leave_webhook(at(10)).await.unwrap();
        assert_eq!(store.begin_webhook().await.unwrap(), None);
        assert_eq!(store.webhook_place().await.unwrap().cursor(), 2);
        store.tell(KIND, &json!({}), at(11)).await.unwrap();
        store.leave_webhook(at(12)).await.unwrap();
        store.leave_webhook(at(13)).await.unwrap();
        store.tell(KIND, &json!({}), at(14)).await.unwrap();
        let passed_over = store.begin_webhook().await.unwrap();
        assert_eq!(passed_over, Some(SkippedEvents { after: 2, events: 2, since: at(12) }));
        assert_eq!(store.webhook_place().await.unwrap().cursor(), 4);
        assert_eq!(store.begin_webhook().await.unwrap(), None, "it is said once");
        // What somebody asks for meanwhile is posted once there is a webhook again.
        store.leave_webhook(at(15)).await.unwrap();
        store.replay_webhook(1).await.unwrap();
        assert_eq!(store.begin_webhook().await.unwrap(), None);
        assert_eq!(store.webhook_place().await.unwrap().cursor(), 1);
    }
}
