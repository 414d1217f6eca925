//! The Agreement API: searching and describing agreements and their licences.

use std::collections::BTreeMap;
use std::ops::Bound;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::agreements::{LicenseState, SortBy};
use super::input::{decode_token, encode_token, epoch, page_size, text, timestamp};
use super::{Agreement, ApiError, Market};

const PAGE: usize = 50;
const FILTERS_MAX: usize = 10;

fn validation(message: impl Into<String>) -> ApiError {
    ApiError::bad_request("ValidationException", message)
}

/// The filters of a search: one value each.
#[derive(Debug)]
struct Search {
    filters: BTreeMap<String, String>,
    after: BTreeMap<&'static str, Timestamp>,
}

const TIME_FILTERS: [&str; 6] = [
    "AfterEndTime",
    "BeforeEndTime",
    "AfterStartTime",
    "BeforeStartTime",
    "AfterLastUpdateTime",
    "BeforeLastUpdateTime",
];

const VALUE_FILTERS: [&str; 9] = [
    "PartyType",
    "AgreementType",
    "ResourceIdentifier",
    "ResourceType",
    "AcceptorAccountId",
    "OfferId",
    "Status",
    "InitialAgreementId",
    "LicenseArn",
];

impl Search {
    fn read(input: &Value) -> Result<Self, ApiError> {
        if text(input, "catalog") != Some("AWSMarketplace") {
            return Err(validation("catalog must be AWSMarketplace"));
        }
        let given = input.get("filters").and_then(Value::as_array);
        let given = given.ok_or_else(|| validation("filters must have 1 to 10 members"))?;
        if given.is_empty() || given.len() > FILTERS_MAX {
            return Err(validation("filters must have 1 to 10 members"));
        }
        let mut search = Self { filters: BTreeMap::new(), after: BTreeMap::new() };
        for filter in given {
            search.add(filter)?;
        }
        match search.filters.get("AgreementType").map(String::as_str) {
            Some("PurchaseAgreement") => {}
            Some(other) => return Err(validation(format!("AgreementType {other} is unknown"))),
            None => return Err(validation("the filter AgreementType is required")),
        }
        match search.filters.get("PartyType").map(String::as_str) {
            Some("Proposer" | "Acceptor") => Ok(search),
            _ => Err(validation("the filter PartyType must be Proposer or Acceptor")),
        }
    }

    fn add(&mut self, filter: &Value) -> Result<(), ApiError> {
        let name = text(filter, "name").ok_or_else(|| validation("a filter has no name"))?;
        let values = filter.get("values").and_then(Value::as_array);
        let [value] = values.map_or(&[][..], Vec::as_slice) else {
            return Err(validation(format!("the filter {name} takes exactly one value")));
        };
        let repeated = if let Some(name) = TIME_FILTERS.into_iter().find(|it| *it == name) {
            let at = timestamp(value)
                .ok_or_else(|| validation(format!("the filter {name} is not a time")))?;
            self.after.insert(name, at).is_some()
        } else if VALUE_FILTERS.contains(&name) {
            let value = value.as_str().unwrap_or_default().to_owned();
            self.filters.insert(name.to_owned(), value).is_some()
        } else {
            return Err(validation(format!("the filter {name} is not supported")));
        };
        if repeated {
            return Err(validation(format!("the filter {name} is there twice")));
        }
        Ok(())
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.filters.get(name).map(String::as_str)
    }

    fn is_within(&self, after: &str, before: &str, at: Timestamp) -> bool {
        self.after.get(after).is_none_or(|bound| at > *bound)
            && self.after.get(before).is_none_or(|bound| at < *bound)
    }

    fn matches(&self, agreement: &Agreement, entity_id: &str) -> bool {
        let equals = |name, value: &str| self.value(name).is_none_or(|it| it == value);
        // A channel partner's agreement is the partner's to search.
        agreement.channel_partner.is_none()
            && self.value("PartyType") == Some("Proposer")
            && equals("ResourceIdentifier", entity_id)
            && equals("ResourceType", "SaaSProduct")
            && equals("AcceptorAccountId", &agreement.account_id)
            && equals("OfferId", &agreement.offer_id)
            && equals("Status", agreement.status.as_str())
            && equals("InitialAgreementId", &agreement.initial_agreement_id)
            && equals("LicenseArn", &agreement.license_arn)
            && self.is_within(
                "AfterEndTime",
                "BeforeEndTime",
                agreement.ends_at.unwrap_or(Timestamp::MAX),
            )
            && self.is_within("AfterStartTime", "BeforeStartTime", agreement.starts_at)
            && self.is_within("AfterLastUpdateTime", "BeforeLastUpdateTime", agreement.updated_at)
    }
}

