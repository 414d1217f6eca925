//! Usage events: on disk before they are answered, each added to exactly one metering record.
//!
//! What does not change between the events of one report (who the customer is, which licence bears a
//! dimension, which hour is open) is looked up once for a report, and found again without making a key of it.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use jiff::Timestamp;

use super::attribution::{AttributionError, AttributionRequest, UsageAttribution, attribute_in};
use super::catalogue_view::CatalogueView;
use super::open_records::tags_text;
use super::placement::{PlacementCache, UsageItem};
use super::rating::{RatedUsage, Rater};
use super::remembered::{Remembered, RememberedCustomer};
use super::repetition::{KnownEvent, Refusal, known_or, known_or_in};
use super::slots::MeteringTarget;
use super::unknown_hours::unknown_hours_in;
use crate::domain::ledger::{AgeLimits, Placement, UnknownHours, place};
use crate::domain::usage::{Fingerprint, Rejection, UsageEvent, UsageReceipt};
use crate::domain::{ClockHour, CustomerId, DimensionKey, FeatureId, ProductId};
use crate::store::base::aliases::canonical_in;
use crate::store::base::columns::millis;
use crate::store::base::pruned::{History, pruned_in};
use crate::store::engine::sql::{self, Connection, Statement};
use crate::store::subscriptions::holdings::holdings_in;
use crate::store::{During, StoreError};

/// A usage report while it is taken.
pub(crate) struct UsageReport<'a> {
    pub(super) connection: &'a Connection,
    catalogue: CatalogueView<'a>,
    remembered: &'a Remembered,
    limits: AgeLimits,
    pub(super) now: Timestamp,
    /// The events that are held under the ids of this report; none where each is found out as it is written.
    pub(super) held: Option<HashMap<String, KnownEvent>>,
    /// The time up to which usage may have been reported before, and been pruned since.
    pruned_until: Option<Timestamp>,
    /// The hours of which AWS may know more than we do.
    unknown: UnknownHours,
    /// The hours that AWS refused since something else had metered them; read when late usage asks for them.
    conflicts: Option<HashSet<Conflict>>,
    accounts: HashMap<CustomerId, Option<Rc<ReportedCustomer>>>,
    pub(super) insert: Statement<'a>,
    pub(super) rater: Rater<'a>,
}

/// When an event was taken.
enum Taken {
    /// Just now.
    New,
    /// Before: this is a repetition.
    Before,
}

/// A customer whose usage a report holds.
pub(super) struct ReportedCustomer {
    pub(super) id: CustomerId,
    pub(super) standing: Arc<RememberedCustomer>,
    /// The attributions found so far. They are few: what one customer uses in the hours of one report.
    cached: RefCell<Vec<Rc<ReportedAttribution>>>,
}

/// The attribution of one customer's usage of one subject and hour, found once.
struct ReportedAttribution {
    request: AttributionRequest,
    outcome: Result<Rc<ReportedBearer>, AttributionError>,
}

/// The bearer of that usage, and where it was placed.
pub(super) struct ReportedBearer {
    pub(super) attribution: UsageAttribution,
    pub(super) cache: RefCell<PlacementCache>,
}

/// A usage event that can be booked: whose it is, the hour that it belongs to, and what bears it.
pub(crate) struct AttributedUsage {
    pub(super) account: Rc<ReportedCustomer>,
    pub(super) hour: ClockHour,
    /// Set if that is not its own hour because it is late.
    late: bool,
    pub(super) bearer: Rc<ReportedBearer>,
}

impl AttributedUsage {
    /// Returns what the event is metered to; none where it is only counted.
    pub(crate) fn target(&self) -> Option<&MeteringTarget> {
        self.bearer.attribution.target.as_ref()
    }
}

impl ReportedAttribution {
    fn serves(&self, event: &UsageEvent, hour: ClockHour, stretch: Timestamp) -> bool {
        let request = &self.request;
        request.hour == hour
            && request.stretch == stretch
            && request.subject == event.subject
            && request.license == event.license_arn
    }
}

