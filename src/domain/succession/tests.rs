use proptest::prelude::*;

use super::*;
use crate::domain::{AccountId, CustomerIdentifier};

const START: i64 = 1_800_000_000;

fn hour(number: i64) -> Timestamp {
    Timestamp::from_second(START + number * 3_600).unwrap()
}

fn holder(name: &str) -> Holder {
    match name.split_at(1) {
        ("x", _) => Holder::Buyer(CustomerIdentifier::new(name)),
        ("a", _) => Holder::Account(AccountId::new(name)),
        _ => Holder::License(LicenseArn::new(name)),
    }
}

/// A tenure from one hour to another.
fn tenure(name: &str, since: i64, until: Option<i64>) -> Tenure {
    Tenure {
        subscription: SubscriptionId::new(format!("sub-{name}-{since}")),
        product: ProductId::new("p"),
        holder: holder(name),
        license: None,
        since: hour(since),
        starts_at: Some(hour(since)),
        until: until.map(hour),
        renewed_by: None,
        pending: false,
        failed: false,
    }
}

/// The chains, each as the names of its holders.
fn shown(tenures: &[Tenure]) -> Vec<String> {
    let found = Successions::of(tenures.to_vec());
    let names =
        |chain: &Chain| chain.holders.iter().map(Holder::value).collect::<Vec<_>>().join(" ");
    let mut shown: Vec<String> = found.chains().iter().map(names).collect();
    shown.sort();
    shown
}

/// A name, what is held, and the chains that it makes.
type Row<'a> = (&'a str, Vec<Tenure>, &'a [&'a str]);

fn check(rows: impl IntoIterator<Item = Row<'static>>) {
    for (name, tenures, expected) in rows {
        assert_eq!(shown(&tenures), expected, "{name}");
    }
}

fn renewed(by: &str, it: Tenure) -> Tenure {
    Tenure { renewed_by: Some(holder(by)), ..it }
}

fn failed(it: Tenure) -> Tenure {
    Tenure { failed: true, ..it }
}

fn other(it: Tenure) -> Tenure {
    Tenure { product: ProductId::new("q"), ..it }
}

#[test]
fn agreements_succeed_one_another_by_their_dates() {
    let rows: [Row<'static>; 8] = [
        ("nobody", vec![], &[]),
        ("one", vec![tenure("l1", 0, None)], &["l1"]),
        (
            "bought anew, three times",
            vec![tenure("l1", 0, Some(9)), tenure("l2", 9, Some(20)), tenure("l3", 90, None)],
            &["l1 l2 l3"],
        ),
        (
            "bought anew within the last hour of what was cancelled",
            vec![tenure("l1", 0, Some(10)), tenure("l2", 9, None)],
            &["l1 l2"],
        ),
        ("side by side", vec![tenure("l1", 0, Some(10)), tenure("l2", 8, None)], &["l1", "l2"]),
        ("both go on", vec![tenure("l1", 0, None), tenure("l2", 90, None)], &["l1", "l2"]),
        (
            "after two side by side, the one that ended last is taken over",
            vec![tenure("l1", 0, Some(30)), tenure("l2", 0, Some(20)), tenure("l3", 40, None)],
            &["l1 l3", "l2"],
        ),
        (
            "what one of two side by side leaves is taken over once",
            vec![
                tenure("l1", 0, Some(30)),
                tenure("l2", 0, Some(20)),
                tenure("l3", 40, None),
                tenure("l4", 50, None),
            ],
            &["l1 l3", "l2 l4"],
        ),
    ];
    check(rows);
}

