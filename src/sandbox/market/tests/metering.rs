//! Tests of `BatchMeterUsage`.

use serde_json::{Value, json};

use super::super::{Action, CallContext, IdenticalRetry, Market, Options, Protocol, Service};
use super::{BUYER, act, at, code, context, legacy_record, meter, order};

/// Makes a market whose buyer has been on legacy pay-as-you-go since a time.
fn subscribed(since: &str) -> (Market, String) {
    let mut market = Market::with_demo_catalog(7);
    let code = code(&market, Protocol::Legacy, false);
    let order = order(&market, Protocol::Legacy, false);
    act(&mut market, since, Action::Subscribe(order));
    (market, code)
}

/// Makes a market whose buyer has a licence on pay-as-you-go.
fn licensed(since: &str) -> (Market, String, String) {
    let mut market = Market::with_demo_catalog(7);
    let order = order(&market, Protocol::Licensed, false);
    let outcome = act(&mut market, since, Action::Subscribe(order));
    (market, outcome.product_code, outcome.license_arn.expect("a licence"))
}

fn license_record(license: &str, when: &str, quantity: u64) -> Value {
    json!({"UsageRecords": [{
        "Timestamp": at(when).as_second(),
        "CustomerAWSAccountId": BUYER,
        "CustomerIdentifier": "",
        "LicenseArn": license,
        "Dimension": "requests",
        "Quantity": quantity,
    }]})
}

#[test]
fn the_window_is_a_day_and_closes_at_six_on_the_first() {
    const LATE: &str = "TimestampOutOfBoundsException";
    // (now, record's time, answer)
    let table = [
        ("2026-03-15T12:30:00Z", "2026-03-15T12:10:00Z", "Success"),
        ("2026-03-15T12:30:00Z", "2026-03-15T12:30:00Z", "Success"),
        ("2026-03-15T12:30:00Z", "2026-03-15T12:30:01Z", LATE),
        ("2026-03-15T12:30:00Z", "2026-03-14T12:30:01Z", "Success"),
        ("2026-03-15T12:30:00Z", "2026-03-14T12:30:00Z", LATE),
        // March's records on 1 April.
        ("2026-04-01T00:10:00Z", "2026-03-31T23:00:00Z", "Success"),
        ("2026-04-01T05:59:59Z", "2026-03-31T20:00:00Z", "Success"),
        ("2026-04-01T06:00:00Z", "2026-03-31T23:00:00Z", LATE),
        ("2026-04-01T06:00:00Z", "2026-04-01T00:00:00Z", "Success"),
        ("2026-04-01T23:00:00Z", "2026-04-01T00:00:00Z", "Success"),
        // Not before the start: subscribed at 10:40 on 1 January.
        ("2026-01-01T12:00:00Z", "2026-01-01T10:40:00Z", "Success"),
        ("2026-01-01T12:00:00Z", "2026-01-01T10:39:59Z", LATE),
    ];
    for (now, when, expected) in table {
        let (mut market, code) = subscribed("2026-01-01T10:40:00Z");
        let status = meter(&mut market, now, &legacy_record(&code, when, 5));
        assert_eq!(status, expected, "a record of {when} sent at {now}");
    }
}

#[test]
fn an_hour_is_metered_once_and_the_first_write_wins() {
    let now = "2026-03-15T12:59:00Z";
    // (time, quantity, answer), in order
    let table = [
        ("2026-03-15T12:00:00Z", 5, "Success"),
        ("2026-03-15T12:00:00Z", 5, "Success"),
        ("2026-03-15T12:45:00Z", 5, "Success"),
        ("2026-03-15T12:45:00Z", 6, "DuplicateRecord"),
        ("2026-03-15T11:59:59Z", 6, "Success"),
    ];
    let (mut market, code) = subscribed("2026-01-01T10:40:00Z");
    for (when, quantity, expected) in table {
        let status = meter(&mut market, now, &legacy_record(&code, when, quantity));
        assert_eq!(status, expected, "{quantity} at {when}");
    }
    let billed: Vec<(String, String, u64)> = market
        .ledger()
        .honoured()
        .iter()
        .map(|it| (it.hour.to_string(), it.quantity.to_string(), it.sends))
        .collect();
    assert_eq!(
        billed,
        [
            ("2026-03-15T12:00:00Z".to_owned(), "5".to_owned(), 3),
            ("2026-03-15T11:00:00Z".to_owned(), "6".to_owned(), 1),
        ]
    );
    assert_eq!(market.ledger().refused_counts()["DuplicateRecord"], 1);
}