/// Inserts an event. Where its id was looked for before, one that is taken all the same undoes the report.
macro_rules! insert {
    ($conflict:literal) => {
        concat!(
            "INSERT INTO usage_events (id, fingerprint, customer_id, feature_id, record_id,
                quantity, billed, at_ms, timed, received_at_ms, moved, tags, included_under)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            $conflict
        )
    };
}
const INSERT: &str = insert!(" ON CONFLICT (id) DO NOTHING");
pub(super) const INSERT_NEW: &str = insert!("");

/// A customer's hour of a dimension in conflict with AWS.
type Conflict = (CustomerId, ProductId, DimensionKey, ClockHour);
/// An event's account and the hour that it belongs to, and true if that is not its own because it is late.
type Judged = Result<(Rc<ReportedCustomer>, ClockHour, bool), Refusal>;

impl<'a> UsageReport<'a> {
    pub(crate) fn new(
        connection: &'a Connection,
        remembered: &'a Remembered,
        limits: AgeLimits,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            connection,
            catalogue: CatalogueView::new(connection),
            remembered,
            limits,
            now,
            held: None,
            pruned_until: pruned_in(connection, History::UsageEvents)?.map(|it| it.until),
            unknown: unknown_hours_in(connection)?,
            conflicts: None,
            accounts: HashMap::new(),
            insert: connection.prepare_cached(INSERT).during("append a usage event")?,
            rater: Rater::new(connection),
        })
    }

    /// Takes events that were reported together, at this time; returns what came of each of them.
    pub(super) fn take(
        &mut self,
        events: &[UsageEvent],
        now: Timestamp,
    ) -> Result<UsageReceipt, StoreError> {
        self.now = now;
        let mut receipt = UsageReceipt::default();
        for event in events {
            match self.take_one(event)? {
                Ok(Taken::New) => receipt.accepted += 1,
                Ok(Taken::Before) => receipt.duplicates += 1,
                Err((code, detail)) => {
                    receipt.rejected.push(Rejection { id: event.id.clone(), code, detail });
                }
            }
        }
        Ok(receipt)
    }

    /// Writes the sums of what was booked.
    pub(crate) fn finish(self) -> Result<(), StoreError> {
        self.rater.finish()
    }

    /// Takes one event. The outer error undoes the whole report; the inner one leaves out the event.
    fn take_one(&mut self, event: &UsageEvent) -> Result<Result<Taken, Refusal>, StoreError> {
        let fingerprint = event.fingerprint();
        let booked = match self.attribute(event)? {
            Ok(attributed) => self.book(event, &fingerprint, &attributed)?,
            Err(refusal) => Err(refusal),
        };
        let Err(refusal) = booked else { return Ok(Ok(Taken::New)) };
        let known = match &self.held {
            Some(held) => {
                let held = held.get(&event.id);
                known_or(self.connection, event, &fingerprint, held, refusal)?
            }
            None => known_or_in(self.connection, event, &fingerprint, refusal)?,
        };
        Ok(known.map(|()| Taken::Before))
    }

    /// Finds what bears an event.
    pub(crate) fn attribute(
        &mut self,
        event: &UsageEvent,
    ) -> Result<Result<AttributedUsage, Refusal>, StoreError> {
        let (account, hour, late) = match self.judge(event)? {
            Ok(judged) => judged,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let attributed = self.attribution_of(&account, event, hour)?;
        Ok(match &attributed.outcome {
            Ok(bearer) => {
                let bearer = Rc::clone(bearer);
                Ok(AttributedUsage { account, hour, late, bearer })
            }
            Err(error) => Err((error.code(), error.to_string())),
        })
    }

    /// Books an event with what bears it, unless its id is taken.
    pub(crate) fn book(
        &mut self,
        event: &UsageEvent,
        fingerprint: &Fingerprint,
        attributed: &AttributedUsage,
    ) -> Result<Result<(), Refusal>, StoreError> {
        let tags = (!event.tags.is_empty()).then(|| tags_text(&event.tags)).transpose()?;
        let it = UsageItem {
            customer: &attributed.account.id,
            feature: event.feature(),
            quantity: event.quantity,
            at: event.at(self.now),
            hour: attributed.hour,
            tags: tags.as_deref(),
        };
        let attribution = &attributed.bearer.attribution;
        if let Some(target) = &attribution.target
            && !self.rater.can_hold(&target.product_id, it.quantity)?
        {
            let detail = format!(
                "more was reported of product {} than can be accounted for; report it in a larger unit",
                target.product_id
            );
            return Ok(Err(("total_too_large", detail)));
        }
        let mut cache = attributed.bearer.cache.borrow_mut();
        let mut billed = self.rater.place(&it, attribution, &mut cache)?;
        if attributed.late {
            billed.moved = Some("late");
        }
        if !self.insert(event, &it, fingerprint, billed)? {
            return Ok(Err(("conflicting_duplicate", String::new())));
        }
        self.rater.count(&it, attribution, billed, &mut cache);
        Ok(Ok(()))
    }

    fn judge(&mut self, event: &UsageEvent) -> Result<Judged, StoreError> {
        let Some(account) = self.account(&event.customer_id)? else {
            let detail = format!("there is no customer {}: provision it first", event.customer_id);
            return Ok(Err(("unknown_customer", detail)));
        };
        if let Some((said, until)) = event.timestamp.zip(self.pruned_until)
            && millis(said) <= millis(until)
        {
            let detail = format!(
                "usage from up to {until} was pruned (retention.usage_events), so nobody can tell whether it was reported \
                 before"
            );
            return Ok(Err(("too_old", detail)));
        }
        let at = event.timestamp.unwrap_or(self.now);
        Ok(match place(at, self.now, self.limits) {
            Placement::Own(hour) => Ok((account, hour, false)),
            Placement::Late(hour) => {
                let own = ClockHour::of(at);
                let stays = self.unknown.holds(own) || self.is_in_conflict(&account, event, own)?;
                if stays { Ok((account, own, false)) } else { Ok((account, hour, true)) }
            }
            Placement::Future => {
                let detail = format!("{at} is more than 5 minutes ahead of {}", self.now);
                Err(("timestamp_in_future", detail))
            }
            Placement::TooOld => {
                let detail = format!(
                    "{at} is longer ago than usage.max_age allows: nothing from before {} is taken",
                    self.now.saturating_sub(self.limits.max_age).unwrap_or(Timestamp::MIN)
                );
                Err(("too_old", detail))
            }
            Placement::Nonsense => {
                let detail = format!(
                    "{at} is before the year 2000: nothing was used then; look at how it is made"
                );
                Err(("invalid_timestamp", detail))
            }
        })
    }

    /// Reports whether AWS was told of an event's hour by something that this ledger never sent: what comes late for it
    /// may be a part of that, and is never moved.
    fn is_in_conflict(
        &mut self,
        account: &ReportedCustomer,
        event: &UsageEvent,
        own: ClockHour,
    ) -> Result<bool, StoreError> {
        let conflicts = match self.conflicts.take() {
            Some(known) => known,
            None => conflicts_in(self.connection)?,
        };
        let mut found = false;
        if !conflicts.is_empty()
            && let Ok(bearer) = &self.attribution_of(account, event, own)?.outcome
            && let Some(target) = &bearer.attribution.target
        {
            let (product, dimension) = (target.product_id.clone(), target.dimension.clone());
            found = conflicts.contains(&(account.id.clone(), product, dimension, own));
        }
        self.conflicts = Some(conflicts);
        Ok(found)
    }

    pub(super) fn account(
        &mut self,
        id: &CustomerId,
    ) -> Result<Option<Rc<ReportedCustomer>>, StoreError> {
        if let Some(known) = self.accounts.get(id) {
            return Ok(known.clone());
        }
        let account = self.standing(id)?.map(|(id, standing)| {
            Rc::new(ReportedCustomer { id, standing, cached: RefCell::default() })
        });
        self.accounts.insert(id.clone(), account.clone());
        Ok(account)
    }

    /// Finds a customer by any id of theirs; what they hold is remembered by the one that they go by.
    fn standing(
        &self,
        id: &CustomerId,
    ) -> Result<Option<(CustomerId, Arc<RememberedCustomer>)>, StoreError> {
        if let Some(standing) = self.remembered.get(id) {
            return Ok(Some((id.clone(), standing)));
        }
        let Some(canonical) = canonical_in(self.connection, id)? else { return Ok(None) };
        let standing = Arc::new(RememberedCustomer::of(holdings_in(self.connection, &canonical)?));
        self.remembered.keep(&canonical, &standing);
        Ok(Some((canonical, standing)))
    }

    fn attribution_of(
        &self,
        account: &ReportedCustomer,
        event: &UsageEvent,
        hour: ClockHour,
    ) -> Result<Rc<ReportedAttribution>, StoreError> {
        let standing = &account.standing;
        let stretch = standing.holdings.stretch(event.at(self.now));
        let known = |attributed: &&Rc<ReportedAttribution>| attributed.serves(event, hour, stretch);
        if let Some(attributed) = account.cached.borrow().iter().find(known) {
            return Ok(Rc::clone(attributed));
        }
        let request = AttributionRequest {
            customer: account.id.clone(),
            subject: event.subject.clone(),
            license: event.license_arn.clone(),
            hour,
            stretch,
        };
        let outcome = attribute_in(&self.catalogue, &request, standing, self.now)?;
        let bearer = |attribution| {
            let cache = RefCell::new(PlacementCache::remembering(standing));
            Rc::new(ReportedBearer { attribution, cache })
        };
        let attributed = Rc::new(ReportedAttribution { request, outcome: outcome.map(bearer) });
        account.cached.borrow_mut().push(Rc::clone(&attributed));
        Ok(attributed)
    }

    /// Writes an event unless its id is taken, and reports whether it is new.
    fn insert(
        &mut self,
        event: &UsageEvent,
        it: &UsageItem<'_>,
        fingerprint: &Fingerprint,
        billed: RatedUsage,
    ) -> Result<bool, StoreError> {
        let params = sql::params![
            event.id,
            fingerprint.as_bytes(),
            it.customer.as_str(),
            it.feature.map(FeatureId::as_str),
            billed.record,
            it.quantity.millionths(),
            billed.quantity.millionths(),
            millis(event.timestamp.unwrap_or(self.now)),
            event.timestamp.is_some(),
            millis(self.now),
            billed.moved,
            it.tags,
            billed.included_under,
        ];
        let Some(held) = &mut self.held else {
            return self
                .insert
                .execute(params)
                .map(|rows| rows == 1)
                .during("append a usage event");
        };
        if held.contains_key(&event.id) {
            return Ok(false);
        }
        held.insert(event.id.clone(), KnownEvent::of(event, fingerprint, it.customer));
        self.insert.post_one(params).map(|()| true).during("append a usage event")
    }
}

fn conflicts_in(connection: &Connection) -> Result<HashSet<Conflict>, StoreError> {
    connection
        .prepare_cached(
            // The reason is a word of the statement, so that the index of those few is used.
            "SELECT customer_id, product_id, dimension, hour FROM metering_records
             WHERE state = 'parked' AND reason = 'duplicate_conflict'",
        )
        .and_then(|mut select| {
            select
                .query_map([], |row| {
                    let customer = CustomerId::new(row.get::<_, String>(0)?);
                    let product = ProductId::new(row.get::<_, String>(1)?);
                    let dimension = DimensionKey::new(row.get::<_, String>(2)?);
                    Ok((customer, product, dimension, ClockHour::from_number(row.get(3)?)))
                })?
                .collect()
        })
        .during("read which hours are in conflict")
}
