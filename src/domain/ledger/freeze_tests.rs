//! What becomes of open records: each circumstance by itself, and the laws whatever the circumstances.

use jiff::SignedDuration;
use proptest::prelude::*;

use super::super::AWS_WINDOW;
use super::super::identity::IdentityGap;
use super::*;
use crate::domain::{AccountId, LicenseArn};

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn quantity(millionths: i64) -> Quantity {
    Quantity::from_millionths(millionths).unwrap()
}

fn identity() -> WireIdentity {
    WireIdentity {
        product_code: None,
        customer_identifier: None,
        account_id: Some(AccountId::new("123456789012")),
        license_arn: Some(LicenseArn::new("arn")),
    }
}

fn policy(now: &str) -> FreezePolicy {
    let now = time(now);
    let timing = Timing { grace: SignedDuration::from_mins(5), window: AWS_WINDOW };
    FreezePolicy {
        timing,
        zero_usage: false,
        unknown: UnknownHours::default(),
        last_frozen: timing.last_frozen(now),
        now,
    }
}

/// Five units of 09:00 under a subscription that lasts.
fn facts() -> FreezeFacts {
    FreezeFacts {
        hour: ClockHour::of(time("2026-11-10T09:00:00Z")),
        quantity: Quantity::from_units(5),
        tenure: Tenure::Lasting,
        starts_at: None,
        pending: false,
        renewal: None,
        identity: Ok(identity()),
        frozen_elsewhere: false,
    }
}

/// A decision in a word or two.
fn shown(freezing: &Freezing) -> String {
    let hour = |hour: &ClockHour| hour.start().strftime("%H:%M").to_string();
    match freezing {
        Freezing::StaysOpen => "open".into(),
        Freezing::Park(reason) => format!("parked {}", reason.as_str()),
        Freezing::ParkUnknown(reason) => format!("unknown {}", reason.as_str()),
        Freezing::RollForward(to, why) => format!("to {} {}", hour(to), why.as_str()),
        Freezing::MoveToRenewal(to) => format!("renewal {}", hour(to)),
        Freezing::Freeze(it) => {
            let rest = match it.remainder {
                Remainder::None => String::new(),
                Remainder::Carried(rest) => format!(" carries {rest}"),
                Remainder::Beside(rest) => format!(" beside {rest}"),
            };
            let sent = if it.sendable { "sends" } else { "keeps" };
            format!("{sent} {}{rest}", it.quantity)
        }
    }
}

const DUE: &str = "2026-11-10T10:05:00Z";
const LATER_THAT_DAY: &str = "2026-11-10T18:30:00Z";
const OUT_OF_TIME: &str = "2026-11-11T09:00:00Z";
const ENDED_WITHIN: &str = "2026-11-10T09:30:00Z";
const ENDED_BEFORE: &str = "2026-11-10T08:30:00Z";

#[test]
fn the_clock_decides_when_a_record_freezes() {
    let leaving = FreezeFacts { tenure: Tenure::Ended(time(ENDED_WITHIN)), ..facts() };
    let ending = FreezeFacts { tenure: Tenure::Ending(None), ..facts() };
    for (facts, now, expected) in [
        (facts(), "2026-11-10T10:04:59Z", "open"),
        (facts(), DUE, "sends 5"),
        (leaving.clone(), "2026-11-10T09:29:59Z", "open"),
        (leaving, "2026-11-10T09:30:00Z", "sends 5"),
        (ending, "2026-11-10T09:00:00Z", "sends 5"),
        (facts(), OUT_OF_TIME, "to 09:00 late"),
    ] {
        assert_eq!(shown(&freeze(&facts, &policy(now))), expected, "{facts:?} at {now}");
    }
}

#[test]
fn what_is_missing_is_waited_for_as_long_as_aws_takes_the_hour() {
    let unnamed = |gap| FreezeFacts { identity: Err(gap), ..facts() };
    for (facts, reason) in [
        (FreezeFacts { pending: true, ..facts() }, "no_subscription"),
        (unnamed(Gap::LegacyName), "legacy_name_unknown"),
        (unnamed(Gap::License(IdentityGap::License)), "license_unknown"),
        (unnamed(Gap::License(IdentityGap::Account)), "account_unknown"),
    ] {
        assert_eq!(shown(&freeze(&facts, &policy("2026-11-11T08:59:59Z"))), "open", "{reason}");
        let parked = format!("parked {reason}");
        assert_eq!(shown(&freeze(&facts, &policy(OUT_OF_TIME))), parked);
    }
}

