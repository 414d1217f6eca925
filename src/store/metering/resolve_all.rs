//! Resolving all parked records that match, by one decision.
//!
//! The records are found and resolved piece by piece, each piece in a transaction of its own, so that the writer is soon
//! free for others however many they are. Whoever stops in between begins anew: what is resolved is parked no more.

use jiff::Timestamp;

use super::decisions::{Decision, Resolution};
use super::ledger_view::RecordFilter;
use super::record_rows::record_in;
use super::resolve::{ResolveError, carry_out_in, step_in};
use crate::domain::{ClockHour, Id, Quantity};
use crate::store::base::filter::Conditions;
use crate::store::engine::sql::{Connection, Row};
use crate::store::{During, Store, StoreError};

/// The number of records in one transaction.
const PIECE: u32 = 250;
/// The most refusals that are returned.
const REFUSALS_MOST: usize = 100;

/// The outcome of a decision about all records that match.
#[derive(Debug, Default)]
pub struct ResolvedAll {
    /// The number of records that match.
    pub matched: u64,
    /// The number of them that were resolved, or would be.
    pub resolved: u64,
    /// The units of those.
    pub units: Quantity,
    /// The first of those that could not bear the decision, and why.
    pub refused: Vec<(String, ResolveError)>,
    /// The fault of the store that ended it early, if there was one.
    pub cut_short: Option<StoreError>,
}

impl ResolvedAll {
    fn add(&mut self, piece: Self) {
        self.matched += piece.matched;
        self.resolved += piece.resolved;
        self.units = [self.units, piece.units].into_iter().sum();
        let room = REFUSALS_MOST.saturating_sub(self.refused.len());
        self.refused.extend(piece.refused.into_iter().take(room));
    }
}

/// A parked record as it was found.
#[derive(Clone, Debug)]
struct Found {
    id: i64,
    hour: i64,
    reason: Option<String>,
}

impl Store {
    /// Carries out a person's decision about all parked records that match, the oldest hour first. Its state is not asked
    /// for: only parked ones are for a person to decide.
    pub async fn resolve_records(
        &self,
        filter: RecordFilter,
        resolution: Resolution,
        note: String,
        now: Timestamp,
    ) -> ResolvedAll {
        let decision = Decision::by_current_actor(resolution, note, now);
        let all = self.in_pieces(filter, &decision, Mode::Resolve).await;
        if all.resolved > 0 {
            tracing::info!(
                actor = decision.actor,
                action = resolution.as_str(),
                records = all.resolved,
                units = all.units.to_string(),
                "parked records were resolved"
            );
        }
        all
    }

    /// Returns what such a decision would come to, and changes nothing.
    pub async fn try_resolving(
        &self,
        filter: RecordFilter,
        resolution: Resolution,
        now: Timestamp,
    ) -> ResolvedAll {
        let decision = Decision::by_current_actor(resolution, String::new(), now);
        self.in_pieces(filter, &decision, Mode::Check).await
    }

    async fn in_pieces(
        &self,
        filter: RecordFilter,
        decision: &Decision,
        mode: Mode,
    ) -> ResolvedAll {
        let mut all = ResolvedAll::default();
        let mut after = (i64::MIN, i64::MIN);
        loop {
            match self.piece(filter.clone(), after, decision.clone(), mode).await {
                Ok(Some((piece, last))) => {
                    all.add(piece);
                    after = last;
                }
                Ok(None) => return all,
                Err(error) => {
                    all.cut_short = Some(error);
                    return all;
                }
            }
        }
    }

    /// Decides on the next records after a place, and returns the place of the last of them; none if there are no more.
    async fn piece(
        &self,
        filter: RecordFilter,
        after: Place,
        decision: Decision,
        mode: Mode,
    ) -> Result<Option<(ResolvedAll, Place)>, StoreError> {
        let found = self.read(move |connection| find_in(connection, filter, after)).await?;
        let Some(last) = found.last().map(|it| (it.hour, it.id)) else { return Ok(None) };
        let work = move |connection: &Connection| {
            decision.say(found.iter().map(|it| it.id));
            decide_in(connection, &found, &decision, mode)
        };
        let piece = match mode {
            Mode::Resolve => self.write(work).await?,
            Mode::Check => self.read(work).await?,
        };
        Ok(Some((piece, last)))
    }
}

/// A place in the order of parked records: the hour and the id.
type Place = (i64, i64);

/// Whether a decision is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Resolve,
    Check,
}

/// Finds the next parked records, in the order of their index.
fn find_in(
    connection: &Connection,
    filter: RecordFilter,
    after: Place,
) -> Result<Vec<Found>, StoreError> {
    let bounds = vec![(":hour", after.0.into()), (":id", after.1.into()), (":limit", PIECE.into())];
    let which = Conditions::of("state = 'parked' AND (hour, id) > (:hour, :id)", bounds)
        .with(":reason", filter.reason, "reason = :reason")
        .with(":product", filter.product_id.map(Id::into_string), "product_id = :product")
        .with(":customer", filter.customer_id.map(Id::into_string), "customer_id = :customer")
        .with(":dimension", filter.dimension.map(Id::into_string), "dimension = :dimension")
        .with(":from", filter.from.map(ClockHour::number), "hour >= :from")
        .with(":before", filter.before.map(ClockHour::number), "hour < :before");
    let found =
        |row: &Row<'_>| Ok(Found { id: row.get(0)?, hour: row.get(1)?, reason: row.get(2)? });
    connection
        .prepare_cached(&format!(
            "SELECT id, hour, reason FROM metering_records WHERE {} ORDER BY hour, id LIMIT :limit",
            which.text()
        ))
        .and_then(|mut select| select.query_map(&*which.values(), found)?.collect())
        .during("find parked records")
}

/// Decides on those records that are still parked as they were found: somebody else may have decided meanwhile.
fn decide_in(
    connection: &Connection,
    found: &[Found],
    decision: &Decision,
    mode: Mode,
) -> Result<ResolvedAll, StoreError> {
    let mut piece = ResolvedAll::default();
    for Found { id, reason, .. } in found {
        let Some(record) = record_in(connection, *id)? else { continue };
        if record.state != "parked" || record.reason != *reason {
            continue;
        }
        piece.matched += 1;
        match step_in(connection, *id, &record, decision.resolution, decision.at) {
            Ok(step) => {
                if mode == Mode::Resolve {
                    carry_out_in(connection, *id, &record, step, decision)?;
                }
                piece.resolved += 1;
                piece.units = [piece.units, record.quantity].into_iter().sum();
            }
            Err(ResolveError::Store(error)) => return Err(error),
            Err(refusal) => piece.refused.push((record.id, refusal)),
        }
    }
    Ok(piece)
}
