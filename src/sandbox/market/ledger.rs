//! The metering ledger: records that AWS honoured and refused, to compare a seller's books with.

use std::collections::{BTreeMap, HashMap, VecDeque};

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Serialize, Serializer};

use super::allocations::Allocations;

/// The number of refusals kept; older ones only count.
const REFUSED_MAX: usize = 10_000;

/// The identity by which a record was metered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MeteringForm {
    /// `ProductCode` with `CustomerIdentifier` or the account.
    ProductCode,
    /// The account with `LicenseArn`.
    LicenseArn,
}

/// A usage record that AWS bills.
#[derive(Debug, Clone, Serialize)]
pub struct HonouredRecord {
    /// The product's code.
    pub product_code: String,
    /// The legacy identity, when it was metered by that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_identifier: Option<String>,
    /// The buyer's account.
    pub account_id: String,
    /// The licence, when it was metered by that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license_arn: Option<String>,
    /// The identity by which it was metered.
    pub form: MeteringForm,
    /// The region that it was metered in.
    pub region: String,
    /// The dimension.
    pub dimension: String,
    /// The start of the clock hour.
    pub hour: Timestamp,
    /// The quantity that is billed.
    #[serde(serialize_with = "plain_decimal")]
    pub quantity: Decimal,
    /// AWS's id of it.
    pub metering_record_id: String,
    /// The number of times that this very record was sent.
    pub sends: u64,
    /// True if the same usage was also billed in the other form or in another region.
    pub billed_twice: bool,
    /// The time at which it was first honoured.
    pub honoured_at: Timestamp,
    #[serde(skip)]
    pub(super) allocations: Allocations,
}

fn plain_decimal<S: Serializer>(quantity: &Decimal, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&quantity.normalize().to_string())
}

/// A usage record, or a whole call, that AWS did not bill.
#[derive(Debug, Clone, Serialize)]
pub struct RefusedRecord {
    /// The time of the refusal.
    pub at: Timestamp,
    /// The status or exception.
    pub reason: String,
    /// AWS's message about it.
    pub detail: String,
    /// The number of records that it concerns.
    pub records: usize,
}

/// The key by which usage is deduplicated.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct LedgerKey {
    pub(super) region: String,
    /// The licence, or `product account`.
    pub(super) identity: String,
    pub(super) dimension: String,
    pub(super) hour: Timestamp,
}

/// The result of offering a record to the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    New(String),
    Identical(String),
    Different(String),
}

/// Every record that was metered.
#[derive(Debug, Default)]
pub struct Ledger {
    honoured: Vec<HonouredRecord>,
    by_key: HashMap<LedgerKey, usize>,
    /// The records of one buyer, product, dimension and hour: double billing shows there.
    by_usage: HashMap<(String, String, String, Timestamp), Vec<usize>>,
    refused: VecDeque<RefusedRecord>,
    refused_counts: BTreeMap<String, u64>,
}

impl Ledger {
    /// Returns the honoured records, in order.
    pub fn honoured(&self) -> &[HonouredRecord] {
        &self.honoured
    }

    /// Returns the latest refusals, oldest first.
    pub fn refused(&self) -> impl Iterator<Item = &RefusedRecord> {
        self.refused.iter()
    }

    /// Returns the number of records ever refused, by reason.
    pub fn refused_counts(&self) -> &BTreeMap<String, u64> {
        &self.refused_counts
    }

    /// Returns the sums of what is billed, by product and dimension.
    pub fn totals(&self) -> BTreeMap<String, BTreeMap<String, Decimal>> {
        let mut totals: BTreeMap<String, BTreeMap<String, Decimal>> = BTreeMap::new();
        for record in &self.honoured {
            let product = totals.entry(record.product_code.clone()).or_default();
            *product.entry(record.dimension.clone()).or_default() += record.quantity;
        }
        totals
    }

    /// Offers a record: the first write of an hour wins.
    pub(super) fn offer(&mut self, key: LedgerKey, record: HonouredRecord) -> Entry {
        if let Some(position) = self.by_key.get(&key) {
            let first = &mut self.honoured[*position];
            let id = first.metering_record_id.clone();
            if first.quantity == record.quantity && first.allocations == record.allocations {
                first.sends += 1;
                return Entry::Identical(id);
            }
            return Entry::Different(id);
        }
        let id = record.metering_record_id.clone();
        self.by_key.insert(key, self.honoured.len());
        self.append(record);
        Entry::New(id)
    }

    fn append(&mut self, mut record: HonouredRecord) {
        let usage = (
            record.account_id.clone(),
            record.product_code.clone(),
            record.dimension.clone(),
            record.hour,
        );
        let position = self.honoured.len();
        let same = self.by_usage.entry(usage).or_default();
        for other in same.iter().copied() {
            let other = &mut self.honoured[other];
            // Two licences of one buyer are two bills; two forms or regions are one bill twice.
            let same_identity = other.license_arn == record.license_arn;
            if other.form != record.form || (same_identity && other.region != record.region) {
                other.billed_twice = true;
                record.billed_twice = true;
            }
        }
        same.push(position);
        self.honoured.push(record);
    }

    pub(super) fn refuse(&mut self, refused: RefusedRecord) {
        let count = u64::try_from(refused.records).unwrap_or(u64::MAX);
        *self.refused_counts.entry(refused.reason.clone()).or_default() += count;
        if self.refused.len() == REFUSED_MAX {
            self.refused.pop_front();
        }
        self.refused.push_back(refused);
    }
}
