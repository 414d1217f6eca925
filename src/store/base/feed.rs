//! The feed: the events after a cursor, all of them or those of some types or of a customer.

use super::filter::Conditions;
use super::listing::Listing;
use super::outbox::{Event, event, newest_in};
use crate::domain::CustomerId;
use crate::domain::event::EventType;
use crate::store::engine::sql::{self, Connection, Transaction};
use crate::store::{During, Store, StoreError};

/// The filter of the feed.
#[derive(Clone, Debug, Default)]
pub struct FeedFilter {
    /// The types of the events; all of them if there is none.
    pub types: Vec<EventType>,
    /// The customer whom they tell of.
    pub customer_id: Option<CustomerId>,
}

/// Events of the feed.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedPage {
    /// The events.
    pub events: Vec<Event>,
    /// The place up to which there are no others.
    pub looked_to: i64,
}

/// Returns the statement for events of these types, by the index of types: as many as it has are merged, none is sorted.
fn of_types(types: &[EventType]) -> String {
    let of_type = |kind: &EventType| {
        format!(
            "SELECT * FROM events INDEXED BY events_by_type WHERE type = '{}' AND seq > ?1",
            kind.as_str()
        )
    };
    let each: Vec<String> = types.iter().map(of_type).collect();
    format!("{} ORDER BY seq LIMIT ?2", each.join(" UNION ALL "))
}

/// Returns the listing of a customer's events. Those of other types are looked at too, since one customer has few.
fn of_customer(types: &[EventType], customer: &CustomerId, after: i64) -> Listing<'static> {
    let names: Vec<String> = types.iter().map(|kind| format!("'{}'", kind.as_str())).collect();
    let of_type = format!("type IN ({})", names.join(", "));
    let fitting = if types.is_empty() { "TRUE" } else { &of_type };
    let values = vec![(":customer", customer.as_str().to_owned().into()), (":after", after.into())];
    Listing {
        columns: "*",
        from: "events INDEXED BY events_of_customer",
        which: Conditions::of("customer_id = :customer AND seq > :after", values),
        fitting: Conditions::of(fitting, Vec::new()),
        order: "seq".to_owned(),
    }
}

fn page_in(
    connection: &Connection,
    filter: &FeedFilter,
    after: i64,
    limit: u32,
) -> sql::Result<FeedPage> {
    let read = |statement: &str| {
        connection
            .prepare_cached(statement)?
            .query_map((after, limit), event)?
            .collect::<sql::Result<Vec<Event>>>()
    };
    let (events, looked_until) = match &filter.customer_id {
        Some(customer) => {
            let listing = of_customer(&filter.types, customer, after);
            let listed = listing.page(connection, limit, event, |it| it.seq.to_string())?;
            (listed.rows, listed.looked_until.and_then(|key| key.parse().ok()))
        }
        None if filter.types.is_empty() => {
            (read("SELECT * FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2")?, None)
        }
        None => (read(&of_types(&filter.types))?, None),
    };
    let last = events.last().map_or(after, |event| event.seq);
    let is_full = events.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
    let looked_to = match looked_until {
        _ if is_full => last,
        Some(until) => until,
        None => newest_in(connection)?.max(last),
    };
    Ok(FeedPage { events, looked_to })
}

impl Store {
    /// Returns the events after a place that a filter lets through.
    pub async fn feed(
        &self,
        filter: FeedFilter,
        after: i64,
        limit: u32,
    ) -> Result<FeedPage, StoreError> {
        self.read(move |connection| {
            // Of one moment, so that nothing lies between what was read and the newest that there is.
            let whole = Transaction::of_reads(connection).during("read the feed")?;
            let page = page_in(&whole, &filter, after, limit).during("read the feed")?;
            whole.commit().during("read the feed")?;
            Ok(page)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::store::base::outbox::append_event_in;
    use crate::store::engine::statements::plan_of;
    use crate::store::test_database::open_store;

    /// A pattern, a customer, the cursor and the limit; the places of what is found, and how far was looked.
    type Row = (&'static str, Option<CustomerId>, i64, u32, &'static [i64], i64);

    fn acme() -> CustomerId {
        CustomerId::new("acme")
    }

    async fn store(folder: &tempfile::TempDir) -> Store {
        let store = open_store(&folder.path().join("marketd.db"));
        let (created, accepted) = (EventType::CustomerCreated, EventType::MeteringAccepted);
        let parked = EventType::MeteringParked;
        // 1 to 6.
        for (kind, customer) in [
            (created, Some(acme())),
            (accepted, Some(acme())),
            (accepted, Some(CustomerId::new("other"))),
            (parked, Some(acme())),
            (EventType::PlanUpdated, None),
            (accepted, Some(acme())),
        ] {
            let append = move |connection: &Connection| {
                let at = Timestamp::UNIX_EPOCH;
                append_event_in(connection, kind, customer.as_ref(), &json!({}), at)
            };
            store.write(append).await.unwrap();
        }
        store
    }

    #[tokio::test]
    async fn the_feed_has_what_the_filter_lets_through_and_says_how_far_it_looked() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let rows: [Row; 10] = [
            ("", None, 0, 10, &[1, 2, 3, 4, 5, 6], 6),
            ("", None, 0, 2, &[1, 2], 2),
            ("", None, 6, 2, &[], 6),
            ("metering.accepted", None, 0, 10, &[2, 3, 6], 6),
            ("metering.*", None, 2, 2, &[3, 4], 4),
            ("plan.updated", None, 5, 10, &[], 6),
            ("", Some(acme()), 1, 2, &[2, 4], 4),
            ("metering.*", Some(acme()), 0, 10, &[2, 4, 6], 6),
            ("plan.*", Some(acme()), 0, 10, &[], 6),
            ("", Some(CustomerId::new("nobody")), 0, 10, &[], 6),
        ];
        for (pattern, customer_id, after, limit, found, looked_to) in rows {
            let types = EventType::matching(pattern);
            let case = format!("{pattern} {customer_id:?} after {after}");
            let page = store.feed(FeedFilter { types, customer_id }, after, limit).await.unwrap();
            let seqs: Vec<i64> = page.events.iter().map(|event| event.seq).collect();
            assert_eq!((seqs.as_slice(), page.looked_to), (found, looked_to), "{case}");
        }
    }

    #[tokio::test]
    async fn a_filter_is_served_by_an_index_and_sorts_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("marketd.db")).unwrap();
        let by_type = of_types(&EventType::matching("subscription.*"));
        let by_customer = of_customer(&EventType::ALL, &acme(), 0).statement();
        for (statement, index) in [(by_type, "events_by_type"), (by_customer, "events_of_customer")]
        {
            let explain = move |it: &Connection| Ok::<_, StoreError>(plan_of(it, &statement));
            let plan = store.read(explain).await.unwrap();
            let text = plan.join("; ");
            assert!(text.contains(&format!("USING INDEX {index}")), "{text}");
            assert!(!text.contains("SCAN") && !text.contains("TEMP B-TREE"), "{text}");
        }
    }
}
