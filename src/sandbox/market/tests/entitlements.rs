//! Tests of `GetEntitlements`.

use serde_json::{Value, json};

use super::super::{Action, Market, Options, Order, Protocol};
use super::{BUYER, HOUR, act, at, code, entitlements, order};

const MAY: &str = "2026-05-01T10:00:00Z";

/// Makes a legacy contract market with some buyers.
fn with_buyers(count: usize) -> (Market, String) {
    let mut market = Market::with_demo_catalog(7);
    let code = code(&market, Protocol::Legacy, true);
    for number in 0..count {
        let order = Order::of(code.clone()).with("pro", 1).with("basic", 2);
        let account = format!("3{number:011}");
        market.act(at(MAY), &account, Action::Purchase(order)).expect("possible");
    }
    (market, code)
}

fn rows(answer: &Value) -> usize {
    answer["Entitlements"].as_array().map_or(0, Vec::len)
}

#[test]
fn pages_hold_25_rows_and_lose_none() {
    for sparse_pages in [false, true] {
        let (mut market, code) = with_buyers(30);
        market.set_options(Options { sparse_pages, ..Options::default() });
        let mut input = json!({"ProductCode": code});
        let mut pages = Vec::new();
        loop {
            let answer = entitlements(&mut market, MAY, &input).expect("valid");
            pages.push(rows(&answer));
            match answer.get("NextToken") {
                Some(token) => input["NextToken"] = token.clone(),
                None => break,
            }
        }
        let expected: &[usize] = if sparse_pages { &[0, 25, 25, 10] } else { &[25, 25, 10] };
        assert_eq!(pages, expected);
    }
}

#[test]
fn filters_unite_within_a_key_and_intersect_between_keys() {
    let (mut market, code) = with_buyers(3);
    let (one, two) = ("300000000000", "300000000001");
    let identifier = market.buyer(one).expect("bought").customer_identifier.clone();
    let license = market.agreements()[0].license_arn.clone();
    // (filter, rows)
    let table = [
        (json!({"CUSTOMER_AWS_ACCOUNT_ID": [one]}), 2),
        (json!({"CUSTOMER_AWS_ACCOUNT_ID": [one, two]}), 4),
        (json!({"CUSTOMER_AWS_ACCOUNT_ID": [one, two], "DIMENSION": ["pro"]}), 2),
        (json!({"CUSTOMER_IDENTIFIER": [identifier]}), 2),
        (json!({"LICENSE_ARN": [license]}), 2),
        (json!({"LICENSE_ARN": [license], "CUSTOMER_AWS_ACCOUNT_ID": [two]}), 0),
        (json!({"DIMENSION": ["basic"]}), 3),
        (json!({"CUSTOMER_AWS_ACCOUNT_ID": ["000000000000"]}), 0),
    ];
    for (filter, expected) in table {
        let input = json!({"ProductCode": code, "Filter": filter});
        let answer = entitlements(&mut market, MAY, &input).expect("valid");
        assert_eq!(rows(&answer), expected, "{filter}");
    }
    for (input, why) in [
        (json!({}), "no product"),
        (json!({"ProductCode": code, "MaxResults": 26}), "too large a page"),
        (json!({"ProductCode": code, "NextToken": "x"}), "a foreign token"),
        (
            json!({"ProductCode": code, "Filter":
                {"CUSTOMER_IDENTIFIER": ["a"], "CUSTOMER_AWS_ACCOUNT_ID": [one]}}),
            "exclusive keys",
        ),
    ] {
        let refused = entitlements(&mut market, MAY, &input).expect_err(why);
        assert_eq!(refused.code, "InvalidParameterException", "{why}");
    }
}

#[test]
fn rows_have_the_identity_of_their_protocol() {
    for (protocol, has_identifier) in [(Protocol::Legacy, true), (Protocol::Licensed, false)] {
        let mut market = Market::with_demo_catalog(7);
        let order = order(&market, protocol, true);
        let bought = act(&mut market, MAY, Action::Purchase(order));
        let input = json!({"ProductCode": bought.product_code});
        let answer = entitlements(&mut market, MAY, &input).expect("valid");
        let row = &answer["Entitlements"][0];
        assert_eq!(row["CustomerAWSAccountId"], BUYER);
        assert_eq!(row["LicenseArn"].as_str(), bought.license_arn.as_deref());
        assert_eq!(row["Value"], json!({"IntegerValue": 1}));
        assert_eq!(row["ExpirationDate"], at("2027-05-01T10:00:00Z").as_second());
        assert_eq!(row.get("CustomerIdentifier").is_some(), has_identifier);
    }
}

#[test]
fn nothing_is_an_ordinary_answer() {
    let mut market = Market::with_demo_catalog(7);
    market.set_options(Options { provisioning_delay: HOUR, ..Options::default() });
    let order = order(&market, Protocol::Licensed, true);
    let bought = act(&mut market, MAY, Action::Purchase(order.clone()));
    let input = json!({"ProductCode": bought.product_code});
    let ask = |market: &mut Market, now: &str| entitlements(market, now, &input).expect("valid");
    assert_eq!(rows(&ask(&mut market, "2026-05-01T10:59:59Z")), 0);
    assert_eq!(rows(&ask(&mut market, "2026-05-01T11:00:00Z")), 1);
    act(&mut market, "2026-05-02T10:00:00Z", Action::Cancel(order));
    assert_eq!(ask(&mut market, "2026-05-02T10:00:00Z"), json!({"Entitlements": []}));
    market.set_options(Options { bare_empty: true, ..Options::default() });
    assert_eq!(ask(&mut market, "2026-05-02T10:00:00Z"), json!({}));
}
