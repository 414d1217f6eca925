//! Freezing a record: its units dealt to its tags, its buyer named, and what AWS does not take carried on.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use rusqlite::{CachedStatement, Connection, OptionalExtension};

use super::attribution::first_hour_in;
use super::billable::BillableRecord;
use super::open_records::{OpenRecord, carry_into, tagged_in};
use super::parking::park;
use super::policy::{ClosedCounts, ClosingPolicy};
use super::records::open_record_in;
use super::roll_forward::roll_forward_in;
use super::side_records::{park_unknown_in, record_beside_in};
use super::slots::{has_both_identities, records_under_other_identity};
use super::unknown_hours::{RESTORED, unknown_hours_in};
use crate::domain::allocation::{Apportioned, apportion};
use crate::domain::ledger::{
    MeteredBuyer, Split, UnknownHours, WireIdentity, deadline, freezes_at, is_licensed,
    is_out_of_time, split, stamp, wire_identity,
};
use crate::domain::{
    AccountId, ClockHour, CustomerIdentifier, Holder, LicenseArn, ProductCode, ProductId, Quantity,
};
use crate::store::base::columns::{millis, quantity};
use crate::store::facts::legacy_ids::{has_legacy_buyers_in, is_untold_in};
use crate::store::{During, StoreError};

