//! Deliveries: what became of posting each event to the webhook.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::by_time::ByTime;
use super::columns::{millis, timestamp};
use super::filter::Conditions;
use super::listing::Listing;
use super::page::{Listed, Order, Page, Span};
use crate::domain::CustomerId;
use crate::domain::event::Lane;
use crate::store::engine::sql::{self, Connection, Row, named_params};
use crate::store::{During, Store, StoreError};

/// The most characters that are kept of an error.
const ERROR_MOST: usize = 500;

/// An attempt to post an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryAttempt {
    /// The event's lane.
    pub lane: Lane,
    /// Its place in the outbox.
    pub seq: i64,
    /// The time.
    pub at: Timestamp,
    /// The outcome.
    pub outcome: DeliveryOutcome,
}

impl DeliveryAttempt {
    /// Reports whether the webhook goes on behind this event.
    pub(super) const fn is_over(&self) -> bool {
        !matches!(self.outcome, DeliveryOutcome::Refused { .. })
    }
}

/// The outcome of an attempt to post an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The application has taken it, with this status.
    Taken(u16),
    /// It has not, and is asked again.
    Refused {
        /// The status of its answer, if there was one.
        status: Option<u16>,
        /// The reason in words.
        error: String,
    },
    /// It has refused the event for so long that it is asked no more.
    GivenUp,
}

/// The state of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// The application has taken the event.
    Delivered,
    /// It has refused the event, and is asked again.
    Failing,
    /// It is asked no more.
    GivenUp,
}

impl DeliveryState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Delivered, Self::Failing, Self::GivenUp];

    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failing => "failing",
            Self::GivenUp => "given_up",
        }
    }

    /// Parses the word for a state.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == word)
    }
}

/// A delivery: what became of posting an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WebhookDelivery {
    /// The event's id.
    pub event_id: String,
    /// The event's cursor in the feed.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String)]
    pub cursor: i64,
    /// The event's type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The customer whom it tells of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<CustomerId>,
    /// The event's time.
    pub at: Timestamp,
    /// The state: `delivered`, `failing` while the event is posted again and again, or `given_up`.
    pub state: String,
    /// The number of times that it was posted.
    pub attempts: u32,
    /// The time of the last attempt.
    pub last_attempt_at: Timestamp,
    /// The status that the application answered the last attempt with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_status: Option<u16>,
    /// The reason why the application did not take it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn as_text<S: serde::Serializer>(cursor: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(cursor)
}

/// The filter of a list of deliveries.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeliveryFilter {
    /// The state.
    pub state: Option<DeliveryState>,
    /// The time of the events.
    pub span: Span,
}

/// A delivery has its event's place.
const BY_TIME: ByTime = ByTime { table: "events", place: "seq", at: "at_ms" };

/// Notes an attempt, unless its event was pruned meanwhile.
pub(super) fn note_attempt_in(
    connection: &Connection,
    attempt: &DeliveryAttempt,
) -> Result<(), StoreError> {
    let (state, status, error) = match &attempt.outcome {
        DeliveryOutcome::Taken(status) => (DeliveryState::Delivered, Some(*status), None),
        DeliveryOutcome::Refused { status, error } => {
            (DeliveryState::Failing, *status, Some(error))
        }
        DeliveryOutcome::GivenUp => {
            connection
                .prepare_cached("UPDATE webhook_deliveries SET state = 'given_up' WHERE seq = ?1")
                .and_then(|mut update| update.execute([attempt.seq]))
                .during("note that an event is given up")?;
            return Ok(());
        }
    };
    let error = error.map(|error| error.chars().take(ERROR_MOST).collect::<String>());
    connection
        .prepare_cached(
            "INSERT INTO webhook_deliveries (seq, state, attempts, at_ms, status, error)
             SELECT seq, :state, 1, :at, :status, :error FROM events WHERE seq = :seq
             ON CONFLICT (seq) DO UPDATE SET state = excluded.state, attempts = webhook_deliveries.attempts + 1,
                 at_ms = excluded.at_ms, status = excluded.status, error = excluded.error",
        )
        .and_then(|mut upsert| {
            upsert.post(named_params! {
                ":seq": attempt.seq, ":state": state.as_str(), ":at": millis(attempt.at),
                ":status": status, ":error": error,
            })
        })
        .during("note an attempt to post")?;
    note_last_in(connection, attempt.at, error.as_deref())
}

