//! Identities: the ids that AWS knows customers by. A customer has one account and one legacy name at most.
//!
//! A customer is one AWS account and one legacy buyer at most. What would make it two of a kind is a contradiction:
//! nothing is joined then, and a person is told.

use crate::domain::{AccountId, AwsIds, BuyerRef, CustomerId, CustomerIdentifier};
use crate::store::engine::sql::{Connection, OptionalExtension};
use crate::store::{During, StoreError};

/// Returns the ids by which AWS knows a customer: kinds and values.
pub(crate) fn identities_in(
    connection: &Connection,
    id: &CustomerId,
) -> Result<Vec<(String, String)>, StoreError> {
    connection
        .prepare_cached(
            "SELECT kind, value FROM identities WHERE customer_id = ?1 ORDER BY kind, value",
        )
        .and_then(|mut select| {
            select.query_map([id.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
        .during("read a customer's AWS ids")
}

pub(crate) fn owner_in(
    connection: &Connection,
    buyer: &BuyerRef,
) -> Result<Option<CustomerId>, StoreError> {
    connection
        .prepare_cached("SELECT customer_id FROM identities WHERE kind = ?1 AND value = ?2")
        .and_then(|mut select| {
            select
                .query_row((buyer.kind(), buyer.value()), |row| row.get::<_, String>(0))
                .optional()
        })
        .map(|found| found.map(CustomerId::new))
        .during("find the customer of an AWS id")
}

pub(crate) fn link_in(
    connection: &Connection,
    buyer: &BuyerRef,
    customer: &CustomerId,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO identities (kind, value, customer_id) VALUES (?1, ?2, ?3)
             ON CONFLICT (kind, value) DO UPDATE SET customer_id = ?3",
        )
        .and_then(|mut upsert| upsert.post((buyer.kind(), buyer.value(), customer.as_str())))
        .during("link an AWS id")?;
    Ok(())
}

/// Links an id that is nobody's yet. An upsert has SQLite make ready to undo it by itself.
pub(crate) fn link_new_in(
    connection: &Connection,
    buyer: &BuyerRef,
    customer: &CustomerId,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT INTO identities (kind, value, customer_id) VALUES (?1, ?2, ?3)")
        .and_then(|mut insert| insert.execute((buyer.kind(), buyer.value(), customer.as_str())))
        .during("link a new AWS id")?;
    Ok(())
}

/// Returns the customers that these ids lead to, each once.
pub(crate) fn owners_in(
    connection: &Connection,
    ids: &AwsIds,
) -> Result<Vec<CustomerId>, StoreError> {
    let mut owners = Vec::new();
    for reference in ids.references() {
        if let Some(owner) = owner_in(connection, &reference)?
            && !owners.contains(&owner)
        {
            owners.push(owner);
        }
    }
    Ok(owners)
}

/// Returns these ids, with what AWS's mapping file adds to them.
pub(crate) fn completed_in(connection: &Connection, ids: &AwsIds) -> Result<AwsIds, StoreError> {
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
