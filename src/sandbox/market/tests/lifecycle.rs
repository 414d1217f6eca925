//! Tests of what each action publishes, and when.

use super::super::{Action, Channel, Market, Options, Order, Protocol};
use super::{HOUR, act, at, entitlements, order, published};
use serde_json::json;

const MAY: &str = "2026-05-01T10:00:00Z";

#[expect(clippy::too_many_lines, clippy::type_complexity, reason = "a table, one row an action")]
#[test]
fn every_action_publishes_what_aws_would() {
    use Protocol::{Legacy, Licensed};
    type Make = fn(Order) -> Action;
    // (protocol, contract?, action after buying, what follows in a second, what follows in a day)
    let table: [(Protocol, bool, Make, &[&str], &[&str]); 10] = [
        (
            Legacy,
            false,
            Action::Cancel,
            &["subscription: unsubscribe-pending"],
            &["subscription: unsubscribe-success"],
        ),
        (Legacy, false, Action::Amend, &["subscription: subscribe-success"], &[]),
        (Legacy, true, Action::Upgrade, &["entitlement: entitlement-updated"], &[]),
        (Legacy, true, Action::Renew, &["entitlement: entitlement-updated"], &[]),
        (Legacy, true, Action::Expire, &["entitlement: entitlement-updated"], &[]),
        (
            Licensed,
            false,
            Action::Cancel,
            &["Purchase Agreement Ended - Proposer CANCELLED"],
            &["License Deprovisioned - Manufacturer"],
        ),
        (
            Licensed,
            true,
            Action::Upgrade,
            &["Purchase Agreement Amended - Proposer AMEND", "License Updated - Manufacturer"],
            &[],
        ),
        (
            Licensed,
            true,
            Action::Renew,
            &[
                "Purchase Agreement Created - Proposer RENEW",
                "License Updated - Manufacturer",
                "Purchase Agreement Ended - Proposer RENEWED",
            ],
            &[],
        ),
        (
            Licensed,
            true,
            Action::Amend,
            &["Purchase Agreement Amended - Proposer AMEND", "License Updated - Manufacturer"],
            &[],
        ),
        (
            Licensed,
            true,
            Action::Expire,
            &["Purchase Agreement Ended - Proposer EXPIRED"],
            &["License Deprovisioned - Manufacturer"],
        ),
    ];
    for (protocol, has_contract, action, soon, later) in table {
        let mut market = Market::with_demo_catalog(7);
        let order = order(&market, protocol, has_contract);
        let buy = if has_contract { Action::Purchase } else { Action::Subscribe };
        act(&mut market, MAY, buy(order.clone()));
        let bought = published(&mut market, MAY);
        let expected: &[&str] = match (protocol, has_contract) {
            (Legacy, false) => &["subscription: subscribe-success"],
            (Legacy, true) => &["entitlement: entitlement-updated"],
            (Licensed, _) => {
                &["Purchase Agreement Created - Proposer NEW", "License Updated - Manufacturer"]
            }
        };
        assert_eq!(bought, expected, "{protocol:?} {has_contract}");
        let action = action(order);
        act(&mut market, "2026-06-01T10:00:00Z", action.clone());
        assert_eq!(published(&mut market, "2026-06-01T10:00:01Z"), soon, "{action:?}");
        assert_eq!(published(&mut market, "2026-06-02T10:00:00Z"), later, "{action:?}");
    }
}

#[test]
fn a_failed_subscription_never_gets_a_licence() {
    for (protocol, expected) in [
        (Protocol::Legacy, &["subscription: subscribe-fail"][..]),
        (
            Protocol::Licensed,
            &[
                "Purchase Agreement Created - Proposer NEW",
                "Purchase Agreement Ended - Proposer TERMINATED",
            ],
        ),
    ] {
        let mut market = Market::with_demo_catalog(7);
        let order = order(&market, protocol, false);
        act(&mut market, MAY, Action::Fail(order));
        assert_eq!(published(&mut market, "2027-01-01T00:00:00Z"), expected);
    }
}

#[test]
fn a_quick_resubscription_swallows_the_unsubscribe_success() {
    let mut market = Market::with_demo_catalog(7);
    let order = order(&market, Protocol::Legacy, false);
    act(&mut market, MAY, Action::Subscribe(order.clone()));
    act(&mut market, "2026-05-01T11:00:00Z", Action::Cancel(order.clone()));
    act(&mut market, "2026-05-01T11:30:00Z", Action::Subscribe(order));
    assert_eq!(
        published(&mut market, "2026-05-02T00:00:00Z"),
        [
            "subscription: subscribe-success",
            "subscription: unsubscribe-pending",
            "subscription: subscribe-success",
        ]
    );
}

