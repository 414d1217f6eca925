//! Licences that follow each other, and what the Agreement API says of them.

use super::licenses::{License, facts, named};
use super::*;
use crate::domain::agreement::LicenseState;

/// Returns how pay-as-you-go licences stand, as `licence status`, and what each went on under.
fn standing(licenses: Vec<License>) -> Vec<String> {
    let mut world = World::default();
    world.look(&pay_as_you_go(), None, &BTreeMap::new(), &facts(licenses), "0s");
    let shown = world.held.iter().map(|held| {
        let arn = held.terms.license_arn.as_ref().map_or("-", LicenseArn::as_str);
        let status = held.terms.status.as_str();
        match &held.terms.renewed_by {
            Some(next) => format!("{arn} {status} -> {}", next.value()),
            None => format!("{arn} {status}"),
        }
    });
    shown.collect()
}

/// The same facts in every order come to the same.
fn check(name: &str, licenses: impl Fn() -> Vec<License>, expected: &[&str]) {
    let forward = standing(licenses());
    let mut reversed = licenses();
    reversed.reverse();
    let mut backward = standing(reversed);
    backward.sort();
    let mut sorted = forward.clone();
    sorted.sort();
    assert_eq!(sorted, expected, "{name}");
    assert_eq!(backward, expected, "{name}, the other way round");
}

#[test]
fn a_renewal_under_a_new_licence_is_one_plan_without_a_gap() {
    let old =
        |ended: &str| License::updated("l-1", "-8760h").on("a-1", "-8760h").ended(ended, "-2m");
    let gone = |ended: &str| License::over("l-1", "-1m").on("a-1", "-8760h").ended(ended, "-2m");
    let new = || License::updated("l-2", "-1m").on("a-2", "-2m");

    check(
        "named by the event",
        || vec![old("RENEWED"), new().previous(&["a-1"]).intent("RENEW")],
        &["l-1 expired -> l-2", "l-2 active"],
    );
    check(
        "before the old one is told to end",
        || {
            let old = License::updated("l-1", "-8760h").on("a-1", "-8760h");
            vec![old, new().previous(&["a-1"]).intent("RENEW")]
        },
        &["l-1 expired -> l-2", "l-2 active"],
    );
    check(
        "through an agreement that no licence event named",
        || vec![gone("REPLACED"), new().previous(&["a-between", "a-1"]).intent("REPLACE")],
        &["l-1 expired -> l-2", "l-2 active"],
    );
    check(
        "by the first of the chain, which the API tells",
        || vec![gone("RENEWED"), new().initial("a-1")],
        &["l-1 expired -> l-2", "l-2 active"],
    );
    check(
        "without a pointer: account and product join them",
        || vec![gone("RENEWED"), new().intent("RENEW")],
        &["l-1 expired -> l-2", "l-2 active"],
    );
    check(
        "without a pointer, and before the old one ended",
        || {
            let old = License::updated("l-1", "-8760h").on("a-1", "-8760h");
            vec![old, new().intent("REPLACE")]
        },
        &["l-1 expired -> l-2", "l-2 active"],
    );
    check(
        "its creation was never told",
        || vec![gone("RENEWED"), new()],
        &["l-1 expired -> l-2", "l-2 active"],
    );
}

#[test]
fn a_time_that_was_not_told_is_neither_earlier_nor_later_than_another() {
    let undated = |license: License| license.agreement(|it| it.starts_at = None);
    let old = || License::updated("l-1", "-8760h").on("a-1", "-8760h");
    let gone = || License::over("l-1", "-1m").on("a-1", "-8760h").ended("RENEWED", "-2m");
    let new = || License::updated("l-2", "-1m").on("a-2", "-2m").intent("RENEW");
    let one = ["l-1 expired -> l-2", "l-2 active"];
    check("the new one's, after the end", || vec![gone(), undated(new())], &one);
    check("the new one's, before the end", || vec![old(), undated(new())], &one);
    check("the old one's", || vec![undated(old()), new()], &one);
    check("both", || vec![undated(gone()), undated(new())], &one);
    check("within a chain", || vec![gone(), undated(new()).initial("a-1")], &one);
    check(
        "of a renewal that is renewed",
        || vec![undated(old()).intent("RENEW"), undated(new())],
        &one,
    );
    check(
        "the third of a chain",
        || {
            let first = gone().intent("NEW").ended("RENEWED", "-72h");
            let second = License::over("l-2", "-1m").on("a-2", "-72h").initial("a-1");
            let third = License::updated("l-3", "-1m").on("a-3", "-2m").initial("a-1");
            let second = undated(second.ended("RENEWED", "-2m"));
            vec![first, second, undated(third)]
        },
        &["l-1 expired -> l-2", "l-2 expired -> l-3", "l-3 active"],
    );
}

