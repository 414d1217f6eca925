//! Listing whole products, which heals what no notification told.

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

use super::Reconciler;
use crate::aws::{AwsError, AwsErrorKind, EntitlementFilter, caller_account, get_entitlements};
use crate::domain::{AccountId, BuyerRef, Grant, ProductCode};
use crate::store::{Look, LookEntry, StoreError};

/// Buyers taken over in one transaction: enough to share its flush, few enough not to hold up others.
const BUYERS_PER_TRANSACTION: usize = 200;

/// What a sweep over every product came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Products listed.
    pub products: usize,
    /// Buyers compared.
    pub buyers: usize,
    /// Subscriptions created or changed.
    pub changes: usize,
    /// Agreements compared.
    pub agreements: usize,
    /// Products that could not be listed, with the reason.
    pub failed: Vec<(ProductCode, String)>,
}

/// Why one product could not be swept.
#[derive(Debug, thiserror::Error)]
pub(super) enum SweepError {
    #[error(transparent)]
    Aws(#[from] AwsError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Reconciler {
    /// Sweeps at the start, at every interval, and when an import asks for it.
    pub async fn run_sweeps(self, shutdown: CancellationToken) -> Result<(), StoreError> {
        while !shutdown.is_cancelled() {
            let nudged = self.store.nudges().sweep.notified();
            let swept = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                swept = self.sweep() => swept?,
            };
            if swept.products > 0 {
                tracing::info!(
                    sweep.products = swept.products,
                    sweep.buyers = swept.buyers,
                    sweep.changes = swept.changes,
                    sweep.agreements = swept.agreements,
                    sweep.failed = swept.failed.len(),
                    "swept every product"
                );
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = nudged => {}
                () = tokio::time::sleep(self.sweep_interval) => {}
            }
        }
        Ok(())
    }

    /// Lists every product's entitlements and agreements, and makes the database agree.
    pub async fn sweep(&self) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        self.check_account().await?;
        let products = self.store.imported_codes().await?;
        for product_code in &products {
            let outcome = self.sweep_product(product_code, &mut swept).await;
            note_failure(outcome, product_code, &mut swept)?;
        }
        // After all entitlements, since these may take long and end nobody's access by themselves.
        if !self.may_search() && !products.is_empty() {
            self.report_no_search();
        }
        for product_code in &products {
            if !self.may_search() {
                break;
            }
            let outcome = self.search_product(product_code).await;
            let outcome = match outcome {
                Ok(searched) => {
                    swept.agreements += searched.agreements;
                    self.report_agreements(Ok(()));
                    Ok(())
                }
                Err(SweepError::Aws(error)) => {
                    self.report_agreements(Err(&error));
                    // Not being allowed to is a choice of the seller's, and no failure of the sweep.
                    if error.kind == AwsErrorKind::AccessDenied {
                        tracing::warn!(%error, "agreements are not searched");
                        Ok(())
                    } else {
                        Err(SweepError::Aws(error))
                    }
                }
                Err(error) => Err(error),
            };
            note_failure(outcome, product_code, &mut swept)?;
        }
        Ok(swept)
    }

    /// Sees that the credentials are those of the account that sells what was imported: with others AWS refuses
    /// everything, or answers as if nobody had bought anything.
    async fn check_account(&self) -> Result<(), StoreError> {
        let outcome = match caller_account(&self.aws.clients()).await {
            Err(error) => Err(error.to_string()),
            Ok(account) => {
                let trouble = self.store.account_trouble(AccountId::new(account)).await?;
                trouble.map_or(Ok(()), Err)
            }
        };
        let outcome = outcome.as_ref().copied().map_err(String::as_str);
        self.health.report("credentials", outcome, self.clock.now());
        Ok(())
    }

    async fn sweep_product(
        &self,
        product_code: &ProductCode,
        swept: &mut Swept,
    ) -> Result<(), SweepError> {
        let terms = self.store.product_terms(product_code.clone()).await?;
        swept.products += 1;
        if !terms.is_some_and(|terms| terms.has_contracts()) {
            return Ok(());
        }
        self.check_seller(product_code).await?;
        // Nobody who came after this moment may be judged by the answer.
        let observed_at = self.clock.now();
        let held = self.store.live_buyers(product_code.clone()).await?;
        let outcome =
            get_entitlements(&self.aws.clients(), product_code, EntitlementFilter::Everything)
                .await;
        self.report(outcome.as_ref().map(drop));
        let mut by_buyer: BTreeMap<BuyerRef, Vec<Grant>> =
            held.into_iter().map(|buyer| (buyer, Vec::new())).collect();
        for grant in outcome? {
            if let Some(buyer) = BuyerRef::of_grant(&grant) {
                by_buyer.entry(buyer).or_default().push(grant);
            }
        }
        let mut entries: Vec<LookEntry> = by_buyer
            .into_iter()
            .map(|(buyer, grants)| LookEntry { buyer, settles: None, answer: Some(grants) })
            .collect();
        while !entries.is_empty() {
            let rest = entries.split_off(entries.len().min(BUYERS_PER_TRANSACTION));
            let chunk = std::mem::replace(&mut entries, rest);
            let look = Look { product_code: product_code.clone(), observed_at, entries: chunk };
            let applied = self.take_over(look).await?;
            swept.buyers += applied.buyers;
            swept.changes += applied.changes;
        }
        Ok(())
    }
}

fn note_failure(
    outcome: Result<(), SweepError>,
    product_code: &ProductCode,
    swept: &mut Swept,
) -> Result<(), StoreError> {
    match outcome {
        Ok(()) => Ok(()),
        Err(SweepError::Store(error)) => Err(error),
        Err(SweepError::Aws(error)) => {
            tracing::warn!(product.code = %product_code, %error, "could not sweep a product");
            swept.failed.push((product_code.clone(), error.to_string()));
            Ok(())
        }
    }
}
