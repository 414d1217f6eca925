//! Tests of the catalog and the Agreement API.

use serde_json::{Value, json};

use super::super::{
    Action, ApiError, Dimension, Market, NewProduct, Protocol, Service, Visibility,
};
use super::{BUYER, act, at, context, order};

const MAY: &str = "2026-05-01T10:00:00Z";

fn ask(
    market: &mut Market,
    service: Service,
    operation: &str,
    input: &Value,
) -> Result<Value, ApiError> {
    market.call(&context(at("2026-05-02T00:00:00Z")), service, operation, input)
}

fn search(filters: &[(&str, &str)]) -> Value {
    let filters: Vec<Value> =
        filters.iter().map(|(name, value)| json!({"name": name, "values": [value]})).collect();
    json!({"catalog": "AWSMarketplace", "filters": filters})
}

const OWN: [(&str, &str); 2] = [("PartyType", "Proposer"), ("AgreementType", "PurchaseAgreement")];

#[test]
fn the_catalog_pages_and_drafts_lack_dimensions() {
    let mut market = Market::new(7);
    for number in 0..60 {
        let new = NewProduct {
            title: format!("Product {number}"),
            protocol: Protocol::Licensed,
            visibility: if number == 0 { Visibility::Draft } else { Visibility::Public },
            dimensions: vec![Dimension::metered("requests", "Requests")],
            product_code: None,
            entity_id: Some(format!("prod-{number:02}")),
        };
        market.add_product(new, at(MAY)).expect("fresh");
    }
    let mut input =
        json!({"Catalog": "AWSMarketplace", "EntityType": "SaaSProduct", "MaxResults": 50});
    let first = ask(&mut market, Service::Catalog, "ListEntities", &input).expect("valid");
    input["NextToken"] = first["NextToken"].clone();
    let second = ask(&mut market, Service::Catalog, "ListEntities", &input).expect("valid");
    let counts = [&first, &second].map(|it| it["EntitySummaryList"].as_array().map(Vec::len));
    assert_eq!(counts, [Some(50), Some(10)]);
    assert_eq!(second["NextToken"], Value::Null);

    for (id, has_dimensions) in [("prod-00", false), ("prod-01", true)] {
        let input = json!({"catalog": "AWSMarketplace", "entityId": id});
        let entity = ask(&mut market, Service::Catalog, "DescribeEntity", &input).expect("valid");
        let details = entity["Details"].as_str().expect("text");
        let details: Value = serde_json::from_str(details).expect("JSON");
        assert_eq!(details, entity["DetailsDocument"]);
        assert_eq!(details.get("Dimensions").is_some(), has_dimensions);
    }
    let missing = json!({"catalog": "AWSMarketplace", "entityId": "prod-none"});
    let refused = ask(&mut market, Service::Catalog, "DescribeEntity", &missing);
    assert_eq!(refused.expect_err("refused").code, "ResourceNotFoundException");
}

#[test]
fn searches_need_their_filters() {
    let mut market = Market::with_demo_catalog(7);
    let order = order(&market, Protocol::Licensed, false);
    let bought = act(&mut market, MAY, Action::Subscribe(order));
    let license = bought.license_arn.as_deref().expect("a licence");
    let base = OWN.to_vec();
    let with = |name, value| [base.clone(), vec![(name, value)]].concat();
    // (filters, how many are found; none for a refusal)
    let table = [
        (base.clone(), Some(1)),
        (with("LicenseArn", license), Some(1)),
        (with("AcceptorAccountId", BUYER), Some(1)),
        (with("Status", "CANCELLED"), Some(0)),
        (with("AfterLastUpdateTime", "2026-05-01T09:00:00Z"), Some(1)),
        (with("AfterLastUpdateTime", "2026-05-01T10:00:00Z"), Some(0)),
        (with("Colour", "blue"), None),
        (vec![OWN[0]], None),
        (vec![OWN[1]], None),
    ];
    for (filters, expected) in table {
        let answer = ask(&mut market, Service::Agreement, "SearchAgreements", &search(&filters));
        let found = answer.map(|it| it["agreementViewSummaries"].as_array().map_or(0, Vec::len));
        match (found, expected) {
            (Ok(found), Some(expected)) => assert_eq!(found, expected, "{filters:?}"),
            (Err(error), None) => assert_eq!(error.code, "ValidationException", "{filters:?}"),
            (answer, _) => panic!("{filters:?}: {answer:?}"),
        }
    }
    let two_values = json!({"catalog": "AWSMarketplace", "filters": [
        {"name": "PartyType", "values": ["Proposer", "Acceptor"]}]});
    let refused = ask(&mut market, Service::Agreement, "SearchAgreements", &two_values);
    assert_eq!(refused.expect_err("refused").code, "ValidationException");
}

#[test]
fn a_changed_agreement_is_found_by_its_last_update_page_by_page() {
    let mut market = Market::with_demo_catalog(7);
    let order = order(&market, Protocol::Licensed, false);
    for number in 0..120 {
        let account = format!("4{number:011}");
        market.act(at(MAY), &account, Action::Subscribe(order.clone())).expect("possible");
    }
    let cancelled = "400000000003";
    market.act(at("2026-05-01T12:00:00Z"), cancelled, Action::Cancel(order)).expect("possible");
    let mut input = search(&OWN);
    input["sort"] = json!({"sortBy": "LastUpdateTime", "sortOrder": "ASCENDING"});
    let mut accounts = Vec::new();
    loop {
        let answer = ask(&mut market, Service::Agreement, "SearchAgreements", &input);
        let answer = answer.expect("valid");
        for view in answer["agreementViewSummaries"].as_array().expect("a list") {
            accounts.push(view["acceptor"]["accountId"].as_str().expect("text").to_owned());
        }
        match answer.get("nextToken") {
            Some(token) => input["nextToken"] = token.clone(),
            None => break,
        }
    }
    assert_eq!(accounts.len(), 120);
    assert_eq!(accounts.last().map(String::as_str), Some(cancelled));
}

#[test]
fn an_agreement_tells_its_licence_and_status() {
    let mut market = Market::with_demo_catalog(7);
    let order = order(&market, Protocol::Licensed, false);
    let bought = act(&mut market, MAY, Action::Subscribe(order.clone()));
    let input = json!({"agreementId": bought.agreement_id});
    let state = |market: &mut Market| {
        let agreement = ask(market, Service::Agreement, "DescribeAgreement", &input);
        let agreement = agreement.expect("valid");
        let license = ask(market, Service::Agreement, "GetAgreementEntitlements", &input);
        let license = license.expect("valid")["agreementEntitlements"][0]["status"].clone();
        (agreement["status"].clone(), license, agreement.get("endTime").is_some())
    };
    assert_eq!(state(&mut market), (json!("ACTIVE"), json!("PROVISIONED"), false));
    act(&mut market, "2026-05-01T11:00:00Z", Action::Cancel(order));
    assert_eq!(state(&mut market), (json!("CANCELLED"), json!("DEPROVISIONED"), false));
}
