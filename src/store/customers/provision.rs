//! Provisioning: the seller makes customers, and claims purchases by AWS's ids.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::conflicts::{IdentityConflict, contradiction_in};
use super::identities::{link_in, owner_in, owners_in};
use super::matching::match_customer_in;
use super::merge::merge_customers_in;
use super::rows::{customer_in, is_claimed_in};
use crate::domain::event::EventType;
use crate::domain::{
    AccountId, AwsIds, BuyerKey, BuyerRef, Customer, CustomerId, CustomerIdentifier,
};
use crate::store::base::aliases::canonical_in;
use crate::store::base::columns::millis;
use crate::store::base::outbox::append_event_in;
use crate::store::buyers::due::{MarkCause, imported_codes_in, mark_buyer_in};
use crate::store::engine::sql::{Connection, named_params};
use crate::store::{During, Store, StoreError};

/// The seller's data of a customer; a field that is left out stays as it is.
#[derive(Clone, Debug)]
pub struct ProvisionCustomer {
    /// The seller's id.
    pub id: CustomerId,
    /// The name.
    pub name: Option<String>,
    /// The mail address.
    pub email: Option<String>,
    /// The ids that AWS knows it by.
    pub aws: AwsIds,
    /// The seller's own notes; replaced whole.
    pub metadata: Option<Map<String, Value>>,
}