#[test]
fn nothing_follows_what_follows_it() {
    let nameless = |arn: &str, agreement: &str| {
        let license = License::untold(arn).on(agreement, "0s").intent("RENEW");
        let mut license = license.agreement(|it| it.starts_at = None);
        license.facts.account_id = Some(AccountId::new("123456789012"));
        license.seen(LicenseState::Provisioned, "-1h").ended("RENEWED", "-2m")
    };
    let both = facts(vec![nameless("l-1", "a-1"), nameless("l-2", "a-2")]);
    let one = super::super::licenses::follower(&both, &LicenseArn::new("l-1"));
    let other = super::super::licenses::follower(&both, &LicenseArn::new("l-2"));
    assert!(one.is_none() || other.is_none(), "{one:?} {other:?}");
}

#[test]
fn a_renewal_whose_licence_has_not_come_is_waited_for_an_hour() {
    let gone = |offset: &str| License::over("l-1", offset).on("a-1", "-8760h");
    check("told to go on", || vec![gone("-59m").ended("RENEWED", "-1h")], &["l-1 ending"]);
    check(
        "another agreement names it",
        || vec![gone("-59m").agreement(|it| it.followed = true)],
        &["l-1 ending"],
    );
    check("it never came", || vec![gone("-61m").ended("RENEWED", "-1h")], &["l-1 expired"]);
    check(
        "a buyer who leaves is not waited for",
        || vec![gone("-1m").ended("CANCELLED", "-2m")],
        &["l-1 canceled"],
    );
    check(
        "the next term begins later",
        || {
            let old = License::updated("l-1", "-8760h").on("a-1", "-8760h");
            vec![old, License::updated("l-2", "-1m").on("a-2", "24h").previous(&["a-1"])]
        },
        &["l-1 active", "l-2 pending"],
    );
}

#[test]
fn whoever_leaves_under_the_new_licence_does_not_come_back_under_the_old_one() {
    let old = || License::over("l-1", "-10m").on("a-1", "-8760h").ended("RENEWED", "-11m");
    let new = || License::over("l-2", "-1m").on("a-2", "-12m").previous(&["a-1"]);
    check(
        "it was renewed and cancelled within the hour",
        || vec![old(), new().ended("CANCELLED", "-2m")],
        &["l-1 expired -> l-2", "l-2 canceled"],
    );
    check(
        "only the licence's end was told",
        || vec![old(), new()],
        &["l-1 expired -> l-2", "l-2 canceled"],
    );
    check(
        "a next term that was cancelled before it began changes nothing",
        || {
            let old = License::updated("l-1", "-8760h").on("a-1", "-8760h");
            let next = License::over("l-2", "-1m").on("a-2", "24h").previous(&["a-1"]);
            vec![old, next.ended("CANCELLED", "-2m")]
        },
        &["l-1 active", "l-2 canceled"],
    );
    let unheard = |starts| License::untold("l-2").on("a-2", starts).initial("a-1");
    let held = || License::updated("l-1", "-8760h").on("a-1", "-8760h").ended("RENEWED", "-12h");
    check(
        "the new one came and went, and only the Agreement API told",
        || vec![held(), unheard("-12h").ended("CANCELLED", "-11h")],
        &["l-1 expired -> l-2"],
    );
    check(
        "it went on as a third one",
        || {
            let third = License::updated("l-3", "-10h").on("a-3", "-10h").initial("a-1");
            vec![held(), unheard("-12h").ended("RENEWED", "-10h"), third]
        },
        &["l-1 expired -> l-2", "l-3 active"],
    );
    check(
        "it ended before it began",
        || vec![held(), unheard("24h").ended("CANCELLED", "-11h")],
        &["l-1 active"],
    );
    check("it has not ended", || vec![held(), unheard("-12h")], &["l-1 active"]);
    let mut world = World::default();
    let rows = [licensed_grant("l-1", "basic"), licensed_grant("l-2", "basic")];
    let looks: [(&[Grant], Vec<License>, &str); 3] = [
        (&rows[..1], vec![], "-8000h"),
        (&rows[1..], vec![old(), License::updated("l-2", "-12m").on("a-2", "-12m")], "-9m"),
        (&[], vec![old(), new().ended("CANCELLED", "-2m")], "0s"),
    ];
    for (listed, licenses, offset) in looks {
        world.look(&contract(), Some(listed), &BTreeMap::new(), &facts(licenses), offset);
    }
    assert_eq!(world.shown(), ["sub-1 plan-basic x1 expired", "sub-2 plan-basic x1 canceled"]);
    assert_eq!(world.held[0].terms.renewed_by, world.held[1].terms.holder);
}