/// Reads the order of a search, and whether it ascends.
fn read_sort(input: &Value) -> Result<(SortBy, bool), ApiError> {
    let sort = input.get("sort").unwrap_or(&Value::Null);
    let by = match text(sort, "sortBy") {
        None | Some("EndTime") => SortBy::EndTime,
        Some("StartTime") => SortBy::StartTime,
        Some("LastUpdateTime") => SortBy::LastUpdateTime,
        Some(other) => return Err(validation(format!("cannot sort by {other}"))),
    };
    match text(sort, "sortOrder") {
        Some("ASCENDING") => Ok((by, true)),
        None | Some("DESCENDING") => Ok((by, false)),
        Some(other) => Err(validation(format!("sortOrder {other} is unknown"))),
    }
}

/// The position of an agreement in an order.
type Position = (Timestamp, usize);

fn read_position(input: &Value) -> Result<Option<Position>, ApiError> {
    let Some(token) = text(input, "nextToken") else {
        return Ok(None);
    };
    let after = decode_token(token).and_then(|text| {
        let (at, position) = text.split_once(' ')?;
        Some((at.parse().ok()?, position.parse().ok()?))
    });
    after.map(Some).ok_or_else(|| validation("nextToken is invalid"))
}

impl Market {
    pub(super) fn search_agreements(&self, input: &Value) -> Result<Value, ApiError> {
        self.check_support(input)?;
        let search = Search::read(input)?;
        let page = page_size(input, "maxResults", PAGE, validation)?;
        let (by, ascending) = read_sort(input)?;
        let after = read_position(input)?;
        let mut found = Vec::new();
        let mut more = false;
        for (key, position) in self.in_order(&search, by, ascending, after) {
            let agreement = self.agreements.get(position);
            if search.matches(agreement, &self.products[&agreement.product_code].entity_id) {
                if found.len() == page {
                    more = true;
                    break;
                }
                found.push((key, position));
            }
        }
        let next = found.last().filter(|_| more);
        let next = next.map(|(at, position)| encode_token(&format!("{at} {position}")));
        let views: Vec<Value> =
            found.iter().map(|(_, position)| self.view(self.agreements.get(*position))).collect();
        let mut answer = json!({"agreementViewSummaries": views});
        if let Some(next) = next {
            answer["nextToken"] = next.into();
        }
        Ok(answer)
    }

    /// Refuses filters and orders that this AWS is set up not to support.
    fn check_support(&self, input: &Value) -> Result<(), ApiError> {
        let filters = input.get("filters").and_then(Value::as_array).into_iter().flatten();
        let names = filters.filter_map(|filter| text(filter, "name"));
        let mut used = names.chain(input.get("sort").and_then(|sort| text(sort, "sortBy")));
        match used.find(|name| self.options.unsupported_searches.iter().any(|it| it == name)) {
            Some(name) => Err(validation(format!("{name} is not supported"))),
            None => Ok(()),
        }
    }

