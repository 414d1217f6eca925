//! Usage events: on disk before they are answered, each added to exactly one metering record.
//!
//! What does not change between the events of one report (who the customer is, which licence bears a
//! dimension, which hour is open) is looked up once for a report, and found again without making a key of it.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{CachedStatement, Connection, OptionalExtension};

use super::attribution::{AttributionError, AttributionRequest, UsageAttribution, attribute_in};
use super::catalogue_view::CatalogueView;
use super::open_records::tags_text;
use super::placement::{PlacementCache, UsageItem};
use super::rating::{RatedUsage, Rater};
use super::remembered::{Remembered, RememberedCustomer};
use super::unknown_hours::unknown_hours_in;
use crate::domain::ledger::{AgeLimits, Placement, UnknownHours, place};
use crate::domain::usage::{Fingerprint, Rejection, UsageEvent, UsageReceipt};
use crate::domain::{ClockHour, CustomerId, DimensionKey, FeatureId, ProductId};
use crate::store::base::aliases::canonical_in;
use crate::store::base::columns::millis;
use crate::store::base::pruned::{History, pruned_in};
use crate::store::subscriptions::holdings::holdings_in;
use crate::store::{During, Store, StoreError};

impl Store {
    /// Takes a report: each event once, whole or not at all. `Ok` means that it is on disk.
    pub async fn append_usage(
        &self,
        events: Vec<UsageEvent>,
        limits: AgeLimits,
        now: Timestamp,
    ) -> Result<UsageReceipt, StoreError> {
        let remembered = Arc::clone(&self.remembered);
        self.write(move |connection| {
            UsageReport::new(connection, &remembered, limits, now)?.take(&events)
        })
        .await
    }
}

/// A usage report while it is taken.
struct UsageReport<'a> {
    connection: &'a Connection,
    catalogue: CatalogueView<'a>,
    remembered: &'a Remembered,
    limits: AgeLimits,
    now: Timestamp,
    /// The time up to which usage may have been reported before, and been pruned since.
    pruned_until: Option<Timestamp>,
    /// The hours of which AWS may know more than we do.
    unknown: UnknownHours,
    /// The hours that AWS refused since something else had metered them; read when late usage asks for them.
    conflicts: Option<HashSet<Conflict>>,
    accounts: HashMap<CustomerId, Option<Rc<ReportedCustomer>>>,
    insert: CachedStatement<'a>,
    rater: Rater<'a>,
    receipt: UsageReceipt,
}

/// A customer whose usage a report holds.
struct ReportedCustomer {
    id: CustomerId,
    standing: Arc<RememberedCustomer>,
    /// The attributions found so far. They are few: what one customer uses in the hours of one report.
    cached: RefCell<Vec<Rc<ReportedAttribution>>>,
}

/// The attribution of one customer's usage of one subject and hour, found once.
struct ReportedAttribution {
    request: AttributionRequest,
    attribution: Result<UsageAttribution, AttributionError>,
    cache: RefCell<PlacementCache>,
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

/// An event that was taken before, as far as a repetition is told by it.
struct KnownEvent {
    fingerprint: Vec<u8>,
    customer: CustomerId,
    /// The time of use, if the application said one.
    timed_ms: Option<i64>,
}

const INSERT: &str =
    "INSERT INTO usage_events (id, fingerprint, customer_id, feature_id, record_id,
        quantity, billed, at_ms, timed, received_at_ms, moved, tags, included_under)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) ON CONFLICT (id) DO NOTHING";