/// Notes when the application last took an event, or refused one.
fn note_last_in(
    connection: &Connection,
    at: Timestamp,
    refusal: Option<&str>,
) -> Result<(), StoreError> {
    let noted = match refusal {
        None => connection
            .prepare_cached("UPDATE cursors SET taken_at_ms = ?1 WHERE reader = 'webhook'")
            .and_then(|mut update| update.execute([millis(at)])),
        Some(refusal) => connection
            .prepare_cached(
                "UPDATE cursors SET refused_at_ms = ?1, refusal = ?2 WHERE reader = 'webhook'",
            )
            .and_then(|mut update| update.execute((millis(at), refusal))),
    };
    noted.map(drop).during("note the application's last answer")
}

fn listing(
    connection: &Connection,
    DeliveryFilter { state, span }: DeliveryFilter,
    order: Order,
    page: &Page,
) -> sql::Result<Listing<'static>> {
    let which = BY_TIME.page_in(connection, (order, span, page), "d.")?;
    let is = |conditions: Conditions, state: DeliveryState| {
        conditions.with(":state", Some(state.as_str().to_owned()), "d.state = :state")
    };
    let fitting = Conditions::of("TRUE", Vec::new());
    let (which, fitting) = match state {
        None => (which, fitting),
        // Nearly all of them are.
        Some(DeliveryState::Delivered) => (which, is(fitting, DeliveryState::Delivered)),
        // Told as the index of those that are not delivered has it.
        Some(state) => (is(which, state).that("d.state <> 'delivered'"), fitting),
    };
    Ok(Listing {
        columns: "d.*, e.id AS event_id, e.type AS event_type, e.at_ms AS event_at_ms, e.customer_id AS customer_id",
        from: "webhook_deliveries d CROSS JOIN events e ON e.seq = d.seq",
        which,
        fitting,
        order: BY_TIME.order(order, "d."),
    })
}

fn delivery(row: &Row<'_>) -> sql::Result<WebhookDelivery> {
    Ok(WebhookDelivery {
        event_id: row.get("event_id")?,
        cursor: row.get("seq")?,
        kind: row.get("event_type")?,
        customer_id: row.get::<_, Option<String>>("customer_id")?.map(CustomerId::new),
        at: timestamp(row.get("event_at_ms")?),
        state: row.get("state")?,
        attempts: row.get("attempts")?,
        last_attempt_at: timestamp(row.get("at_ms")?),
        last_status: row.get("status")?,
        last_error: row.get("error")?,
    })
}

impl Store {
    /// Returns the cursor before the first event that is not from before a moment.
    pub async fn cursor_before(&self, moment: Timestamp) -> Result<i64, StoreError> {
        self.read(move |connection| {
            let place = BY_TIME.place_of(connection, moment).during("find an event by its time")?;
            Ok(place.saturating_sub(1).max(0))
        })
        .await
    }

