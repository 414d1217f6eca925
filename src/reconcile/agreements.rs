//! Searches of the Agreement API for what no event told: licences that were never heard of, ends that were missed.
//!
//! Once a day all agreements in force are listed, in between those that changed. Where the role may not ask, events are
//! all there is: that is shown, and tried again now and then. A channel partner's agreements are the partner's to
//! search, so nothing is concluded from what is missing.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::Reconciler;
use super::sweep::SweepError;
use crate::aws::{
    AgreementSearch, AwsClients, AwsError, AwsErrorKind, GET_AGREEMENT_ENTITLEMENTS,
    SEARCH_AGREEMENTS, agreement_licenses, search_agreements,
};
use crate::domain::agreement::{LicenseState, SeenAgreement};
use crate::domain::listing::Reading;
use crate::domain::{EntityId, LicenseArn, ProductCode};
use crate::store::AgreementObservation;
use crate::telemetry::Masked;

/// The consequence of a refusal, and what ends it.
const UNTIL_ALLOWED: &str = "until it is (`marketd integration iam-policy` lists what is needed) only events tell of licences; each sweep tries again";

/// The outcome of searching agreements.
#[derive(Clone, Debug, Default)]
pub(super) struct Searched {
    /// Agreements compared.
    pub(super) agreements: usize,
    /// Agreements that could not be taken over.
    refused: usize,
    /// Set if all agreements in force were listed.
    pub(super) is_whole: bool,
    /// The licences that were listed.
    licenses: BTreeSet<LicenseArn>,
}

impl Searched {
    fn add(&mut self, other: Self) {
        self.agreements += other.agreements;
        self.refused += other.refused;
        self.licenses.extend(other.licenses);
    }
}

impl Reconciler {
    /// Compares a product's agreements with what events told, all of them or those that changed, and looks after the
    /// licences that the listing does not tell enough of.
    pub(super) async fn search_product(
        &self,
        product_code: &ProductCode,
    ) -> Result<Searched, SweepError> {
        let Some(entity) = self.store.entity_of(product_code.clone()).await? else {
            return Ok(Searched::default());
        };
        let clients = self.aws.clients();
        let begun_at = self.clock.now();
        let before = self.store.listing_progress(product_code.clone()).await?;
        let mut reading = Reading::begin(before, begun_at);
        // Whoever came after this moment is not expected in the answer.
        let held = self.store.held_licenses(product_code.clone(), begun_at).await?;
        let mut searched = loop {
            match self.list_agreements(&clients, product_code, &entity, &mut reading).await {
                Err(SweepError::Aws(error))
                    if error.kind == AwsErrorKind::Refused && reading.fall_back() =>
                {
                    tracing::warn!(
                        product.code = %product_code,
                        %error,
                        "AWS refuses to list agreements by their changes; for a day each sweep lists all of them"
                    );
                }
                listed => break listed?,
            }
        };
        searched.is_whole = reading.is_whole();
        for arn in reading.listing().asks_about(held, &searched.licenses) {
            let found = self.look_after(&clients, product_code, arn, begun_at).await?;
            searched.add(found);
        }
        // Only now is it known what became of those that the listing missed.
        if reading.is_whole() && searched.refused == 0 {
            let observation = AgreementObservation::of_nothing(product_code.clone(), begun_at);
            self.store.record_listing(observation, reading.progress(), self.clock.now()).await?;
        }
        Ok(searched)
    }

    /// Takes over every page of a listing. How far it got is written with the last page, unless it was a whole one.
    async fn list_agreements(
        &self,
        clients: &AwsClients,
        product_code: &ProductCode,
        entity: &EntityId,
        reading: &mut Reading,
    ) -> Result<Searched, SweepError> {
        let listing = AgreementSearch::Listed(entity.clone(), reading.listing());
        self.search(clients, product_code, listing, Some(reading)).await
    }

    /// Asks about one licence. One of which AWS lists nothing rests.
    async fn look_after(
        &self,
        clients: &AwsClients,
        product_code: &ProductCode,
        arn: LicenseArn,
        begun_at: Timestamp,
    ) -> Result<Searched, SweepError> {
        let behind = AgreementSearch::OfLicense(arn.clone());
        let found = match self.search(clients, product_code, behind, None).await {
            // A licence that AWS does not take for one must not keep the others from being looked after.
            Err(SweepError::Aws(error)) if error.kind == AwsErrorKind::Refused => {
                tracing::warn!(license.arn = %Masked(arn.as_str()), %error, "a licence cannot be searched for");
                Searched::default()
            }
            outcome => outcome?,
        };
        if found.agreements == 0 {
            self.store.rest_license(arn, begun_at).await?;
        }
        Ok(found)
    }

    /// Searches for what one buyer has bought of a product.
    pub(super) async fn search_buyer(
        &self,
        product_code: &ProductCode,
        of_buyer: AgreementSearch,
    ) -> Result<Searched, SweepError> {
        self.search(&self.aws.clients(), product_code, of_buyer, None).await
    }

    /// Takes over every page of a search.
    async fn search(
        &self,
        clients: &AwsClients,
        product_code: &ProductCode,
        search: AgreementSearch,
        mut reading: Option<&mut Reading>,
    ) -> Result<Searched, SweepError> {
        let mut searched = Searched::default();
        let mut from = None;
        loop {
            let observed_at = self.clock.now();
            let page = search_agreements(clients, &search, from).await?;
            let listed = page.agreements.iter().flat_map(|it| it.licenses.iter().cloned());
            searched.licenses.extend(listed);
            searched.agreements += page.agreements.len();
            if let Some(reading) = &mut reading {
                reading.read(&page.agreements);
            }
            let states = self.confirm(clients, &page.agreements).await?;
            let observation = AgreementObservation {
                product_code: product_code.clone(),
                observed_at,
                agreements: page.agreements,
                states,
            };
            let is_last = page.next.is_none() && searched.refused == 0;
            let ends = reading.as_ref().filter(|it| is_last && !it.is_whole());
            let now = self.clock.now();
            let taken = match ends {
                Some(reading) => {
                    self.store.record_listing(observation, reading.progress(), now).await?
                }
                None => self.store.record_agreements(observation, now).await?,
            };
            searched.refused += taken.refused;
            from = page.next;
            if from.is_none() {
                return Ok(searched);
            }
        }
    }

    /// Finds the states of those licences that no event told to be in force: an agreement may be in force before its
    /// licence is.
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

    /// Reports whether the role may search at all, as far as is known.
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
