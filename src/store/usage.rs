//! Usage events: on disk before they are answered, each added to exactly one metering record.
//!
//! What does not change between the events of one report (who the customer is, which licence bears a
//! dimension, which hour is open) is looked up once for a report, and a record is added to once for a report.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension, named_params};

use super::convert::millis;
use super::customers::canonical_in;
use super::records::{RecordKey, open_record_in};
use super::routes::{Route, RouteError, route_in};
use super::{During, Store, StoreError};
use crate::domain::ledger::{Placement, place};
use crate::domain::usage::{Rejection, UsageEvent, UsageReceipt, UsageSubject};
use crate::domain::{ClockHour, CustomerId, FeatureId, LicenseArn, ProductId, Quantity};

impl Store {
    /// Takes a report: each event once, whole or not at all. `Ok` means that it is on disk.
    pub async fn append_usage(
        &self,
        events: Vec<UsageEvent>,
        window: SignedDuration,
        now: Timestamp,
    ) -> Result<UsageReceipt, StoreError> {
        let receipt =
            self.write(move |connection| Report::new(connection, window, now).take(events)).await?;
        Ok(receipt)
    }
}

type Question = (CustomerId, UsageSubject, Option<LicenseArn>);

/// One report under way.
struct Report<'a> {
    connection: &'a Connection,
    window: SignedDuration,
    now: Timestamp,
    customers: HashMap<CustomerId, Option<CustomerId>>,
    routes: HashMap<Question, Result<Route, RouteError>>,
    records: HashMap<RecordKey, (i64, ClockHour)>,
    /// What this report adds, record by record.
    added: HashMap<i64, i64>,
    used: HashMap<(CustomerId, FeatureId, ClockHour), i64>,
    reported: HashMap<ProductId, i64>,
    receipt: UsageReceipt,
}

impl<'a> Report<'a> {
    fn new(connection: &'a Connection, window: SignedDuration, now: Timestamp) -> Self {
        Self {
            connection,
            window,
            now,
            customers: HashMap::new(),
            routes: HashMap::new(),
            records: HashMap::new(),
            added: HashMap::new(),
            used: HashMap::new(),
            reported: HashMap::new(),
            receipt: UsageReceipt::default(),
        }
    }

    fn take(mut self, events: Vec<UsageEvent>) -> Result<UsageReceipt, StoreError> {
        for event in events {
            if let Err(rejection) = self.take_one(&event)? {
                self.receipt.rejected.push(rejection);
            }
        }
        self.write_sums()?;
        Ok(self.receipt)
    }

    /// The outer error undoes the whole report; the inner one leaves out one event.
    fn take_one(&mut self, event: &UsageEvent) -> Result<Result<(), Rejection>, StoreError> {
        let reject = |code, detail| Ok(Err(Rejection { id: event.id.clone(), code, detail }));
        let fingerprint = fingerprint(event);
        if let Some(held) = self.held(&event.id)? {
            if held == fingerprint {
                self.receipt.duplicates += 1;
                return Ok(Ok(()));
            }
            let detail =
                "another event was reported under this id; give each event an id of its own";
            return reject("conflicting_duplicate", detail.to_owned());
        }
        let Some(customer) = self.customer(&event.customer_id)? else {
            let detail = format!("there is no customer {}: provision it first", event.customer_id);
            return reject("unknown_customer", detail);
        };
        let at = event.timestamp.unwrap_or(self.now);
        let (hour, late) = match place(at, self.now, self.window) {
            Placement::Own(hour) => (hour, false),
            Placement::Late(hour) => (hour, true),
            Placement::Future => {
                let detail = format!("{at} is more than 5 minutes ahead of {}", self.now);
                return reject("timestamp_in_future", detail);
            }
        };
        let question = (customer.clone(), event.subject.clone(), event.license_arn.clone());
        let route = match self.route(question)? {
            Ok(route) => route,
            Err(error) => return reject(error.code(), error.to_string()),
        };
        let (record, moved) = self.bill(event, &customer, &route, hour)?;
        if let UsageSubject::Feature(feature) = &event.subject {
            let key = (customer.clone(), feature.clone(), ClockHour::of(at.min(self.now)));
            *self.used.entry(key).or_default() += event.quantity.millionths();
        }
        let moved = if late { Some("late") } else { moved };
        self.insert(event, &customer, fingerprint, record, at, moved)?;
        self.receipt.accepted += 1;
        Ok(Ok(()))
    }

    /// Adds an event to the record that bears it, and says why that is another hour's, if it is.
    fn bill(
        &mut self,
        event: &UsageEvent,
        customer: &CustomerId,
        route: &Route,
        hour: ClockHour,
    ) -> Result<(Option<i64>, Option<&'static str>), StoreError> {
        let Some(bears) = &route.bears else { return Ok((None, None)) };
        let first = route.first_hour.filter(|first| *first > hour);
        let wanted = first.unwrap_or(hour);
        let key = RecordKey { bears: bears.clone(), customer: customer.clone(), hour: wanted };
        let (record, billed) = self.record(key)?;
        let quantity = event.quantity.millionths();
        *self.added.entry(record).or_default() += quantity;
        *self.reported.entry(bears.product_id.clone()).or_default() += quantity;
        let moved = match first {
            Some(_) => Some("before_start"),
            None => (billed != wanted).then_some("hour_frozen"),
        };
        Ok((Some(record), moved))
    }

