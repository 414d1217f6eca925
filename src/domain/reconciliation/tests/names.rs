//! Sales that are told under a legacy name and by licence: one subscription, whatever is told first.

use super::licenses::{License, facts, named};
use super::*;
use crate::domain::agreement::LicenseState;

/// One sale, told by SNS under a name and by events under a licence.
#[test]
fn a_sale_that_is_told_in_both_forms_is_one_subscription() {
    use SubscriptionAction::{Success, UnsubscribePending, UnsubscribeSuccess};
    let live = || License::updated("l-1", "-24h").on("a-1", "-24h");
    let over = || License::over("l-1", "-10m").on("a-1", "-24h").ended("CANCELLED", "-11m");
    let rows: [(&str, SubscriptionAction, &str, License, &[&str]); 5] = [
        ("both live", Success, "-24h", live(), &["buyer-1 l-1 active"]),
        ("SNS says it ends", UnsubscribePending, "-30m", live(), &["buyer-1 l-1 ending"]),
        ("SNS says it is over", UnsubscribeSuccess, "-30m", live(), &["buyer-1 l-1 canceled"]),
        ("only the licence tells the end", Success, "-24h", over(), &["buyer-1 l-1 canceled"]),
        ("the buyer came back since", Success, "-5m", over(), &["buyer-1 l-1 active"]),
    ];
    for (name, action, told, license, expected) in rows {
        let mut world = World::default();
        world.look(&pay_as_you_go(), None, &signal(action, told), &facts(vec![license]), "0s");
        assert_eq!(named(&world), expected, "{name}");
    }
}

#[test]
fn a_buyer_in_both_forms_comes_back_by_a_licence_alone() {
    use SubscriptionAction::{Fail, UnsubscribePending, UnsubscribeSuccess};
    let old = || License::over("l-1", "-3h").on("a-1", "-8760h").ended("CANCELLED", "-3h");
    let lives = |since: &str| License::updated("l-2", since).on("a-2", since);
    let rows = [
        (UnsubscribeSuccess, "-3h", lives("-1h"), "active"),
        (UnsubscribePending, "-3h", lives("-1h"), "active"),
        (Fail, "-3h", lives("-1h"), "active"),
        (UnsubscribeSuccess, "-30m", lives("-1h"), "canceled"),
        (UnsubscribePending, "-30m", lives("-1h"), "ending"),
        (UnsubscribeSuccess, "-3h", lives("-2h").ended("CANCELLED", "-10m"), "ending"),
        (UnsubscribeSuccess, "-3h", License::updated("l-2", "-1h").on("a-2", "24h"), "canceled"),
    ];
    for (action, told, license, expected) in rows {
        let mut world = World::default();
        let was = signal(SubscriptionAction::Success, "-24h");
        let running = facts(vec![License::updated("l-1", "-24h").on("a-1", "-8760h")]);
        world.look(&pay_as_you_go(), None, &was, &running, "-20h");
        let since = license.facts.live_since();
        let now_known = facts(vec![old(), license]);
        world.look(&pay_as_you_go(), None, &signal(action, told), &now_known, "0s");
        assert_eq!(named(&world)[0], format!("buyer-1 l-2 {expected}"), "{action:?} at {told}");
        if expected == "active" {
            assert_eq!(world.held[0].terms.starts_at, since);
        }
    }
}

#[test]
fn a_buyer_who_came_back_is_held_by_the_licence_that_lives() {
    use LicenseState::Provisioned;
    let left = License::untold("l-1").on("a-1", "-24h").seen(Provisioned, "-20h");
    let left = left.ended("CANCELLED", "-3h");
    let came = License::untold("l-2").on("a-2", "-2h").seen(Provisioned, "-1h");
    let mut world = World::default();
    let told = signal(SubscriptionAction::Success, "-2h");
    world.look(&pay_as_you_go(), None, &told, &facts(vec![left, came]), "0s");
    let live: Vec<String> = named(&world).into_iter().filter(|it| it.ends_with("active")).collect();
    assert_eq!(live, ["buyer-1 l-2 active"], "only the API told of either");
}

#[test]
fn what_was_taken_for_two_sales_becomes_one() {
    let licenses = || facts(vec![License::updated("l-1", "-24h").on("a-1", "-24h")]);
    let mut world = World::default();
    world.look(&pay_as_you_go(), None, &BTreeMap::new(), &licenses(), "-2h");
    let told = signal(SubscriptionAction::Success, "-24h");
    world.look(&pay_as_you_go(), None, &told, &[], "-1h");
    assert_eq!(named(&world), ["- l-1 active", "buyer-1 - active"], "AWS has not joined them");
    world.look(&pay_as_you_go(), None, &told, &licenses(), "0s");
    assert_eq!(named(&world), ["- l-1 expired", "buyer-1 l-1 active"]);
    assert_eq!(world.held[0].terms.renewed_by, Some(buyer()));
    let again = world.look(&pay_as_you_go(), None, &told, &licenses(), "1h");
    assert_eq!(again.changes, []);
}