#[test]
fn a_renewal_is_told_once_and_stays_one() {
    let new = |license: License| license.on("a-2", "-50m").previous(&["a-1"]);
    let in_force = || new(License::updated("l-2", "-49m"));
    let steps = [
        vec![License::updated("l-1", "-8760h").on("a-1", "-8760h"), in_force()],
        vec![License::over("l-1", "-48m").on("a-1", "-8760h").ended("RENEWED", "-49m"), in_force()],
        vec![
            License::over("l-1", "-48m").on("a-1", "-8760h").ended("RENEWED", "-49m"),
            new(License::updated("l-2", "-49m").then_over("-47m")).ended("CANCELLED", "-48m"),
        ],
    ];
    let mut world = World::default();
    for licenses in steps {
        let first = world.held.first().cloned();
        world.look(&pay_as_you_go(), None, &BTreeMap::new(), &facts(licenses), "-40m");
        assert_eq!(named(&world)[0], "- l-1 expired");
        assert!(first.is_none_or(|first| first == world.held[0]), "nothing of it changes");
    }
    assert_eq!(world.held[0].terms.ended_at, Some(at("-49m")), "when the other came into force");
    assert_eq!(named(&world)[1], "- l-2 canceled");
}

#[test]
fn what_begins_later_is_looked_at_when_it_begins() {
    let licenses = facts(vec![License::updated("l-1", "-1m").on("a-1", "24h")]);
    let mut world = World::default();
    let decision = world.look(&pay_as_you_go(), None, &BTreeMap::new(), &licenses, "0s");
    assert_eq!(decision.look_again_at, Some(at("24h")));
    world.look(&pay_as_you_go(), None, &BTreeMap::new(), &licenses, "24h");
    assert_eq!(world.shown(), ["sub-1 usage active"]);
}

#[test]
fn agreements_side_by_side_are_not_taken_for_renewals() {
    let first = || License::updated("l-1", "-8760h").on("a-1", "-8760h");
    check(
        "two purchases",
        || {
            vec![
                first().intent("NEW"),
                License::updated("l-2", "-1h").on("a-2", "-1h").intent("NEW"),
            ]
        },
        &["l-1 active", "l-2 active"],
    );
    check(
        "two purchases whose creation was never told",
        || vec![first(), License::updated("l-2", "-1h").on("a-2", "-1h")],
        &["l-1 active", "l-2 active"],
    );
    check(
        "the API says that it begins a chain of its own",
        || {
            let gone = License::over("l-1", "-1m").on("a-1", "-8760h").ended("RENEWED", "-2m");
            vec![gone, License::updated("l-2", "-1m").on("a-2", "-1m").initial("a-2")]
        },
        &["l-1 ending", "l-2 active"],
    );
    check(
        "of two, the one that was told to go on is followed",
        || {
            let goes_on = License::over("l-2", "-1m").on("a-2", "-4380h").ended("RENEWED", "-2m");
            vec![first(), goes_on, License::updated("l-3", "-1m").on("a-3", "-2m").intent("RENEW")]
        },
        &["l-1 active", "l-2 expired -> l-3", "l-3 active"],
    );
}

