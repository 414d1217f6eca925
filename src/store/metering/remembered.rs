//! The memory of customers from one report to the next: what they hold, since when AWS takes usage of it, and which
//! records are open.
//!
//! A report that names a thousand customers would else spend most of its time on finding out again what the report before
//! found. The writer says what may hold no longer, at once, within the very transaction (`engine/changes.rs`): whatever
//! touches a customer, what is undone, and what another process writes. Which record is open is only a hint, which is held
//! against the record itself each time.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, Mutex};

use super::first_hour::first_hour_in;
use super::slots::{RecordKey, holder_text};
use crate::domain::{ClockHour, CustomerId, Holder};
use crate::store::engine::changes::Stale;
use crate::store::engine::locked::locked;
use crate::store::engine::sql::Connection;
use crate::store::subscriptions::holdings::Holdings;
use crate::store::{During, StoreError};

/// Customers that are remembered, about a kilobyte each.
const MOST_CUSTOMERS: usize = 10_000;
/// Open records that are remembered of one customer.
const MOST_RECORDS: usize = 8;

/// The customers that are remembered.
#[derive(Default)]
pub(crate) struct Remembered {
    customers: Mutex<HashMap<CustomerId, Arc<RememberedCustomer>>>,
}

/// The remembered facts about a customer.
#[derive(Debug)]
pub(crate) struct RememberedCustomer {
    pub(crate) holdings: Holdings,
    first_hours: Mutex<Vec<(Holder, Option<ClockHour>)>>,
    /// The open records, each after a hash of its key, the newest last.
    records: Mutex<Vec<(u64, i64)>>,
}

impl Remembered {
    /// Forgets what may hold no longer.
    pub(crate) fn forget(&self, stale: Stale<'_>) {
        let mut customers = locked(&self.customers);
        match stale {
            Stale::Customer(id) => drop(customers.remove(&CustomerId::new(id))),
            Stale::Everything => customers.clear(),
        }
    }

    pub(super) fn get(&self, customer: &CustomerId) -> Option<Arc<RememberedCustomer>> {
        locked(&self.customers).get(customer).cloned()
    }

    /// Keeps what was read of a customer, by the id that they go by: one of another's may come to lead elsewhere.
    pub(super) fn keep(&self, customer: &CustomerId, standing: &Arc<RememberedCustomer>) {
        let mut customers = locked(&self.customers);
        if customers.len() >= MOST_CUSTOMERS {
            // Any eighth of them: who comes back is read again.
            let mut place = 0_usize;
            customers.retain(|_, _| {
                place += 1;
                !place.is_multiple_of(8)
            });
        }
        customers.insert(customer.clone(), Arc::clone(standing));
    }
}

impl RememberedCustomer {
    pub(super) fn of(holdings: Holdings) -> Self {
        Self { holdings, first_hours: Mutex::default(), records: Mutex::default() }
    }

    /// Returns the first hour that AWS takes for a holder, where it has told one.
    pub(super) fn first_hour(
        &self,
        connection: &Connection,
        holder: Option<&Holder>,
    ) -> Result<Option<ClockHour>, StoreError> {
        let Some(holder) = holder else { return Ok(None) };
        let known = locked(&self.first_hours).iter().find(|(of, _)| of == holder).map(|it| it.1);
        if let Some(first) = known {
            return Ok(first);
        }
        // Not under the lock: another piece of the same transaction may ask too while this one waits for the answer.
        let first = first_hour_in(connection, Some(holder))?;
        locked(&self.first_hours).push((holder.clone(), first));
        Ok(first)
    }

    /// Returns the holders whose first hour [`first_hour`](Self::first_hour) would read.
    pub(super) fn unknown_first_hours(&self) -> Vec<Holder> {
        let known = locked(&self.first_hours);
        let is_unknown = |holder: &&Holder| !known.iter().any(|(of, _)| of == *holder);
        self.holdings.holders().filter(is_unknown).cloned().collect()
    }

    /// Asks ahead for what [`open_record`](Self::open_record) reads; returns false where no record is remembered.
    pub(super) fn ask_open_record(
        &self,
        connection: &Connection,
        key: &RecordKey,
    ) -> Result<bool, StoreError> {
        let Some(id) = self.remembered_record(key) else { return Ok(false) };
        let holder = holder_text(key.target.holder.as_ref());
        connection.ask_ahead(IS_OPEN, &place(id, key, &holder)).during("find a metering record")?;
        Ok(true)
    }

    /// Returns the record that is remembered as a key's open one.
    fn remembered_record(&self, key: &RecordKey) -> Option<i64> {
        key.target.holder.as_ref()?;
        let mark = mark_of(key);
        locked(&self.records).iter().find(|(of, _)| *of == mark).map(|(_, id)| *id)
    }

    /// Returns the open record of a key, if it is remembered and still is that.
    pub(super) fn open_record(
        &self,
        connection: &Connection,
        key: &RecordKey,
    ) -> Result<Option<i64>, StoreError> {
        let Some(id) = self.remembered_record(key) else { return Ok(None) };
        let holder = holder_text(key.target.holder.as_ref());
        let is_it = connection
            .prepare_cached(IS_OPEN)
            .and_then(|mut select| select.exists(place(id, key, &holder)))
            .during("find a metering record")?;
        Ok(is_it.then_some(id))
    }

    /// Remembers the open record of a key.
    pub(super) fn note_record(&self, key: &RecordKey, id: i64) {
        let mark = mark_of(key);
        let mut records = locked(&self.records);
        records.retain(|(of, _)| *of != mark);
        if records.len() >= MOST_RECORDS {
            records.remove(0);
        }
        records.push((mark, id));
    }
}

const IS_OPEN: &str =
    "SELECT 1 FROM metering_records WHERE id = ?1 AND state = 'open' AND beside = 0 AND hour = ?2
         AND holder = ?3 AND product_id = ?4 AND dimension = ?5";

fn place<'a>(
    id: i64,
    key: &'a RecordKey,
    holder: &'a str,
) -> (i64, i64, &'a str, &'a str, &'a str) {
    let target = &key.target;
    (id, key.hour.number(), holder, target.product_id.as_str(), target.dimension.as_str())
}

fn mark_of(key: &RecordKey) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one((&key.target, key.hour))
}