    fn held(&self, id: &str) -> Result<Option<i64>, StoreError> {
        self.connection
            .prepare_cached("SELECT fingerprint FROM usage_events WHERE id = ?1")
            .and_then(|mut select| select.query_row([id], |row| row.get(0)).optional())
            .during("look up a usage event")
    }

    fn customer(&mut self, id: &CustomerId) -> Result<Option<CustomerId>, StoreError> {
        if let Some(known) = self.customers.get(id) {
            return Ok(known.clone());
        }
        let found = canonical_in(self.connection, id)?;
        self.customers.insert(id.clone(), found.clone());
        Ok(found)
    }

    fn route(&mut self, question: Question) -> Result<Result<Route, RouteError>, StoreError> {
        if let Some(known) = self.routes.get(&question) {
            return Ok(known.clone());
        }
        let (customer, subject, license) = &question;
        let route = route_in(self.connection, customer, subject, license.as_ref(), self.now)?;
        self.routes.insert(question, route.clone());
        Ok(route)
    }

    /// The open record for an hour, or for the next hour that is open if that one is frozen.
    fn record(&mut self, key: RecordKey) -> Result<(i64, ClockHour), StoreError> {
        if let Some(known) = self.records.get(&key) {
            return Ok(*known);
        }
        let found = open_record_in(self.connection, &key)?;
        self.records.insert(key, found);
        Ok(found)
    }

    fn insert(
        &self,
        event: &UsageEvent,
        customer: &CustomerId,
        fingerprint: i64,
        record: Option<i64>,
        at: Timestamp,
        moved: Option<&str>,
    ) -> Result<(), StoreError> {
        let feature = match &event.subject {
            UsageSubject::Feature(feature) => Some(feature.as_str()),
            UsageSubject::Dimension { .. } => None,
        };
        let tags = (!event.tags.is_empty())
            .then(|| serde_json::to_string(&event.tags))
            .transpose()
            .map_err(|error| StoreError::Corrupt { what: "tags", detail: error.to_string() })?;
        self.connection
            .prepare_cached(
                "INSERT INTO usage_events (id, fingerprint, customer_id, feature_id, record_id,
                     quantity, at_ms, received_at_ms, moved, tags)
                 VALUES (:id, :fingerprint, :customer, :feature, :record, :quantity, :at, :now, :moved, :tags)",
            )
            .and_then(|mut insert| {
                insert.execute(named_params! {
                    ":id": event.id, ":fingerprint": fingerprint, ":customer": customer.as_str(),
                    ":feature": feature, ":record": record,
                    ":quantity": event.quantity.millionths(), ":at": millis(at),
                    ":now": millis(self.now), ":moved": moved, ":tags": tags,
                })
            })
            .during("append a usage event")?;
        Ok(())
    }

    fn write_sums(&self) -> Result<(), StoreError> {
        let mut add = self
            .connection
            .prepare_cached("UPDATE metering_records SET quantity = quantity + ?2 WHERE id = ?1")
            .during("add to metering records")?;
        for (record, quantity) in &self.added {
            add.execute((record, quantity)).during("add to metering records")?;
        }
        let mut count = self
            .connection
            .prepare_cached(
                "INSERT INTO usage_hours (customer_id, feature_id, hour, quantity)
                 VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET quantity = quantity + excluded.quantity",
            )
            .during("count usage")?;
        for ((customer, feature, hour), quantity) in &self.used {
            count
                .execute((customer.as_str(), feature.as_str(), hour.number(), quantity))
                .during("count usage")?;
        }
        let mut total = self
            .connection
            .prepare_cached(
                "INSERT INTO usage_totals (product_id, reported) VALUES (?1, ?2)
                 ON CONFLICT DO UPDATE SET reported = reported + excluded.reported",
            )
            .during("total usage")?;
        for (product, quantity) in &self.reported {
            total.execute((product.as_str(), quantity)).during("total usage")?;
        }
        Ok(())
    }
}

/// Tells a repetition from another event under the same id. The time of receipt has no part in it.
fn fingerprint(event: &UsageEvent) -> i64 {
    let mut state = Fnv::default();
    state.text(event.customer_id.as_str());
    match &event.subject {
        UsageSubject::Feature(feature) => state.text(feature.as_str()),
        UsageSubject::Dimension { product_id, dimension } => {
            state.text(product_id.as_str());
            state.text(dimension.as_str());
        }
    }
    state.bytes(&event.quantity.millionths().to_le_bytes());
    state.bytes(&event.timestamp.map_or(i64::MIN, millis).to_le_bytes());
    state.text(event.license_arn.as_ref().map_or("", LicenseArn::as_str));
    for (key, value) in &event.tags {
        state.text(key);
        state.text(value);
    }
    state.0.cast_signed()
}

/// FNV-1a: the same in every release, which the standard library's hasher does not promise.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
        // Ends the text, so that two texts do not run together.
        self.bytes(&[0xff]);
    }
}

/// What a quantity column holds.
pub(super) fn quantity(millionths: i64) -> Quantity {
    Quantity::from_millionths(millionths).unwrap_or_default()
}
