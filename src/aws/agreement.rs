//! The Agreement API: who has bought what, for products whose licences no entitlement rows tell of.
//!
//! It shows a seller's own agreements. Those of a channel partner are the partner's to search: that one is missing
//! here proves nothing.

use aws_sdk_marketplaceagreement::types::{AgreementViewSummary, Filter, Sort, SortOrder};
use aws_smithy_types::DateTime;
use jiff::Timestamp;

use super::error::next_page;
use super::{AwsClients, AwsError, Place};
use crate::domain::agreement::{LicenseState, SeenAgreement};
use crate::domain::listing::Listing;
use crate::domain::{AccountId, AgreementId, EntityId, Id, LicenseArn};

const CATALOG: &str = "AWSMarketplace";
const NO_AGREEMENT: &str = "agmt-0000000000000000000000000";
/// AWS's largest page.
const PAGE: i32 = 50;

/// The operation that finds agreements.
pub const SEARCH_AGREEMENTS: &str = "SearchAgreements";
/// The operation that shows an agreement's licences.
pub const GET_AGREEMENT_ENTITLEMENTS: &str = "GetAgreementEntitlements";

/// The agreements that are searched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgreementSearch {
    /// Those of a product that a listing shows.
    Listed(EntityId, Listing),
    /// One buyer's of a product, ended ones included.
    OfBuyer(EntityId, AccountId),
    /// Those behind a licence, ended ones included.
    OfLicense(LicenseArn),
}

impl AgreementSearch {
    fn filters(&self) -> Vec<Filter> {
        let filter = |name: &str, value: &str| Filter::builder().name(name).values(value).build();
        let mut filters =
            vec![filter("PartyType", "Proposer"), filter("AgreementType", "PurchaseAgreement")];
        match self {
            Self::Listed(entity, listing) => {
                filters.push(filter("ResourceIdentifier", entity.as_str()));
                filters.push(match listing {
                    Listing::Whole { .. } => filter("Status", "ACTIVE"),
                    Listing::ChangedAfter(at) => {
                        let second = at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
                        filter("AfterLastUpdateTime", &second)
                    }
                });
            }
            Self::OfBuyer(entity, account) => {
                filters.push(filter("ResourceIdentifier", entity.as_str()));
                filters.push(filter("AcceptorAccountId", account.as_str()));
            }
            Self::OfLicense(arn) => filters.push(filter("LicenseArn", arn.as_str())),
        }
        filters
    }

    /// Returns the order, where it matters. What changes while changes are listed moves to the end, and so is not
    /// missed.
    fn sort(&self) -> Option<Sort> {
        let order = match self {
            Self::Listed(_, Listing::Whole { newest_first: true }) => SortOrder::Descending,
            Self::Listed(_, Listing::ChangedAfter(_)) => SortOrder::Ascending,
            Self::Listed(_, Listing::Whole { newest_first: false })
            | Self::OfBuyer(..)
            | Self::OfLicense(_) => return None,
        };
        Some(Sort::builder().sort_by("LastUpdateTime").sort_order(order).build())
    }
}

/// One page of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgreementPage {
    /// The agreements.
    pub agreements: Vec<SeenAgreement>,
    /// The place where the next page begins, if there is one.
    pub next: Option<String>,
}

/// Searches one page of agreements. An empty page may still lead to another.
pub async fn search_agreements(
    clients: &AwsClients,
    search: &AgreementSearch,
    from: Option<String>,
) -> Result<AgreementPage, AwsError> {
    let call = clients
        .agreement
        .search_agreements()
        .catalog(CATALOG)
        .set_filters(Some(search.filters()))
        .set_sort(search.sort())
        .max_results(PAGE)
        .set_next_token(from.clone());
    let page = clients
        .call(Place::Last(&clients.rates.agreements), SEARCH_AGREEMENTS, || call.clone().send())
        .await?;
    let agreements = page.agreement_view_summaries.unwrap_or_default();
    Ok(AgreementPage {
        agreements: agreements.into_iter().filter_map(seen).collect(),
        next: next_page(SEARCH_AGREEMENTS, from.as_deref(), page.next_token)?,
    })
}

/// Lists the licences of an agreement, each with its state.
pub async fn agreement_licenses(
    clients: &AwsClients,
    agreement: &AgreementId,
) -> Result<Vec<(LicenseArn, LicenseState)>, AwsError> {
    let mut licenses = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let call = clients
            .agreement
            .get_agreement_entitlements()
            .agreement_id(agreement.as_str())
            .set_next_token(token.clone());
        let page = clients
            .call(
                Place::Last(&clients.rates.agreement_licenses),
                GET_AGREEMENT_ENTITLEMENTS,
                || call.clone().send(),
            )
            .await?;
        for row in page.agreement_entitlements.unwrap_or_default() {
            let arn = row.license_arn.as_deref().and_then(Id::from_trimmed);
            // A state that this program does not know decides nothing.
            let state = row.status.as_ref().and_then(|it| LicenseState::parse(it.as_str()));
            licenses.extend(arn.zip(state));
        }
        token = next_page(GET_AGREEMENT_ENTITLEMENTS, token.as_deref(), page.next_token)?;
        if token.is_none() {
            return Ok(licenses);
        }
    }
}

fn seen(view: AgreementViewSummary) -> Option<SeenAgreement> {
    let id = |text: Option<String>| text.as_deref().and_then(Id::from_trimmed);
    let entitlements = view.entitlements.unwrap_or_default();
    Some(SeenAgreement {
        agreement_id: view.agreement_id.as_deref().and_then(Id::from_trimmed)?,
        initial_agreement_id: view.initial_agreement_id.as_deref().and_then(Id::from_trimmed),
        account_id: id(view.acceptor.and_then(|acceptor| acceptor.account_id)),
        offer_id: view.proposal_summary.and_then(|summary| summary.offer_id),
        status: view.status?.as_str().to_owned(),
        starts_at: moment(view.start_time),
        ends_at: moment(view.end_time),
        updated_at: moment(view.last_update_time),
        licenses: entitlements
            .into_iter()
            .filter_map(|it| it.license_arn.as_deref().and_then(Id::from_trimmed))
            .collect(),
    })
}

fn moment(time: Option<DateTime>) -> Option<Timestamp> {
    Timestamp::from_millisecond(time?.to_millis().ok()?).ok()
}

/// Tries a search that finds little, to see whether it is allowed.
pub(super) async fn probe_search(clients: &AwsClients) -> Result<(), AwsError> {
    let search = AgreementSearch::OfLicense(LicenseArn::new(
        "arn:aws:license-manager::000000000000:license:l-00000000000000000000000000000000",
    ));
    search_agreements(clients, &search, None).await.map(drop)
}

/// Asks for the licences of an agreement that nobody has.
pub(super) async fn probe_agreement_licenses(clients: &AwsClients) -> Result<(), AwsError> {
    agreement_licenses(clients, &AgreementId::new(NO_AGREEMENT)).await.map(drop)
}