    /// Lists deliveries.
    pub async fn webhook_deliveries(
        &self,
        filter: DeliveryFilter,
        order: Order,
        page: Page,
    ) -> Result<Listed<WebhookDelivery>, StoreError> {
        self.read(move |connection| {
            listing(connection, filter, order, &page)
                .and_then(|listing| {
                    listing.page(connection, page.limit, delivery, |row| row.cursor.to_string())
                })
                .during("list deliveries")
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::event::{EventType, PerLane};
    use crate::store::engine::statements::plan_of;
    use crate::store::test_database::open_store;

    fn page(limit: u32) -> Page {
        Page { after: None, limit }
    }

    fn attempt(seq: i64, outcome: DeliveryOutcome) -> DeliveryAttempt {
        let at = Timestamp::from_second(1_000 + seq).unwrap();
        DeliveryAttempt { lane: Lane::Prompt, seq, at, outcome }
    }

    #[tokio::test]
    async fn a_delivery_counts_its_attempts_and_goes_with_its_event() {
        let folder = tempfile::tempdir().unwrap();
        let store = open_store(&folder.path().join("marketd.db"));
        store.begin_webhook().await.unwrap();
        for second in 1..=4 {
            let at = Timestamp::from_second(second).unwrap();
            store.tell(EventType::PlanUpdated, &json!({}), at).await.unwrap();
        }
        let turn = store.webhook_place().await.unwrap().turn;
        let refused = |seq| {
            let error = "the application answered 500".to_owned();
            attempt(seq, DeliveryOutcome::Refused { status: Some(500), error })
        };
        let taken = |seq| attempt(seq, DeliveryOutcome::Taken(204));
        let given_up = attempt(1, DeliveryOutcome::GivenUp);
        // Of one that was pruned meanwhile nothing is left to tell.
        let all = vec![refused(1), refused(2), refused(1), given_up, taken(3), taken(2), taken(9)];
        let lanes = PerLane::from_fn(|_| 3);
        // Noted too where somebody set the webhook elsewhere meanwhile.
        assert!(!store.note_posted(turn + 1, lanes, all).await.unwrap());
        let listed = async |state, order| {
            let filter = DeliveryFilter { state, span: Span::default() };
            let found = store.webhook_deliveries(filter, order, page(10)).await.unwrap().rows;
            let told = found.iter().map(|it| (it.cursor, it.state.clone(), it.attempts));
            told.collect::<Vec<_>>()
        };
        let word = |state: DeliveryState| state.as_str().to_owned();
        let (delivered, gone) = (word(DeliveryState::Delivered), word(DeliveryState::GivenUp));
        let newest = [(3, delivered.clone(), 1), (2, delivered.clone(), 2), (1, gone.clone(), 2)];
        assert_eq!(listed(None, Order::Newest).await, newest);
        assert_eq!(listed(Some(DeliveryState::GivenUp), Order::Oldest).await, [(1, gone, 2)]);
        assert_eq!(listed(Some(DeliveryState::Failing), Order::Oldest).await, []);
        let since = Some(Timestamp::from_second(3).unwrap());
        let filter = DeliveryFilter { state: None, span: Span { since, until: None } };
        let found = store.webhook_deliveries(filter, Order::Newest, page(10)).await.unwrap();
        assert_eq!(found.rows.iter().map(|it| it.cursor).collect::<Vec<_>>(), [3]);
        let forget = |connection: &Connection| {
            connection.execute("DELETE FROM events WHERE seq < 3", []).during("forget")
        };
        store.write(forget).await.unwrap();
        assert_eq!(listed(None, Order::Newest).await, [(3, delivered, 1)]);
    }

    #[tokio::test]
    async fn a_list_of_deliveries_is_read_by_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("marketd.db")).unwrap();
        for state in [None, Some(DeliveryState::Failing), Some(DeliveryState::Delivered)] {
            let span = Span { since: Some(Timestamp::UNIX_EPOCH), until: None };
            let explain = move |connection: &Connection| {
                let filter = DeliveryFilter { state, span };
                let listing = listing(connection, filter, Order::Newest, &page(1))?;
                Ok::<_, sql::Error>(plan_of(connection, &listing.statement()))
            };
            let plan = store.read(move |it| explain(it).during("explain")).await.unwrap();
            let text = plan.join("; ");
            assert!(!text.contains("SCAN") && !text.contains("TEMP B-TREE"), "{text}");
            let by_state = text.contains("webhook_deliveries_by_state");
            assert_eq!(by_state, state == Some(DeliveryState::Failing), "{text}");
        }
    }
}
