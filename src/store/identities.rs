//! What AWS calls customers, and how two who turn out to be one buyer become one customer.
//!
//! A customer is one AWS account and one legacy buyer at most. What would make it two of a kind is a contradiction:
//! nothing is joined then, and a person is told.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use serde_json::json;

use super::contradictions::{contradiction_in, forget_contradiction_in, note_contradiction_in};
use super::convert::millis;
use super::customers::canonical_in;
use super::events::append_event_in;
use super::mapping::completed_in;
use super::merge::merge_customers_in;
use super::secrets::{Secret, secret_in};
use super::{During, StoreError};
use crate::domain::{AccountId, BuyerRef, CustomerId, CustomerIdentifier, LicenseArn};

/// What AWS calls a buyer, as far as one answer tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsIds {
    /// The AWS account.
    pub account_id: Option<AccountId>,
    /// The legacy name.
    pub customer_identifier: Option<CustomerIdentifier>,
    /// A licence.
    pub license_arn: Option<LicenseArn>,
}

impl AwsIds {
    /// The ids as references, the ones that name a buyer best first.
    pub fn references(&self) -> Vec<BuyerRef> {
        let identifier = self.customer_identifier.clone().map(BuyerRef::CustomerIdentifier);
        let account = self.account_id.clone().map(BuyerRef::Account);
        let license = self.license_arn.clone().map(BuyerRef::License);
        [identifier, account, license].into_iter().flatten().collect()
    }
}

impl From<&BuyerRef> for AwsIds {
    fn from(buyer: &BuyerRef) -> Self {
        let mut ids = Self::default();
        match buyer {
            BuyerRef::Account(id) => ids.account_id = Some(id.clone()),
            BuyerRef::CustomerIdentifier(id) => ids.customer_identifier = Some(id.clone()),
            BuyerRef::License(arn) => ids.license_arn = Some(arn.clone()),
        }
        ids
    }
}

/// By what AWS knows a customer: kinds and values.
pub(super) fn identities_in(
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

pub(super) fn owner_in(
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

pub(super) fn link_in(
    connection: &Connection,
    buyer: &BuyerRef,
    customer: &CustomerId,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO identities (kind, value, customer_id) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET customer_id = ?3",
        )
        .and_then(|mut upsert| upsert.execute((buyer.kind(), buyer.value(), customer.as_str())))
        .during("link an AWS id")?;
    Ok(())
}

/// The same for an id that is nobody's. An upsert has SQLite make ready to undo it by itself.
fn link_new_in(
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

/// The customer that these AWS ids mean, and those that AWS's file adds to them; makes one nobody claimed yet where
/// there is none, and joins those that AWS shows to be one.
pub(super) fn resolve_customer_in(
    connection: &Connection,
    ids: &AwsIds,
    now: Timestamp,
) -> Result<Option<CustomerId>, StoreError> {
    resolve_in(connection, &completed_in(connection, ids)?, now)
}

fn resolve_in(
    connection: &Connection,
    ids: &AwsIds,
    now: Timestamp,
) -> Result<Option<CustomerId>, StoreError> {
    let references = ids.references();
    let Some(best) = references.first() else {
        return Ok(None);
    };
    let mut owners = Vec::new();
    let mut unlinked = Vec::new();
    for reference in &references {
        match owner_in(connection, reference)? {
            Some(owner) if owners.contains(&owner) => {}
            Some(owner) => owners.push(owner),
            // Licences come and go; only those that the seller named are kept as identities.
            None if matches!(reference, BuyerRef::License(_)) && references.len() > 1 => {}
            None => unlinked.push(reference),
        }
    }
    // Names that all lead to one customer contradict nothing.
    let is_known = owners.len() == 1 && unlinked.is_empty();
    if !is_known && let Some(contradiction) = contradiction_in(connection, &owners, ids)? {
        // Which of both is wrong is for a person to find out: until then the name that names best counts alone.
        let customer = resolve_in(connection, &AwsIds::from(best), now)?;
        if let Some(customer) = &customer {
            note_contradiction_in(connection, ids, customer, &contradiction, now)?;
        }
        return Ok(customer);
    }
    if references.len() > 1 {
        forget_contradiction_in(connection, ids)?;
    }
    let customer = match owners.as_slice() {
        [] => create_unclaimed_in(connection, best, now)?,
        [owner] => owner.clone(),
        _ => join_in(connection, owners, now)?,
    };
    for reference in unlinked {
        link_new_in(connection, reference, &customer)?;
    }
    Ok(Some(customer))
}

/// Makes those customers one whom AWS shows to be one buyer, where nothing contradicts it.
pub(super) fn join_known_in(
    connection: &Connection,
    ids: &AwsIds,
    now: Timestamp,
) -> Result<(), StoreError> {
    let owners = owners_in(connection, ids)?;
    if owners.len() > 1 && contradiction_in(connection, &owners, ids)?.is_none() {
        join_in(connection, owners, now)?;
    }
    Ok(())
}

/// The customers that these ids lead to, each once.
pub(super) fn owners_in(
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

/// Creates the customer of a buyer whom nobody has provisioned. An id that is somebody's already is never taken over,
/// whoever made it.
fn create_unclaimed_in(
    connection: &Connection,
    buyer: &BuyerRef,
    now: Timestamp,
) -> Result<CustomerId, StoreError> {
    let key = secret_in(connection, Secret::CustomerIds)?;
    let mut others = 0;
    let id = loop {
        let id = CustomerId::generate(&key, buyer, others);
        if canonical_in(connection, &id)?.is_none() {
            break id;
        }
        others += 1;
    };
    // FAIL, not ABORT: the writer undoes the whole write anyway, and ABORT has SQLite make ready to undo this by itself.
    connection
        .prepare_cached(
            "INSERT OR FAIL INTO customers (id, claimed, created_at_ms, updated_at_ms) VALUES (?1, 0, ?2, ?2)",
        )
        .and_then(|mut insert| insert.execute((id.as_str(), millis(now))))
        .during("create a customer")?;
    append_event_in(
        connection,
        "customer.created",
        Some(&id),
        &json!({"id": id, "claimed": false}),
        now,
    )?;
    Ok(id)
}

fn join_in(
    connection: &Connection,
    owners: Vec<CustomerId>,
    now: Timestamp,
) -> Result<CustomerId, StoreError> {
    let mut ranked = Vec::new();
    for owner in owners {
        let rank: (bool, i64) = connection
            .prepare_cached("SELECT NOT claimed, created_at_ms FROM customers WHERE id = ?1")
            .and_then(|mut select| {
                select.query_row([owner.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
            })
            .during("compare customers")?;
        ranked.push((rank, owner));
    }
    // The seller's own id wins, then the older one.
    ranked.sort();
    let mut ranked = ranked.into_iter().map(|(_, owner)| owner);
    let survivor = ranked
        .next()
        .ok_or(StoreError::Corrupt { what: "customers", detail: "none to join".into() })?;
    for other in ranked {
        merge_customers_in(connection, &other, &survivor, now)?;
    }
    Ok(survivor)
}
