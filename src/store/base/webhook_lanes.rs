//! The webhook's lanes: the events of each, in order. Reading one never passes over those of the other.

use super::outbox::{Event, event, newest_in};
use crate::domain::event::Lane;
use crate::store::engine::sql::{Connection, Transaction};
use crate::store::{During, Store, StoreError};

/// The most events of a lane that are counted.
const COUNTED_MOST: u32 = 100_000;

/// Events of a lane.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LaneEvents {
    /// The events.
    pub events: Vec<Event>,
    /// The place up to which these are all that the lane has.
    pub read_to: i64,
}

/// Returns the statement that reads a lane from a place (`?1`) on. The index is named, since SQLite would walk the table.
pub(super) const fn statement(lane: Lane) -> &'static str {
    match lane {
        Lane::Prompt => {
            "SELECT * FROM events INDEXED BY events_prompt
             WHERE seq > ?1 AND type NOT IN ('metering.accepted', 'metering.resolved')
             ORDER BY seq LIMIT ?2"
        }
        Lane::Bulk => {
            "SELECT * FROM events INDEXED BY events_by_type WHERE type = 'metering.accepted' AND seq > ?1
             UNION ALL
             SELECT * FROM events INDEXED BY events_by_type WHERE type = 'metering.resolved' AND seq > ?1
             ORDER BY seq LIMIT ?2"
        }
    }
}

/// Returns how many events a lane has after a place, up to a number that nobody tells apart from more.
pub(super) fn waiting_in(
    connection: &Connection,
    lane: Lane,
    after: i64,
) -> Result<u64, StoreError> {
    let statement = match lane {
        Lane::Prompt => {
            "SELECT count(*) FROM (SELECT 1 FROM events INDEXED BY events_prompt
             WHERE seq > ?1 AND type NOT IN ('metering.accepted', 'metering.resolved') LIMIT ?2) AS ahead"
        }
        Lane::Bulk => {
            "SELECT count(*) FROM (
                 SELECT 1 FROM events INDEXED BY events_by_type WHERE type = 'metering.accepted' AND seq > ?1
                 UNION ALL
                 SELECT 1 FROM events INDEXED BY events_by_type WHERE type = 'metering.resolved' AND seq > ?1
                 LIMIT ?2) AS ahead"
        }
    };
    connection
        .prepare_cached(statement)
        .and_then(|mut select| select.query_row((after, COUNTED_MOST), |row| row.get::<_, i64>(0)))
        .map(|count| u64::try_from(count).unwrap_or(0))
        .during("count what the webhook has to post")
}

impl Store {
    /// Returns the events of a lane after a place.
    pub async fn lane_after(
        &self,
        lane: Lane,
        seq: i64,
        limit: u32,
    ) -> Result<LaneEvents, StoreError> {
        self.read(move |connection| {
            // Of one moment, so that nothing lies between what was read and the newest that there is.
            let whole = Transaction::of_reads(connection).during("read a lane")?;
            let events: Vec<Event> = whole
                .prepare_cached(statement(lane))
                .and_then(|mut select| select.query_map((seq, limit), event)?.collect())
                .during("read a lane")?;
            let is_all = events.len() < usize::try_from(limit).unwrap_or(usize::MAX);
            let last = events.last().map_or(seq, |event| event.seq);
            let newest = newest_in(&whole).during("read the newest event")?;
            whole.commit().during("read a lane")?;
            let read_to = if is_all { newest.max(last) } else { last };
            Ok(LaneEvents { events, read_to })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::domain::event::EventType;
    use crate::store::engine::statements::plan_of;
    use crate::store::test_database::open_store;

    #[tokio::test]
    async fn a_lane_has_its_own_events_in_order_and_says_how_far_they_are_all() {
        let folder = tempfile::tempdir().unwrap();
        let store = open_store(&folder.path().join("marketd.db"));
        for kind in EventType::ALL.into_iter().chain(EventType::ALL) {
            store.tell(kind, &json!({}), Timestamp::UNIX_EPOCH).await.unwrap();
        }
        let newest = i64::try_from(EventType::ALL.len() * 2).unwrap();
        for lane in Lane::ALL {
            let all = store.lane_after(lane, 0, 1_000).await.unwrap();
            assert_eq!(all.read_to, newest);
            assert!(all.events.is_sorted_by_key(|event| event.seq));
            let kinds: Vec<_> = all.events.iter().map(|it| it.kind.as_str()).collect();
            let mut of_lane = EventType::ALL.into_iter().filter(|kind| kind.lane() == lane);
            assert!(of_lane.all(|kind| kinds.contains(&kind.as_str())), "{lane:?}: {kinds:?}");
            let expected = EventType::ALL.into_iter().filter(|kind| kind.lane() == lane).count();
            assert_eq!(kinds.len(), expected * 2, "{lane:?}: {kinds:?}");
            let first = store.lane_after(lane, 0, 1).await.unwrap();
            assert_eq!((first.read_to, first.events.len()), (all.events[0].seq, 1));
            let counted = store.read(move |it| waiting_in(it, lane, first.read_to)).await.unwrap();
            assert_eq!(counted, u64::try_from(kinds.len() - 1).unwrap());
        }
    }

    #[tokio::test]
    async fn a_lane_is_read_by_its_index_and_never_sorted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("marketd.db")).unwrap();
        for lane in Lane::ALL {
            let explain = move |it: &_| Ok::<_, StoreError>(plan_of(it, statement(lane)));
            let plan = store.read(explain).await.unwrap();
            let text = plan.join("; ");
            assert!(text.contains("SEARCH events USING INDEX events_"), "{text}");
            assert!(!text.contains("SCAN") && !text.contains("TEMP B-TREE"), "{text}");
        }
    }
}
