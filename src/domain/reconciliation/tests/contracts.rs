//! Contracts: what AWS lists, ceases to list, and lists beyond its date or after an end.

use super::*;

#[test]
fn a_contract_lives_by_what_aws_lists() {
    let mut world = World::default();
    world.contract_look(&[legacy_grant("basic", 1, "8760h")], "0s");
    assert_eq!(world.shown(), ["sub-1 plan-basic x1 active"]);

    world.contract_look(&[legacy_grant("pro", 1, "8760h")], "1h");
    assert_eq!(
        world.shown(),
        ["sub-1 plan-pro x1 active"],
        "an upgrade is a change of the same one"
    );

    world.contract_look(&[legacy_grant("pro", 1, "17520h")], "8759h");
    assert_eq!(world.held[0].terms.ends_at, Some(at("17520h")), "a renewal moves the end");

    let both = [legacy_grant("pro", 1, "17520h"), legacy_grant("seats", 5, "17520h")];
    world.contract_look(&both, "8760h");
    assert_eq!(world.shown(), ["sub-1 plan-pro x1 active", "sub-2 plan-seats x5 active"]);
}

#[test]
fn an_upgrade_to_a_plan_that_was_held_before_is_an_upgrade() {
    let mut world = World::default();
    world.contract_look(&[legacy_grant("basic", 1, "8760h"), legacy_grant("pro", 1, "2h")], "0s");
    world.contract_look(&[legacy_grant("basic", 1, "8760h")], "2h");
    assert_eq!(world.shown(), ["sub-1 plan-basic x1 active", "sub-2 plan-pro x1 expired"]);
    world.contract_look(&[legacy_grant("pro", 1, "8760h")], "100h");
    assert_eq!(world.shown(), ["sub-1 plan-pro x1 active", "sub-2 plan-pro x1 expired"]);

    // Of two that come, the one that was held before is not what another goes over to.
    let mut world = World::default();
    world.contract_look(&[legacy_grant("basic", 1, "8760h"), legacy_grant("pro", 1, "2h")], "0s");
    world.contract_look(&[legacy_grant("basic", 1, "8760h")], "2h");
    let both = [legacy_grant("pro", 1, "8760h"), legacy_grant("seats", 2, "8760h")];
    world.contract_look(&both, "100h");
    assert_eq!(world.shown(), ["sub-1 plan-seats x2 active", "sub-2 plan-pro x1 active"]);
}

#[test]
fn the_longer_term_counts_where_aws_lists_two() {
    let mut world = World::default();
    world.contract_look(&[legacy_grant("seats", 5, "1h"), legacy_grant("seats", 7, "8760h")], "0s");
    assert_eq!(world.shown(), ["sub-1 plan-seats x7 active"]);
    assert_eq!(world.held[0].terms.ends_at, Some(at("8760h")));
}

#[test]
fn an_empty_answer_alone_never_ends_access_at_once() {
    let mut world = World::default();
    world.contract_look(&[legacy_grant("basic", 1, "8760h")], "0s");
    let first = world.contract_look(&[], "1h");
    assert_eq!(world.shown(), ["sub-1 plan-basic x1 active"], "one empty answer");
    assert_eq!(first.look_again_at, Some(at("1h") + patience().second_look));

    world.contract_look(&[legacy_grant("basic", 1, "8760h")], "1h5s");
    world.contract_look(&[], "2h");
    assert_eq!(
        world.shown(),
        ["sub-1 plan-basic x1 active"],
        "the count starts anew after a sighting"
    );
    world.contract_look(&[], "2h10s");
    assert_eq!(world.shown(), ["sub-1 plan-basic x1 canceled"], "the second look agrees");
}

#[test]
fn an_empty_answer_ends_access_with_the_term_or_with_a_notification() {
    let mut world = World::default();
    world.contract_look(&[legacy_grant("basic", 1, "2h")], "0s");
    world.contract_look(&[], "2h");
    assert_eq!(world.shown(), ["sub-1 plan-basic x1 expired"]);

    let mut world = World::default();
    world.contract_look(&[legacy_grant("basic", 1, "8760h")], "0s");
    let told = signal(SubscriptionAction::UnsubscribeSuccess, "59m");
    world.look(&contract(), Some(&[]), &told, &[], "1h");
    assert_eq!(world.shown(), ["sub-1 plan-basic x1 canceled"]);
}

