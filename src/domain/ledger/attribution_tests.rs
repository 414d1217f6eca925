//! Attribution: the rule as a table, and what must hold of it whatever was told.

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;
use crate::domain::CustomerIdentifier;

/// A moment of one day.
fn at(clock: &str) -> Timestamp {
    format!("2026-11-10T{clock}:00Z").parse().unwrap()
}

fn license(name: &str) -> Holder {
    Holder::License(LicenseArn::new(name))
}

/// A subscription by licence: from when to when.
fn held(name: &str, from: &str, until: &str) -> Candidate {
    let ended = (!until.is_empty()).then(|| at(until));
    Candidate {
        source: Source::Aws,
        holder: Some(license(name)),
        license: Some(LicenseArn::new(name)),
        status: if ended.is_some() { Status::Canceled } else { Status::Active },
        starts_at: (!from.is_empty()).then(|| at(from)),
        ends_at: None,
        tenure: ended.map_or(Tenure::Lasting, Tenure::Ended),
        renewed_by: None,
    }
}

fn renewed(name: &str, from: &str, until: &str, by: &str) -> Candidate {
    Candidate { status: Status::Expired, renewed_by: Some(license(by)), ..held(name, from, until) }
}

fn by_name(name: &str, from: &str, until: &str) -> Candidate {
    let holder = Some(Holder::Buyer(CustomerIdentifier::new(name)));
    Candidate { holder, license: None, ..held("", from, until) }
}

fn direct(from: &str, until: &str) -> Candidate {
    Candidate {
        source: Source::Direct,
        holder: None,
        license: None,
        ends_at: (!until.is_empty()).then(|| at(until)),
        ..held("", from, until)
    }
}

fn pending(name: &str, from: &str) -> Candidate {
    Candidate { status: Status::Pending, ..held(name, from, "") }
}

fn ending(name: &str, from: &str, until: &str) -> Candidate {
    Candidate {
        status: Status::Ending,
        tenure: Tenure::Ending(Some(at(until))),
        ..held(name, from, "")
    }
}

fn shown(found: &Result<Attribution, Unattributed>) -> String {
    let names = |holders: Vec<&Holder>| {
        holders.into_iter().map(Holder::value).collect::<Vec<_>>().join(", ")
    };
    match found {
        Ok(Attribution::BilledTo(holders)) => names(holders.iter().map(|it| &it.holder).collect()),
        Ok(Attribution::Waits) => "waits".into(),
        Ok(Attribution::Counted) => "counted".into(),
        Err(Unattributed::UnknownLicense) => "unknown".into(),
        Err(Unattributed::Several(holders)) => {
            format!("one of {}", names(holders.iter().collect()))
        }
        Err(Unattributed::Ended(at)) => format!("ended {}", at.strftime("%H:%M")),
    }
}

fn attributed(of: &[Candidate], named: &str, used: &str, now: &str, licensed: bool) -> String {
    let candidates: Vec<&Candidate> = of.iter().collect();
    let named = (!named.is_empty()).then(|| LicenseArn::new(named));
    let time = UsageTime { at: at(used), licensed, now: at(now) };
    shown(&attribute(&candidates, named.as_ref(), time))
}