#[test]
fn agreements_succeed_one_another_by_what_is_known_of_them() {
    let known = |arn: &str, it: Tenure| Tenure { license: Some(LicenseArn::new(arn)), ..it };
    let rows: [Row<'static>; 8] = [
        (
            "a renewal comes before the end of what it renews",
            vec![renewed("l2", tenure("l1", 0, Some(30))), tenure("l2", 8, None)],
            &["l1 l2"],
        ),
        (
            "what is beside a renewal is beside all of it",
            vec![
                renewed("l2", tenure("l1", 0, Some(10))),
                tenure("l2", 30, None),
                tenure("l3", 20, None),
            ],
            &["l1 l2", "l3"],
        ),
        (
            "a legacy buyer who came back",
            vec![tenure("x1", 0, Some(10)), tenure("x1", 50, None)],
            &["x1"],
        ),
        (
            "a move to licences, told twice for a while",
            vec![tenure("l1", 0, None), tenure("x1", 1, Some(50))],
            &["l1 x1"],
        ),
        (
            "and bought anew by licence since",
            vec![tenure("x1", 0, Some(10)), tenure("l1", 20, Some(30)), tenure("l2", 40, None)],
            &["x1 l1 l2"],
        ),
        (
            "one name beside several purchases, one after the other and side by side",
            vec![
                tenure("x1", 0, None),
                tenure("l1", 1, Some(10)),
                tenure("l2", 20, None),
                tenure("l3", 5, None),
            ],
            &["l3", "x1 l1 l2"],
        ),
        (
            "the licence that is known to be the name's",
            vec![known("l2", tenure("x1", 2, None)), tenure("l1", 0, None), tenure("l2", 1, None)],
            &["l1", "l2 x1"],
        ),
        ("two names of one buyer", vec![tenure("x1", 0, None), tenure("a1", 5, None)], &["x1 a1"]),
    ];
    check(rows);
}

#[test]
fn what_is_no_purchase_in_force_is_in_nobodys_way() {
    let pending = |it: Tenure| Tenure { pending: true, ..it };
    let rows: [Row<'static>; 3] = [
        (
            "what never came into force is taken over by nobody, and is no purchase beside a name",
            vec![
                tenure("l1", 0, Some(10)),
                failed(tenure("l2", 20, Some(21))),
                tenure("l3", 40, None),
                other(tenure("x1", 0, None)),
                other(failed(tenure("l4", 20, Some(21)))),
            ],
            &["l1 l3", "l2", "x1 l4"],
        ),
        (
            "what is not in force yet stands in nobody's way",
            vec![
                tenure("l1", 0, Some(10)),
                pending(tenure("l2", 20, None)),
                tenure("l3", 40, None),
            ],
            &["l1 l3", "l2"],
        ),
        (
            "products by themselves",
            vec![tenure("l1", 0, Some(10)), other(tenure("l2", 20, None))],
            &["l1", "l2"],
        ),
    ];
    check(rows);
}

#[test]
fn a_running_window_runs_on_to_its_end() {
    let terms = EntitlementTerms {
        reset: Some(ResetPeriod::Day),
        anchor: Anchor::Subscription,
        ..EntitlementTerms::default()
    };
    let rows = [
        ("within the running window", Some(30), 40, 0),
        ("at its very end", Some(30), 48, 48),
        ("after it", Some(30), 50, 50),
        ("with a window that ended with it", Some(48), 50, 50),
        ("in a gap of days", Some(10), 500, 500),
    ];
    for (name, until, since, anchor) in rows {
        let found = Successions::of(vec![tenure("l1", 0, until), tenure("l2", since, None)]);
        let second = SubscriptionId::new(format!("sub-l2-{since}"));
        let window = found.window(&second, &terms, Some(hour(since)));
        assert_eq!(window, Window::From(hour(anchor), ResetPeriod::Day), "{name}");
    }
    // Three in one window all count from the first; a legacy buyer who came back does as well.
    for names in [["l1", "l2", "l3"], ["x1", "x1", "x1"]] {
        let times = [(1, Some(5)), (6, Some(7)), (9, None)];
        let tenures =
            names.iter().zip(times).map(|(name, (since, until))| tenure(name, since, until));
        let found = Successions::of(tenures.collect());
        let last = SubscriptionId::new(format!("sub-{}-9", names[2]));
        let window = found.window(&last, &terms, Some(hour(9)));
        assert_eq!(window, Window::From(hour(1), ResetPeriod::Day), "{names:?}");
    }
    // What is bought beside something under one licence begins by itself.
    let found = Successions::of(vec![tenure("l1", 0, None), tenure("l1", 3, None)]);
    let second = SubscriptionId::new("sub-l1-3");
    let window = found.window(&second, &terms, Some(hour(3)));
    assert_eq!(window, Window::From(hour(3), ResetPeriod::Day));
    // Whose start nobody told counts by the calendar, and is taken over so.
    let untold = Tenure { starts_at: None, ..tenure("l1", 0, Some(5)) };
    let found = Successions::of(vec![untold, tenure("l2", 6, None)]);
    let first = found.window(&SubscriptionId::new("sub-l1-0"), &terms, None);
    assert_eq!(first, Window::Calendar(ResetPeriod::Day));
}

