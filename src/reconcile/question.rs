//! Questions to AWS about a few buyers of one product, and what is made of the answers.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::sweep::SweepError;
use super::{BUYERS_PER_QUESTION, Group, Reconciled, Reconciler, retry_wait};
use crate::aws::{AgreementSearch, AwsError, EntitlementFilter, check_seller, get_entitlements};
use crate::domain::{BuyerRef, CustomerIdentifier, Grant, ProductCode};
use crate::store::{
    DueBuyer, FailingBuyer, Observation, ObservationOutcome, ObservedBuyer, RefusedBuyer,
    StoreError,
};

impl Reconciler {
    /// Asks about a group, and keeps what failed for later.
    pub(super) async fn ask_about(&self, group: Group) -> Result<Reconciled, StoreError> {
        let Some(terms) = self.store.product_terms(group.product_code.clone()).await? else {
            return Ok(Reconciled::default());
        };
        if !terms.has_contracts() {
            return self.decide_by_facts(group).await;
        }
        let observed_at = self.clock.now();
        match self.ask(&group.product_code, &group.buyers).await {
            Ok(Some(entries)) => self.apply(group.product_code, observed_at, entries).await,
            Ok(None) => self.ask_one_by_one(group).await,
            Err(SweepError::Store(error)) => Err(error),
            Err(SweepError::Aws(error)) if group.buyers.len() > 1 && !error.is_retryable() => {
                // One buyer that AWS does not take must not hold up the others.
                tracing::debug!(%error, "asking for each buyer alone");
                self.ask_one_by_one(group).await
            }
            Err(SweepError::Aws(error)) => self.postpone(group.buyers, &error).await,
        }
    }

    /// Decides by what is known of licences, where no entitlements tell. A buyer of whom nothing was told, or who signs up
    /// and is not known to be in, is asked about first, and so is one whose usage AWS refuses although it is held to be
    /// subscribed: its end may have been missed.
    async fn decide_by_facts(&self, group: Group) -> Result<Reconciled, StoreError> {
        let code = group.product_code.clone();
        let mut questions = self.questions(&group).await?;
        let (mut asked, mut known) = (Vec::new(), Vec::new());
        for buyer in group.buyers {
            match questions.remove(&buyer.key.buyer) {
                Some(search) => asked.push((buyer, search)),
                None => known.push(entry(&buyer, None)),
            }
        }
        let mut total = Reconciled::default();
        // Of whom enough is known need not wait for the answers about others.
        if !known.is_empty() {
            total.add(self.apply(code.clone(), self.clock.now(), known).await?);
        }
        let mut entries = Vec::new();
        for (buyer, search) in asked {
            match self.search_buyer(&code, search).await {
                Ok(_) => self.report_agreements(Ok(())),
                Err(SweepError::Store(error)) => return Err(error),
                Err(SweepError::Aws(error)) => {
                    self.report_agreements(Err(&error));
                    if error.is_retryable() {
                        total.add(self.postpone(vec![buyer], &error).await?);
                        continue;
                    }
                }
            }
            entries.push(entry(&buyer, None));
        }
        if !entries.is_empty() {
            total.add(self.apply(code, self.clock.now(), entries).await?);
        }
        Ok(total)
    }

    /// Finds the buyers of a group whom the Agreement API is asked about, and by what.
    async fn questions(
        &self,
        group: &Group,
    ) -> Result<BTreeMap<BuyerRef, AgreementSearch>, StoreError> {
        let code = group.product_code.clone();
        if !self.may_search() {
            return Ok(BTreeMap::new());
        }
        let Some(entity) = self.store.entity_of(code.clone()).await? else {
            return Ok(BTreeMap::new());
        };
        let of_buyer = |account| AgreementSearch::OfBuyer(entity.clone(), account);
        let buyers: Vec<BuyerRef> = group.buyers.iter().map(|it| it.key.buyer.clone()).collect();
        let doubted = self.store.accounts_in_doubt(code.clone(), buyers, self.clock.now()).await?;
        let mut asked: BTreeMap<BuyerRef, AgreementSearch> =
            doubted.into_iter().map(|(buyer, account)| (buyer, of_buyer(account))).collect();
        for buyer in self.store.buyers_to_search(code, group.buyers.clone()).await? {
            let search = match &buyer {
                BuyerRef::Account(account) => of_buyer(account.clone()),
                BuyerRef::License(arn) => AgreementSearch::OfLicense(arn.clone()),
                BuyerRef::CustomerIdentifier(_) => continue,
            };
            asked.insert(buyer, search);
        }
        Ok(asked)
    }