#[test]
fn a_renewal_that_keeps_its_licence_ends_no_other() {
    check(
        "the licence is older than its agreement",
        || {
            let other = License::updated("l-1", "-8760h").on("a-1", "-8760h").intent("NEW");
            vec![other, License::updated("l-2", "-4380h").on("a-2", "-2m").intent("RENEW")]
        },
        &["l-1 active", "l-2 active"],
    );
}

#[test]
fn whose_plan_a_renewal_replaces_is_not_guessed_among_several() {
    let live = |arn, id, starts| License::updated(arn, starts).on(id, starts);
    let new = || License::updated("l-3", "-1m").on("a-3", "-2m").intent("RENEW");
    check(
        "until one of them is told to go on",
        || vec![live("l-1", "a-1", "-8760h"), live("l-2", "a-2", "-4380h"), new()],
        &["l-1 active", "l-2 active", "l-3 active"],
    );
    check(
        "the one that is told",
        || {
            let told = live("l-1", "a-1", "-8760h").ended("RENEWED", "-2m");
            vec![told, live("l-2", "a-2", "-4380h"), new()]
        },
        &["l-1 expired -> l-3", "l-2 active", "l-3 active"],
    );
}

#[test]
fn the_agreement_api_tells_what_no_event_told() {
    use LicenseState::{Deprovisioned, Failed, Pending, Provisioned, Scheduled};
    let untold = [
        (Provisioned, "l-1 active"),
        (Scheduled, "l-1 pending"),
        (Pending, "l-1 pending"),
        (Failed, "l-1 failed"),
        (Deprovisioned, "l-1 canceled"),
    ];
    for (state, expected) in untold {
        check(
            state.as_str(),
            || vec![License::untold("l-1").on("a-1", "-24h").seen(state, "-1m")],
            &[expected],
        );
    }
    check(
        "an end that no event told",
        || vec![License::updated("l-1", "-24h").on("a-1", "-24h").seen(Deprovisioned, "-1h")],
        &["l-1 canceled"],
    );
    check(
        "an answer from about the time of the event does not undo it",
        || vec![License::over("l-1", "-2m").on("a-1", "-24h").seen(Provisioned, "-1m")],
        &["l-1 canceled"],
    );
    check(
        "an answer that is clearly younger does",
        || vec![License::over("l-1", "-20m").on("a-1", "-24h").seen(Provisioned, "-1m")],
        &["l-1 active"],
    );
    check(
        "an event that is younger than the answer counts",
        || vec![License::updated("l-1", "-1m").on("a-1", "-24h").seen(Deprovisioned, "-2m")],
        &["l-1 active"],
    );
}

#[test]
fn contract_rows_of_both_terms_are_one_plan() {
    let licenses = || {
        let old = License::updated("l-1", "-8760h").on("a-1", "-8760h");
        let new = License::updated("l-2", "-1m").on("a-2", "-2m").previous(&["a-1"]);
        facts(vec![old, new])
    };
    let mut world = World::default();
    let old = [licensed_grant("l-1", "basic")];
    world.look(&contract(), Some(&old), &BTreeMap::new(), &licenses()[..1], "-1h");
    assert_eq!(world.shown(), ["sub-1 plan-basic x1 active"]);
    let both = [licensed_grant("l-1", "basic"), licensed_grant("l-2", "pro")];
    world.look(&contract(), Some(&both), &BTreeMap::new(), &licenses(), "0s");
    assert_eq!(world.shown(), ["sub-1 plan-basic x1 expired", "sub-2 plan-pro x1 active"]);
    let again = world.look(&contract(), Some(&both[1..]), &BTreeMap::new(), &licenses(), "1h");
    assert_eq!(again.changes, []);
}