#[test]
fn usage_that_names_no_licence_goes_to_what_was_in_force_at_its_own_time() {
    let one = || vec![held("a", "08:00", "")];
    let renewal = || vec![renewed("a", "08:00", "09:30", "b"), held("b", "09:30", "")];
    let overlap = || vec![renewed("a", "08:00", "09:31", "b"), held("b", "09:30", "")];
    let untold = || vec![renewed("a", "08:00", "09:30", "b"), held("b", "", "")];
    let twice = || {
        vec![
            renewed("a", "08:00", "09:30", "b"),
            renewed("b", "09:30", "09:40", "c"),
            held("c", "09:40", ""),
        ]
    };
    let came_back = || vec![held("a", "08:00", "09:05"), held("b", "09:40", "")];
    let side_by_side = || vec![held("a", "08:00", ""), held("b", "10:00", "")];
    let left = || vec![held("a", "08:00", "09:05")];
    let went_direct = || vec![held("a", "08:00", "09:30"), direct("09:30", "")];
    let leaving = || vec![ending("a", "08:00", "10:05")];
    let rows: [(&str, Vec<Candidate>, &str, &str, &str); 28] = [
        ("one", one(), "09:10", "09:20", "a"),
        ("one, before its first notification", one(), "07:10", "09:20", "a"),
        ("none", vec![], "09:10", "09:20", "waits"),
        ("the renewed one's time", renewal(), "09:10", "09:20", "a, b"),
        ("the renewed one's, within AWS's last hour", renewal(), "09:10", "10:29", "a, b"),
        ("the renewed one's, too late for it", renewal(), "09:10", "10:30", "b"),
        ("the moment of the renewal", renewal(), "09:30", "09:45", "b"),
        ("after the renewal, in the same hour", renewal(), "09:40", "09:45", "b"),
        ("both for a moment", overlap(), "09:30", "09:45", "b"),
        ("both, from before", overlap(), "09:29", "09:45", "a, b"),
        ("a follower of unknown beginning", untold(), "09:10", "09:45", "a, b"),
        ("the same, its own time", untold(), "09:35", "09:45", "b"),
        ("renewed twice within an hour", twice(), "09:10", "09:45", "a, b, c"),
        ("renewed twice, too late for both", twice(), "09:35", "11:00", "c"),
        ("who came back, the first time", came_back(), "09:02", "09:45", "a"),
        ("the first time, too late", came_back(), "09:02", "10:05", "ended 09:05"),
        ("between the two", came_back(), "09:20", "09:45", "b"),
        ("the second time", came_back(), "09:45", "09:46", "b"),
        ("before the second of two", side_by_side(), "09:10", "10:20", "a"),
        ("two at once", side_by_side(), "10:10", "10:20", "one of a, b"),
        ("before both", side_by_side(), "07:10", "10:20", "one of a, b"),
        ("who has left", left(), "09:02", "10:04", "a"),
        ("who has left, used after it", left(), "09:20", "10:04", "a"),
        ("who has left for good", left(), "09:02", "10:05", "ended 09:05"),
        ("AWS's, of a customer who is direct now", went_direct(), "09:10", "09:40", "a"),
        ("the same, too late", went_direct(), "09:10", "11:00", "ended 09:30"),
        ("direct use of theirs", went_direct(), "09:40", "09:50", "counted"),
        ("who is leaving", leaving(), "09:10", "10:20", "a"),
    ];
    for (case, of, used, now, expected) in rows {
        assert_eq!(attributed(&of, "", used, now, false), expected, "{case}");
        // The order in which the books list them says nothing.
        let turned: Vec<Candidate> = of.into_iter().rev().collect();
        let again = attributed(&turned, "", used, now, false);
        let sorted = |text: &str| {
            let mut parts: Vec<&str> = text.trim_start_matches("one of ").split(", ").collect();
            parts.sort_unstable();
            parts.join(", ")
        };
        assert_eq!(sorted(&again), sorted(expected), "{case}, turned");
    }
}

#[test]
fn usage_that_names_a_licence_is_that_licences_alone() {
    let renewal = vec![renewed("a", "08:00", "09:30", "b"), held("b", "09:30", "")];
    let to_come = vec![held("a", "08:00", ""), pending("b", "12:00")];
    for (of, named, used, now, expected) in [
        (&renewal, "a", "09:10", "09:45", "a"),
        (&renewal, "a", "09:10", "10:30", "ended 09:30"),
        (&renewal, "b", "09:10", "10:30", "b"),
        (&renewal, "c", "09:10", "10:30", "unknown"),
        (&to_come, "b", "09:10", "09:20", "b"),
        (&to_come, "", "09:10", "09:20", "a"),
    ] {
        assert_eq!(attributed(of, named, used, now, false), expected, "{named} {now}");
    }
    assert_eq!(attributed(&[pending("b", "12:00")], "", "09:10", "09:20", false), "waits");
}

