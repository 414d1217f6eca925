//! Reading ahead: what a report is going to ask of a database that takes a way to a server and back for each answer.
//!
//! Nothing is decided here. The questions are those of the functions that decide, asked for all events of a report at
//! once, so that a thousand customers cost as many round trips as one.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use jiff::Timestamp;

use super::first_hour::ask_first_hour;
use super::ingest::{AttributedUsage, INSERT_NEW, ReportedBearer, UsageReport};
use super::records::insert_each_in;
use super::remembered::{Remembered, RememberedCustomer};
use super::repetition::{ask_held, held_in};
use super::slots::{RecordKey, Slot, ask_slot, slot_in};
use super::unknown_hours::ask_unknown_hours;
use crate::domain::CustomerId;
use crate::domain::allowance::Billing;
use crate::domain::usage::UsageEvent;
use crate::store::base::aliases::ask_canonical;
use crate::store::base::pruned::{History, ask_pruned};
use crate::store::engine::sql::Connection;
use crate::store::subscriptions::grants::ask_granted;
use crate::store::subscriptions::holdings::ask_holdings;
use crate::store::{During as _, StoreError};

/// Asks ahead for what a report reads first: who its customers are, what they hold, and which of its events were taken.
pub(crate) fn ask_about(
    connection: &Connection,
    remembered: &Remembered,
    events: &[UsageEvent],
    now: Timestamp,
) -> Result<(), StoreError> {
    if !connection.is_remote() {
        return Ok(());
    }
    ask_pruned(connection, History::UsageEvents)?;
    ask_unknown_hours(connection)?;
    let mut customers = HashSet::new();
    for event in events {
        ask_held(connection, &event.id)?;
        if customers.insert((&event.customer_id, event.feature())) {
            if remembered.get(&event.customer_id).is_none() {
                ask_canonical(connection, &event.customer_id)?;
                ask_holdings(connection, &event.customer_id)?;
            }
            if let Some(feature) = event.feature() {
                ask_granted(connection, &event.customer_id, feature, now)?;
            }
        }
    }
    Ok(())
}

/// The place of usage that needs an open record.
type Wanted = (RecordKey, Arc<RememberedCustomer>, Vec<Rc<ReportedBearer>>);