#[test]
fn a_licence_of_unknown_origin_waits_while_another_is_missing() {
    let old = [licensed_grant("l-1", "basic")];
    let new = [licensed_grant("l-2", "basic")];
    let look = |world: &mut World, grants: &[Grant], licenses: Vec<License>, offset: &str| {
        world.look(&contract(), Some(grants), &BTreeMap::new(), &facts(licenses), offset)
    };
    let before = || {
        let mut world = World::default();
        look(&mut world, &old, vec![], "-1h");
        look(&mut world, &new, vec![], "0s");
        assert_eq!(world.shown(), ["sub-1 plan-basic x1 active"], "one plan, whichever it is");
        world
    };
    let renewal = || {
        let old = License::updated("l-1", "-8760h").on("a-1", "-8760h");
        vec![old, License::updated("l-2", "0s").on("a-2", "0s").previous(&["a-1"])]
    };
    let mut world = before();
    look(&mut world, &new, renewal(), "1s");
    assert_eq!(
        world.shown(),
        ["sub-1 plan-basic x1 expired", "sub-2 plan-basic x1 active"],
        "it is the other's renewal"
    );
    let mut world = before();
    look(&mut world, &new, vec![License::updated("l-2", "0s").on("a-2", "0s").intent("NEW")], "1s");
    assert_eq!(
        world.shown(),
        ["sub-1 plan-basic x1 active", "sub-2 plan-basic x1 active"],
        "it is a purchase of its own"
    );
    let mut world = before();
    look(&mut world, &new, vec![], "10s");
    assert_eq!(
        world.shown(),
        ["sub-1 plan-basic x1 canceled", "sub-2 plan-basic x1 active"],
        "nobody told, and the second look agrees"
    );
}

#[test]
fn a_renewal_that_is_told_long_after_aws_showed_it_is_one_all_the_same() {
    let old = || License::updated("l-1", "-8760h").on("a-1", "-8760h");
    let new = || License::updated("l-2", "-59m").on("a-2", "-1h").previous(&["a-1"]);
    let over = || License::over("l-1", "-30m").on("a-1", "-8760h").ended("REPLACED", "-1h");
    let rows = [
        licensed_grant("l-1", "basic"),
        licensed_grant("l-1", "seats"),
        licensed_grant("l-2", "pro"),
    ];
    for (name, told) in [("all of it", vec![over(), new()]), ("no end yet", vec![old(), new()])] {
        let mut world = World::default();
        let look = |world: &mut World, rows: &[Grant], licenses: &[LicenseFacts], offset: &str| {
            world.look(&contract(), Some(rows), &BTreeMap::new(), licenses, offset)
        };
        look(&mut world, &rows[..2], &[], "-8000h");
        for offset in ["-4000h", "-3999h"] {
            look(&mut world, &rows[..1], &[], offset);
        }
        for offset in ["-58m", "-57m"] {
            look(&mut world, &rows[2..], &[], offset);
        }
        let before = [
            "sub-1 plan-basic x1 canceled",
            "sub-2 plan-seats x1 canceled",
            "sub-3 plan-pro x1 active",
        ];
        assert_eq!(world.shown(), before, "nobody told, and the second look agreed");

        let told = facts(told);
        look(&mut world, &rows[2..], &told, "24h");
        let after = ["sub-1 plan-basic x1 expired", before[1], before[2]];
        assert_eq!(world.shown(), after, "{name}");
        let terms = &world.held[0].terms;
        assert_eq!(terms.renewed_by, world.held[2].terms.holder, "{name}");
        assert_eq!(terms.ended_at, Some(at("-59m")), "{name}: as if it had been told in time");
        assert_eq!(look(&mut world, &rows[2..], &told, "25h").changes, []);
    }
}