    async fn ask_one_by_one(&self, group: Group) -> Result<Reconciled, StoreError> {
        let mut total = Reconciled::default();
        for buyer in group.buyers {
            let observed_at = self.clock.now();
            let outcome = match self.ask(&group.product_code, std::slice::from_ref(&buyer)).await {
                Ok(entries) => {
                    let entries = entries.unwrap_or_default();
                    self.apply(group.product_code.clone(), observed_at, entries).await?
                }
                Err(SweepError::Store(error)) => return Err(error),
                Err(SweepError::Aws(error)) => self.postpone(vec![buyer], &error).await?,
            };
            total.add(outcome);
        }
        Ok(total)
    }

    /// Returns AWS's rows, each with the buyer it belongs to; `None` if a row belongs to nobody who was asked for.
    async fn ask(
        &self,
        product_code: &ProductCode,
        buyers: &[DueBuyer],
    ) -> Result<Option<Vec<ObservedBuyer>>, SweepError> {
        let grants = self.list(product_code, filter_of(buyers)).await?;
        let mut entries: Vec<ObservedBuyer> =
            buyers.iter().map(|buyer| entry(buyer, Some(Vec::new()))).collect();
        for mut grant in grants {
            let place = match entries.as_slice() {
                [_] => Some(0),
                several => several.iter().position(|entry| names(&grant, &entry.buyer)),
            };
            let Some(entry) = place.and_then(|place| entries.get_mut(place)) else {
                return Ok(None);
            };
            complete(&mut grant, &entry.buyer);
            entry.answer.get_or_insert_default().push(grant);
        }
        self.ask_by_license(product_code, &mut entries).await?;
        Ok(Some(entries))
    }

    /// Asks by licence about legacy buyers of whom AWS lists nothing: they may be listed by licence alone by now.
    async fn ask_by_license(
        &self,
        product_code: &ProductCode,
        entries: &mut [ObservedBuyer],
    ) -> Result<(), SweepError> {
        let unlisted = entries.iter().filter(|it| it.answer.as_ref().is_some_and(Vec::is_empty));
        let unlisted = unlisted.filter_map(|it| match &it.buyer {
            BuyerRef::CustomerIdentifier(id) => Some(id.clone()),
            BuyerRef::Account(_) | BuyerRef::License(_) => None,
        });
        let unlisted: Vec<CustomerIdentifier> = unlisted.collect();
        if unlisted.is_empty() {
            return Ok(());
        }
        let licenses = self.store.licenses_by_name(product_code.clone(), unlisted).await?;
        for some in licenses.chunks(BUYERS_PER_QUESTION) {
            let grants =
                self.list(product_code, EntitlementFilter::Licenses(some.to_vec())).await?;
            for grant in grants {
                let entry = entries.iter_mut().find(|entry| names(&grant, &entry.buyer));
                if let Some(entry) = entry {
                    entry.answer.get_or_insert_default().push(grant);
                }
            }
        }
        Ok(())
    }

    /// Lists AWS's entitlements, asked as the account that sells the product: to another nobody has bought it.
    pub(super) async fn list(
        &self,
        product_code: &ProductCode,
        filter: EntitlementFilter,
    ) -> Result<Vec<Grant>, SweepError> {
        let seller = self.store.seller_of(product_code.clone()).await?;
        let clients = self.aws.clients();
        let outcome = match check_seller(&clients, seller.as_ref()).await {
            Ok(()) => get_entitlements(&clients, product_code, filter).await,
            Err(error) => Err(error),
        };
        self.report(outcome.as_ref().map(drop));
        Ok(self.store.with_legacy_names(product_code.clone(), outcome?, self.clock.now()).await?)
    }

    fn report(&self, outcome: Result<(), &AwsError>) {
        let detail = outcome.map_err(ToString::to_string);
        self.health.report(
            "entitlements",
            detail.as_ref().copied().map_err(String::as_str),
            self.clock.now(),
        );
    }

