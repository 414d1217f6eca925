//! Freezing records: reads the facts about each, has [`freeze`] decide, and writes what it decides.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::billable::BillableRecord;
use super::first_hour::first_hour_in;
use super::open_records::{OpenRecord, carry_into, take_tagged_in};
use super::parking::park;
use super::policy::{ClosedCounts, ClosingPolicy};
use super::records::open_record_in;
use super::roll_forward::move_to_in;
use super::side_records::{park_unknown_in, record_beside_in};
use super::slots::{RecordKey, has_both_identities, records_under_other_identity};
use super::unknown_hours::unknown_hours_in;
use crate::domain::allocation::{Apportioned, apportion};
use crate::domain::ledger::{
    FreezeFacts, FreezePolicy, Freezing, FrozenRecord, Gap, MeteredBuyer, MoveReason, ParkReason,
    Remainder, Renewal, freeze, is_due_to_freeze, is_licensed, wire_identity,
};
use crate::domain::{
    AccountId, CustomerIdentifier, Holder, LicenseArn, ProductCode, ProductId, Quantity,
};
use crate::store::base::columns::{millis, quantity};
use crate::store::engine::sql::{Connection, OptionalExtension, Statement};
use crate::store::facts::legacy_ids::{has_legacy_buyers_in, is_untold_in};
use crate::store::{During, StoreError};

/// Freezes the records that were found, in the transaction in which they were found.
pub(crate) fn freeze_all(
    connection: &Connection,
    closing: &ClosingPolicy,
    found: &[BillableRecord],
    now: Timestamp,
) -> Result<ClosedCounts, StoreError> {
    let timing = closing.timing();
    let mut freezer = Freezer {
        connection,
        write: connection.prepare_cached(WRITE).during("freeze a record")?,
        region: &closing.region,
        policy: FreezePolicy {
            timing,
            zero_usage: closing.zero_usage,
            unknown: unknown_hours_in(connection)?,
            last_frozen: timing.last_frozen(now),
            now,
        },
        touched: HashSet::new(),
        mixed: HashMap::new(),
        legacy: HashMap::new(),
        closed: ClosedCounts::default(),
    };
    for billable in found {
        freezer.freeze(billable)?;
    }
    Ok(freezer.closed)
}

/// Freezes a chunk of records.
struct Freezer<'a> {
    connection: &'a Connection,
    write: Statement<'a>,
    /// The region in which usage is metered.
    region: &'a str,
    policy: FreezePolicy,
    /// Records that were carried into or moved since they were listed, in this very transaction.
    touched: HashSet<i64>,
    /// The products asked about so far, and whether their buyers are known under both identities.
    mixed: HashMap<ProductId, bool>,
    /// The product codes asked about so far, and whether their buyers have legacy names.
    legacy: HashMap<ProductCode, bool>,
    closed: ClosedCounts,
}

