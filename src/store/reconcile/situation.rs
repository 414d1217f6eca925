//! The situation of a buyer when an observation is applied: its names, its subscriptions, the state of its licences.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use super::identity::BuyerIdentity;
use crate::domain::reconciliation::{Brake, LicenseFacts, ProductTerms};
use crate::domain::{BuyerRef, Grant, Holder, LicenseArn, ProductCode, ProductId, Subscription};
use crate::store::customers::rows::is_claimed_in;
use crate::store::engine::locked::locked;
use crate::store::engine::sql::Connection;
use crate::store::facts::buyer_names::BuyerNames;
use crate::store::facts::licenses::{license_facts_in, licenses_of};
use crate::store::subscriptions::rows::subscription_row;
use crate::store::{During, StoreError};

pub(crate) struct BuyerFacts {
    pub(crate) names: BuyerNames,
    pub(crate) held: Vec<Subscription>,
    pub(crate) licenses: Vec<LicenseFacts>,
    /// True if the seller has named the buyer.
    pub(crate) claimed: bool,
}

/// Reads what is known of a buyer, whose identity was resolved before. Nothing is changed by it.
pub(crate) fn situation_in(
    connection: &Connection,
    product: &Product,
    buyer: &BuyerRef,
    grants: &[Grant],
    identity: &BuyerIdentity,
) -> Result<BuyerFacts, StoreError> {
    let names = if product.terms.has_contracts() {
        // The answer is about the one name that AWS was asked by.
        BuyerNames::of(buyer)
    } else {
        BuyerNames::of_buyer(connection, buyer, identity.accounts.clone())?
    };
    let mut arns = licenses_of(connection, &product.code, &names)?;
    let mut held = held_in(connection, product, &names, grants, &arns)?;
    let told = arns.len();
    arns.extend(held.iter().filter_map(|it| it.terms.license_arn.clone()));
    // Who pays as they go has what their licences say: what is held under any of these has to be seen.
    if arns.len() > told && !product.terms.has_contracts() {
        held = held_in(connection, product, &names, grants, &arns)?;
    }
    arns.extend(grants.iter().filter_map(|it| it.license_arn.clone()));
    let mut licenses = Vec::with_capacity(arns.len());
    for arn in &arns {
        licenses.extend(license_facts_in(connection, arn)?);
    }
    let claimed = is_claimed_in(connection, &identity.asked)?;
    Ok(BuyerFacts { names, held, licenses, claimed })
}

/// Reads the subscriptions of a buyer: by each of its names, by its licences, and by each holder that the rows name.
fn held_in(
    connection: &Connection,
    product: &Product,
    names: &BuyerNames,
    grants: &[Grant],
    licenses: &BTreeSet<LicenseArn>,
) -> Result<Vec<Subscription>, StoreError> {
    let mut holders: BTreeSet<Holder> = grants.iter().filter_map(Holder::of_grant).collect();
    holders.extend(names.identifiers.iter().cloned().map(Holder::Buyer));
    holders.extend(licenses.iter().cloned().map(Holder::License));
    let mut found = Vec::new();
    for holder in holders {
        let statement = "SELECT s.*, ?1 AS product_code FROM subscriptions s
             WHERE s.product_id = ?2 AND s.holder = ?3 AND s.source = 'aws'";
        found.extend(select_held(connection, product, statement, &holder.to_string())?);
    }
    for account in &names.accounts {
        let statement = "SELECT s.*, ?1 AS product_code FROM subscriptions s
             WHERE s.product_id = ?2 AND s.account_id = ?3 AND s.source = 'aws'";
        found.extend(select_held(connection, product, statement, account.as_str())?);
    }
    let listed: BTreeSet<&LicenseArn> =
        grants.iter().filter_map(|it| it.license_arn.as_ref()).chain(&names.license).collect();
    for arn in listed {
        let statement = "SELECT s.*, ?1 AS product_code FROM subscriptions s
             WHERE s.product_id = ?2 AND s.license_arn = ?3 AND s.source = 'aws'";
        found.extend(select_held(connection, product, statement, arn.as_str())?);
    }
    let held: BTreeMap<_, _> = found.into_iter().map(|it| (it.id.clone(), it)).collect();
    Ok(held.into_values().collect())
}

fn select_held(
    connection: &Connection,
    product: &Product,
    statement: &str,
    value: &str,
) -> Result<Vec<Subscription>, StoreError> {
    connection
        .prepare_cached(statement)
        .and_then(|mut select| {
            let key = (product.code.as_str(), product.id.as_str(), value);
            select.query_map(key, subscription_row)?.collect()
        })
        .during("read what a buyer holds")
}

/// An imported product, as far as looks at its buyers need it.
pub(crate) struct Product {
    pub(crate) id: ProductId,
    pub(crate) code: ProductCode,
    pub(crate) terms: ProductTerms,
    /// The brake as it is by now: what was decided of one buyer may have put it on.
    pub(crate) brake: Mutex<Brake>,
}

impl Product {
    pub(crate) fn brake(&self) -> Brake {
        *locked(&self.brake)
    }

    pub(crate) fn set_brake(&self, brake: Brake) {
        *locked(&self.brake) = brake;
    }
}