#[test]
fn an_identical_retry_keeps_its_id_whatever_it_is_called() {
    for (option, expected) in
        [(IdenticalRetry::Success, "Success"), (IdenticalRetry::Duplicate, "DuplicateRecord")]
    {
        let (mut market, code) = subscribed("2026-03-15T10:00:00Z");
        market.set_options(Options { identical_retry: option, ..Options::default() });
        let now = context(at("2026-03-15T12:00:00Z"));
        let request = legacy_record(&code, "2026-03-15T11:00:00Z", 4);
        let mut send = || {
            let answer = market.call(&now, Service::Metering, "BatchMeterUsage", &request);
            answer.expect("the call is valid")["Results"][0].clone()
        };
        let (first, second) = (send(), send());
        assert_eq!(first["Status"], "Success");
        assert_eq!(second["Status"], expected);
        assert_eq!(first["MeteringRecordId"], second["MeteringRecordId"]);
    }
}

#[test]
fn decimals_are_compared_by_value() {
    let (mut market, code) = subscribed("2026-03-15T10:00:00Z");
    let now = "2026-03-15T12:00:00Z";
    // (decimal, answer)
    let table = [
        ("17.00", "Success"),
        ("17", "Success"),
        ("17.000001", "DuplicateRecord"),
        ("017", "ValidationException"),
        ("1.0000001", "ValidationException"),
        ("-1", "ValidationException"),
    ];
    for (decimal, expected) in table {
        let mut request = legacy_record(&code, "2026-03-15T11:00:00Z", 0);
        let record = &mut request["UsageRecords"][0];
        record.as_object_mut().expect("a record").remove("Quantity");
        record["QuantityAsDecimal"] = decimal.into();
        assert_eq!(meter(&mut market, now, &request), expected, "{decimal}");
    }
}

#[test]
fn one_bad_record_sinks_the_call() {
    let now = at("2026-03-15T12:00:00Z");
    let edits: [(&str, Value, &str); 7] = [
        ("Dimension", json!("Requests"), "InvalidUsageDimensionException"),
        (
            "Timestamp",
            json!(at("2026-03-15T12:00:01Z").as_second()),
            "TimestampOutOfBoundsException",
        ),
        ("CustomerAWSAccountId", json!("999999999999"), "InvalidCustomerIdentifierException"),
        ("CustomerIdentifier", json!("both-are-given"), "InvalidCustomerIdentifierException"),
        ("LicenseArn", json!("arn:aws:license-manager::1:license:l-0"), "InvalidLicenseException"),
        ("Quantity", json!(-1), "ValidationException"),
        ("Quantity", json!(2_147_483_648_u64), "ValidationException"),
    ];
    for (member, value, expected) in edits {
        let (mut market, code) = subscribed("2026-03-15T10:00:00Z");
        let mut request = legacy_record(&code, "2026-03-15T11:00:00Z", 4);
        let mut poison = request["UsageRecords"][0].clone();
        poison[member] = value.clone();
        request["UsageRecords"].as_array_mut().expect("records").push(poison);
        let refused = market.call(&context(now), Service::Metering, "BatchMeterUsage", &request);
        assert_eq!(refused.expect_err("refused").code, expected, "{member} = {value}");
        assert_eq!(market.ledger().honoured().len(), 0, "{member} = {value}");
        assert_eq!(market.ledger().refused_counts()[expected], 2);
    }
}