#[test]
fn usage_of_an_hour_after_the_end_goes_to_the_renewal_or_is_parked() {
    let ended = |renewal, quantity| FreezeFacts {
        tenure: Tenure::Ended(time(ENDED_BEFORE)),
        renewal,
        quantity,
        ..facts()
    };
    let renewed = |live, first: Option<&str>| {
        Some(Renewal { live, first_hour: first.map(|it| ClockHour::of(time(it))) })
    };
    let (units, part) = (Quantity::from_units(5), quantity(400_000));
    for (renewal, used, now, expected) in [
        (None, units, "2026-11-10T09:29:59Z", "open"),
        (None, units, "2026-11-10T09:30:00Z", "parked subscription_ended"),
        (None, part, "2026-11-10T09:30:00Z", "parked fraction"),
        (renewed(true, None), units, "2026-11-10T09:29:59Z", "renewal 09:00"),
        (renewed(true, Some("2026-11-10T10:00:00Z")), units, DUE, "renewal 10:00"),
        (renewed(true, Some("2026-11-10T08:00:00Z")), units, DUE, "renewal 09:00"),
        (renewed(false, None), units, DUE, "parked subscription_ended"),
        // Nothing of nothing is left behind.
        (None, Quantity::ZERO, DUE, "keeps 0"),
    ] {
        let facts = ended(renewal, used);
        assert_eq!(shown(&freeze(&facts, &policy(now))), expected, "{facts:?} at {now}");
    }
}

#[test]
fn less_than_a_unit_waits_for_more() {
    let holding = |millionths| FreezeFacts { quantity: quantity(millionths), ..facts() };
    let ended = FreezeFacts { tenure: Tenure::Ended(time(ENDED_WITHIN)), ..holding(400_000) };
    let renewal = Some(Renewal { live: true, first_hour: None });
    let zeros = FreezePolicy { zero_usage: true, ..policy(DUE) };
    for (facts, policy, expected) in [
        (holding(5_400_000), policy(DUE), "sends 5 carries 0.4"),
        (holding(400_000), policy(DUE), "to 10:00 fraction"),
        // Not one by one through hours that are over.
        (holding(400_000), policy(LATER_THAT_DAY), "to 18:00 fraction"),
        (ended.clone(), policy(DUE), "parked fraction"),
        (FreezeFacts { renewal, ..ended }, policy(DUE), "renewal 10:00"),
        (holding(0), policy(DUE), "keeps 0"),
        (holding(0), zeros, "sends 0"),
        (holding(400_000), zeros, "sends 0 carries 0.4"),
    ] {
        assert_eq!(shown(&freeze(&facts, &policy)), expected, "{facts:?}");
    }
    let zeros_too_late = FreezePolicy { zero_usage: true, ..policy(OUT_OF_TIME) };
    assert_eq!(shown(&freeze(&holding(0), &zeros_too_late)), "keeps 0");
}

#[test]
fn an_hour_is_billed_under_one_identity() {
    let elsewhere = FreezeFacts { frozen_elsewhere: true, ..facts() };
    assert_eq!(shown(&freeze(&elsewhere, &policy(DUE))), "to 10:00 hour_frozen");
    assert_eq!(shown(&freeze(&elsewhere, &policy(LATER_THAT_DAY))), "to 18:00 hour_frozen");
}

#[test]
fn usage_of_an_unknown_hour_does_not_leave_it() {
    let unknown = UnknownHours { through: Some(facts().hour), replay_until: None };
    let replay = UnknownHours { replay_until: Some(time("2026-11-10T11:30:00Z")), ..unknown };
    let holding = |millionths| FreezeFacts { quantity: quantity(millionths), ..facts() };
    let ended = FreezeFacts { tenure: Tenure::Ended(time(ENDED_BEFORE)), ..facts() };
    let renewal = Some(Renewal { live: true, first_hour: None });
    for (facts, unknown, now, expected) in [
        (facts(), unknown, DUE, "sends 5"),
        (facts(), replay, "2026-11-10T11:29:59Z", "open"),
        (facts(), replay, "2026-11-10T11:30:00Z", "sends 5"),
        (holding(5_400_000), unknown, DUE, "sends 5 beside 0.4"),
        (holding(400_000), unknown, DUE, "unknown fraction"),
        (FreezeFacts { frozen_elsewhere: true, ..facts() }, unknown, DUE, "unknown restored"),
        (FreezeFacts { renewal, ..ended }, unknown, DUE, "unknown restored"),
        (facts(), unknown, OUT_OF_TIME, "unknown restored"),
    ] {
        let policy = FreezePolicy { unknown, ..policy(now) };
        assert_eq!(shown(&freeze(&facts, &policy)), expected, "{facts:?} at {now}");
    }
}

prop_compose! {
    fn any_tenure()(kind in 0..4, minutes in -300_i64..300) -> Tenure {
        let at = time("2026-11-10T09:00:00Z") + SignedDuration::from_mins(minutes);
        match kind {
            0 => Tenure::Lasting,
            1 => Tenure::Ending(None),
            2 => Tenure::Ending(Some(at)),
            _ => Tenure::Ended(at),
        }
    }
}