    async fn apply(
        &self,
        product_code: ProductCode,
        observed_at: Timestamp,
        entries: Vec<ObservedBuyer>,
    ) -> Result<Reconciled, StoreError> {
        let applied =
            self.apply_observation(Observation { product_code, observed_at, entries }).await?;
        let count = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        metrics::counter!("marketd_reconciled_buyers_total").increment(count(applied.buyers));
        metrics::counter!("marketd_subscription_changes_total").increment(count(applied.changes));
        let failed = applied.refused.len();
        Ok(Reconciled { buyers: applied.buyers, changes: applied.changes, failed })
    }

    /// Takes over what AWS showed. Of whom the database refuses it is put off, and holds up nobody else.
    pub(super) async fn apply_observation(
        &self,
        observation: Observation,
    ) -> Result<ObservationOutcome, StoreError> {
        let applied =
            self.store.apply_observation(observation, self.patience, self.clock.now()).await?;
        if !applied.refused.is_empty() {
            for RefusedBuyer { buyer, error } in &applied.refused {
                tracing::error!(
                    product.code = %buyer.key.product_code,
                    buyer = buyer.key.buyer.value(),
                    error,
                    "what AWS shows of a buyer cannot be taken over; it is tried again, please report it"
                );
            }
            let refused = applied.refused.iter().cloned();
            self.put_off(refused.map(|it| (it.buyer, it.error)).collect()).await?;
        }
        Ok(applied)
    }

    async fn postpone(
        &self,
        buyers: Vec<DueBuyer>,
        error: &AwsError,
    ) -> Result<Reconciled, StoreError> {
        let failed = buyers.len();
        let error = error.to_string();
        let unsettled = buyers.iter().map(|buyer| (buyer.unsettled(), error.clone()));
        self.put_off(unsettled.collect()).await?;
        Ok(Reconciled { failed, ..Reconciled::default() })
    }

    async fn put_off(&self, failed: Vec<(FailingBuyer, String)>) -> Result<(), StoreError> {
        metrics::counter!("marketd_reconcile_failures_total")
            .increment(u64::try_from(failed.len()).unwrap_or(u64::MAX));
        let wait = |attempts| retry_wait(attempts, fastrand::u32(..));
        self.store.postpone_buyers(failed, wait, self.clock.now()).await
    }
}

fn entry(buyer: &DueBuyer, answer: Option<Vec<Grant>>) -> ObservedBuyer {
    ObservedBuyer { buyer: buyer.key.buyer.clone(), settles: Some(buyer.marks), answer }
}

/// Builds the filter for a group, whose buyers are all of one kind.
fn filter_of(buyers: &[DueBuyer]) -> EntitlementFilter {
    let mut accounts = Vec::new();
    let mut identifiers = Vec::new();
    let mut licenses = Vec::new();
    for buyer in buyers {
        match &buyer.key.buyer {
            BuyerRef::Account(id) => accounts.push(id.clone()),
            BuyerRef::CustomerIdentifier(id) => identifiers.push(id.clone()),
            BuyerRef::License(arn) => licenses.push(arn.clone()),
        }
    }
    if !identifiers.is_empty() {
        EntitlementFilter::CustomerIdentifiers(identifiers)
    } else if !accounts.is_empty() {
        EntitlementFilter::AccountIds(accounts)
    } else {
        EntitlementFilter::Licenses(licenses)
    }
}

fn names(grant: &Grant, buyer: &BuyerRef) -> bool {
    match buyer {
        BuyerRef::Account(id) => grant.account_id.as_ref() == Some(id),
        BuyerRef::CustomerIdentifier(id) => grant.customer_identifier.as_ref() == Some(id),
        BuyerRef::License(arn) => grant.license_arn.as_ref() == Some(arn),
    }
}

/// Completes a row that leaves out the id it was asked by: it belongs to it all the same, as AWS selected it. But what
/// a licence names is not sold by a legacy name, though AWS may find it by one: it stays the licence's.
fn complete(grant: &mut Grant, buyer: &BuyerRef) {
    match buyer {
        BuyerRef::Account(id) => {
            grant.account_id.get_or_insert_with(|| id.clone());
        }
        BuyerRef::CustomerIdentifier(id) if grant.license_arn.is_none() => {
            grant.customer_identifier.get_or_insert_with(|| id.clone());
        }
        BuyerRef::CustomerIdentifier(_) => {}
        BuyerRef::License(arn) => {
            grant.license_arn.get_or_insert_with(|| arn.clone());
        }
    }
}
