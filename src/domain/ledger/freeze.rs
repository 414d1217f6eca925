//! Freezing: what becomes of an open record, decided by the facts about it alone.
//!
//! A record is frozen once, before AWS hears of it, and never changed afterwards. So everything that speaks against
//! sending it as it is, or in its own hour, is decided here.

use jiff::Timestamp;

use super::super::{ClockHour, Quantity};
use super::identity::{Gap, WireIdentity};
use super::park_reason::ParkReason;
use super::stretch::UnknownHours;
use super::tenure::Tenure;
use super::timing::{Timing, deadline, freezes_at, is_out_of_time};
use super::{Split, split, stamp};

/// The settings and circumstances that all records of a pass have in common.
#[derive(Clone, Copy, Debug)]
pub struct FreezePolicy {
    /// The times of closing and sending.
    pub timing: Timing,
    /// True if an hour without usage is reported as zero.
    pub zero_usage: bool,
    /// The hours of which AWS may know more than the ledger.
    pub unknown: UnknownHours,
    /// The last hour that is frozen for everybody who stays: see [`Timing::last_frozen`].
    pub last_frozen: ClockHour,
    /// The time of the pass.
    pub now: Timestamp,
}

/// The facts about an open record and the subscription that it bills.
#[derive(Clone, Debug)]
pub struct FreezeFacts {
    /// The record's hour.
    pub hour: ClockHour,
    /// The quantity of its usage.
    pub quantity: Quantity,
    /// The subscription's tenure.
    pub tenure: Tenure,
    /// The time at which the subscription came into force, where AWS has told.
    pub starts_at: Option<Timestamp>,
    /// True if the subscription is not in force yet, or turned out to be none: AWS is not to be told of it.
    pub pending: bool,
    /// The subscription that it went on as when it ended.
    pub renewal: Option<Renewal>,
    /// The buyer's names, or the part of them that is missing.
    pub identity: Result<WireIdentity, Gap>,
    /// True if the customer's hour was frozen under its other identity: by product code or by licence.
    pub frozen_elsewhere: bool,
}

/// The subscription that an ended one went on as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// True if it is in force.
    pub live: bool,
    /// The first hour that AWS takes of it, where it has told one.
    pub first_hour: Option<ClockHour>,
}

/// The fate of an open record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Freezing {
    /// It stays open.
    StaysOpen,
    /// AWS will not take it: a person decides.
    Park(ParkReason),
    /// AWS may have been told of it by a ledger that was lost: a person decides.
    ParkUnknown(ParkReason),
    /// Its usage is billed with a later hour.
    RollForward(ClockHour, MoveReason),
    /// Its usage is billed to the renewal, with this hour.
    MoveToRenewal(ClockHour),
    /// It is frozen.
    Freeze(Box<FrozenRecord>),
}

/// The reason why usage is billed with another hour than its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveReason {
    /// Its hour was frozen, under the buyer's other identity.
    HourFrozen,
    /// AWS does not take its hour any more.
    Late,
    /// It is less than a unit.
    Fraction,
    /// Its subscription was renewed.
    Renewed,
}

impl MoveReason {
    /// Returns the word of the database and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HourFrozen => "hour_frozen",
            Self::Late => "late",
            Self::Fraction => "fraction",
            Self::Renewed => "renewed",
        }
    }
}

/// A record in the form in which AWS is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrozenRecord {
    /// The buyer's names.
    pub identity: WireIdentity,
    /// The quantity that is sent.
    pub quantity: Quantity,
    /// The rest, which AWS does not take with it.
    pub remainder: Remainder,
    /// True if it is to be sent; false where there is nothing to tell AWS.
    pub sendable: bool,
    /// The moment that it is stamped with, where that is not the hour's beginning.
    pub stamp: Option<Timestamp>,
    /// The time until which AWS takes it.
    pub deadline: Timestamp,
    /// True if the deadline is the end of the subscription's final hour.
    pub final_hour_deadline: bool,
}

/// The remainder of a record's quantity, by the place that it goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remainder {
    /// Nothing is left.
    None,
    /// To the next hour.
    Carried(Quantity),
    /// Beside the record: it may not leave its hour.
    Beside(Quantity),
}

/// Returns the time until which AWS takes a record, and whether that is the end of the subscription's final hour.
pub fn record_deadline(hour: ClockHour, tenure: Tenure, timing: Timing) -> (Timestamp, bool) {
    let by_hour = deadline(hour, timing.window);
    match tenure.last_moment().filter(|moment| *moment < by_hour) {
        Some(moment) => (moment, true),
        None => (by_hour, false),
    }
}

/// Reports whether a record's time to be frozen has come. Costs no look at anything but its hour and tenure.
pub fn is_due_to_freeze(hour: ClockHour, tenure: Tenure, policy: &FreezePolicy) -> bool {
    // What is frozen for those who stay is frozen for those who leave too, and needs no calendar.
    if hour > policy.last_frozen && policy.now < freezes_at(hour, policy.timing, tenure) {
        return false;
    }
    // Only hours that are unknown are kept open, so that no other costs a look at the calendar.
    if tenure.is_leaving() || !policy.unknown.holds(hour) {
        return true;
    }
    let (last, _) = record_deadline(hour, tenure, policy.timing);
    !policy.unknown.keeps_open(hour, last, policy.now)
}