#[test]
fn a_buyer_known_in_both_forms_bears_it_in_the_form_of_the_hour() {
    let both = [by_name("n", "08:00", ""), held("a", "08:00", "")];
    assert_eq!(attributed(&both, "", "09:10", "09:20", false), "n");
    assert_eq!(attributed(&both, "", "09:10", "09:20", true), "a");
    assert_eq!(attributed(&both, "", "07:10", "09:20", true), "a");
    // What a legacy buyer held before and holds again is one holder.
    let again = [by_name("n", "06:00", "07:00"), by_name("n", "08:00", "")];
    assert_eq!(attributed(&again, "", "06:30", "09:20", false), "n");
}

/// Subscriptions of up to four licences, each perhaps gone on as the next.
fn lives() -> impl Strategy<Value = Vec<Candidate>> {
    let one = (0_i64..600, proptest::option::of(1_i64..300), any::<bool>(), any::<bool>());
    proptest::collection::vec(one, 0..4).prop_map(|lives| {
        let minute = |minute| at("00:00") + SignedDuration::from_mins(minute);
        let count = lives.len();
        let each = lives.into_iter().enumerate().map(|(number, (from, lasts, told, goes_on))| {
            let ended = lasts.map(|lasts| minute(from + lasts));
            let next = (number + 1 < count && goes_on).then(|| license(&(number + 1).to_string()));
            Candidate {
                starts_at: told.then(|| minute(from)),
                status: if ended.is_some() { Status::Canceled } else { Status::Active },
                tenure: ended.map_or(Tenure::Lasting, Tenure::Ended),
                renewed_by: ended.and(next),
                ..held(&number.to_string(), "", "")
            }
        });
        each.collect()
    })
}

proptest! {
    /// Whatever bears usage takes usage: it lives, or is in AWS's last hour.
    #[test]
    fn nothing_bears_usage_that_aws_takes_none_of(of in lives(), used in 0_i64..900, late in 0_i64..900) {
        let candidates: Vec<&Candidate> = of.iter().collect();
        let used = at("00:00") + SignedDuration::from_mins(used);
        let now = used + SignedDuration::from_mins(late);
        let time = UsageTime { at: used, licensed: false, now };
        match attribute(&candidates, None, time) {
            Ok(Attribution::BilledTo(holders)) => {
                prop_assert!(!holders.is_empty());
                for holder in &holders {
                    prop_assert!(holder.tenure.is_taken_at(now), "{holder:?}");
                }
                // The first was in force then, or followed what was, or nothing was.
                let was = |it: &&Candidate| {
                    it.starts_at.is_some_and(|from| from <= used)
                        && it.tenure.ended_at().is_none_or(|until| used < until)
                };
                let then: Vec<&Candidate> = of.iter().filter(was).collect();
                let first = Some(&holders[0].holder);
                let is_one = then.iter().any(|it| it.holder.as_ref() == first);
                let follows = of.iter().any(|it| it.renewed_by.as_ref() == first);
                let untold = of.iter().any(|it| it.starts_at.is_none());
                prop_assert!(then.is_empty() || is_one || follows || untold, "{holders:?}");
            }
            Ok(Attribution::Waits) => prop_assert!(of.is_empty()),
            Ok(Attribution::Counted) => prop_assert!(false, "nothing is direct"),
            Err(Unattributed::Several(holders)) => prop_assert!(holders.len() > 1),
            Err(Unattributed::Ended(ended)) => prop_assert!(ended + SignedDuration::from_hours(1) <= now),
            Err(Unattributed::UnknownLicense) => prop_assert!(false, "none is named"),
        }
    }

    /// Between two moments at which something begins or ends, the time of use makes no difference.
    #[test]
    fn usage_of_one_stretch_is_attributed_alike(of in lives(), used in 0_i64..900, late in 0_i64..900) {
        let candidates: Vec<&Candidate> = of.iter().collect();
        let used = at("00:00") + SignedDuration::from_mins(used);
        let now = used + SignedDuration::from_mins(late);
        let begins = Moments::of(&of).before(used);
        prop_assert!(begins <= used);
        let of_time = |at| attribute(&candidates, None, UsageTime { at, licensed: false, now });
        prop_assert_eq!(of_time(used), of_time(begins));
    }
}
