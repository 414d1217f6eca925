//! The agreement API, as far as permissions are probed with it.

use super::{AwsClients, AwsError};

const NO_AGREEMENT: &str = "agmt-0000000000000000000000000";

/// Tries a search that finds nothing, to see whether it is allowed.
pub(super) async fn probe_search(clients: &AwsClients) -> Result<(), AwsError> {
    use aws_sdk_marketplaceagreement::types::Filter;
    let filter = |name: &str, value: &str| Filter::builder().name(name).values(value).build();
    clients
        .agreement
        .search_agreements()
        .catalog("AWSMarketplace")
        .filters(filter("PartyType", "Proposer"))
        .filters(filter("AgreementType", "PurchaseAgreement"))
        .max_results(1)
        .send()
        .await
        .map(drop)
        .map_err(|error| AwsError::of("SearchAgreements", error))
}

/// Asks for an agreement that nobody has.
pub(super) async fn probe_agreement(clients: &AwsClients) -> Result<(), AwsError> {
    let call = clients.agreement.describe_agreement().agreement_id(NO_AGREEMENT);
    call.send().await.map(drop).map_err(|error| AwsError::of("DescribeAgreement", error))
}

/// Asks for the licences of an agreement that nobody has.
pub(super) async fn probe_agreement_grants(clients: &AwsClients) -> Result<(), AwsError> {
    let call = clients.agreement.get_agreement_entitlements().agreement_id(NO_AGREEMENT);
    call.send().await.map(drop).map_err(|error| AwsError::of("GetAgreementEntitlements", error))
}