/// Any tenures of a few licences and names.
fn tenures() -> impl Strategy<Value = Vec<Tenure>> {
    let name = prop::sample::select(vec!["l1", "l2", "l3", "l4", "x1", "a1"]);
    let one = (
        name,
        0_i64..60,
        prop::option::of(0_i64..60),
        prop::option::weighted(0.2, prop::sample::select(vec!["l1", "l2", "x1"])),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
    );
    prop::collection::vec(one, 0..7).prop_map(|all| {
        let it = |(name, since, length, by, failed, pending): (
            _,
            i64,
            Option<i64>,
            Option<&str>,
            _,
            _,
        )| {
            Tenure {
                renewed_by: by.map(holder).filter(|by| *by != holder(name)),
                failed,
                pending,
                ..tenure(name, since, length.map(|length| since + length))
            }
        };
        let mut all: Vec<Tenure> = all.into_iter().map(it).collect();
        for (number, tenure) in all.iter_mut().enumerate() {
            tenure.subscription = SubscriptionId::new(format!("sub-{number}"));
        }
        all
    })
}

/// Licences that nothing links, each held for two hours at least or still.
fn licences() -> impl Strategy<Value = Vec<Tenure>> {
    let one = (0_i64..60, prop::option::of(2_i64..30));
    prop::collection::vec(one, 0..8).prop_map(|all| {
        let it = |(number, (since, length)): (usize, (i64, Option<i64>))| {
            tenure(&format!("l{number}"), since, length.map(|length| since + length))
        };
        all.into_iter().enumerate().map(it).collect()
    })
}

proptest! {
    #[test]
    fn the_order_in_which_facts_arrive_changes_nothing(
        (tenures, shuffled) in tenures().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
    ) {
        prop_assert_eq!(Successions::of(tenures), Successions::of(shuffled));
    }

    #[test]
    fn each_holder_is_in_exactly_one_chain(tenures in tenures()) {
        let found = Successions::of(tenures.clone());
        for tenure in &tenures {
            let of = found.chains().iter().filter(|it| it.holders.contains(&tenure.holder));
            prop_assert_eq!(of.count(), 1, "{:?}", tenure);
        }
        let listed: usize = found.chains().iter().map(|it| it.holders.len()).sum();
        let mut held: Vec<&Holder> = tenures.iter().map(|it| &it.holder).collect();
        held.sort();
        held.dedup();
        prop_assert_eq!(listed, held.len());
    }

    /// Nobody has more windows' worth than agreements side by side, nor less.
    #[test]
    fn there_are_as_many_chains_as_agreements_were_held_side_by_side(tenures in licences()) {
        let last = |it: &Tenure| it.until.map_or(Timestamp::MAX, |until| until - FINAL_HOUR);
        let live = |at: Timestamp| tenures.iter().filter(|it| it.since <= at && at < last(it)).count();
        let most = tenures.iter().map(|it| live(it.since)).max().unwrap_or(0);
        let found = Successions::of(tenures.clone());
        prop_assert_eq!(found.chains().len(), most);
        for one in &tenures {
            for other in tenures.iter().filter(|it| it.holder != one.holder) {
                let side_by_side = one.since < last(other) && other.since < last(one);
                let chain = found.chain_of(&one.product, &one.holder).unwrap();
                prop_assert!(!side_by_side || !chain.holders.contains(&other.holder));
            }
        }
    }

    /// Windows of one chain are of one grid as long as they run, so that none is cut short.
    #[test]
    fn an_anchor_is_a_start_that_was_told(tenures in tenures(), at in 0_i64..120) {
        let terms = EntitlementTerms {
            reset: Some(ResetPeriod::Day),
            anchor: Anchor::Subscription,
            ..EntitlementTerms::default()
        };
        let found = Successions::of(tenures.clone());
        for tenure in &tenures {
            let window = found.window(&tenure.subscription, &terms, tenure.starts_at);
            let Window::From(anchor, _) = window else { panic!("{window:?}") };
            prop_assert!(tenures.iter().any(|it| it.starts_at == Some(anchor)) && anchor <= tenure.since);
            let span = window.around(hour(at));
            prop_assert!(span.start <= hour(at) && span.end.is_some_and(|end| hour(at) < end));
        }
    }
}
