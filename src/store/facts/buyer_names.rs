//! The names of one buyer, whose facts a decision rests on.

use std::collections::BTreeSet;

use crate::domain::{AccountId, BuyerRef, CustomerIdentifier, LicenseArn};
use crate::store::engine::sql::Connection;
use crate::store::{During, StoreError};

/// The names under which one buyer's facts are found.
#[derive(Debug, Default)]
pub(crate) struct BuyerNames {
    pub(crate) accounts: BTreeSet<AccountId>,
    pub(crate) identifiers: BTreeSet<CustomerIdentifier>,
    /// The licence, where the buyer was asked for by that.
    pub(crate) license: Option<LicenseArn>,
}

impl BuyerNames {
    /// Makes the names of a buyer of whom just the name is known that it was asked by.
    pub(crate) fn of(buyer: &BuyerRef) -> Self {
        let mut names = Self::default();
        match buyer {
            BuyerRef::Account(id) => names.accounts.extend([id.clone()]),
            BuyerRef::CustomerIdentifier(id) => names.identifiers.extend([id.clone()]),
            BuyerRef::License(arn) => names.license = Some(arn.clone()),
        }
        names
    }

    /// Reads every name of the buyer that AWS has told, these accounts included. A sale that pays as it goes may
    /// be told under two names; what `GetEntitlements` lists has one.
    pub(crate) fn of_buyer(
        connection: &Connection,
        buyer: &BuyerRef,
        accounts: Vec<AccountId>,
    ) -> Result<Self, StoreError> {
        let mut names = Self::of(buyer);
        names.accounts.extend(accounts);
        names.widen(connection)?;
        Ok(names)
    }

    fn widen(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let accounts = self.accounts.iter().map(|id| ("account_id", id.as_str()));
        let identifiers = self.identifiers.iter().map(|id| ("customer_identifier", id.as_str()));
        let mut names: Vec<(String, String)> = Vec::new();
        for name in accounts.chain(identifiers) {
            let others = connection
                .prepare_cached(
                    "SELECT o.kind, o.value FROM identities i JOIN identities o USING (customer_id)
                     WHERE i.kind = ?1 AND i.value = ?2 AND o.kind <> 'license_arn'",
                )
                .and_then(|mut select| {
                    select.query_map(name, |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
                })
                .during("read a buyer's other names")?;
            let others: Vec<(String, String)> = others;
            names.extend(others);
        }
        for (kind, value) in names {
            match BuyerRef::from_parts(&kind, value) {
                Some(BuyerRef::Account(id)) => self.accounts.extend([id]),
                Some(BuyerRef::CustomerIdentifier(id)) => self.identifiers.extend([id]),
                Some(BuyerRef::License(_)) | None => {}
            }
        }
        Ok(())
    }
}
