//! The identity of a buyer: customers whom an observation shows to be one are made one, before anything else is read.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::domain::{
    AccountId, AwsIds, BuyerRef, CustomerId, Grant, Holder, LicenseArn, ProductCode,
};
use crate::store::base::aliases::canonical_in;
use crate::store::customers::identities::{identities_in, owner_in};
use crate::store::customers::matching::match_customer_in;
use crate::store::engine::sql::{Connection, OptionalExtension};
use crate::store::{During, StoreError};

/// The answer of AWS about one buyer.
pub(crate) struct BuyerAnswer<'a> {
    /// The rows as AWS wrote them, which say who is who.
    pub(crate) rows: &'a [Grant],
    /// The same rows with the legacy names that their sales are held by, and no others.
    pub(crate) grants: &'a [Grant],
}

/// The customers behind an answer: one for each buyer that the rows name, and one for the buyer asked for.
pub(crate) struct BuyerIdentity {
    /// The customer of the buyer asked for.
    pub(crate) asked: CustomerId,
    /// The accounts that the buyer asked for was told to be.
    pub(crate) accounts: Vec<AccountId>,
    by_holder: BTreeMap<Holder, CustomerId>,
}

impl BuyerIdentity {
    /// Returns the customer of a holder.
    pub(crate) fn of(&self, holder: Option<&Holder>) -> &CustomerId {
        holder.and_then(|holder| self.by_holder.get(holder)).unwrap_or(&self.asked)
    }

    /// Makes one customer of everybody whom an answer shows to be one buyer, and a new one where none is known yet.
    pub(crate) fn match_in(
        connection: &Connection,
        product_code: &ProductCode,
        buyer: &BuyerRef,
        shown: &BuyerAnswer<'_>,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let accounts = accounts_behind(connection, buyer)?;
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
            if let Some(customer) = match_customer_in(connection, &ids, now)? {
                found.insert(holder, customer);
            }
        }
        for account in &accounts {
            join_by_license_in(connection, product_code, account, now)?;
        }
        let mut ids = AwsIds::from(buyer);
        // What was told of the licence's account names the buyer better than the licence does.
        if matches!(buyer, BuyerRef::License(_)) {
            ids.account_id = accounts.first().cloned();
        }
        let asked = match_customer_in(connection, &ids, now)?
            .ok_or(StoreError::Corrupt { what: "a buyer", detail: "it has no id".into() })?;
        // A row may have joined somebody whom an earlier one named: only now it is known who everybody is.
        for customer in found.values_mut().filter(|customer| **customer != asked) {
            if let Some(canonical) = canonical_in(connection, customer)? {
                *customer = canonical;
            }
        }
        Ok(Self { asked, accounts, by_holder: found })
    }
}

/// Joins each customer known by a licence alone with the buyer whose account the licence was told to be.
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
             WHERE l.account_id = ?1 AND l.product_code = ?2 AND i.customer_id IS DISTINCT FROM
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
        match_customer_in(connection, &ids, now)?;
    }
    Ok(())
}

/// Returns the accounts that were told to be this buyer's.
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
