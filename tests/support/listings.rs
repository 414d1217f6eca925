//! A product's agreements listed as a sweep does: whole or by their changes, page by page.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use marketd::clock::Clock;
use marketd::domain::agreement::{LicenseState, SeenAgreement};
use marketd::domain::listing::{Listing, Reading};
use marketd::domain::{LicenseArn, ProductCode};
use marketd::sandbox::market::{
    Agreement, CallContext, LicenseState as AwsLicenseState, Market, Product, Service,
};
use marketd::store::{AgreementObservation, Store, StoreError};
use serde_json::{Value, json};

use super::seller::seen;

/// A page of a search, and where the next begins; none where AWS refuses the search.
pub(crate) type Page = Option<(Vec<Agreement>, Option<Value>)>;

/// Searches as AWS does.
pub(crate) fn search(market: &mut Market, now: Timestamp, input: &Value) -> Page {
    let context = CallContext { now, region: "us-east-1".into(), unprocessed: None };
    let found = market.call(&context, Service::Agreement, "SearchAgreements", input);
    let page = match found {
        Ok(page) => page,
        Err(refused) => {
            assert_eq!(refused.code, "ValidationException", "{refused:?}");
            return None;
        }
    };
    let ids: Vec<&str> = page["agreementViewSummaries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["agreementId"].as_str().unwrap())
        .collect();
    let found = |id: &&str| market.agreements().iter().find(|it| it.agreement_id == **id).cloned();
    let agreements = ids.iter().filter_map(found).collect();
    Some((agreements, page.get("nextToken").cloned()))
}

/// Reads the listing of a product's agreements that is due, and asks about what it does not tell, with so many
/// agreements a page. Which kind was read.
pub(crate) async fn sweep_agreements(
    store: &Store,
    product: &Product,
    clock: &Clock,
    page_size: usize,
    mut ask: impl FnMut(&Value) -> Page,
) -> Result<Listing, StoreError> {
    let code = ProductCode::new(&product.product_code);
    let now = clock.now();
    let mut reading = Reading::begin(store.listing_progress(code.clone()).await?, now);
    let held = store.held_licenses(code.clone(), now).await?;
    let mut listed = BTreeSet::new();
    let mut token = None;
    loop {
        let mut input = listing_of(product, reading.listing());
        input["maxResults"] = page_size.into();
        if let Some(token) = token {
            input["nextToken"] = token;
        }
        let observed_at = clock.now();
        let Some((page, next)) = ask(&input) else {
            assert!(reading.fall_back(), "AWS refuses to list what is in force");
            listed.clear();
            token = None;
            continue;
        };
        listed.extend(page.iter().map(|it| LicenseArn::new(&it.license_arn)));
        let look = look_of(store, &code, observed_at, &page).await?;
        reading.read(&look.agreements);
        if next.is_none() && !reading.is_whole() {
            store.record_listing(look, reading.progress(), clock.now()).await?;
        } else {
            store.record_agreements(look, clock.now()).await?;
        }
        token = next;
        if token.is_none() {
            break;
        }
    }
    for arn in reading.listing().asks_about(held, &listed) {
        let input = filtered(&[json!({"name": "LicenseArn", "values": [arn.as_str()]})]);
        let observed_at = clock.now();
        let (found, _) = ask(&input).unwrap();
        let is_hidden = found.is_empty();
        let look = look_of(store, &code, observed_at, &found).await?;
        store.record_agreements(look, clock.now()).await?;
        if is_hidden {
            store.rest_license(arn, now).await?;
        }
    }
    if reading.is_whole() {
        let look = AgreementObservation::of_nothing(code, now);
        store.record_listing(look, reading.progress(), clock.now()).await?;
    }
    Ok(reading.listing())
}

fn filtered(more: &[Value]) -> Value {
    let mut filters = vec![
        json!({"name": "PartyType", "values": ["Proposer"]}),
        json!({"name": "AgreementType", "values": ["PurchaseAgreement"]}),
    ];
    filters.extend_from_slice(more);
    json!({"catalog": "AWSMarketplace", "filters": filters})
}

fn listing_of(product: &Product, listing: Listing) -> Value {
    let (filter, order) = match listing {
        Listing::Whole { newest_first } => {
            let filter = json!({"name": "Status", "values": ["ACTIVE"]});
            (filter, newest_first.then_some("DESCENDING"))
        }
        Listing::ChangedAfter(at) => {
            let filter = json!({"name": "AfterLastUpdateTime", "values": [at.to_string()]});
            (filter, Some("ASCENDING"))
        }
    };
    let of = json!({"name": "ResourceIdentifier", "values": [product.entity_id]});
    let mut input = filtered(&[of, filter]);
    if let Some(order) = order {
        input["sort"] = json!({"sortBy": "LastUpdateTime", "sortOrder": order});
    }
    input
}

async fn look_of(
    store: &Store,
    product_code: &ProductCode,
    observed_at: Timestamp,
    page: &[Agreement],
) -> Result<AgreementObservation, StoreError> {
    let agreements: Vec<SeenAgreement> = page.iter().map(seen).collect();
    let mut states = BTreeMap::new();
    for id in store.unconfirmed_licenses(&agreements).await? {
        let of = page.iter().find(|it| it.agreement_id == id.as_str()).unwrap();
        states.insert(LicenseArn::new(&of.license_arn), state(of.license_state));
    }
    Ok(AgreementObservation { product_code: product_code.clone(), observed_at, agreements, states })
}

const fn state(of: AwsLicenseState) -> LicenseState {
    match of {
        AwsLicenseState::Pending => LicenseState::Pending,
        AwsLicenseState::Provisioned => LicenseState::Provisioned,
        AwsLicenseState::Failed => LicenseState::Failed,
        AwsLicenseState::Deprovisioned => LicenseState::Deprovisioned,
    }
}
