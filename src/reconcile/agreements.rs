//! Asking the Agreement API for what no event told: licences that were never heard of, ends that were missed.
//!
//! Where the role may not ask, events are all there is: that is shown, and tried again now and then. A channel partner's agreements are the partner's to search, so nothing is concluded from what is missing.

use std::collections::{BTreeMap, BTreeSet};

use super::Reconciler;
use super::sweep::SweepError;
use crate::aws::{
    AgreementSearch, AwsClients, AwsError, AwsErrorKind, GET_AGREEMENT_ENTITLEMENTS,
    SEARCH_AGREEMENTS, agreement_licenses, search_agreements,
};
use crate::domain::agreement::{LicenseState, SeenAgreement};
use crate::domain::{AccountId, EntityId, LicenseArn, ProductCode};
use crate::store::AgreementLook;
use crate::telemetry::Masked;

/// What follows from a refusal, and what ends it.
const UNTIL_ALLOWED: &str = "until it is (`marketd integration iam-policy` prints what is needed) only events tell of licences; each sweep tries again";

/// What searching agreements came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Searched {
    /// Agreements compared.
    pub(super) agreements: usize,
    /// Buyers of whom they told something new.
    pub(super) news: usize,
}

impl Reconciler {
    /// Compares a product's agreements in force with what events told, and looks after the licences that we take for
    /// live and that are not among them.
    pub(super) async fn search_product(
        &self,
        product_code: &ProductCode,
    ) -> Result<Searched, SweepError> {
        let Some(entity) = self.store.entity_of(product_code.clone()).await? else {
            return Ok(Searched::default());
        };
        let clients = self.aws.clients();
        let mut searched = Searched::default();
        // Whoever came after this moment is not expected in the answer.
        let live = self.store.live_licenses(product_code.clone()).await?;
        let listed = self
            .search(&clients, product_code, AgreementSearch::ActiveOf(entity), &mut searched)
            .await?;
        for arn in live.difference(&listed) {
            let behind = AgreementSearch::OfLicense(arn.clone());
            match self.search(&clients, product_code, behind, &mut searched).await {
                // A licence that AWS does not take for one must not keep the others from being looked after.
                Err(SweepError::Aws(error)) if error.kind == AwsErrorKind::Refused => {
                    tracing::warn!(license.arn = %Masked(arn.as_str()), %error, "a licence cannot be searched for");
                }
                outcome => outcome.map(drop)?,
            }
        }
        Ok(searched)
    }

    /// What one buyer has bought of a product.
    pub(super) async fn search_buyer(
        &self,
        product_code: &ProductCode,
        entity: EntityId,
        account: AccountId,
    ) -> Result<Searched, SweepError> {
        let mut searched = Searched::default();
        let of_buyer = AgreementSearch::OfBuyer(entity, account);
        self.search(&self.aws.clients(), product_code, of_buyer, &mut searched).await?;
        Ok(searched)
    }

    /// Takes over every page of a search, and returns the licences that it listed.
    async fn search(
        &self,
        clients: &AwsClients,
        product_code: &ProductCode,
        search: AgreementSearch,
        searched: &mut Searched,
    ) -> Result<BTreeSet<LicenseArn>, SweepError> {
        let mut listed = BTreeSet::new();
        let mut from = None;
        loop {
            let observed_at = self.clock.now();
            let page = search_agreements(clients, &search, from).await?;
            listed.extend(page.agreements.iter().flat_map(|it| it.licenses.iter().cloned()));
            searched.agreements += page.agreements.len();
            let states = self.confirm(clients, &page.agreements).await?;
            let look = AgreementLook {
                product_code: product_code.clone(),
                observed_at,
                agreements: page.agreements,
                states,
            };
            searched.news += self.store.record_agreements(look, self.clock.now()).await?;
            from = page.next;
            if from.is_none() {
                return Ok(listed);
            }
        }
    }

    /// How those licences stand that no event told to be in force: an agreement may be in force before its licence is.
    async fn confirm(
        &self,
        clients: &AwsClients,
        agreements: &[SeenAgreement],
    ) -> Result<BTreeMap<LicenseArn, LicenseState>, SweepError> {
        let mut states = BTreeMap::new();
        for agreement in self.store.unconfirmed_licenses(agreements).await? {
            if clients.is_refused(GET_AGREEMENT_ENTITLEMENTS) {
                break;
            }
            match agreement_licenses(clients, &agreement).await {
                Ok(licenses) => states.extend(licenses),
                Err(error) if error.kind == AwsErrorKind::AccessDenied => {
                    self.report_agreements(Err(&error));
                }
                // It may have ended since it was listed.
                Err(error) if error.kind == AwsErrorKind::Refused => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(states)
    }

    /// Whether the role may search at all, as far as is known.
    pub(super) fn may_search(&self) -> bool {
        !self.aws.clients().is_refused(SEARCH_AGREEMENTS)
    }

    /// Shows that agreements are not searched, as connecting found out: nobody asks, and so nobody else would say it.
    pub(super) fn report_no_search(&self) {
        let detail = format!("{SEARCH_AGREEMENTS} is not allowed; {UNTIL_ALLOWED}");
        self.health.report("agreements", Err(&detail), self.clock.now());
    }

    pub(super) fn report_agreements(&self, outcome: Result<(), &AwsError>) {
        let detail = outcome.map_err(|error| match error.kind {
            AwsErrorKind::AccessDenied => format!("{error}; {UNTIL_ALLOWED}"),
            _ => error.to_string(),
        });
        let detail = detail.as_ref().copied().map_err(String::as_str);
        self.health.report("agreements", detail, self.clock.now());
    }
}