#[test]
fn a_licence_that_only_the_api_tells_of_is_no_second_sale_of_a_legacy_product() {
    let seen = || License::untold("l-1").on("a-1", "-24h").seen(LicenseState::Provisioned, "-1m");
    let legacy = ProductTerms { by_license: false, ..pay_as_you_go() };
    let mut world = World::default();
    world.look(&legacy, None, &BTreeMap::new(), &facts(vec![seen()]), "0s");
    assert_eq!(named(&world), <[&str; 0]>::default());
    world.look(
        &legacy,
        None,
        &signal(SubscriptionAction::Success, "-24h"),
        &facts(vec![seen()]),
        "0s",
    );
    assert_eq!(named(&world), ["buyer-1 l-1 active"], "it says which licence the buyer has");
}

/// A pay-as-you-go product of which some buyer has a legacy name.
fn legacy() -> ProductTerms {
    ProductTerms { by_license: false, ..pay_as_you_go() }
}

fn seen(state: LicenseState) -> Vec<LicenseFacts> {
    facts(vec![License::untold("l-1").on("a-1", "-24h").seen(state, "-1m")])
}

#[test]
fn what_was_opened_before_a_product_showed_to_be_legacy_is_taken_back() {
    let live = seen(LicenseState::Provisioned);
    let nothing = BTreeMap::new();
    let mut world = World::default();
    world.look(&pay_as_you_go(), None, &nothing, &live, "0s");
    assert_eq!(named(&world), ["- l-1 active"], "it may be one that is sold by licence");
    let told = facts(vec![License::updated("l-1", "-1m").on("a-1", "-24h")]);
    world.look(&legacy(), None, &nothing, &told, "1h");
    assert_eq!(named(&world), ["- l-1 active"], "events have told of it");

    let mut world = World::default();
    world.look(&pay_as_you_go(), None, &nothing, &live, "0s");
    world.look(&legacy(), None, &nothing, &live, "1h");
    assert_eq!(named(&world), ["- l-1 failed"], "the buyer may be held by the other name");
    let again = world.look(&legacy(), None, &nothing, &live, "2h");
    assert_eq!(again.changes, []);
    world.look(&legacy(), None, &signal(SubscriptionAction::Success, "-24h"), &live, "3h");
    assert_eq!(named(&world), ["- l-1 expired", "buyer-1 l-1 active"], "AWS has joined the two");

    let mut world = World::default();
    world.look(&pay_as_you_go(), None, &nothing, &live, "0s");
    world.look(&legacy(), None, &nothing, &seen(LicenseState::Deprovisioned), "1h");
    assert_eq!(named(&world), ["- l-1 canceled"], "the API told its end");

    let from = |offset: &str| Some(ClockHour::of(at(offset)));
    let moving = |offset| ProductTerms { licensed_from: from(offset), ..legacy() };
    for (offset, expected) in [("2h", "- l-1 failed"), ("1h", "- l-1 active")] {
        let mut world = World::default();
        world.look(&pay_as_you_go(), None, &nothing, &live, "0s");
        world.look(&moving(offset), None, &nothing, &live, "1h");
        assert_eq!(named(&world), [expected], "by licence from {offset} on");
    }
}

#[test]
fn a_legacy_buyer_of_whom_no_message_came_has_what_the_api_tells() {
    use LicenseState::{Deprovisioned, Provisioned};
    let name = CustomerIdentifier::new(BUYER);
    let nothing = BTreeMap::new();
    let mut world = World { names: [name].into(), ..World::default() };
    world.look(&pay_as_you_go(), None, &nothing, &seen(Provisioned), "-1h");
    assert_eq!(named(&world), ["- l-1 active"]);
    world.look(&legacy(), None, &nothing, &seen(Provisioned), "0s");
    assert_eq!(named(&world), ["- l-1 expired", "buyer-1 l-1 active"]);
    assert_eq!(world.held[0].terms.renewed_by, Some(buyer()));
    let told = facts(vec![License::updated("l-1", "-1m").on("a-1", "-24h")]);
    for licenses in [&seen(Provisioned), &told] {
        let again = world.look(&legacy(), None, &nothing, licenses, "1h");
        assert_eq!(again.changes, []);
    }
    let success = signal(SubscriptionAction::Success, "-24h");
    world.look(&legacy(), None, &success, &seen(Provisioned), "2h");
    assert_eq!(named(&world), ["- l-1 expired", "buyer-1 l-1 active"]);
    world.look(&legacy(), None, &nothing, &seen(Deprovisioned), "3h");
    assert_eq!(named(&world), ["- l-1 expired", "buyer-1 l-1 canceled"]);
}