impl UsageReport<'_> {
    /// Reads what taking these events needs to know.
    pub(super) fn look_ahead(&mut self, events: &[UsageEvent]) -> Result<(), StoreError> {
        if !self.connection.is_remote() {
            return Ok(());
        }
        let mut held = HashMap::new();
        for event in events {
            if let Some(known) = held_in(self.connection, &event.id)? {
                held.insert(event.id.clone(), known);
            }
        }
        self.ask_first_hours(events)?;
        let wanted = self.wanted(events.iter().filter(|event| !held.contains_key(&event.id)))?;
        self.held = Some(held);
        self.insert = self.connection.prepare_cached(INSERT_NEW).during("append a usage event")?;
        self.find_records(wanted)
    }

    fn ask_first_hours(&mut self, events: &[UsageEvent]) -> Result<(), StoreError> {
        let customers: HashSet<&CustomerId> = events.iter().map(|it| &it.customer_id).collect();
        for customer in customers {
            if let Some(account) = self.account(customer)? {
                for holder in account.standing.unknown_first_hours() {
                    ask_first_hour(self.connection, &holder)?;
                }
            }
        }
        Ok(())
    }

    /// Attributes the events, and returns the places of those that are billed in full.
    fn wanted<'e>(
        &mut self,
        events: impl Iterator<Item = &'e UsageEvent>,
    ) -> Result<Vec<Wanted>, StoreError> {
        let mut places = HashMap::<RecordKey, usize>::new();
        let mut wanted = Vec::<Wanted>::new();
        for event in events {
            let Ok(AttributedUsage { account, hour, bearer, .. }) = self.attribute(event)? else {
                continue;
            };
            let attribution = &bearer.attribution;
            let (Some(target), Billing::All) = (&attribution.target, &attribution.billing) else {
                continue;
            };
            let hour = attribution.hour_for(hour);
            let key = RecordKey { target: target.clone(), customer: account.id.clone(), hour };
            let place = *places.entry(key.clone()).or_insert_with(|| {
                wanted.push((key, Arc::clone(&account.standing), Vec::new()));
                wanted.len() - 1
            });
            let bearers = &mut wanted[place].2;
            if !bearers.last().is_some_and(|last| Rc::ptr_eq(last, &bearer)) {
                bearers.push(bearer);
            }
        }
        Ok(wanted)
    }

    /// Finds the open records of these places, and makes those that are missing. Whatever is not as usual is left to the
    /// rater, which asks by itself.
    fn find_records(&mut self, wanted: Vec<Wanted>) -> Result<(), StoreError> {
        let connection = self.connection;
        for (key, standing, _) in &wanted {
            if !standing.ask_open_record(connection, key)? {
                ask_slot(connection, key, key.hour)?;
            }
        }
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for (key, standing, bearers) in wanted {
            let slot = match standing.open_record(connection, &key)? {
                Some(id) => Slot::Open(id),
                None => slot_in(connection, &key, key.hour)?,
            };
            match slot {
                Slot::Open(id) => found.push((id, key, standing, bearers)),
                Slot::Free => missing.push((key, standing, bearers)),
                Slot::Taken | Slot::Conflict => {}
            }
        }
        let keys: Vec<&RecordKey> = missing.iter().map(|(key, ..)| key).collect();
        let made = insert_each_in(connection, &keys)?;
        self.rater.made(&made);
        let made = made.into_iter().zip(missing);
        found.extend(made.map(|(id, (key, standing, bearers))| (id, key, standing, bearers)));
        for (id, key, standing, bearers) in found {
            standing.note_record(&key, id);
            for bearer in bearers {
                bearer.cache.borrow_mut().record = Some((id, key.hour));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::ledger::AgeLimits;
    use crate::domain::usage::UsageSubject;
    use crate::domain::{DimensionKey, FeatureId, ProductId, Quantity};
    use crate::store::test_database::open_store;
    use crate::store::wakeups_tests::import;
    use crate::store::{ConsumeRequest, Store};

    fn event(id: usize, customer: usize, now: Timestamp) -> UsageEvent {
        UsageEvent {
            id: format!("event-{id}"),
            customer_id: CustomerId::new(format!("c-{customer}")),
            subject: UsageSubject::Dimension {
                product_id: ProductId::new("prod-1"),
                dimension: DimensionKey::new("gb"),
            },
            quantity: Quantity::from_units(1),
            timestamp: Some(now),
            license_arn: None,
            tags: BTreeMap::new(),
        }
    }

    async fn with_customers(store: &Store, count: usize, now: Timestamp) {
        store.import_product(import("usage"), now).await.unwrap();
        let write = move |connection: &Connection| {
            let feature = "INSERT INTO features (id, name, type, updated_at_ms) VALUES ('f', 'F', 'metered', 0)";
            connection.execute(feature, []).during("test")?;
            let billed = "INSERT INTO feature_dimensions (feature_id, product_id, dimension) VALUES ('f', 'prod-1', 'gb')";
            connection.execute(billed, []).during("test")?;
            for number in 0..count {
                let id = format!("c-{number}");
                let made = "INSERT INTO customers (id, claimed, created_at_ms, updated_at_ms) VALUES (?1, 1, 0, 0)";
                connection.execute(made, [&id]).during("test")?;
                let arn = format!("arn:aws:license-manager::294406891311:license:l-{number:032x}");
                let bought = "INSERT INTO subscriptions (id, customer_id, product_id, source, holder, license_arn, status,
                         starts_at_ms, created_at_ms, updated_at_ms)
                     VALUES (?1, ?1, 'prod-1', 'aws', ?2, ?3, 'active', 0, 0, 0)";
                connection.execute(bought, (&id, format!("license:{arn}"), &arn)).during("test")?;
            }
            Ok::<_, StoreError>(())
        };
        store.write(write).await.unwrap();
    }

    async fn round_trips(store: &Store) -> u64 {
        store.write(|connection| Ok::<_, StoreError>(connection.round_trips())).await.unwrap()
    }

    #[tokio::test]
    async fn a_report_of_many_customers_takes_as_many_round_trips_as_one_of_one() {
        const CUSTOMERS: usize = 300;
        let folder = tempfile::tempdir().unwrap();
        let store = open_store(&folder.path().join("marketd.db"));
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        with_customers(&store, CUSTOMERS, now).await;
        let between = {
            let before = round_trips(&store).await;
            round_trips(&store).await - before
        };
        let mut took = Vec::new();
        // Statements that are prepared once, and the hour's records, are there after the first four.
        for round in 0..6 {
            let (first, customers) = (round * 1_000, if round % 2 == 0 { 1 } else { CUSTOMERS });
            let before = round_trips(&store).await;
            let events: Vec<_> = (0..CUSTOMERS)
                .map(|number| event(first + number, number % customers, now))
                .collect();
            let receipt = store.append_usage(events, AgeLimits::default(), now).await.unwrap();
            assert_eq!((receipt.accepted, receipt.rejected.len()), (CUSTOMERS, 0));
            took.push(round_trips(&store).await - before - between);
        }
        let again: Vec<_> = (0..CUSTOMERS).map(|number| event(number, 0, now)).collect();
        let receipt = store.append_usage(again, AgeLimits::default(), now).await.unwrap();
        assert_eq!((receipt.accepted, receipt.duplicates), (0, CUSTOMERS));
        assert_eq!(took[4], took[5], "{took:?}");
        assert!(took[5] <= 11, "{took:?}");
        // By a feature: what the plans grant of it is asked for too.
        let mut took = Vec::new();
        for round in 7..13 {
            let (first, customers) = (round * 1_000, if round % 2 == 0 { 1 } else { CUSTOMERS });
            let before = round_trips(&store).await;
            let by_feature = |number| UsageEvent {
                subject: UsageSubject::Feature(FeatureId::new("f")),
                ..event(first + number, number % customers, now)
            };
            let events: Vec<_> = (0..CUSTOMERS).map(by_feature).collect();
            let receipt = store.append_usage(events, AgeLimits::default(), now).await.unwrap();
            assert_eq!((receipt.accepted, receipt.rejected.len()), (CUSTOMERS, 0), "{receipt:?}");
            took.push(round_trips(&store).await - before - between);
        }
        assert_eq!(took[4], took[5], "{took:?}");
        store.close();
    }

    #[tokio::test]
    async fn what_a_consumption_reads_is_read_together() {
        let folder = tempfile::tempdir().unwrap();
        let store = open_store(&folder.path().join("marketd.db"));
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        with_customers(&store, 4, now).await;
        let plan = |connection: &Connection| {
            for statement in [
                "INSERT INTO plans (id, name, source, status, published_version, created_at_ms, updated_at_ms)
                     VALUES ('p', 'P', 'direct', 'published', 1, 0, 0)",
                "INSERT INTO plan_entitlements (plan_id, version, feature_id, quota, reset, bill)
                     VALUES ('p', 1, 'f', 5000000, 'month', 'overage')",
                "UPDATE subscriptions SET plan_id = 'p'",
            ] {
                connection.execute(statement, []).during("test")?;
            }
            Ok::<_, StoreError>(())
        };
        store.write(plan).await.unwrap();
        let between = {
            let before = round_trips(&store).await;
            round_trips(&store).await - before
        };
        let mut took = Vec::new();
        for number in 0..4 {
            let event = UsageEvent {
                subject: UsageSubject::Feature(FeatureId::new("f")),
                ..event(number, number, now)
            };
            let (limits, stale_since) = (AgeLimits::default(), None);
            let request = ConsumeRequest { event, limits, stale_since, now };
            let before = round_trips(&store).await;
            let consumed = store.consume(request).await.unwrap().unwrap();
            assert!(consumed.accepted, "{consumed:?}");
            took.push(round_trips(&store).await - before - between);
        }
        assert!(took[3] <= 17, "{took:?}");
    }

    #[tokio::test]
    async fn an_event_that_stands_twice_in_a_report_is_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = open_store(&folder.path().join("marketd.db"));
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        with_customers(&store, 2, now).await;
        let events = vec![event(1, 0, now), event(1, 0, now), event(1, 1, now), event(2, 1, now)];
        let receipt = store.append_usage(events, AgeLimits::default(), now).await.unwrap();
        assert_eq!((receipt.accepted, receipt.duplicates, receipt.rejected.len()), (2, 1, 1));
        assert_eq!(receipt.rejected[0].code, "conflicting_duplicate");
        let balance = &store.metering_balance().await.unwrap()[&ProductId::new("prod-1")];
        assert_eq!(
            (balance.reported, balance.pending),
            (Quantity::from_units(2), balance.reported)
        );
        store.close();
    }
}
