//! Activity: who changed what, and by which door.
//!
//! Whoever serves a request says once who acts ([`acting`]); every write under way there notes it in its own transaction.
//! So no handler can forget it, and it is told if and only if something changed.

use std::cell::RefCell;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::by_time::ByTime;
use super::columns::{millis, timestamp};
use super::filter::Conditions;
use super::listing::Listing;
use super::page::{Listed, Order, Page, Span};
use crate::store::engine::sql::{self, Connection, Row, named_params};
use crate::store::{During, Store, StoreError};

tokio::task_local! {
    static ACTOR: Actor;
}

thread_local! {
    /// What the write that is under way on this thread says of itself.
    static DETAIL: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A request that may change something, and who sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The request's id: all that it changes is one activity.
    pub request: String,
    /// The time at which it came.
    pub at: Timestamp,
    /// The name of the token that it carried.
    pub name: String,
    /// The door by which it came.
    pub door: Door,
    /// The operation that it asks for: an `operationId` of the API.
    pub operation: String,
    /// The path that it names.
    pub path: String,
}

/// A door by which somebody acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// A program that calls the API.
    Api,
    /// The command line.
    Cli,
    /// The console.
    Console,
}

impl Door {
    /// Returns the word that answers write for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Cli => "cli",
            Self::Console => "console",
        }
    }
}

/// One activity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ActivityRow {
    /// Its place in the order; also the cursor.
    #[serde(skip)]
    pub seq: i64,
    /// The request's id.
    pub id: String,
    /// The time.
    pub at: Timestamp,
    /// The name of the token by which it was done; `local` where the API has none.
    pub actor: String,
    /// The door by which it was done: `api`, `cli` or `console`.
    pub door: String,
    /// The operation, as `operationId` in `/openapi.json` names it.
    pub operation: String,
    /// The path that it was done at, which names what was changed.
    pub path: String,
    /// What was decided or granted, where the path does not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub detail: Option<Value>,
}

/// Serves a request whose writes are this actor's.
pub fn acting<F: Future>(actor: Actor, work: F) -> impl Future<Output = F::Output> {
    ACTOR.scope(actor, work)
}

/// Has work that another task does be for whoever this one works for.
pub fn for_current_actor<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let actor = current_actor();
    async move {
        match actor {
            Some(actor) => acting(actor, work).await,
            None => work.await,
        }
    }
}

/// Returns the actor for whom this task works, or this write is done; none if nobody has asked for it.
pub(crate) fn current_actor() -> Option<Actor> {
    ACTOR.try_with(Clone::clone).ok()
}

/// Says what the write that is under way decides or grants, where the path of its request does not say it.
pub(crate) fn say(detail: &impl Serialize) {
    DETAIL.set(serde_json::to_string(detail).ok());
}

/// Does a write, and notes the actor beside it if it changed anything.
pub(crate) fn noting<T, E: From<StoreError>>(
    connection: &Connection,
    actor: &Actor,
    work: impl FnOnce(&Connection) -> Result<T, E>,
) -> Result<T, E> {
    let before = connection.total_changes();
    DETAIL.take();
    // The writer's thread is no task of the actor's.
    let done = ACTOR.sync_scope(actor.clone(), || work(connection))?;
    // What is on its way to a server is counted once it is there.
    connection.settle().during("write what was asked for")?;
    if connection.total_changes() != before {
        note_in(connection, actor, DETAIL.take().as_deref())?;
    }
    Ok(done)
}

fn note_in(connection: &Connection, actor: &Actor, detail: Option<&str>) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO activity (request, at_ms, actor, door, operation, path, detail)
             VALUES (:request, :at, :actor, :door, :operation, :path, :detail) ON CONFLICT (request) DO NOTHING",
        )
        .and_then(|mut insert| {
            insert.post(named_params! {
                ":request": actor.request,
                ":at": millis(actor.at),
                ":actor": actor.name,
                ":door": actor.door.as_str(),
                ":operation": actor.operation,
                ":path": actor.path,
                ":detail": detail,
            })
        })
        .during("note who acted")?;
    Ok(())
}

/// The filter of a list of activities.
#[derive(Clone, Debug, Default)]
pub struct ActivityFilter {
    /// The name of the token by which they were done.
    pub actor: Option<String>,
    /// The time at which they were done.
    pub span: Span,
}

/// Kept in the order of time.
const BY_TIME: ByTime = ByTime { table: "activity", place: "seq", at: "at_ms" };

impl Store {
    /// Lists activities.
    pub async fn activities(
        &self,
        filter: ActivityFilter,
        order: Order,
        page: Page,
    ) -> Result<Listed<ActivityRow>, StoreError> {
        self.read(move |connection| {
            let listed = || {
                let listing = Listing {
                    columns: "*",
                    from: "activity",
                    which: BY_TIME.page_in(connection, (order, filter.span, &page), "")?,
                    fitting: Conditions::of("TRUE", Vec::new()).with(
                        ":actor",
                        filter.actor.clone(),
                        "actor = :actor",
                    ),
                    order: BY_TIME.order(order, ""),
                };
                listing.page(connection, page.limit, activity, |row| row.seq.to_string())
            };
            listed().during("list activities")
        })
        .await
    }
}

fn activity(row: &Row<'_>) -> sql::Result<ActivityRow> {
    let detail: Option<String> = row.get("detail")?;
    Ok(ActivityRow {
        seq: row.get("seq")?,
        id: row.get("request")?,
        at: timestamp(row.get("at_ms")?),
        actor: row.get("actor")?,
        door: row.get("door")?,
        operation: row.get("operation")?,
        path: row.get("path")?,
        detail: detail.and_then(|text| serde_json::from_str(&text).ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::test_database::open_store;

    #[tokio::test]
    async fn who_acted_is_noted_also_where_nobody_waits_for_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let store = open_store(&folder.path().join("m.db"));
        let actor = |request: &str| Actor {
            request: request.into(),
            at: Timestamp::UNIX_EPOCH,
            name: "ops".into(),
            door: Door::Api,
            operation: "op".into(),
            path: "/".into(),
        };
        let posts = |connection: &Connection| {
            connection
                .prepare_cached("INSERT INTO usage_totals (product_id, reported) VALUES ('p', 1)")
                .and_then(|mut insert| insert.post([]))
                .during("test")
        };
        acting(actor("posts"), store.write(posts)).await.unwrap();
        acting(actor("nothing"), store.write(|_| Ok::<_, StoreError>(()))).await.unwrap();
        let page = Page { limit: 10, after: None };
        let listed = store.activities(ActivityFilter::default(), Order::default(), page).await;
        let noted: Vec<String> = listed.unwrap().rows.into_iter().map(|it| it.id).collect();
        assert_eq!(noted, ["posts"]);
        store.close();
    }
}