#[test]
fn a_contract_that_moved_to_licences_is_renewed_by_one_however_late_that_is_told() {
    let mut world = World::default();
    let old = License::updated("l-1", "-8760h").on("a-1", "-8760h");
    let look = |world: &mut World, row: Grant, licenses: &[LicenseFacts], offset: &str| {
        world.look(&contract(), Some(&[row]), &BTreeMap::new(), licenses, offset)
    };
    let named =
        Grant { license_arn: Some(LicenseArn::new("l-1")), ..legacy_grant("basic", 1, "8760h") };
    look(&mut world, named, &[], "-8000h");
    for offset in ["-58m", "-57m"] {
        look(&mut world, licensed_grant("l-2", "basic"), &[], offset);
    }
    assert_eq!(world.shown(), ["sub-1 plan-basic x1 canceled", "sub-2 plan-basic x1 active"]);

    let new = License::updated("l-2", "-59m").on("a-2", "-1h").previous(&["a-1"]);
    look(&mut world, licensed_grant("l-2", "basic"), &facts(vec![old, new]), "0s");
    assert_eq!(world.shown(), ["sub-1 plan-basic x1 expired", "sub-2 plan-basic x1 active"]);
    assert_eq!(world.held[0].terms.renewed_by, world.held[1].terms.holder);
}

#[test]
fn a_contract_whose_renewal_shows_late_has_no_gap() {
    let gone = |ended: &str| {
        facts(vec![License::over("l-1", "-1m").on("a-1", "-8760h").ended(ended, "-2m")])
    };
    let row = Grant { expires_at: Some(at("-2m")), ..licensed_grant("l-1", "basic") };
    for (ended, expected) in [("RENEWED", "ending"), ("CANCELLED", "expired")] {
        let mut world = World::default();
        world.look(&contract(), Some(std::slice::from_ref(&row)), &BTreeMap::new(), &[], "-1h");
        let decision = world.look(&contract(), Some(&[]), &BTreeMap::new(), &gone(ended), "0s");
        assert_eq!(world.shown(), [format!("sub-1 plan-basic x1 {expected}")], "{ended}");
        assert!(decision.look_again_at.is_some(), "{ended}");
    }
}

#[test]
fn only_what_ended_with_its_licence_comes_back_for_a_renewal_that_is_told_late() {
    let rows = |dimensions: &[(&str, &str)]| -> Vec<Grant> {
        let row = |(dimension, expires): &(&str, &str)| Grant {
            expires_at: Some(at(expires)),
            ..licensed_grant("l-1", dimension)
        };
        dimensions.iter().map(row).collect()
    };
    let mut world = World::default();
    let look = |world: &mut World, grants: &[Grant], licenses: &[LicenseFacts], offset: &str| {
        world.look(&contract(), Some(grants), &BTreeMap::new(), licenses, offset)
    };
    let year = "8760h";
    look(&mut world, &rows(&[("basic", year), ("pro", "-20m"), ("seats", year)]), &[], "-9h");
    // Seats are given up; pro expires, and basic becomes what pro was.
    look(&mut world, &rows(&[("basic", year), ("pro", "-20m")]), &[], "-8h");
    look(&mut world, &rows(&[("basic", year), ("pro", "-20m")]), &[], "-7h");
    look(&mut world, &rows(&[("basic", year)]), &[], "-20m");
    look(&mut world, &rows(&[("pro", year)]), &[], "-15m");
    let gone = License::over("l-1", "-10m").on("a-1", "-8760h");
    look(&mut world, &[], std::slice::from_ref(&gone.facts), "-9m");
    let ended =
        ["sub-1 plan-pro x1 canceled", "sub-2 plan-pro x1 expired", "sub-3 plan-seats x1 canceled"];
    assert_eq!(world.shown(), ended);
    let renewed = gone.agreement(|it| it.followed = true);
    look(&mut world, &[], &[renewed.facts], "0s");
    let back =
        ["sub-1 plan-pro x1 ending", "sub-2 plan-pro x1 expired", "sub-3 plan-seats x1 canceled"];
    assert_eq!(world.shown(), back);
}