#[test]
fn what_aws_still_lists_after_its_date_is_kept_for_the_grace() {
    let mut world = World::default();
    let grant = [legacy_grant("basic", 1, "2h")];
    let first = world.contract_look(&grant, "0s");
    assert_eq!(
        first.look_again_at,
        Some(at("2h")),
        "AWS is asked at the date without being told to"
    );
    world.contract_look(&grant, "2h30m");
    assert_eq!(world.shown(), ["sub-1 plan-basic x1 ending"]);
    world.contract_look(&[legacy_grant("basic", 1, "8760h")], "2h40m");
    assert_eq!(world.shown(), ["sub-1 plan-basic x1 active"], "the renewal showed late");

    let mut world = World::default();
    world.contract_look(&grant, "0s");
    world.contract_look(&grant, "3h");
    assert_eq!(world.shown(), ["sub-1 plan-basic x1 expired"]);
}

/// Returns what was told of a buyer who subscribed long ago and left.
fn gone(offset: &str) -> BTreeMap<Holder, SubscriptionSignal> {
    let signal = SubscriptionSignal {
        action: SubscriptionAction::UnsubscribeSuccess,
        at: at(offset),
        free_trial: true,
        begun_at: Some(at("-8760h")),
    };
    [(buyer(), signal)].into()
}

#[test]
fn the_end_of_an_earlier_contract_says_nothing_about_the_next() {
    let mut world = World::default();
    let (product, told) = (contract(), gone("-4380h"));
    world.look(&product, Some(&[legacy_grant("basic", 1, "1h")]), &gone("-8760h"), &[], "-8000h");
    world.look(&product, Some(&[]), &told, &[], "-4380h");
    assert_eq!(world.shown(), ["sub-1 plan-basic x1 canceled"]);

    // Back, as only AWS's list tells; another dimension comes later, and an upgrade.
    let day = [legacy_grant("basic", 1, "8760h")];
    let back = world.look(&product, Some(&day), &told, &[], "0s");
    assert_eq!(world.shown(), ["sub-1 plan-basic x1 active"]);
    assert_eq!(world.held[0].terms.starts_at, Some(now()), "it starts anew");
    assert_eq!(back.look_again_at, Some(at("8760h")), "nothing is to be looked for soon");
    let again = world.look(&product, Some(&day), &told, &[], "1m");
    assert!(again.changes.is_empty(), "{:?}", again.changes);
    let more = [legacy_grant("pro", 1, "8760h"), legacy_grant("seats", 5, "8760h")];
    world.look(&product, Some(&more), &told, &[], "1h");
    assert_eq!(world.shown(), ["sub-1 plan-pro x1 active", "sub-2 plan-seats x5 active"]);

    // One empty answer does not end it, an end of its own does.
    world.look(&product, Some(&[]), &told, &[], "2h");
    assert_eq!(world.shown(), ["sub-1 plan-pro x1 active", "sub-2 plan-seats x5 active"]);
    world.look(&product, Some(&more), &gone("3h"), &[], "3h");
    assert_eq!(world.shown(), ["sub-1 plan-pro x1 ending", "sub-2 plan-seats x5 ending"]);
    world.look(&product, Some(&[]), &gone("3h"), &[], "3h1m");
    assert_eq!(world.shown(), ["sub-1 plan-pro x1 canceled", "sub-2 plan-seats x5 canceled"]);
}

#[test]
fn an_end_that_aws_has_not_borne_out_for_long_is_an_earlier_contracts() {
    for (told, expected) in [("-5m", "ending"), ("-90m", "ending"), ("-3h", "active")] {
        let mut world = World::default();
        let listed = [legacy_grant("basic", 1, "8760h")];
        world.look(&contract(), Some(&listed), &gone(told), &[], "0s");
        assert_eq!(world.shown(), [format!("sub-1 plan-basic x1 {expected}")], "told at {told}");
    }
}

#[test]
fn a_contract_starts_anew_when_it_was_told() {
    let mut world = World::default();
    world.contract_look(&[legacy_grant("basic", 1, "1h")], "-8000h");
    world.look(&contract(), Some(&[]), &gone("-4380h"), &[], "-4380h");
    let decision = decide(&Situation {
        now: now(),
        patience: patience(),
        product: &contract(),
        held: &world.held,
        answer: Some(&[legacy_grant("basic", 1, "8760h")]),
        names: &BTreeSet::new(),
        claimed: false,
        signals: &gone("-4380h"),
        licenses: &[],
        told_at: Some(at("-10m")),
        brake: Brake::default(),
    });
    assert_eq!(decision.changes[0].terms.starts_at, Some(at("-10m")));
}