prop_compose! {
    fn any_facts()(
        millionths in prop_oneof![Just(0), 1_i64..1_000_000, 1_000_000_i64..9_000_000_000_000_000],
        tenure in any_tenure(), pending in prop::bool::weighted(0.1), renewed in 0..3,
        first in prop::option::of(-3_i64..3), gap in 0..8, frozen_elsewhere in prop::bool::weighted(0.1),
        starts in prop::option::of(-200_i64..200),
    ) -> FreezeFacts {
        let hour = facts().hour;
        let first_hour = first.map(|it| ClockHour::from_number(hour.number() + it));
        FreezeFacts {
            hour,
            quantity: quantity(millionths),
            tenure,
            starts_at: starts.map(|it| hour.start() + SignedDuration::from_mins(it)),
            pending,
            renewal: (renewed > 0).then_some(Renewal { live: renewed > 1, first_hour }),
            identity: match gap {
                0 => Err(Gap::LegacyName),
                1 => Err(Gap::License(IdentityGap::License)),
                _ => Ok(identity()),
            },
            frozen_elsewhere,
        }
    }
}

prop_compose! {
    fn any_policy()(
        minutes in -90_i64..2_000, grace in 0_i64..600, zero_usage: bool,
        unknown in prop::option::of(-30_i64..30), replay in prop::option::of(-100_i64..2_000),
    ) -> FreezePolicy {
        let hour = facts().hour;
        let now = hour.end() + SignedDuration::from_mins(minutes);
        let timing = Timing { grace: SignedDuration::from_mins(grace), window: AWS_WINDOW };
        let unknown = UnknownHours {
            through: unknown.map(|it| ClockHour::from_number(hour.number() + it)),
            replay_until: replay.map(|it| hour.end() + SignedDuration::from_mins(it)),
        };
        FreezePolicy { timing, zero_usage, unknown, last_frozen: timing.last_frozen(now), now }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// No unit is made up or lost, and AWS is told of whole units only.
    #[test]
    fn what_is_sent_and_what_is_left_make_up_the_quantity(facts in any_facts(), policy in any_policy()) {
        if let Freezing::Freeze(it) = freeze(&facts, &policy) {
            let rest = match it.remainder {
                Remainder::None => Quantity::ZERO,
                Remainder::Carried(rest) | Remainder::Beside(rest) => rest,
            };
            prop_assert_eq!(it.quantity.checked_add(rest), Some(facts.quantity));
            prop_assert_eq!(it.quantity.fraction(), Quantity::ZERO);
            prop_assert!(it.sendable || facts.quantity == Quantity::ZERO, "usage is kept to ourselves");
            prop_assert!(it.deadline <= deadline(facts.hour, policy.timing.window));
        }
    }

    /// AWS deduplicates by the hour: what a lost ledger may have billed is billed in its hour or not at all.
    #[test]
    fn nothing_leaves_an_hour_that_is_unknown(facts in any_facts(), policy in any_policy()) {
        if policy.unknown.holds(facts.hour) {
            let freezing = freeze(&facts, &policy);
            let stays = match &freezing {
                Freezing::RollForward(..) | Freezing::MoveToRenewal(_) => false,
                Freezing::Freeze(it) => !matches!(it.remainder, Remainder::Carried(_)),
                Freezing::StaysOpen | Freezing::Park(_) | Freezing::ParkUnknown(_) => true,
            };
            prop_assert!(stays, "{freezing:?}");
        }
    }

    /// AWS refuses usage of an hour that began after the end, and of a buyer without names; usage is never moved to an
    /// hour before its own.
    #[test]
    fn nothing_is_sent_that_aws_would_refuse(facts in any_facts(), policy in any_policy()) {
        match freeze(&facts, &policy) {
            Freezing::Freeze(it) if it.sendable => {
                prop_assert!(facts.tenure.covers(facts.hour));
                prop_assert!(facts.identity.is_ok() && !facts.pending && !facts.frozen_elsewhere);
                prop_assert!(policy.now >= facts.hour.end() || facts.tenure.is_leaving());
                prop_assert!(it.stamp.is_none_or(|at| ClockHour::of(at) == facts.hour));
            }
            Freezing::RollForward(hour, _) => prop_assert!(hour > facts.hour),
            Freezing::MoveToRenewal(hour) => prop_assert!(hour >= facts.hour),
            _ => {}
        }
    }

    /// Once AWS takes its hour no more, nothing waits: it is billed to an hour that is open, or somebody decides.
    #[test]
    fn nothing_waits_for_ever(facts in any_facts(), policy in any_policy()) {
        let two_days = facts.hour.end() + SignedDuration::from_hours(48);
        let policy = FreezePolicy { now: two_days, last_frozen: policy.timing.last_frozen(two_days), ..policy };
        prop_assert_ne!(freeze(&facts, &policy), Freezing::StaysOpen);
    }
}
