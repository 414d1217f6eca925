//! The situation of a buyer when an observation is applied: its identity, its subscriptions, the state of its licences.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use crate::domain::reconciliation::{Brake, LicenseFacts, ProductTerms};
use crate::domain::{
    AccountId, AwsIds, BuyerRef, CustomerId, Grant, Holder, LicenseArn, ProductCode, ProductId,
    Subscription,
};
use crate::store::base::aliases::canonical_in;
use crate::store::customers::identities::{identities_in, owner_in};
use crate::store::customers::resolve::resolve_customer_in;
use crate::store::customers::rows::is_claimed_in;
use crate::store::facts::buyer_names::BuyerNames;
use crate::store::facts::licenses::{license_facts_in, licenses_of};
use crate::store::subscriptions::rows::subscription_row;
use crate::store::{During, StoreError};

pub(crate) struct BuyerFacts {
    pub(crate) customers: AnswerCustomers,
    pub(crate) names: BuyerNames,
    pub(crate) held: Vec<Subscription>,
    pub(crate) licenses: Vec<LicenseFacts>,
    /// True if the seller has named the buyer.
    pub(crate) claimed: bool,
}

/// The answer of AWS about one buyer.
pub(crate) struct BuyerAnswer<'a> {
    /// The rows as AWS wrote them, which say who is who.
    pub(crate) rows: &'a [Grant],
    /// The same with the legacy names that their sales are held by, and no others.
    pub(crate) grants: &'a [Grant],
}

/// Reads what is known, once everybody whom the answer shows to be one buyer has become one customer.
pub(crate) fn situation_in(
    connection: &Connection,
    product: &Product,
    buyer: &BuyerRef,
    shown: &BuyerAnswer<'_>,
    now: Timestamp,
) -> Result<BuyerFacts, StoreError> {
    let accounts = accounts_behind(connection, buyer)?;
    let BuyerAnswer { grants, .. } = shown;
    let customers =
        AnswerCustomers::resolve(connection, &product.code, buyer, &accounts, shown, now)?;
    let names = if product.terms.has_contracts() {
        // The answer is about the one name that AWS was asked by.
        BuyerNames::of(buyer)
    } else {
        BuyerNames::of_buyer(connection, buyer, accounts)?
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
    let claimed = is_claimed_in(connection, &customers.asked)?;
    Ok(BuyerFacts { customers, names, held, licenses, claimed })
}

/// The customers behind an answer: one for each buyer that the rows name, and one for the buyer asked for.
pub(crate) struct AnswerCustomers {
    asked: CustomerId,
    by_holder: BTreeMap<Holder, CustomerId>,
}

impl AnswerCustomers {
    /// Returns the customer of a holder.
    pub(crate) fn of(&self, holder: Option<&Holder>) -> &CustomerId {
        holder.and_then(|holder| self.by_holder.get(holder)).unwrap_or(&self.asked)
    }

    fn resolve(
        connection: &Connection,
        product_code: &ProductCode,
        buyer: &BuyerRef,
        accounts: &[AccountId],
        shown: &BuyerAnswer<'_>,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let mut found = BTreeMap::new();
        // AWS selected the rows by the name that it was asked by, also where it does not write it.
        let asked_by = AwsIds::from(buyer).customer_identifier;
        for (row, grant) in shown.rows.iter().zip(shown.grants) {
            let Some(holder) = Holder::of_grant(grant).filter(|it| !found.contains_key(it)) else {
                continue;
            };
            let ids = AwsIds {
                account_id: row.account_id.clone(),
                customer_identifier: row.customer_identifier.clone().or_else(|| asked_by.clone()),
                license_arn: row.license_arn.clone(),
            };
            if let Some(customer) = resolve_customer_in(connection, &ids, now)? {
                found.insert(holder, customer);
            }
        }
        for account in accounts {
            join_by_license_in(connection, product_code, account, now)?;
        }
        let mut ids = AwsIds::from(buyer);
        // What was told of the licence's account names the buyer better than the licence does.
        if matches!(buyer, BuyerRef::License(_)) {
            ids.account_id = accounts.first().cloned();
        }
        let asked = resolve_customer_in(connection, &ids, now)?
            .ok_or(StoreError::Corrupt { what: "a buyer", detail: "it has no id".into() })?;
        // A row may have joined somebody whom an earlier one named: only now it is known who everybody is.
        for customer in found.values_mut().filter(|customer| **customer != asked) {
            if let Some(canonical) = canonical_in(connection, customer)? {
                *customer = canonical;
            }
        }
        Ok(Self { asked, by_holder: found })
    }
}

/// Whoever is known by a licence alone is the buyer whose account the licence was told to be.
fn join_by_license_in(
    connection: &Connection,
    product_code: &ProductCode,
    account: &AccountId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let apart: Vec<String> = connection
        .prepare_cached(
            "SELECT l.license_arn FROM licenses l
             JOIN identities i ON i.kind = 'license_arn' AND i.value = l.license_arn
             WHERE l.account_id = ?1 AND l.product_code = ?2 AND i.customer_id IS NOT
                 (SELECT a.customer_id FROM identities a WHERE a.kind = 'account_id' AND a.value = ?1)",
        )
        .and_then(|mut select| {
            let key = (account.as_str(), product_code.as_str());
            select.query_map(key, |row| row.get(0))?.collect()
        })
        .during("find who is known by a licence alone")?;
    for arn in apart {
        let ids = AwsIds {
            account_id: Some(account.clone()),
            license_arn: Some(LicenseArn::new(arn)),
            ..AwsIds::default()
        };
        resolve_customer_in(connection, &ids, now)?;
    }
    Ok(())
}

/// The accounts that were told to be this buyer's.
fn accounts_behind(
    connection: &Connection,
    buyer: &BuyerRef,
) -> Result<Vec<AccountId>, StoreError> {
    match buyer {
        BuyerRef::Account(account) => Ok(vec![account.clone()]),
        BuyerRef::License(arn) => Ok(license_account_in(connection, arn)?.into_iter().collect()),
        BuyerRef::CustomerIdentifier(_) => {
            let Some(customer) = owner_in(connection, buyer)? else { return Ok(Vec::new()) };
            let names = identities_in(connection, &customer)?.into_iter();
            let accounts = names.filter(|(kind, _)| kind == "account_id");
            Ok(accounts.map(|(_, value)| AccountId::new(value)).collect())
        }
    }
}

fn license_account_in(
    connection: &Connection,
    arn: &LicenseArn,
) -> Result<Option<AccountId>, StoreError> {
    connection
        .prepare_cached("SELECT account_id FROM licenses WHERE license_arn = ?1")
        .and_then(|mut select| {
            select.query_row([arn.as_str()], |row| row.get::<_, Option<String>>(0)).optional()
        })
        .map(|found| found.flatten().map(AccountId::new))
        .during("read a licence's account")
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
    pub(crate) brake: Cell<Brake>,
}
