//! Buyers whom the Agreement API is asked about by themselves, because of what is known of their licences.

use super::licenses::{license_facts_in, licenses_of_account};
use crate::domain::reconciliation::LicenseFacts;
use crate::domain::{AccountId, BuyerRef, LicenseArn, ProductCode};
use crate::store::buyers::due::DueBuyer;
use crate::store::engine::sql::Connection;
use crate::store::{During, Store, StoreError};

impl Store {
    /// Finds those of a product's due buyers about whom AWS is to be asked: of whom nobody has told how a licence
    /// stands, and of those for whom somebody waits, whoever may have come in meanwhile. What a sign-up tells is the
    /// licence alone.
    pub async fn buyers_to_search(
        &self,
        product_code: ProductCode,
        buyers: Vec<DueBuyer>,
    ) -> Result<Vec<BuyerRef>, StoreError> {
        self.read(move |connection| {
            let mut found = Vec::new();
            for buyer in buyers {
                let known = match &buyer.key.buyer {
                    BuyerRef::Account(account) => facts_of(connection, &product_code, account)?,
                    // Of one that nobody has told of it is not known that it is this product's.
                    BuyerRef::License(arn) if buyer.requested => {
                        match facts_of_license(connection, &product_code, arn)? {
                            Some(facts) => vec![facts],
                            None => continue,
                        }
                    }
                    BuyerRef::License(_) | BuyerRef::CustomerIdentifier(_) => continue,
                };
                if is_searched(&known, buyer.requested) {
                    found.push(buyer.key.buyer);
                }
            }
            Ok(found)
        })
        .await
    }
}

fn is_searched(known: &[LicenseFacts], requested: bool) -> bool {
    if requested {
        // One that is over tells nothing of the next; beside one in force, what was heard of last may be so by now.
        !known.iter().any(LicenseFacts::is_live) || known.iter().any(LicenseFacts::is_unsettled)
    } else {
        !known.iter().any(|it| it.change.is_some() || it.observed.is_some())
    }
}

fn facts_of_license(
    connection: &Connection,
    product_code: &ProductCode,
    arn: &LicenseArn,
) -> Result<Option<LicenseFacts>, StoreError> {
    let is_its = connection
        .prepare_cached("SELECT 1 FROM licenses WHERE license_arn = ?1 AND product_code = ?2")
        .and_then(|mut select| select.exists((arn.as_str(), product_code.as_str())))
        .during("look for a licence")?;
    if is_its { license_facts_in(connection, arn) } else { Ok(None) }
}

fn facts_of(
    connection: &Connection,
    product_code: &ProductCode,
    account: &AccountId,
) -> Result<Vec<LicenseFacts>, StoreError> {
    let mut known = Vec::new();
    for arn in licenses_of_account(connection, product_code, account)? {
        known.extend(license_facts_in(connection, &arn)?);
    }
    Ok(known)
}