#[test]
fn calls_have_limits() {
    let (mut market, code) = subscribed("2026-03-15T10:00:00Z");
    let now = "2026-03-15T12:00:00Z";
    let mut request = legacy_record(&code, "2026-03-15T11:00:00Z", 4);
    let record = request["UsageRecords"][0].clone();
    request["UsageRecords"] = vec![record; 26].into();
    assert_eq!(meter(&mut market, now, &request), "ValidationException");
    let mut request = legacy_record(&code, "2026-03-15T11:00:00Z", 4);
    request["ProductCode"] = "nosuchproduct".into();
    assert_eq!(meter(&mut market, now, &request), "InvalidProductCodeException");
}

#[test]
fn allocations_must_add_up() {
    let tag = |value: &str| json!([{"Key": "team", "Value": value}]);
    let six: Vec<Value> = (0..6).map(|n| json!({"Key": format!("k{n}"), "Value": "v"})).collect();
    // (allocations of a record of 10, answer)
    let table = [
        (json!([{"AllocatedUsageQuantity": 10}]), "Success"),
        (
            json!([{"AllocatedUsageQuantity": 4, "Tags": tag("a")}, {"AllocatedUsageQuantity": 6}]),
            "Success",
        ),
        (json!([{"AllocatedUsageQuantity": 9}]), "InvalidUsageAllocationsException"),
        (
            json!([{"AllocatedUsageQuantity": 4, "Tags": tag("a")},
                   {"AllocatedUsageQuantity": 6, "Tags": tag("a")}]),
            "InvalidUsageAllocationsException",
        ),
        (json!([{"AllocatedUsageQuantity": 10, "Tags": six}]), "InvalidTagException"),
        (json!([{"AllocatedUsageQuantity": 10, "Tags": tag("a#b")}]), "InvalidTagException"),
        (json!([{"AllocatedUsageQuantityAsDecimal": "10"}]), "InvalidUsageAllocationsException"),
    ];
    for (allocations, expected) in table {
        let (mut market, code) = subscribed("2026-03-15T10:00:00Z");
        let mut request = legacy_record(&code, "2026-03-15T11:00:00Z", 10);
        request["UsageRecords"][0]["UsageAllocations"] = allocations.clone();
        assert_eq!(meter(&mut market, "2026-03-15T12:00:00Z", &request), expected, "{allocations}");
    }
}

#[test]
fn after_the_end_there_is_one_hour() {
    // (protocol, minutes after cancelling, answer)
    let table = [
        (Protocol::Legacy, 59, "Success"),
        (Protocol::Legacy, 60, "CustomerNotSubscribed"),
        (Protocol::Licensed, 59, "Success"),
        (Protocol::Licensed, 60, "CustomerNotSubscribed"),
    ];
    for (protocol, minutes, expected) in table {
        let mut market = Market::with_demo_catalog(7);
        let order = order(&market, protocol, false);
        let bought = act(&mut market, "2026-03-15T10:00:00Z", Action::Subscribe(order.clone()));
        act(&mut market, "2026-03-15T12:00:00Z", Action::Cancel(order));
        let when = "2026-03-15T12:00:00Z";
        let request = match protocol {
            Protocol::Legacy => legacy_record(&bought.product_code, when, 3),
            Protocol::Licensed => license_record(&bought.license_arn.expect("a licence"), when, 3),
        };
        let now = format!("2026-03-15T{}:{:02}:00Z", 12 + minutes / 60, minutes % 60);
        assert_eq!(meter(&mut market, &now, &request), expected, "{protocol:?} {minutes}");
    }
}

