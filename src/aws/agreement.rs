//! The agreement API, as far as permissions are probed with it.

use super::{AwsClients, AwsError};

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
