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
pub(crate) fn ask_about<'e>(
    connection: &Connection,
    remembered: &Remembered,
    events: impl Iterator<Item = &'e UsageEvent>,
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
    /// Reads what taking these reports needs to know, each with the time at which it came.
    pub(super) fn look_ahead<'e>(
        &mut self,
        reports: impl Iterator<Item = (Timestamp, &'e [UsageEvent])>,
    ) -> Result<(), StoreError> {
        if !self.connection.is_remote() {
            return Ok(());
        }
        let events = reports.flat_map(|(now, events)| events.iter().map(move |it| (now, it)));
        let events: Vec<(Timestamp, &UsageEvent)> = events.collect();
        let mut held = HashMap::new();
        for (_, event) in &events {
            if let Some(known) = held_in(self.connection, &event.id)? {
                held.insert(event.id.clone(), known);
            }
        }
        self.ask_first_hours(&events)?;
        let new = events.into_iter().filter(|(_, event)| !held.contains_key(&event.id));
        let wanted = self.wanted(new)?;
        self.held = Some(held);
        self.insert = self.connection.prepare_cached(INSERT_NEW).during("append a usage event")?;
        self.find_records(wanted)
    }

    fn ask_first_hours(&mut self, events: &[(Timestamp, &UsageEvent)]) -> Result<(), StoreError> {
        let customers: HashSet<&CustomerId> =
            events.iter().map(|(_, it)| &it.customer_id).collect();
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
        events: impl Iterator<Item = (Timestamp, &'e UsageEvent)>,
    ) -> Result<Vec<Wanted>, StoreError> {
        let mut places = HashMap::<RecordKey, usize>::new();
        let mut wanted = Vec::<Wanted>::new();
        for (now, event) in events {
            self.now = now;
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
    use std::sync::Mutex;

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

    /// Sends writes while the writer is held up, so that all of them wait for the next transaction; returns what they came to.
    async fn waiting_together<T>(
        store: &Store,
        writes: impl IntoIterator<Item = impl Future<Output = T>>,
    ) -> Vec<T> {
        let (let_go, held) = std::sync::mpsc::channel::<()>();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (held, begun) = (Mutex::new(held), Mutex::new(Some(begun)));
        let hold = store.write(move |_| {
            begun.lock().unwrap().take().unwrap().send(()).unwrap();
            held.lock().unwrap().recv().unwrap_err();
            Ok::<_, StoreError>(())
        });
        let wait = async move {
            has_begun.await.unwrap();
            let all = futures::future::join_all(writes);
            tokio::join!(all, async move { drop(let_go) }).0
        };
        let (held, done) = tokio::join!(hold, wait);
        held.unwrap();
        done
    }

    #[tokio::test]
    async fn reports_that_wait_together_cost_as_much_as_one_and_each_has_its_own_receipt() {
        const REPORTS: usize = 40;
        let folder = tempfile::tempdir().unwrap();
        let store = open_store(&folder.path().join("marketd.db"));
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        with_customers(&store, REPORTS, now).await;
        let mut took = Vec::new();
        for round in 0..3 {
            let before = round_trips(&store).await;
            let report = |number: usize| {
                let of = round * 1_000 + number;
                let events = match number {
                    // The first event of the first report once more.
                    1 => vec![event(round * 1_000, 0, now)],
                    2 => vec![event(of, REPORTS + 7, now), event(of + 500, 2, now)],
                    _ => vec![event(of, number, now)],
                };
                store.append_usage(events, AgeLimits::default(), now)
            };
            let receipts = waiting_together(&store, (0..REPORTS).map(report)).await;
            took.push(round_trips(&store).await - before);
            for (number, receipt) in receipts.into_iter().enumerate() {
                let receipt = receipt.unwrap();
                let told = (receipt.accepted, receipt.duplicates, receipt.rejected.len());
                let expected = match number {
                    1 => (0, 1, 0),
                    2 => (1, 0, 1),
                    _ => (1, 0, 0),
                };
                assert_eq!(told, expected, "{number}: {receipt:?}");
            }
        }
        // Of these some belong to the transactions that hold the writer up and count.
        assert!(took[2] <= 20, "{took:?}");
        store.close();
    }

    #[tokio::test]
    async fn reports_of_different_hours_are_not_taken_for_one() {
        let folder = tempfile::tempdir().unwrap();
        let store = open_store(&folder.path().join("marketd.db"));
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        with_customers(&store, 2, now).await;
        let later = now + jiff::SignedDuration::from_hours(1);
        let report = |(id, now): (usize, Timestamp)| {
            let untimed = UsageEvent { timestamp: None, ..event(id, 0, now) };
            store.append_usage(vec![untimed], AgeLimits::default(), now)
        };
        let reports = [(1, now), (2, later), (3, now)].map(report);
        for receipt in waiting_together(&store, reports).await {
            assert_eq!(receipt.unwrap().accepted, 1);
        }
        let hours = |connection: &Connection| {
            let sums = "SELECT quantity FROM metering_records ORDER BY hour";
            connection
                .prepare_cached(sums)
                .and_then(|mut select| select.query_map([], |row| row.get::<_, i64>(0))?.collect())
                .during("test")
        };
        let hours: Vec<i64> = store.write(hours).await.unwrap();
        assert_eq!(hours, [2_000_000, 1_000_000]);
        store.close();
    }

    /// Has customers with a quota of so many units of a feature.
    async fn with_quota(store: &Store, customers: usize, units: i64, now: Timestamp) {
        with_customers(store, customers, now).await;
        let plan = move |connection: &Connection| {
            let grant = format!(
                "INSERT INTO plan_entitlements (plan_id, version, feature_id, quota, reset, bill)
                     VALUES ('p', 1, 'f', {}, 'month', 'none')",
                units * 1_000_000
            );
            for statement in [
                "INSERT INTO plans (id, name, source, status, published_version, created_at_ms, updated_at_ms)
                     VALUES ('p', 'P', 'direct', 'published', 1, 0, 0)",
                &grant,
                "UPDATE subscriptions SET plan_id = 'p'",
            ] {
                connection.execute(statement, []).during("test")?;
            }
            Ok::<_, StoreError>(())
        };
        store.write(plan).await.unwrap();
    }

    fn consumption(number: usize, customer: usize, now: Timestamp) -> ConsumeRequest {
        let event = UsageEvent {
            subject: UsageSubject::Feature(FeatureId::new("f")),
            ..event(number, customer, now)
        };
        ConsumeRequest { event, limits: AgeLimits::default(), stale_since: None, now }
    }

    #[tokio::test]
    async fn consumptions_that_wait_together_take_as_many_round_trips_as_one() {
        const CUSTOMERS: usize = 20;
        let folder = tempfile::tempdir().unwrap();
        let store = open_store(&folder.path().join("marketd.db"));
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        with_quota(&store, CUSTOMERS, 50, now).await;
        let mut took = Vec::new();
        for round in 0..6 {
            let customers = if round % 2 == 0 { 1 } else { CUSTOMERS };
            let before = round_trips(&store).await;
            let one = |customer| store.consume(consumption(round * 100 + customer, customer, now));
            for consumed in waiting_together(&store, (0..customers).map(one)).await {
                assert!(consumed.unwrap().unwrap().accepted);
            }
            took.push(round_trips(&store).await - before);
        }
        // One more to see whose they are.
        assert!(took[5] <= took[4] + 1, "{took:?}");
        assert!(took[4] <= 25, "{took:?}");
        store.close();
    }

    #[tokio::test]
    async fn consumptions_of_one_customer_that_wait_together_stay_within_the_quota() {
        let folder = tempfile::tempdir().unwrap();
        let store = open_store(&folder.path().join("marketd.db"));
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        with_quota(&store, 3, 5, now).await;
        // One of the customers goes by two ids.
        let alias = |it: &Connection| {
            let alias = "INSERT INTO customer_aliases (alias, customer_id) VALUES ('c-9', 'c-1')";
            it.execute(alias, []).during("test")
        };
        store.write(alias).await.unwrap();
        let one = |number: usize| {
            let customer = [0, 1, 9, 2][number % 4];
            store.consume(consumption(number, customer, now))
        };
        let consumed = waiting_together(&store, (0..40).map(one)).await;
        let mut accepted = BTreeMap::<usize, usize>::new();
        for (number, consumed) in consumed.into_iter().enumerate() {
            let customer = [0, 1, 1, 2][number % 4];
            *accepted.entry(customer).or_default() +=
                usize::from(consumed.unwrap().unwrap().accepted);
        }
        assert_eq!(accepted, BTreeMap::from([(0, 5), (1, 5), (2, 5)]));
        store.close();
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