#[test]
fn a_renewal_with_the_same_licence_still_takes_the_old_terms_last_hours() {
    // (new licence?, answer for an hour before the renewal, two hours after it)
    for (new_license, expected) in [(false, "Success"), (true, "TimestampOutOfBoundsException")] {
        let mut market = Market::with_demo_catalog(7);
        let mut order = order(&market, Protocol::Licensed, true);
        act(&mut market, "2026-03-15T08:00:00Z", Action::Purchase(order.clone()));
        order.new_license = new_license;
        let renewed = act(&mut market, "2026-03-15T12:00:00Z", Action::Renew(order));
        let license = renewed.license_arn.expect("a licence");
        let mut request = license_record(&license, "2026-03-15T11:00:00Z", 3);
        request["UsageRecords"][0]["Dimension"] = "api_calls".into();
        assert_eq!(meter(&mut market, "2026-03-15T14:00:00Z", &request), expected);
    }
}

#[test]
fn a_suspended_or_never_subscribed_account_is_not_subscribed() {
    let (mut market, code) = subscribed("2026-03-15T10:00:00Z");
    let suspend = Action::Suspend(super::Order::default());
    act(&mut market, "2026-03-15T11:00:00Z", suspend);
    let request = legacy_record(&code, "2026-03-15T11:00:00Z", 4);
    assert_eq!(meter(&mut market, "2026-03-15T12:00:00Z", &request), "CustomerNotSubscribed");

    let mut market = Market::with_demo_catalog(7);
    market.add_buyer(Some(BUYER.to_owned()), None).expect("a valid account");
    assert_eq!(meter(&mut market, "2026-03-15T12:00:00Z", &request), "CustomerNotSubscribed");
}

#[test]
fn both_forms_and_two_regions_bill_twice_and_it_shows() {
    let (mut market, code, license) = licensed("2026-03-15T10:00:00Z");
    let now = "2026-03-15T12:00:00Z";
    let when = "2026-03-15T11:00:00Z";
    assert_eq!(meter(&mut market, now, &license_record(&license, when, 3)), "Success");
    assert!(!market.ledger().honoured()[0].billed_twice);
    assert_eq!(meter(&mut market, now, &legacy_record(&code, when, 3)), "Success");
    assert!(market.ledger().honoured().iter().all(|it| it.billed_twice));

    let (mut market, _, license) = licensed("2026-03-15T10:00:00Z");
    for region in ["us-east-1", "eu-west-1"] {
        let context = CallContext { region: region.to_owned(), ..context(at(now)) };
        let request = license_record(&license, when, 3);
        market.call(&context, Service::Metering, "BatchMeterUsage", &request).expect("valid");
    }
    assert!(market.ledger().honoured().iter().all(|it| it.billed_twice));
    assert_eq!(market.ledger().honoured().len(), 2);
}

#[test]
fn two_licences_of_one_account_are_two_bills() {
    let (mut market, code, first) = licensed("2026-03-15T10:00:00Z");
    let again = super::Order::of(code);
    let second = act(&mut market, "2026-03-15T10:30:00Z", Action::Subscribe(again));
    for license in [first, second.license_arn.expect("a licence")] {
        let request = license_record(&license, "2026-03-15T11:00:00Z", 3);
        assert_eq!(meter(&mut market, "2026-03-15T12:00:00Z", &request), "Success");
    }
    assert!(market.ledger().honoured().iter().all(|it| !it.billed_twice));
}

#[test]
fn unprocessed_records_come_back_as_they_were_sent() {
    let (mut market, code) = subscribed("2026-03-15T10:00:00Z");
    let request = legacy_record(&code, "2026-03-15T11:00:00Z", 4);
    let now = CallContext { unprocessed: Some(5), ..context(at("2026-03-15T12:00:00Z")) };
    let answer = market.call(&now, Service::Metering, "BatchMeterUsage", &request).expect("valid");
    assert_eq!(answer["UnprocessedRecords"], request["UsageRecords"]);
    assert_eq!(answer["Results"], json!([]));
    assert!(market.ledger().honoured().is_empty());
}