impl Freezer<'_> {
    fn freeze(&mut self, billable: &BillableRecord) -> Result<(), StoreError> {
        let record = &billable.record;
        let tenure = billable.billed.subscription.tenure();
        if !is_due_to_freeze(record.hour, tenure, &self.policy) {
            return Ok(());
        }
        let Some(holder) = &record.holder else { return Ok(()) };
        let Some(open_quantity) = self.open_quantity(record)? else { return Ok(()) };
        let facts = self.facts(billable, holder, open_quantity)?;
        match freeze(&facts, &self.policy) {
            Freezing::StaysOpen => Ok(()),
            Freezing::Park(reason) => {
                self.closed.parked += 1;
                park(self.connection, record.id, reason, self.policy.now)
            }
            Freezing::ParkUnknown(reason) => {
                self.closed.parked += 1;
                park_unknown_in(self.connection, record.id, reason, self.policy.now)
            }
            Freezing::RollForward(hour, why) => {
                self.move_to(record, &record.key(Some(holder.clone()), hour), why.as_str())
            }
            Freezing::MoveToRenewal(hour) => self.move_to(
                record,
                &record.key(billable.billed.subscription.renewed_by.clone(), hour),
                MoveReason::Renewed.as_str(),
            ),
            Freezing::Freeze(frozen) => self.write(record, open_quantity, &frozen),
        }
    }

    /// Reads the facts that decide over a record. Most are asked only of few products, so that a record costs no look.
    fn facts(
        &mut self,
        billable: &BillableRecord,
        holder: &Holder,
        open_quantity: Quantity,
    ) -> Result<FreezeFacts, StoreError> {
        let BillableRecord { record, billed, .. } = billable;
        let subscription = &billed.subscription;
        let buyer = MeteredBuyer {
            holder,
            product_code: &billed.product_code,
            account_id: billed.names.account.as_ref(),
            license_arn: billed.names.license.as_ref(),
        };
        let identity = if self.may_have_a_name(billable, holder)? {
            Err(Gap::LegacyName)
        } else {
            wire_identity(&buyer, record.hour, billed.licensed_from).map_err(Gap::License)
        };
        Ok(FreezeFacts {
            hour: record.hour,
            quantity: open_quantity,
            tenure: subscription.tenure(),
            starts_at: subscription.starts_at,
            pending: subscription.is_pending(),
            renewal: self.renewal(billable)?,
            identity,
            frozen_elsewhere: self.is_frozen_under_other_identity(record)?,
        })
    }

    /// Reads the state of what the subscription went on as.
    fn renewal(&self, billable: &BillableRecord) -> Result<Option<Renewal>, StoreError> {
        let Some(holder) = &billable.billed.subscription.renewed_by else { return Ok(None) };
        let live = self
            .connection
            .prepare_cached(
                "SELECT 1 FROM subscriptions WHERE product_id = ?1 AND holder = ?2
                   AND status IN ('active', 'trialing', 'ending')",
            )
            .and_then(|mut select| {
                select.exists((billable.record.product_id.as_str(), holder.to_string()))
            })
            .during("see what a subscription went on as")?;
        let first_hour = first_hour_in(self.connection, Some(holder))?;
        Ok(Some(Renewal { live, first_hour }))
    }

    /// Reports whether the customer's hour was frozen under its other identity. Nothing that opens or moves records lets
    /// it come to that; but what is frozen is sent, and an hour under both identities is billed twice. Only a product
    /// that has buyers of both costs the look.
    fn is_frozen_under_other_identity(&mut self, record: &OpenRecord) -> Result<bool, StoreError> {
        let mixed = if let Some(mixed) = self.mixed.get(&record.product_id) {
            *mixed
        } else {
            let mixed = has_both_identities(self.connection, &record.product_id)?;
            self.mixed.insert(record.product_id.clone(), mixed);
            mixed
        };
        if !mixed {
            return Ok(false);
        }
        let key = record.key(record.holder.clone(), record.hour);
        let others = records_under_other_identity(self.connection, &key, record.hour)?;
        Ok(others.iter().any(|other| other.state != "open"))
    }

    /// Reports whether the bearer is a licence that only the Agreement API tells of, and so may be that of a legacy
    /// buyer, whose hours are metered by name.
    fn may_have_a_name(
        &mut self,
        billable: &BillableRecord,
        holder: &Holder,
    ) -> Result<bool, StoreError> {
        let Holder::License(arn) = holder else { return Ok(false) };
        let billed = &billable.billed;
        if !billed.is_plain_pay_as_you_go()
            || is_licensed(billable.record.hour, billed.licensed_from)
        {
            return Ok(false);
        }
        let code = &billed.product_code;
        let legacy = if let Some(legacy) = self.legacy.get(code) {
            *legacy
        } else {
            let legacy = has_legacy_buyers_in(self.connection, code)?;
            self.legacy.insert(code.clone(), legacy);
            legacy
        };
        Ok(legacy && is_untold_in(self.connection, arn)?)
    }

    /// Returns the quantity of the record by now; none if it was moved.
    fn open_quantity(&self, record: &OpenRecord) -> Result<Option<Quantity>, StoreError> {
        if !self.touched.contains(&record.id) {
            return Ok(Some(quantity(record.quantity)));
        }
        self.connection
            .prepare_cached(
                "SELECT quantity FROM metering_records WHERE id = ?1 AND state = 'open' AND hour = ?2",
            )
            .and_then(|mut select| {
                select.query_row((record.id, record.hour.number()), |row| row.get(0)).optional()
            })
            .map(|found| found.map(quantity))
            .during("read a record's quantity")
    }

    /// Moves the record's usage to another key: as the same record, or as a part of the one there.
    fn move_to(
        &mut self,
        record: &OpenRecord,
        key: &RecordKey,
        why: &str,
    ) -> Result<(), StoreError> {
        let bearing = move_to_in(self.connection, record.id, key, why)?;
        self.touched.extend([record.id, bearing]);
        Ok(())
    }

    fn write(
        &mut self,
        record: &OpenRecord,
        open_quantity: Quantity,
        frozen: &FrozenRecord,
    ) -> Result<(), StoreError> {
        let may_be_tagged = record.tagged || self.touched.contains(&record.id);
        let tagged =
            if may_be_tagged { take_tagged_in(self.connection, record.id)? } else { Vec::new() };
        let dealt = apportion(open_quantity, &tagged);
        self.carry_remainder(record, frozen.remainder, &dealt)?;
        self.closed.frozen += usize::from(frozen.sendable);
        let reason = match (frozen.sendable, frozen.remainder) {
            (false, _) => Some("nothing_to_send"),
            (true, Remainder::None) => None,
            (true, _) => Some("remainder_carried"),
        };
        let allocations = (!dealt.allocations.is_empty())
            .then(|| serde_json::to_string(&dealt.allocations))
            .transpose()
            .map_err(|error| StoreError::Corrupt {
                what: "allocations",
                detail: error.to_string(),
            })?;
        let identity = &frozen.identity;
        // The holder says it, and is frozen itself.
        let license = identity.license_arn.as_ref();
        let license = license
            .filter(|arn| !matches!(&record.holder, Some(Holder::License(own)) if own == *arn));
        self.write
            .post((
                record.id,
                if frozen.sendable { "ready" } else { "accepted" },
                reason,
                identity.product_code.as_ref().map(ProductCode::as_str),
                identity.customer_identifier.as_ref().map(CustomerIdentifier::as_str),
                identity.account_id.as_ref().map(AccountId::as_str),
                license.map(LicenseArn::as_str),
                self.region,
                frozen.stamp.map(millis),
                allocations,
                millis(self.policy.now),
                millis(frozen.deadline),
                frozen.final_hour_deadline,
            ))
            .during("freeze a record")?;
        Ok(())
    }

    /// Takes out of a record what AWS does not take with it.
    fn carry_remainder(
        &mut self,
        record: &OpenRecord,
        remainder: Remainder,
        dealt: &Apportioned,
    ) -> Result<(), StoreError> {
        let (rest, target) = match remainder {
            Remainder::None => return Ok(()),
            Remainder::Carried(rest) => {
                let key = record.key(record.holder.clone(), record.hour.next());
                (rest.millionths(), open_record_in(self.connection, &key)?.id)
            }
            Remainder::Beside(rest) => {
                let key = record.key(record.holder.clone(), record.hour);
                (
                    rest.millionths(),
                    record_beside_in(self.connection, &key, ParkReason::Fraction)?.id,
                )
            }
        };
        self.touched.insert(target);
        self.connection
            .prepare_cached(
                "UPDATE metering_records SET quantity = quantity - ?2, remainder = ?2 WHERE id = ?1",
            )
            .and_then(|mut update| update.post((record.id, rest)))
            .during("carry a remainder")?;
        carry_into(self.connection, target, rest, &dealt.remainder)
    }
}

const WRITE: &str =
    "UPDATE OR FAIL metering_records SET state = ?2, reason = ?3, product_code = ?4,
         customer_identifier = ?5, account_id = ?6, license_arn = ?7, region = ?8, stamp_ms = ?9,
         allocations = ?10, frozen_at_ms = ?11, next_attempt_at_ms = ?11, deadline_ms = ?12, hastened = ?13
     WHERE id = ?1";
