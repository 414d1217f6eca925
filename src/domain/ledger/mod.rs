//! The metering ledger's rules: which licence and which hour bear a usage event, until when an hour is worth sending,
//! what of it goes out, and what AWS's answer makes of it.

use jiff::Timestamp;

mod answer;
mod attribution;
mod billed;
mod feature_attribution;
mod freeze;
mod identity;
mod park_reason;
mod retry;
mod standstill;
mod stretch;
mod tenure;
mod timing;

pub use answer::{Answer, Settlement, SettlementFacts, SubscriptionStanding, settle};
pub use attribution::{
    Attribution, BilledHolder, Candidate, Moments, Unattributed, UsageTime, attribute,
};
pub use billed::{HolderSubscription, LicenseNames, deciding, licensed_names};
pub use feature_attribution::{
    FeatureBearer, FeatureUnattributed, HolderChoice, choose_product, holder_of_now,
};
pub use freeze::{
    FreezeFacts, FreezePolicy, Freezing, FrozenRecord, MoveReason, Remainder, Renewal, freeze,
    is_due_to_freeze, record_deadline,
};
pub use identity::{Gap, IdentityGap, MeteredBuyer, WireIdentity, is_licensed, wire_identity};
pub use park_reason::{ParkReason, Refusal};
pub use retry::retry_at;
pub use standstill::{Standstill, StandstillCause};
pub use stretch::{StretchCause, UnknownHours, UnknownStretch};
pub use tenure::Tenure;
pub use timing::{
    AWS_WINDOW, AgeLimits, CLOCK_SKEW, INTERVAL_MOST, MAX_AGE_LEAST, Placement, SENDING_RESERVE,
    Stage, Timing, WINDOW_LEAST, deadline, freezes_at, is_out_of_time, place, stage,
};

use super::{ClockHour, Quantity};

/// Returns the moment within its hour that a record is stamped with. AWS deduplicates by the hour, and takes nothing
/// from before a subscription's start, be that its agreement's or a little later its licence's, and nothing from the
/// future: so it is the hour's beginning, but in the hour in which the subscription began the last moment that is over.
pub fn stamp(hour: ClockHour, starts_at: Option<Timestamp>, over: Timestamp) -> Timestamp {
    let begins_within = starts_at.is_some_and(|at| at > hour.start() && at < hour.end());
    if !begins_within {
        return hour.start();
    }
    let last = hour.end().as_second().saturating_sub(1).min(over.as_second());
    Timestamp::from_second(last.max(hour.start().as_second())).unwrap_or(hour.start())
}

/// The reason of a record whose units a person moved on to a later hour. Nothing of it is left to bill, so it is stored with
/// what is written off, and nothing of it was given up.
pub const CARRIED_FORWARD: &str = "carried_forward";

/// Returns the word by which people are shown a record's state.
pub fn shown_state<'a>(state: &'a str, reason: Option<&'a str>) -> &'a str {
    match reason {
        Some(CARRIED_FORWARD) if state == "written_off" => CARRIED_FORWARD,
        _ => state,
    }
}

/// The parts of a quantity: what goes out with its hour, and what is left for a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// The whole units, at most what AWS takes in one record.
    pub whole: Quantity,
    /// The rest.
    pub rest: Quantity,
}

/// Splits a quantity: AWS's SDK sends whole units only.
pub fn split(quantity: Quantity) -> Split {
    let units = quantity.saturating_sub(quantity.fraction()).min(Quantity::MAX_RECORD);
    Split { whole: units, rest: quantity.saturating_sub(units) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_record_is_stamped_within_its_hour_and_not_before_the_subscription() {
        let hour = ClockHour::of(time("2026-11-10T09:00:00Z"));
        for (starts_at, over, expected) in [
            (None, "2026-11-10T10:05:00Z", "2026-11-10T09:00:00Z"),
            (Some("2026-11-10T08:59:59Z"), "2026-11-10T10:05:00Z", "2026-11-10T09:00:00Z"),
            (Some("2026-11-10T09:00:00Z"), "2026-11-10T10:05:00Z", "2026-11-10T09:00:00Z"),
            (Some("2026-11-10T09:00:00.5Z"), "2026-11-10T10:05:00Z", "2026-11-10T09:59:59Z"),
            (Some("2026-11-10T09:40:07Z"), "2026-11-10T10:05:00Z", "2026-11-10T09:59:59Z"),
            (Some("2026-11-10T09:40:07Z"), "2026-11-10T09:45:00.9Z", "2026-11-10T09:45:00Z"),
            (Some("2026-11-10T09:40:07Z"), "2026-11-10T08:00:00Z", "2026-11-10T09:00:00Z"),
            (Some("2026-11-10T10:00:00Z"), "2026-11-10T10:05:00Z", "2026-11-10T09:00:00Z"),
        ] {
            let stamped = stamp(hour, starts_at.map(time), time(over));
            assert_eq!(stamped, time(expected), "{starts_at:?} {over}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_by_splitting(millionths in 0_i64..=9_000_000_000_000_000) {
            let quantity = Quantity::from_millionths(millionths).unwrap();
            let Split { whole, rest } = split(quantity);
            prop_assert_eq!(whole.checked_add(rest), Some(quantity));
            prop_assert_eq!(whole.fraction(), Quantity::ZERO);
            prop_assert!(whole <= Quantity::MAX_RECORD);
            prop_assert!(rest < Quantity::from_units(1) || whole == Quantity::MAX_RECORD);
        }
    }
}
