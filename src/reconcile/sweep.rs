//! Listing whole products, which heals what no notification told.

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

use super::Reconciler;
use crate::aws::{AwsError, AwsErrorKind, EntitlementFilter, caller_account};
use crate::domain::{AccountId, BuyerRef, Grant, ProductCode};
use crate::store::{Observation, ObservedBuyer, StoreError, Waiter};
use crate::supervisor::Part;

/// Buyers taken over in one transaction: enough to share its flush, few enough not to hold up others.
const BUYERS_PER_TRANSACTION: usize = 200;

/// The outcome of a sweep over every product.
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
    /// Products whose agreements were listed whole; of the others those that changed.
    pub whole: usize,
    /// Products that could not be listed, with the reason.
    pub failed: Vec<(ProductCode, String)>,
}

/// The reason why one product could not be swept.
#[derive(Debug, thiserror::Error)]
pub(super) enum SweepError {
    #[error(transparent)]
    Aws(#[from] AwsError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The part that sweeps at the start, at every interval, and when an import asks for it.
pub struct Sweeps(pub Reconciler);

impl Part for Sweeps {
    const NAME: &'static str = "sweep";

    async fn work(&mut self, shutdown: &CancellationToken) -> Result<(), StoreError> {
        self.0.sweep_on_time(shutdown).await
    }
}

impl Reconciler {
    async fn sweep_on_time(&self, shutdown: &CancellationToken) -> Result<(), StoreError> {
        let mut alarm = self.clock.alarm();
        let mut woken = self.store.wakeups().of(Waiter::Sweep);
        while !shutdown.is_cancelled() {
            woken.arm();
            let begun = self.clock.now();
            let swept = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                swept = self.sweep() => swept?,
            };
            self.health.report("sweep", Ok(()), self.clock.now());
            if swept.products > 0 {
                tracing::info!(
                    sweep.products = swept.products,
                    sweep.buyers = swept.buyers,
                    sweep.changes = swept.changes,
                    sweep.agreements = swept.agreements,
                    sweep.whole = swept.whole,
                    sweep.failed = swept.failed.len(),
                    "swept every product"
                );
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = woken.woken() => {}
                () = alarm.rest(begun, self.sweep_interval) => {}
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
                    swept.whole += usize::from(searched.is_whole);
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

    /// Checks that the credentials are those of the account that sells what was imported: with others AWS refuses
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
        // Nobody who came after this moment may be judged by the answer.
        let observed_at = self.clock.now();
        let held = self.store.live_buyers(product_code.clone()).await?;
        let grants = self.list(product_code, EntitlementFilter::Everything).await?;
        let mut entries: Vec<ObservedBuyer> = by_buyer(held, grants)
            .into_iter()
            .map(|(buyer, grants)| ObservedBuyer { buyer, settles: None, answer: Some(grants) })
            .collect();
        while !entries.is_empty() {
            let rest = entries.split_off(entries.len().min(BUYERS_PER_TRANSACTION));
            let chunk = std::mem::replace(&mut entries, rest);
            let observation =
                Observation { product_code: product_code.clone(), observed_at, entries: chunk };
            let applied = self.apply_observation(observation).await?;
            swept.buyers += applied.buyers;
            swept.changes += applied.changes;
        }
        Ok(())
    }
}

/// Groups the rows by buyer: by those who hold something, and by whoever a row names best. Each has all that AWS would
/// list if asked for it, though a row may name another better: what is left out would be taken for ended.
fn by_buyer(held: Vec<BuyerRef>, grants: Vec<Grant>) -> BTreeMap<BuyerRef, Vec<Grant>> {
    let mut by_buyer: BTreeMap<BuyerRef, Vec<Grant>> = held
        .into_iter()
        .chain(grants.iter().filter_map(BuyerRef::of_grant))
        .map(|it| (it, Vec::new()))
        .collect();
    for grant in grants {
        for buyer in BuyerRef::all_of_grant(&grant) {
            if let Some(rows) = by_buyer.get_mut(&buyer) {
                rows.push(grant.clone());
            }
        }
    }
    by_buyer
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CustomerIdentifier, DimensionKey, GrantValue, LicenseArn};

    fn grant(identifier: Option<&str>, account: Option<&str>, arn: &str) -> Grant {
        Grant {
            product_code: ProductCode::new("code"),
            dimension: DimensionKey::new("basic"),
            customer_identifier: identifier.map(CustomerIdentifier::new),
            account_id: account.map(AccountId::new),
            license_arn: Some(LicenseArn::new(arn)),
            value: GrantValue::Integer(1),
            expires_at: None,
        }
    }

    #[test]
    fn each_buyer_has_the_rows_that_aws_would_list_for_it() {
        let legacy = BuyerRef::CustomerIdentifier(CustomerIdentifier::new("x"));
        let account = BuyerRef::Account(AccountId::new("1"));
        let license = BuyerRef::License(LicenseArn::new("l-3"));
        let grants = vec![
            grant(Some("x"), Some("1"), "l-1"),
            grant(None, Some("1"), "l-2"),
            grant(None, Some("2"), "l-3"),
            grant(Some("y"), Some("3"), "l-4"),
        ];
        let found = by_buyer(vec![license.clone()], grants);
        let rows = |buyer: &BuyerRef| -> Vec<String> {
            let arns = found[buyer].iter().filter_map(|row| row.license_arn.as_ref());
            arns.map(|arn| arn.as_str().to_owned()).collect()
        };
        assert_eq!(rows(&legacy), ["l-1"]);
        assert_eq!(rows(&account), ["l-1", "l-2"], "also what is named better by another name");
        assert_eq!(rows(&license), ["l-3"], "also what is known by more than the licence by now");
        let third = BuyerRef::Account(AccountId::new("3"));
        assert!(!found.contains_key(&third), "who is named better and holds nothing else");
    }
}
