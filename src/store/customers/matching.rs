//! Matching AWS's ids to a customer: one is made where there is none, and those that AWS shows to be one are merged.

use jiff::Timestamp;

use super::conflicts::{contradiction_in, forget_contradiction_in, note_contradiction_in};
use super::identities::{completed_in, link_new_in, owner_in, owners_in};
use super::merge::merge_customers_in;
use crate::domain::event::EventType;
use crate::domain::{AwsIds, BuyerRef, Customer, CustomerId};
use crate::store::base::aliases::canonical_in;
use crate::store::base::columns::millis;
use crate::store::base::outbox::append_event_in;
use crate::store::engine::secrets::{Secret, secret_in};
use crate::store::engine::sql::Connection;
use crate::store::{During, StoreError};

/// Returns the customer that these AWS ids mean, with those that AWS's mapping file adds to them. Makes one that
/// nobody claimed yet where there is none, and joins those that AWS shows to be one.
pub(crate) fn match_customer_in(
    connection: &Connection,
    ids: &AwsIds,
    now: Timestamp,
) -> Result<Option<CustomerId>, StoreError> {
    match_in(connection, &completed_in(connection, ids)?, now)
}

fn match_in(
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
        let customer = match_in(connection, &AwsIds::from(best), now)?;
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
pub(crate) fn join_known_in(
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
        .and_then(|mut insert| insert.post((id.as_str(), millis(now))))
        .during("create a customer")?;
    let customer = Customer::unclaimed(id.clone(), now);
    append_event_in(connection, EventType::CustomerCreated, Some(&id), &customer, now)?;
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
            .prepare_cached(
                "SELECT claimed = 0 OR erased_at_ms IS NOT NULL, created_at_ms FROM customers WHERE id = ?1",
            )
            .and_then(|mut select| {
                select.query_row([owner.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
            })
            .during("compare customers")?;
        ranked.push((rank, owner));
    }
    // The seller's own id wins, unless it is erased who that was; then the older one.
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