    /// Returns agreements in order after a position, through the narrowest index.
    fn in_order<'a>(
        &'a self,
        search: &Search,
        by: SortBy,
        ascending: bool,
        after: Option<Position>,
    ) -> Box<dyn Iterator<Item = Position> + 'a> {
        let narrow = match (search.value("LicenseArn"), search.value("AcceptorAccountId")) {
            (Some(license), _) => Some(self.agreements.of_license(license)),
            (None, Some(account)) => Some(self.agreements.of_buyer(account)),
            (None, None) => None,
        };
        if let Some(narrow) = narrow {
            let keyed = narrow.iter().map(|at| (self.agreements.get(*at).sort_key(by), *at));
            let mut positions: Vec<Position> = keyed.collect();
            positions.sort_unstable();
            if !ascending {
                positions.reverse();
            }
            positions.retain(|it| {
                after.is_none_or(|after| if ascending { *it > after } else { *it < after })
            });
            return Box::new(positions.into_iter());
        }
        let name = match by {
            SortBy::EndTime => "AfterEndTime",
            SortBy::StartTime => "AfterStartTime",
            SortBy::LastUpdateTime => "AfterLastUpdateTime",
        };
        let least = search.after.get(name).map_or(Bound::Unbounded, |at| Bound::Included((*at, 0)));
        let sorted = self.agreements.sorted(by);
        match (after, ascending) {
            (Some(after), true) => {
                Box::new(sorted.range((Bound::Excluded(after), Bound::Unbounded)).copied())
            }
            (None, true) => Box::new(sorted.range((least, Bound::Unbounded)).copied()),
            (Some(after), false) => {
                Box::new(sorted.range((Bound::Unbounded, Bound::Excluded(after))).rev().copied())
            }
            (None, false) => Box::new(sorted.iter().rev().copied()),
        }
    }

    fn view(&self, agreement: &Agreement) -> Value {
        let mut view = self.common(agreement);
        view["lastUpdateTime"] = epoch(agreement.updated_at);
        view["entitlements"] = json!([{"licenseArn": agreement.license_arn}]);
        if let Some(end) = agreement.free_trial_ends_at {
            view["freeTrialEndTime"] = epoch(end);
        }
        view
    }

    fn common(&self, agreement: &Agreement) -> Value {
        let entity_id = &self.products[&agreement.product_code].entity_id;
        let mut common = json!({
            "agreementId": agreement.agreement_id,
            "agreementType": "PurchaseAgreement",
            "acceptanceTime": epoch(agreement.accepted_at),
            "startTime": epoch(agreement.starts_at),
            "acceptor": {"accountId": agreement.account_id},
            "proposer": {"accountId": self.seller_account},
            "proposalSummary": {
                "resources": [{"id": entity_id, "type": "SaaSProduct"}],
                "offerId": agreement.offer_id,
            },
            "status": agreement.status,
            "initialAgreementId": agreement.initial_agreement_id,
        });
        if let Some(ends_at) = agreement.ends_at {
            common["endTime"] = epoch(ends_at);
        }
        common
    }

    fn own_agreement(&self, input: &Value) -> Result<&Agreement, ApiError> {
        let id = text(input, "agreementId").ok_or_else(|| validation("agreementId is required"))?;
        let found = self.agreements.find(id).map(|position| self.agreements.get(position));
        found.filter(|it| it.channel_partner.is_none()).ok_or_else(|| {
            ApiError::bad_request("ResourceNotFoundException", format!("no agreement {id}"))
        })
    }

    pub(super) fn describe_agreement(&self, input: &Value) -> Result<Value, ApiError> {
        let agreement = self.own_agreement(input)?;
        let mut answer = self.common(agreement);
        answer["estimatedCharges"] = json!({"currencyCode": "USD", "agreementValue": "0.00"});
        Ok(answer)
    }

    pub(super) fn get_agreement_terms(&self, input: &Value) -> Result<Value, ApiError> {
        let agreement = self.own_agreement(input)?;
        let product = &self.products[&agreement.product_code];
        let mut terms = Vec::new();
        if !agreement.dimensions.is_empty() {
            let bought = agreement.dimensions.iter();
            let bought: Vec<Value> = bought
                .map(|(key, value)| json!({"dimensionKey": key, "dimensionValue": value}))
                .collect();
            terms.push(json!({"configurableUpfrontPricingTerm": {
                "type": "ConfigurableUpfrontPricingTerm",
                "currencyCode": "USD",
                "rateCards": [],
                "configuration": {"selectorValue": agreement.term.to_string(), "dimensions": bought},
            }}));
            terms.push(json!({"renewalTerm": {
                "type": "RenewalTerm",
                "configuration": {"enableAutoRenew": agreement.auto_renew},
            }}));
        }
        if product.pricing.has_usage() {
            let metered = product.dimensions.iter().filter(|it| product.meters(&it.key));
            let card: Vec<Value> =
                metered.map(|it| json!({"dimensionKey": it.key, "price": "0.001"})).collect();
            terms.push(json!({"usageBasedPricingTerm": {
                "type": "UsageBasedPricingTerm",
                "currencyCode": "USD",
                "rateCards": [{"rateCard": card}],
            }}));
        }
        if agreement.free_trial_ends_at.is_some() {
            terms.push(json!({"freeTrialPricingTerm": {
                "type": "FreeTrialPricingTerm",
                "duration": "P30D",
                "grants": [],
            }}));
        }
        Ok(json!({"acceptedTerms": terms}))
    }

    pub(super) fn get_agreement_entitlements(&self, input: &Value) -> Result<Value, ApiError> {
        let agreement = self.own_agreement(input)?;
        let suspended = self.buyers[&agreement.account_id].suspended;
        let reason = match agreement.license_state {
            LicenseState::Pending => Some("PROVISIONING_IN_PROGRESS"),
            LicenseState::Failed => Some("INVALID_PAYMENT_INSTRUMENT"),
            _ if suspended => Some("ACCOUNT_SUSPENDED"),
            LicenseState::Provisioned => Some("AGREEMENT_ACTIVE"),
            LicenseState::Deprovisioned => Some("AGREEMENT_INACTIVE"),
        };
        let entity_id = &self.products[&agreement.product_code].entity_id;
        Ok(json!({"agreementEntitlements": [{
            "resource": {"id": entity_id, "type": "SaaSProduct"},
            "type": "LICENSE",
            "licenseArn": agreement.license_arn,
            "status": agreement.license_state,
            "statusReasonCode": reason,
        }]}))
    }
}