#[test]
fn a_contract_ends_by_date_and_renews_itself_when_told_to() {
    for (auto_renew, rows, expected) in [
        (
            false,
            0,
            &[
                "Purchase Agreement Ended - Proposer EXPIRED",
                "License Deprovisioned - Manufacturer",
            ][..],
        ),
        (
            true,
            1,
            &[
                "Purchase Agreement Created - Proposer RENEW",
                "License Updated - Manufacturer",
                "Purchase Agreement Ended - Proposer RENEWED",
            ],
        ),
    ] {
        let mut market = Market::with_demo_catalog(7);
        let mut order = order(&market, Protocol::Licensed, true);
        order.auto_renew = Some(auto_renew);
        let bought = act(&mut market, MAY, Action::Purchase(order));
        published(&mut market, MAY);
        assert_eq!(market.next_due(), Some(at("2027-05-01T10:00:00Z")));
        let after = "2027-05-01T10:01:00Z";
        assert_eq!(published(&mut market, after), expected);
        let answer = entitlements(&mut market, after, &json!({"ProductCode": bought.product_code}));
        let answer = answer.expect("valid");
        assert_eq!(answer["Entitlements"].as_array().map(Vec::len), Some(rows));
    }
}

#[test]
fn a_renewal_keeps_or_changes_the_licence_and_names_its_predecessor() {
    for (new_license, names_previous) in [(false, true), (true, true), (true, false)] {
        let mut market = Market::with_demo_catalog(7);
        let mut order = order(&market, Protocol::Licensed, true);
        let first = act(&mut market, MAY, Action::Purchase(order.clone()));
        published(&mut market, MAY);
        order.new_license = new_license;
        order.previous_agreement_id = Some(names_previous);
        let second = act(&mut market, "2026-06-01T10:00:00Z", Action::Renew(order));
        assert_ne!(first.agreement_id, second.agreement_id);
        assert_eq!(first.license_arn != second.license_arn, new_license);
        let outgoing = market.take_outgoing(at("2026-06-01T11:00:00Z"));
        let Channel::EventBridge { event } = &outgoing[0].channel else { panic!("an event") };
        let previous = event["detail"]["agreement"]["previousAgreementId"].as_str();
        assert_eq!(previous, first.agreement_id.as_deref().filter(|_| names_previous));
        // Only a licence that nobody took over goes away.
        assert_eq!(outgoing.len(), if new_license { 4 } else { 3 });
    }
}

#[test]
fn events_have_aws_shape() {
    let mut market = Market::with_demo_catalog(7);
    market.set_options(Options { license_delay: HOUR, ..Options::default() });
    let order = order(&market, Protocol::Licensed, false);
    act(&mut market, "2026-05-01T10:00:00.123Z", Action::Subscribe(order));
    let outgoing = market.take_outgoing(at("2026-05-01T11:00:01Z"));
    let [created, updated] = &outgoing[..] else { panic!("two events, not {outgoing:?}") };
    let Channel::EventBridge { event } = &created.channel else { panic!("an event") };
    assert_eq!(event["time"], "2026-05-01T10:00:00Z");
    let agreement = &event["detail"]["agreement"];
    assert_eq!(agreement["startTime"], "2026-05-01T10:00:00.123Z");
    assert_eq!(agreement["endTime"], "9999-01-01T00:00:00Z");
    assert!(event["detail"].get("license").is_none() && event["detail"].get("product").is_none());
    let Channel::EventBridge { event } = &updated.channel else { panic!("an event") };
    assert_eq!(event["time"], "2026-05-01T11:00:00Z");
    assert!(event["detail"]["license"]["arn"].as_str().is_some_and(|it| it.contains("license:l-")));
}

#[test]
fn the_same_seed_gives_the_same_market() {
    let run = || {
        let mut market = Market::with_demo_catalog(42);
        let order = order(&market, Protocol::Licensed, true);
        act(&mut market, MAY, Action::Purchase(order));
        market.take_outgoing(at(MAY))
    };
    assert_eq!(run(), run());
}