/// A customer's hour of a dimension in conflict with AWS.
type Conflict = (CustomerId, ProductId, DimensionKey, ClockHour);
/// The reason why an event is not taken: its code, and words for a person.
type Refusal = (&'static str, String);
/// An event's account and the hour that it belongs to, and true if that is not its own because it is late.
type Judged = Result<(Rc<ReportedCustomer>, ClockHour, bool), Refusal>;

impl<'a> UsageReport<'a> {
    fn new(
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
            pruned_until: pruned_in(connection, History::UsageEvents)?.map(|it| it.until),
            unknown: unknown_hours_in(connection)?,
            conflicts: None,
            accounts: HashMap::new(),
            insert: connection.prepare_cached(INSERT).during("append a usage event")?,
            rater: Rater::new(connection),
            receipt: UsageReceipt::default(),
        })
    }

    fn take(mut self, events: &[UsageEvent]) -> Result<UsageReceipt, StoreError> {
        for event in events {
            if let Err((code, detail)) = self.take_one(event)? {
                self.receipt.rejected.push(Rejection { id: event.id.clone(), code, detail });
            }
        }
        self.rater.finish()?;
        Ok(self.receipt)
    }

    /// Takes one event. The outer error undoes the whole report; the inner one leaves out the event.
    fn take_one(&mut self, event: &UsageEvent) -> Result<Result<(), Refusal>, StoreError> {
        let fingerprint = event.fingerprint();
        let (account, hour, late) = match self.judge(event)? {
            Ok(judged) => judged,
            Err(refusal) => return self.known_or(event, &fingerprint, refusal),
        };
        let attributed = self.attribution_of(&account, event, hour)?;
        let attribution = match &attributed.attribution {
            Ok(attribution) => attribution,
            Err(error) => {
                let refusal = (error.code(), error.to_string());
                return self.known_or(event, &fingerprint, refusal);
            }
        };
        let tags = (!event.tags.is_empty()).then(|| tags_text(&event.tags)).transpose()?;
        let it = UsageItem {
            customer: &account.id,
            feature: event.feature(),
            quantity: event.quantity,
            at: event.timestamp.unwrap_or(self.now).min(self.now),
            hour,
            tags: tags.as_deref(),
        };
        if let Some(target) = &attribution.target
            && !self.rater.can_hold(&target.product_id, it.quantity)?
        {
            let detail = format!(
                "more was reported of product {} than can be accounted for; report it in a larger unit",
                target.product_id
            );
            return self.known_or(event, &fingerprint, ("total_too_large", detail));
        }
        let mut cache = attributed.cache.borrow_mut();
        let mut billed = self.rater.place(&it, attribution, &mut cache)?;
        if late {
            billed.moved = Some("late");
        }
        if !self.insert(event, &it, &fingerprint, billed)? {
            let refusal = ("conflicting_duplicate", String::new());
            return self.known_or(event, &fingerprint, refusal);
        }
        self.rater.count(&it, attribution, billed, &mut cache);
        self.receipt.accepted += 1;
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
            && let Ok(attribution) = &self.attribution_of(account, event, own)?.attribution
            && let Some(target) = &attribution.target
        {
            let (product, dimension) = (target.product_id.clone(), target.dimension.clone());
            found = conflicts.contains(&(account.id.clone(), product, dimension, own));
        }
        self.conflicts = Some(conflicts);
        Ok(found)
    }

    /// Refuses an event unless it was taken before: then it stays taken, whatever would be said of it today.
    fn known_or(
        &mut self,
        event: &UsageEvent,
        fingerprint: &Fingerprint,
        refusal: Refusal,
    ) -> Result<Result<(), Refusal>, StoreError> {
        match self.held(&event.id)? {
            Some(held) if self.repeats(event, fingerprint, &held)? => {
                self.receipt.duplicates += 1;
                Ok(Ok(()))
            }
            Some(_) => {
                let detail =
                    "another event was reported under this id; give each event an id of its own";
                Ok(Err(("conflicting_duplicate", detail.to_owned())))
            }
            None => Ok(Err(refusal)),
        }
    }

    /// Reports whether an event is the one held under its id: of the same customer by whatever id of theirs, and
    /// of the same time where both say when.
    fn repeats(
        &self,
        event: &UsageEvent,
        fingerprint: &Fingerprint,
        held: &KnownEvent,
    ) -> Result<bool, StoreError> {
        let same_time = match (held.timed_ms, event.timestamp) {
            (Some(held), Some(said)) => held == millis(said),
            _ => true,
        };
        if held.fingerprint != fingerprint.as_bytes() || !same_time {
            return Ok(false);
        }
        if held.customer == event.customer_id {
            return Ok(true);
        }
        let is_now = canonical_in(self.connection, &held.customer)?;
        Ok(is_now.is_some() && is_now == canonical_in(self.connection, &event.customer_id)?)
    }

    fn held(&self, id: &str) -> Result<Option<KnownEvent>, StoreError> {
        self.connection
            .prepare_cached(
                "SELECT fingerprint, customer_id, CASE WHEN timed THEN at_ms END FROM usage_events WHERE id = ?1",
            )
            .and_then(|mut select| {
                select
                    .query_row([id], |row| {
                        Ok(KnownEvent {
                            fingerprint: row.get(0)?,
                            customer: CustomerId::new(row.get::<_, String>(1)?),
                            timed_ms: row.get(2)?,
                        })
                    })
                    .optional()
            })
            .during("look up a usage event")
    }

    fn account(&mut self, id: &CustomerId) -> Result<Option<Rc<ReportedCustomer>>, StoreError> {
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
        let stretch = standing.holdings.stretch(event.timestamp.unwrap_or(self.now).min(self.now));
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
        let attribution = attribute_in(&self.catalogue, &request, standing, self.now)?;
        let cache = RefCell::new(PlacementCache::remembering(standing));
        let attributed = Rc::new(ReportedAttribution { request, attribution, cache });
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
        self.insert
            .execute(rusqlite::params![
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
            ])
            .map(|rows| rows == 1)
            .during("append a usage event")
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