/// Freezes what has been found; all of it in the transaction in which it was.
pub(crate) fn freeze_all(
    connection: &Connection,
    policy: &ClosingPolicy,
    found: &[BillableRecord],
    now: Timestamp,
) -> Result<ClosedCounts, StoreError> {
    let write = connection.prepare_cached(WRITE).during("freeze a record")?;
    let mut freezer = Freezer {
        connection,
        write,
        policy,
        now,
        unknown: unknown_hours_in(connection)?,
        last_frozen: policy.timing().last_frozen(now),
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
    write: CachedStatement<'a>,
    policy: &'a ClosingPolicy,
    now: Timestamp,
    /// Of which AWS may know more than we do.
    unknown: UnknownHours,
    /// The last hour that is frozen for everybody.
    last_frozen: ClockHour,
    /// Records that were carried into or moved since they were listed, in this very transaction.
    touched: HashSet<i64>,
    /// Which products' buyers are known in both forms.
    mixed: HashMap<ProductId, bool>,
    /// Which products have buyers with a legacy name.
    legacy: HashMap<ProductCode, bool>,
    closed: ClosedCounts,
}

impl Freezer<'_> {
    fn freeze(&mut self, billable: &BillableRecord) -> Result<(), StoreError> {
        let record = &billable.record;
        let Some(holder) = &record.holder else { return Ok(()) };
        // What is frozen for those who stay is frozen for those who leave too, and needs no calendar.
        if record.hour > self.last_frozen
            && self.now < freezes_at(record.hour, self.policy.timing(), billable.tenure)
        {
            return Ok(());
        }
        let (last, hastened) = billable.deadline(self.policy.window);
        if !billable.tenure.is_leaving() && self.unknown.keep_open(record.hour, last, self.now) {
            return Ok(());
        }
        let Some(held) = self.held(record)? else { return Ok(()) };
        if self.unknown.hold(record.hour) && last <= self.now {
            return self.park_unknown(record, RESTORED);
        }
        if billable.pending {
            return self.wait_for(record, "no_subscription");
        }
        if held > Quantity::ZERO && !billable.tenure.covers(record.hour) {
            return self.outlived(billable, held);
        }
        if self.may_have_a_name(billable, holder)? {
            return self.wait_for(record, "legacy_name_unknown");
        }
        if self.is_frozen_under_other_identity(record)? {
            return self.roll_forward(record, self.later(record), "hour_frozen");
        }
        let buyer = MeteredBuyer {
            holder,
            product_code: &billable.product_code,
            account_id: billable.account_id.as_ref(),
            license_arn: billable.license_arn.as_ref(),
        };
        let identity = match wire_identity(&buyer, record.hour, billable.licensed_from) {
            Ok(identity) => identity,
            Err(gap) => return self.wait_for(record, gap.as_str()),
        };
        if held > Quantity::ZERO && self.has_missed_its_time(billable) {
            // AWS was never told of it: like usage that is reported so late, it goes to the hour that is open.
            return self.roll_forward(record, ClockHour::of(self.now), "late");
        }
        let parts = split(held);
        let may_be_tagged = record.tagged || self.touched.contains(&record.id);
        let tagged =
            if may_be_tagged { tagged_in(self.connection, record.id)? } else { Vec::new() };
        let dealt = apportion(held, &tagged);
        let zero = parts.whole == Quantity::ZERO;
        let silent = zero && !self.is_wanted_at_zero(billable);
        if parts.rest > Quantity::ZERO {
            if zero && billable.tenure.ended_at().is_some() {
                // No later hour of this subscription will make it whole.
                return self.leave_behind(billable, record.hour.next(), "fraction");
            }
            if silent {
                return self.roll_fraction_forward(record);
            }
            self.carry_rest(record, parts, &dealt)?;
        }
        let over = billable.tenure.ended_at().map_or(self.now, |ended| ended.min(self.now));
        let reason = match (silent, parts.rest > Quantity::ZERO) {
            (true, _) => Some("nothing_to_send"),
            (false, true) => Some("remainder_carried"),
            (false, false) => None,
        };
        let stamp = Some(stamp(record.hour, billable.starts_at, over));
        let stamp = stamp.filter(|stamp| *stamp != record.hour.start());
        let state = if silent { "accepted" } else { "ready" };
        let outcome = Outcome { state, reason, stamp, deadline: last, hastened };
        self.closed.frozen += usize::from(!silent);
        self.write(record, &identity, &dealt, &outcome)
    }

    /// Reports whether AWS is told of an hour of zero: only where the seller wants every hour reported, and not what it
    /// would refuse.
    fn is_wanted_at_zero(&self, billable: &BillableRecord) -> bool {
        self.policy.zero_usage
            && billable.tenure.covers(billable.record.hour)
            && !is_out_of_time(billable.record.hour, self.policy.window, self.now)
    }

    /// Reports whether the time of its hour has passed without its being frozen, as where nothing ran, and the hour
    /// that is open now can bear it.
    fn has_missed_its_time(&self, billable: &BillableRecord) -> bool {
        is_out_of_time(billable.record.hour, self.policy.window, self.now)
            && billable.tenure.covers(ClockHour::of(self.now))
    }

    /// AWS refuses usage of an hour that began after the subscription's end. It waits as long as AWS may tell what the
    /// subscription went on as.
    fn outlived(&mut self, billable: &BillableRecord, held: Quantity) -> Result<(), StoreError> {
        let waits = billable.renewed_by.is_none() && billable.tenure.is_taken_at(self.now);
        if waits {
            return Ok(());
        }
        let whole = split(held).whole > Quantity::ZERO;
        let lack = if whole { "subscription_ended" } else { "fraction" };
        self.leave_behind(billable, billable.record.hour, lack)
    }

    /// Moves usage that no hour of the subscription can bear to what it went on as, from an hour on, or parks it.
    fn leave_behind(
        &mut self,
        billable: &BillableRecord,
        from: ClockHour,
        lack: &'static str,
    ) -> Result<(), StoreError> {
        let record = &billable.record;
        if let Some(holder) = &billable.renewed_by
            && self.is_live(record, holder)?
        {
            let first = first_hour_in(self.connection, Some(holder))?;
            let hour = first.map_or(from, |first| first.max(from));
            let key = record.key(Some(holder.clone()), hour);
            let bill_to = roll_forward_in(self.connection, record, &key, "renewed", self.now)?;
            self.touched.extend([record.id, bill_to]);
            return Ok(());
        }
        self.closed.parked += 1;
        park(self.connection, record.id, lack, self.now)
    }

    fn is_live(&self, record: &OpenRecord, holder: &Holder) -> Result<bool, StoreError> {
        self.connection
            .prepare_cached(
                "SELECT 1 FROM subscriptions WHERE product_id = ?1 AND holder = ?2
                   AND status IN ('active', 'trialing', 'ending')",
            )
            .and_then(|mut select| select.exists((record.product_id.as_str(), holder.to_string())))
            .during("see what a subscription went on as")
    }

    /// Reports whether the customer's hour was frozen in the other form. Nothing that opens or moves records lets it
    /// come to that; but what is frozen is sent, and an hour in both forms is billed twice. Only a product that is
    /// known in both forms costs the look.
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
        let others = records_under_other_identity(
            self.connection,
            &record.key(record.holder.clone(), record.hour),
            record.hour,
        )?;
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
        if !billable.alone || is_licensed(billable.record.hour, billable.licensed_from) {
            return Ok(false);
        }
        let code = &billable.product_code;
        let legacy = if let Some(legacy) = self.legacy.get(code) {
            *legacy
        } else {
            let legacy = has_legacy_buyers_in(self.connection, code)?;
            self.legacy.insert(code.clone(), legacy);
            legacy
        };
        Ok(legacy && is_untold_in(self.connection, arn)?)
    }

    /// The hour that less than a unit is put off to: not one by one through hours that are over.
    fn later(&self, record: &OpenRecord) -> ClockHour {
        let next = record.hour.next();
        if next <= self.last_frozen { ClockHour::of(self.now) } else { next }
    }

    /// Returns the quantity that the record holds by now; none if it was put off.
    fn held(&self, record: &OpenRecord) -> Result<Option<Quantity>, StoreError> {
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
            .map(|held| held.map(quantity))
            .during("read a record's quantity")
    }

    fn carry_rest(
        &mut self,
        record: &OpenRecord,
        parts: Split,
        dealt: &Apportioned,
    ) -> Result<(), StoreError> {
        let target = if self.unknown.hold(record.hour) {
            let key = record.key(record.holder.clone(), record.hour);
            record_beside_in(self.connection, &key, "fraction")?
        } else {
            open_record_in(self.connection, &record.key(record.holder.clone(), record.hour.next()))?
        };
        self.touched.insert(target.id);
        let rest = parts.rest.millionths();
        self.connection
            .prepare_cached(
                "UPDATE metering_records SET quantity = quantity - ?2, remainder = ?2 WHERE id = ?1",
            )
            .and_then(|mut update| update.execute((record.id, rest)))
            .during("carry a remainder")?;
        carry_into(self.connection, target.id, rest, &dealt.waits)
    }

    /// Moves less than a unit to a later hour. In an hour that is unknown it stays: a ledger that was lost may have
    /// billed it with usage of this hour that did not come again.
    fn roll_fraction_forward(&mut self, record: &OpenRecord) -> Result<(), StoreError> {
        if self.unknown.hold(record.hour) {
            return self.park_unknown(record, "fraction");
        }
        self.roll_forward(record, self.later(record), "fraction")
    }

    fn park_unknown(&mut self, record: &OpenRecord, why: &'static str) -> Result<(), StoreError> {
        self.closed.parked += 1;
        park_unknown_in(self.connection, record.id, why, self.now)
    }

    /// It waits in a later hour, as the same record or as a part of the one there.
    fn roll_forward(
        &mut self,
        record: &OpenRecord,
        later: ClockHour,
        why: &str,
    ) -> Result<(), StoreError> {
        let key = record.key(record.holder.clone(), later);
        let bill_to = roll_forward_in(self.connection, record, &key, why, self.now)?;
        self.touched.extend([record.id, bill_to]);
        Ok(())
    }

    /// Without a subscription in force, or a name for the buyer, AWS would refuse it: it waits until AWS has told.
    fn wait_for(&mut self, record: &OpenRecord, lack: &'static str) -> Result<(), StoreError> {
        if self.now < deadline(record.hour, self.policy.window) {
            return Ok(());
        }
        self.closed.parked += 1;
        park(self.connection, record.id, lack, self.now)
    }

    fn write(
        &mut self,
        record: &OpenRecord,
        identity: &WireIdentity,
        dealt: &Apportioned,
        outcome: &Outcome,
    ) -> Result<(), StoreError> {
        let allocations = (!dealt.sent.is_empty())
            .then(|| serde_json::to_string(&dealt.sent))
            .transpose()
            .map_err(|error| StoreError::Corrupt {
                what: "allocations",
                detail: error.to_string(),
            })?;
        // The holder says it, and is frozen itself.
        let license = identity.license_arn.as_ref();
        let license = license
            .filter(|arn| !matches!(&record.holder, Some(Holder::License(own)) if own == *arn));
        self.write
            .execute((
                record.id,
                outcome.state,
                outcome.reason,
                identity.product_code.as_ref().map(ProductCode::as_str),
                identity.customer_identifier.as_ref().map(CustomerIdentifier::as_str),
                identity.account_id.as_ref().map(AccountId::as_str),
                license.map(LicenseArn::as_str),
                &self.policy.region,
                outcome.stamp.map(millis),
                allocations,
                millis(self.now),
                millis(outcome.deadline),
                outcome.hastened,
            ))
            .during("freeze a record")?;
        Ok(())
    }
}

const WRITE: &str =
    "UPDATE OR FAIL metering_records SET state = ?2, reason = ?3, product_code = ?4,
         customer_identifier = ?5, account_id = ?6, license_arn = ?7, region = ?8, stamp_ms = ?9,
         allocations = ?10, frozen_at_ms = ?11, next_attempt_at_ms = ?11, deadline_ms = ?12, hastened = ?13
     WHERE id = ?1";

/// The frozen form of a record.
struct Outcome {
    state: &'static str,
    reason: Option<&'static str>,
    /// Where it is not the hour's beginning.
    stamp: Option<Timestamp>,
    deadline: Timestamp,
    hastened: bool,
}