/// The reason why a customer could not be provisioned as said.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// Another provisioned customer holds the AWS id.
    #[error("the {kind} {value} belongs to customer {holder}")]
    IdentityTaken {
        /// The kind of AWS id.
        kind: &'static str,
        /// Its value.
        value: String,
        /// The customer that has it.
        holder: CustomerId,
    },
    /// The customer has another AWS account already.
    #[error(
        "customer {customer} is AWS account {held}, not {given}; a second account is a second customer. If {held} is a mistake, `marketd customer unlink {customer}` parts it from the customer"
    )]
    SecondAccount {
        /// The customer.
        customer: CustomerId,
        /// The account that it has.
        held: AccountId,
        /// The one that it would have besides.
        given: AccountId,
    },
    /// The customer is another legacy buyer already.
    #[error(
        "customer {customer} is legacy buyer {held}, not {given}; a second one is a second customer. If {held} is a mistake, `marketd customer unlink {customer}` parts it from the customer"
    )]
    SecondBuyer {
        /// The customer.
        customer: CustomerId,
        /// The ids that AWS knows it by.
        held: CustomerIdentifier,
        /// The name that it would have besides.
        given: CustomerIdentifier,
    },
    /// Such ids are made by marketd alone, and whoever writes by one must know whose it is.
    #[error(
        "ids that begin with `aws-` are made by marketd for buyers whom AWS has told of: choose another id for {0}, or name the buyer's AWS id with it to provision that buyer"
    )]
    Reserved(CustomerId),
    /// The id was another customer's before both turned out to be one.
    #[error(
        "{alias} is now customer {customer}: write to that id, or name the customer's AWS id with it"
    )]
    Alias {
        /// The id of then.
        alias: CustomerId,
        /// The id of now.
        customer: CustomerId,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<IdentityConflict> for ProvisionError {
    fn from(it: IdentityConflict) -> Self {
        let IdentityConflict { customer, held, given } = it;
        match (held, given) {
            (BuyerRef::CustomerIdentifier(held), BuyerRef::CustomerIdentifier(given)) => {
                Self::SecondBuyer { customer, held, given }
            }
            (held, given) => Self::SecondAccount {
                customer,
                held: AccountId::new(held.value()),
                given: AccountId::new(given.value()),
            },
        }
    }
}

impl Store {
    /// Makes or changes a customer. AWS ids claim what was known of them so far, and their subscriptions
    /// are looked up at once.
    pub async fn provision_customer(
        &self,
        request: ProvisionCustomer,
        now: Timestamp,
    ) -> Result<Customer, ProvisionError> {
        self.write(move |connection| provision_in(connection, &request, now)).await
    }
}

/// Makes or changes the customer that the seller names.
pub(crate) fn provision_in(
    connection: &Connection,
    request: &ProvisionCustomer,
    now: Timestamp,
) -> Result<Customer, ProvisionError> {
    let id = target_in(connection, request)?;
    for reference in request.aws.references() {
        if let Some(owner) = owner_in(connection, &reference)?.filter(|owner| *owner != id)
            && customer_in(connection, &owner)?
                .is_some_and(|holder| holder.claimed && holder.erased_at.is_none())
        {
            return Err(ProvisionError::IdentityTaken {
                kind: reference.kind(),
                value: reference.value().to_owned(),
                holder: owner,
            });
        }
    }
    let mut one = vec![id.clone()];
    one.extend(owners_in(connection, &request.aws)?.into_iter().filter(|owner| *owner != id));
    if let Some(contradiction) = contradiction_in(connection, &one, &request.aws)? {
        return Err(contradiction.into());
    }

    let before = customer_in(connection, &id)?;
    upsert_in(connection, &id, request, now)?;
    for owner in one.iter().skip(1) {
        merge_customers_in(connection, owner, &id, now)?;
    }
    for buyer in request.aws.references() {
        link_in(connection, &buyer, &id)?;
    }
    mark_in(connection, &request.aws, now)?;
    told_in(connection, &id, before.as_ref(), now)
}

/// Finds the customer that a request is for: the one of its id, or a new one.
///
/// An id that leads to a buyer of AWS's without anybody having chosen it for that buyer, be it generated or an alias,
/// may have become known to others. It is taken only together with an AWS id of that customer.
fn target_in(
    connection: &Connection,
    request: &ProvisionCustomer,
) -> Result<CustomerId, ProvisionError> {
    let named = &request.id;
    let Some(known) = canonical_in(connection, named)? else {
        return if named.is_reserved() {
            Err(ProvisionError::Reserved(named.clone()))
        } else {
            Ok(named.clone())
        };
    };
    let is_alias = known != *named;
    if (is_alias || (named.is_reserved() && !is_claimed_in(connection, named)?))
        && !owners_in(connection, &request.aws)?.contains(&known)
    {
        return Err(if is_alias {
            ProvisionError::Alias { alias: named.clone(), customer: known }
        } else {
            ProvisionError::Reserved(named.clone())
        });
    }
    Ok(known)
}

/// Takes in a buyer whom AWS has told of and the seller has not named: as the customer who is known by these ids,
/// else as one that nobody has claimed. What the seller has said of a customer is not overwritten by what a buyer says.
pub(crate) fn introduce_in(
    connection: &Connection,
    ids: &AwsIds,
    name: Option<&str>,
    email: Option<&str>,
    now: Timestamp,
) -> Result<Customer, StoreError> {
    let id = match_customer_in(connection, ids, now)?
        .ok_or(StoreError::Corrupt { what: "a buyer", detail: "it has no id".into() })?;
    let before = customer_in(connection, &id)?;
    connection
        .prepare_cached(
            "UPDATE customers SET
                 name = CASE WHEN claimed = 1 THEN coalesce(name, ?2) ELSE coalesce(?2, name) END,
                 email = CASE WHEN claimed = 1 THEN coalesce(email, ?3) ELSE coalesce(?3, email) END,
                 erased_at_ms = CASE WHEN ?2 IS NULL AND ?3 IS NULL THEN erased_at_ms END
             WHERE id = ?1",
        )
        .and_then(|mut update| update.post((id.as_str(), name, email)))
        .during("write a customer")?;
    mark_in(connection, ids, now)?;
    told_in(connection, &id, before.as_ref(), now)
}

/// Marks the buyers of these ids as due, for every product.
pub(crate) fn mark_in(
    connection: &Connection,
    ids: &AwsIds,
    now: Timestamp,
) -> Result<(), StoreError> {
    let codes = imported_codes_in(connection)?;
    for buyer in ids.references() {
        for product_code in &codes {
            let key = BuyerKey { product_code: product_code.clone(), buyer: buyer.clone() };
            mark_buyer_in(connection, &key, MarkCause::Request, now)?;
        }
    }
    Ok(())
}

/// Returns the customer as it stands now, and writes the event that says so; what is as it was before is not told
/// again.
fn told_in<E: From<StoreError>>(
    connection: &Connection,
    id: &CustomerId,
    before: Option<&Customer>,
    now: Timestamp,
) -> Result<Customer, E> {
    let mut customer = customer_in(connection, id)?.ok_or(StoreError::Corrupt {
        what: "a customer",
        detail: format!("{id} is gone after it was written"),
    })?;
    if before == Some(&customer) {
        return Ok(customer);
    }
    if before.is_some() {
        connection
            .prepare_cached("UPDATE customers SET updated_at_ms = ?2 WHERE id = ?1")
            .and_then(|mut update| update.execute((id.as_str(), millis(now))))
            .during("date a customer's change")?;
        customer.updated_at = now;
    }
    let event =
        if before.is_some() { EventType::CustomerUpdated } else { EventType::CustomerCreated };
    append_event_in(connection, event, Some(id), &customer, now)?;
    Ok(customer)
}

fn upsert_in(
    connection: &Connection,
    id: &CustomerId,
    request: &ProvisionCustomer,
    now: Timestamp,
) -> Result<(), StoreError> {
    let metadata = request.metadata.as_ref().map(|notes| Value::Object(notes.clone()).to_string());
    connection
        .prepare_cached(
            "INSERT INTO customers (id, name, email, metadata, claimed, created_at_ms, updated_at_ms)
             VALUES (:id, :name, :email, coalesce(:metadata, '{}'), 1, :now, :now)
             ON CONFLICT (id) DO UPDATE SET name = coalesce(:name, customers.name),
                 email = coalesce(:email, customers.email),
                 metadata = coalesce(:metadata, customers.metadata), claimed = 1, erased_at_ms = NULL",
        )
        .and_then(|mut upsert| {
            upsert.post(named_params! {
                ":id": id.as_str(), ":name": request.name, ":email": request.email,
                ":metadata": metadata, ":now": millis(now),
            })
        })
        .during("write a customer")?;
    Ok(())
}