/// Decides what becomes of an open record.
pub fn freeze(facts: &FreezeFacts, policy: &FreezePolicy) -> Freezing {
    let FreezePolicy { now, .. } = *policy;
    let FreezeFacts { hour, quantity, tenure, .. } = *facts;
    if !is_due_to_freeze(hour, tenure, policy) {
        return Freezing::StaysOpen;
    }
    let (last, final_hour_deadline) = record_deadline(hour, tenure, policy.timing);
    if policy.unknown.holds(hour) && last <= now {
        return Freezing::ParkUnknown(ParkReason::Restored);
    }
    if facts.pending {
        return facts.wait_for(ParkReason::NoSubscription, policy);
    }
    if quantity > Quantity::ZERO && !tenure.covers(hour) {
        return facts.outlived(policy);
    }
    if let Err(gap @ Gap::LegacyName) = facts.identity {
        return facts.wait_for(ParkReason::Unnamed(gap), policy);
    }
    if facts.frozen_elsewhere {
        return facts.roll_forward(facts.later(policy), MoveReason::HourFrozen, policy);
    }
    let identity = match &facts.identity {
        Ok(identity) => identity.clone(),
        Err(gap) => return facts.wait_for(ParkReason::Unnamed(*gap), policy),
    };
    let out_of_time = is_out_of_time(hour, policy.timing.window, now);
    if quantity > Quantity::ZERO && out_of_time && tenure.covers(ClockHour::of(now)) {
        // AWS was never told of it: like usage that is reported so late, it goes to the hour that is open.
        return facts.roll_forward(ClockHour::of(now), MoveReason::Late, policy);
    }
    let Split { whole, rest } = split(quantity);
    let zero = whole == Quantity::ZERO;
    // AWS would refuse a zero that is out of time, or of an hour after the end.
    let sendable = !zero || policy.zero_usage && tenure.covers(hour) && !out_of_time;
    if zero && rest > Quantity::ZERO {
        if tenure.ended_at().is_some() {
            // No later hour of this subscription will make it whole.
            return facts.leave_behind(hour.next(), ParkReason::Fraction, policy);
        }
        if !sendable {
            // In an hour that is unknown it stays: a ledger that was lost may have billed it with usage of this hour
            // that did not come again.
            return if policy.unknown.holds(hour) {
                Freezing::ParkUnknown(ParkReason::Fraction)
            } else {
                Freezing::RollForward(facts.later(policy), MoveReason::Fraction)
            };
        }
    }
    let remainder = match rest {
        Quantity::ZERO => Remainder::None,
        rest if policy.unknown.holds(hour) => Remainder::Beside(rest),
        rest => Remainder::Carried(rest),
    };
    let over = tenure.ended_at().map_or(now, |ended| ended.min(now));
    let stamp = Some(stamp(hour, facts.starts_at, over)).filter(|it| *it != hour.start());
    Freezing::Freeze(Box::new(FrozenRecord {
        identity,
        quantity: whole,
        remainder,
        sendable,
        stamp,
        deadline: last,
        final_hour_deadline,
    }))
}

impl FreezeFacts {
    /// Keeps the record open as long as AWS takes its hour: what is missing may still be told.
    fn wait_for(&self, reason: ParkReason, policy: &FreezePolicy) -> Freezing {
        if policy.now < deadline(self.hour, policy.timing.window) {
            Freezing::StaysOpen
        } else {
            Freezing::Park(reason)
        }
    }

    /// Decides on usage of an hour that began after the subscription's end, which AWS refuses. It waits as long as AWS
    /// may tell what the subscription went on as.
    fn outlived(&self, policy: &FreezePolicy) -> Freezing {
        if self.renewal.is_none() && self.tenure.is_taken_at(policy.now) {
            return Freezing::StaysOpen;
        }
        let reason = if split(self.quantity).whole > Quantity::ZERO {
            ParkReason::SubscriptionEnded
        } else {
            ParkReason::Fraction
        };
        self.leave_behind(self.hour, reason, policy)
    }

    /// Moves usage that no hour of the subscription can bear to what it went on as, from an hour on, or parks it.
    fn leave_behind(&self, from: ClockHour, reason: ParkReason, policy: &FreezePolicy) -> Freezing {
        match self.renewal.filter(|renewal| renewal.live) {
            None => Freezing::Park(reason),
            Some(_) if policy.unknown.holds(self.hour) => {
                Freezing::ParkUnknown(ParkReason::Restored)
            }
            Some(Renewal { first_hour, .. }) => {
                Freezing::MoveToRenewal(first_hour.map_or(from, |first| first.max(from)))
            }
        }
    }

    /// Moves usage to a later hour; what AWS may have been told of before stays in its own.
    fn roll_forward(
        &self,
        later: ClockHour,
        reason: MoveReason,
        policy: &FreezePolicy,
    ) -> Freezing {
        if policy.unknown.holds(self.hour) {
            Freezing::ParkUnknown(ParkReason::Restored)
        } else {
            Freezing::RollForward(later, reason)
        }
    }

    /// Returns the hour to which usage is moved: not one by one through hours that are over.
    fn later(&self, policy: &FreezePolicy) -> ClockHour {
        let next = self.hour.next();
        if next <= policy.last_frozen { ClockHour::of(policy.now) } else { next }
    }
}

#[cfg(test)]
#[path = "freeze_tests.rs"]
mod tests;
