//! AWS's file of which legacy buyer is which account, for sellers whose product moves to licences. What it says is
//! AWS's word, so two customers that it shows to be one become one.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use serde::Serialize;
use utoipa::ToSchema;

use super::buyers::{imported_codes_in, mark_buyer_in};
use super::contradictions::contradiction_in;
use super::identities::{AwsIds, owner_in, owners_in, resolve_customer_in};
use super::{During, Store, StoreError};
use crate::domain::{AccountId, BuyerKey, CustomerIdentifier};

/// One line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingLine {
    /// Which line, for people.
    pub line: u64,
    /// The legacy name.
    pub customer_identifier: CustomerIdentifier,
    /// The account.
    pub account_id: AccountId,
}

/// What a file came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Mapped {
    /// Customers who were known by one of the two ids, and are by both now.
    pub linked: u64,
    /// Pairs of customers who turned out to be one.
    pub joined: u64,
    /// Lines that were known already.
    pub unchanged: u64,
    /// Lines about buyers who are no customers yet: kept, and taken over when one turns up.
    pub unknown: u64,
    /// Lines that contradict what is known.
    pub refused: Vec<RefusedLine>,
}

/// A line that contradicts what is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct RefusedLine {
    /// Which.
    pub line: u64,
    /// Why, and what to do.
    pub detail: String,
}

/// Why a file changed nothing.
#[derive(Debug, thiserror::Error)]
enum MappingError {
    /// Nothing is wrong: it was undone, as was asked.
    #[error("this was a dry run")]
    DryRun(Mapped),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Takes over a mapping; a dry run does the same and undoes it.
    pub async fn import_mapping(
        &self,
        lines: Vec<MappingLine>,
        dry_run: bool,
        now: Timestamp,
    ) -> Result<Mapped, StoreError> {
        let mapped = self
            .write(move |connection| {
                let mut mapped = Mapped::default();
                for line in &lines {
                    take_over(connection, line, &mut mapped, now)?;
                }
                if dry_run { Err(MappingError::DryRun(mapped)) } else { Ok(mapped) }
            })
            .await;
        match mapped {
            Ok(mapped) => {
                self.nudges().buyers.notify_one();
                self.nudge_events();
                Ok(mapped)
            }
            Err(MappingError::DryRun(mapped)) => Ok(mapped),
            Err(MappingError::Store(error)) => Err(error),
        }
    }
}

fn take_over(
    connection: &Connection,
    line: &MappingLine,
    mapped: &mut Mapped,
    now: Timestamp,
) -> Result<(), StoreError> {
    let ids = AwsIds {
        account_id: Some(line.account_id.clone()),
        customer_identifier: Some(line.customer_identifier.clone()),
        license_arn: None,
    };
    let references = ids.references();
    let owners = owners_in(connection, &ids)?;
    let mut known = 0;
    for reference in &references {
        known += u32::from(owner_in(connection, reference)?.is_some());
    }
    if let Some(it) = contradiction_in(connection, &owners, &ids)? {
        let MappingLine { customer_identifier, account_id, .. } = line;
        let detail = format!(
            "customer {} is {}, and the file says that {customer_identifier} is {account_id}: ask AWS which is right",
            it.customer,
            it.held.value(),
        );
        mapped.refused.push(RefusedLine { line: line.line, detail });
        return Ok(());
    }
    match (owners.len(), known) {
        (0, _) => {
            mapped.unknown += 1;
            return keep_in(connection, line);
        }
        (1, 2) => {
            mapped.unchanged += 1;
            return Ok(());
        }
        (1, _) => mapped.linked += 1,
        _ => mapped.joined += 1,
    }
    resolve_customer_in(connection, &ids, now)?;
    for product_code in imported_codes_in(connection)? {
        for buyer in &references {
            let key = BuyerKey { product_code: product_code.clone(), buyer: buyer.clone() };
            mark_buyer_in(connection, &key, now)?;
        }
    }
    Ok(())
}

/// Keeps a line for when its buyer turns up: legacy buyers of pay-as-you-go products do with their first message.
fn keep_in(connection: &Connection, line: &MappingLine) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO mappings (customer_identifier, account_id) VALUES (?1, ?2)
             ON CONFLICT DO UPDATE SET account_id = excluded.account_id",
        )
        .and_then(|mut upsert| {
            upsert.execute((line.customer_identifier.as_str(), line.account_id.as_str()))
        })
        .during("keep a line of AWS's mapping")?;
    Ok(())
}

/// These ids, with what the file adds to them.
pub(super) fn completed_in(connection: &Connection, ids: &AwsIds) -> Result<AwsIds, StoreError> {
    let mut completed = ids.clone();
    let one = |statement: &str, value: &str| {
        connection
            .prepare_cached(statement)
            .and_then(|mut select| {
                select.query_row([value], |row| row.get::<_, Option<String>>(0)).optional()
            })
            .map(Option::flatten)
            .during("look into AWS's mapping")
    };
    match (&ids.customer_identifier, &ids.account_id) {
        (Some(identifier), None) => {
            let statement = "SELECT account_id FROM mappings WHERE customer_identifier = ?1";
            completed.account_id = one(statement, identifier.as_str())?.map(AccountId::new);
        }
        (None, Some(account)) => {
            // An account that is two legacy buyers is named by neither.
            let statement = "SELECT min(customer_identifier) FROM mappings WHERE account_id = ?1
                 HAVING count(*) = 1";
            let found = one(statement, account.as_str())?;
            completed.customer_identifier = found.map(CustomerIdentifier::new);
        }
        _ => {}
    }
    Ok(completed)
}
