//! Decisions of people about parked records: each is kept, with who decided, when and why.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::record_rows::{RecordRow, record_in};
use crate::domain::api_token::LOCAL;
use crate::domain::event::EventType;
use crate::store::base::activity::{current_actor, say};
use crate::store::base::columns::{millis, timestamp};
use crate::store::base::outbox::append_event_in;
use crate::store::engine::sql::{Connection, named_params};
use crate::store::{During, StoreError};

/// What a person wants done with a parked record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Send it again as it is.
    Retry,
    /// Bill its units with a later hour.
    CarryForward,
    /// Give it up.
    WriteOff,
}

impl Resolution {
    /// Returns the word that the API and the database write for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::CarryForward => "carry_forward",
            Self::WriteOff => "write_off",
        }
    }
}

/// The most records that the activity names.
const RECORDS_SAID: usize = 20;

/// A person's decision, which may be about many records.
#[derive(Clone, Debug)]
pub(super) struct Decision {
    pub(super) resolution: Resolution,
    pub(super) note: String,
    pub(super) actor: String,
    pub(super) at: Timestamp,
}

impl Decision {
    /// Makes a decision of whoever this task works for.
    pub(super) fn by_current_actor(resolution: Resolution, note: String, at: Timestamp) -> Self {
        let actor = current_actor().map_or_else(|| LOCAL.to_owned(), |actor| actor.name);
        Self { resolution, note, actor, at }
    }

    /// Says in the activity what is decided, and about which records: the first of them, where they are many.
    pub(super) fn say(&self, records: impl IntoIterator<Item = i64>) {
        let records: Vec<String> =
            records.into_iter().take(RECORDS_SAID).map(|it| it.to_string()).collect();
        say(&json!({"action": self.resolution.as_str(), "records": records}));
    }
}

/// A decision about a record, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct DecisionRow {
    /// The time.
    pub at: Timestamp,
    /// The name of the token by which it was made; `local` where the API has none.
    pub actor: String,
    /// `retry`, `carry_forward` or `write_off`.
    pub action: String,
    /// The reason that was given.
    pub note: String,
}

/// A record as an event shows it once it is resolved.
#[derive(Serialize, ToSchema)]
pub struct ResolvedRecord<'a> {
    /// The record as it stands then.
    #[serde(flatten)]
    pub record: &'a RecordRow,
    /// The decision.
    pub decision: &'a DecisionRow,
}

/// Keeps a decision beside those before it and tells of it, in the transaction that carries it out. Returns the record as
/// it stands then.
pub(super) fn note_decision_in(
    connection: &Connection,
    record: i64,
    decision: &Decision,
) -> Result<RecordRow, StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO metering_decisions (record_id, decision, at_ms, actor, action, note)
             SELECT :record, 1 + coalesce(max(decision), 0), :at, :actor, :action, :note
             FROM metering_decisions WHERE record_id = :record",
        )
        .and_then(|mut insert| {
            insert.post(named_params! {
                ":record": record,
                ":at": millis(decision.at),
                ":actor": decision.actor,
                ":action": decision.resolution.as_str(),
                ":note": decision.note,
            })
        })
        .during("keep a decision")?;
    let gone = || StoreError::Corrupt { what: "a resolved record", detail: "it is gone".into() };
    let resolved = record_in(connection, record)?.ok_or_else(gone)?;
    let kept = DecisionRow {
        at: decision.at,
        actor: decision.actor.clone(),
        action: decision.resolution.as_str().to_owned(),
        note: decision.note.clone(),
    };
    let told = ResolvedRecord { record: &resolved, decision: &kept };
    append_event_in(
        connection,
        EventType::MeteringResolved,
        Some(&resolved.customer_id),
        &told,
        decision.at,
    )?;
    Ok(resolved)
}

/// Returns the decisions about a record, in the order in which they were made.
pub(super) fn decisions_in(
    connection: &Connection,
    record: i64,
) -> Result<Vec<DecisionRow>, StoreError> {
    connection
        .prepare_cached("SELECT * FROM metering_decisions WHERE record_id = ?1 ORDER BY decision")
        .and_then(|mut select| {
            select
                .query_map([record], |row| {
                    Ok(DecisionRow {
                        at: timestamp(row.get("at_ms")?),
                        actor: row.get("actor")?,
                        action: row.get("action")?,
                        note: row.get("note")?,
                    })
                })?
                .collect()
        })
        .during("read a record's decisions")
}
