//! Customers: provisioned by the seller, or known from AWS alone; and how two become one.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, named_params};
use serde_json::{Map, Value, json};

use super::buyers::{imported_codes_in, mark_buyer_in};
use super::convert::{millis, timestamp};
use super::events::append_event_in;
use super::merge::merge_customers_in;
use super::page::Page;
use super::{During, Store, StoreError};
use crate::domain::{
    AccountId, BuyerKey, BuyerRef, Customer, CustomerId, CustomerIdentifier, LicenseArn,
    fingerprint,
};

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

/// What the seller says of a customer; what is left out stays as it is.
#[derive(Clone, Debug)]
pub struct ProvisionCustomer {
    /// The seller's id.
    pub id: CustomerId,
    /// The name.
    pub name: Option<String>,
    /// The mail address.
    pub email: Option<String>,
    /// What AWS calls it.
    pub aws: AwsIds,
    /// The seller's own notes; replaced whole.
    pub metadata: Option<Map<String, Value>>,
}

/// Why a customer could not be provisioned as said.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// Another provisioned customer holds the AWS id.
    #[error("the {kind} {value} belongs to customer {holder}")]
    IdentityTaken {
        /// Which AWS id.
        kind: &'static str,
        /// Its value.
        value: String,
        /// Who holds it.
        holder: CustomerId,
    },
    /// The customer has another AWS account already.
    #[error("customer {customer} is AWS account {held}; a second account is a second customer")]
    SecondAccount {
        /// The customer.
        customer: CustomerId,
        /// The account that it has.
        held: AccountId,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Makes or changes a customer. AWS ids claim what was known of them so far, and their subscriptions
    /// are looked up at once.
    pub async fn provision_customer(
        &self,
        request: ProvisionCustomer,
        now: Timestamp,
    ) -> Result<Customer, ProvisionError> {
        let customer =
            self.write(move |connection| provision_in(connection, &request, now)).await?;
        self.nudges().buyers.notify_one();
        self.nudge_events();
        Ok(customer)
    }

    /// The customer that any of these AWS ids means, if there is one.
    pub async fn customer_of(&self, ids: AwsIds) -> Result<Option<CustomerId>, StoreError> {
        self.read(move |connection| {
            for reference in ids.references() {
                if let Some(owner) = owner_in(connection, &reference)? {
                    return Ok(Some(owner));
                }
            }
            Ok(None)
        })
        .await
    }

    /// Makes a customer with a generated id for a buyer whom the seller has not named.
    pub async fn introduce_customer(
        &self,
        ids: AwsIds,
        now: Timestamp,
    ) -> Result<CustomerId, StoreError> {
        self.write(move |connection| {
            resolve_customer_in(connection, &ids, now)?.ok_or_else(|| StoreError::Corrupt {
                what: "a buyer",
                detail: "it has no id".into(),
            })
        })
        .await
    }

    /// The customer with this id, or the one that an alias leads to.
    pub async fn customer(&self, id: CustomerId) -> Result<Option<Customer>, StoreError> {
        self.read(move |connection| {
            let Some(id) = canonical_in(connection, &id)? else {
                return Ok(None);
            };
            customer_in(connection, &id)
        })
        .await
    }

    /// Customers, in the order of their ids.
    pub async fn customers(&self, page: Page) -> Result<Vec<Customer>, StoreError> {
        self.read(move |connection| {
            let ids: Vec<String> = connection
                .prepare_cached("SELECT id FROM customers WHERE id > ?1 ORDER BY id LIMIT ?2")
                .and_then(|mut select| {
                    let after = page.after.unwrap_or_default();
                    select.query_map((after, page.limit), |row| row.get(0))?.collect()
                })
                .during("list customers")?;
            let mut customers = Vec::with_capacity(ids.len());
            for id in ids {
                customers.extend(customer_in(connection, &CustomerId::new(id))?);
            }
            Ok(customers)
        })
        .await
    }

    /// Whether no look at AWS is outstanding for a customer.
    pub async fn customer_is_settled(
        &self,
        id: CustomerId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.read(move |connection| {
            let outstanding: bool = connection
                .prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM identities i
                     JOIN buyers b ON b.kind = i.kind AND b.value = i.value
                     WHERE i.customer_id = ?1 AND b.due_at_ms <= ?2)",
                )
                .and_then(|mut select| {
                    select.query_row((id.as_str(), millis(now)), |row| row.get(0))
                })
                .during("look for outstanding looks")?;
            Ok(!outstanding)
        })
        .await
    }
}

/// The id that a customer goes by now: itself, or what an alias leads to.
pub(super) fn canonical_in(
    connection: &Connection,
    id: &CustomerId,
) -> Result<Option<CustomerId>, StoreError> {
    connection
        .prepare_cached(
            "SELECT id FROM customers WHERE id = ?1
             UNION ALL SELECT customer_id FROM customer_aliases WHERE alias = ?1 LIMIT 1",
        )
        .and_then(|mut select| {
            select.query_row([id.as_str()], |row| row.get::<_, String>(0)).optional()
        })
        .map(|found| found.map(CustomerId::new))
        .during("find a customer")
}

pub(super) fn customer_in(
    connection: &Connection,
    id: &CustomerId,
) -> Result<Option<Customer>, StoreError> {
    let found = connection
        .prepare_cached("SELECT * FROM customers WHERE id = ?1")
        .and_then(|mut select| {
            select
                .query_row([id.as_str()], |row| {
                    let metadata: String = row.get("metadata")?;
                    Ok(Customer {
                        id: id.clone(),
                        name: row.get("name")?,
                        email: row.get("email")?,
                        claimed: row.get("claimed")?,
                        aws: crate::domain::AwsIdentity::default(),
                        aliases: Vec::new(),
                        metadata: serde_json::from_str(&metadata).unwrap_or_default(),
                        created_at: timestamp(row.get("created_at_ms")?),
                        updated_at: timestamp(row.get("updated_at_ms")?),
                    })
                })
                .optional()
        })
        .during("read a customer")?;
    let Some(mut customer) = found else {
        return Ok(None);
    };
    for (kind, value) in identities_in(connection, id)? {
        match BuyerRef::from_parts(&kind, value) {
            Some(BuyerRef::Account(account)) => customer.aws.account_id = Some(account),
            Some(BuyerRef::CustomerIdentifier(it)) => customer.aws.customer_identifier = Some(it),
            Some(BuyerRef::License(arn)) => customer.aws.license_arns.push(arn),
            None => {}
        }
    }
    customer.aliases = connection
        .prepare_cached("SELECT alias FROM customer_aliases WHERE customer_id = ?1 ORDER BY alias")
        .and_then(|mut select| {
            select
                .query_map([id.as_str()], |row| row.get::<_, String>(0).map(CustomerId::new))?
                .collect()
        })
        .during("read a customer's aliases")?;
    Ok(Some(customer))
}

fn identities_in(
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

fn link_in(
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

/// The customer that these AWS ids mean; makes one nobody claimed yet where there is none, and joins those
/// that AWS shows to be one.
pub(super) fn resolve_customer_in(
    connection: &Connection,
    ids: &AwsIds,
    now: Timestamp,
) -> Result<Option<CustomerId>, StoreError> {
    let references = ids.references();
    let Some(best) = references.first() else {
        return Ok(None);
    };
    let mut owners = BTreeSet::new();
    let mut unlinked = Vec::new();
    for reference in &references {
        match owner_in(connection, reference)? {
            Some(owner) => {
                owners.insert(owner);
            }
            // Licences come and go; only those that the seller named are kept as identities.
            None if matches!(reference, BuyerRef::License(_)) && references.len() > 1 => {}
            None => unlinked.push(reference),
        }
    }
    let customer = match owners.len() {
        0 => create_unclaimed_in(connection, best, now)?,
        _ => join_in(connection, owners, now)?,
    };
    for reference in unlinked {
        link_in(connection, reference, &customer)?;
    }
    Ok(Some(customer))
}

/// The id is made from AWS's, so that it does not depend on which message came first.
fn create_unclaimed_in(
    connection: &Connection,
    buyer: &BuyerRef,
    now: Timestamp,
) -> Result<CustomerId, StoreError> {
    let name = fingerprint(&format!("{}:{}", buyer.kind(), buyer.value()), 8);
    let id = CustomerId::new(format!("aws-{name}"));
    connection
        .prepare_cached(
            "INSERT INTO customers (id, claimed, created_at_ms, updated_at_ms) VALUES (?1, 0, ?2, ?2)
             ON CONFLICT DO NOTHING",
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
    owners: BTreeSet<CustomerId>,
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

fn provision_in(
    connection: &Connection,
    request: &ProvisionCustomer,
    now: Timestamp,
) -> Result<Customer, ProvisionError> {
    let known = canonical_in(connection, &request.id)?;
    let id = known.clone().unwrap_or_else(|| request.id.clone());
    let mut claims = Vec::new();
    for reference in request.aws.references() {
        if let Some(owner) = owner_in(connection, &reference)?.filter(|owner| *owner != id) {
            let holder = customer_in(connection, &owner)?;
            if holder.is_some_and(|holder| holder.claimed) {
                return Err(ProvisionError::IdentityTaken {
                    kind: reference.kind(),
                    value: reference.value().to_owned(),
                    holder: owner,
                });
            }
            claims.push(owner);
        }
    }
    let held = match &known {
        Some(id) => customer_in(connection, id)?.and_then(|customer| customer.aws.account_id),
        None => None,
    };
    if let (Some(held), Some(given)) = (held, &request.aws.account_id)
        && held != *given
    {
        return Err(ProvisionError::SecondAccount { customer: id, held });
    }

    upsert_in(connection, &id, request, now)?;
    for owner in claims {
        merge_customers_in(connection, &owner, &id, now)?;
    }
    let codes = imported_codes_in(connection)?;
    for buyer in request.aws.references() {
        link_in(connection, &buyer, &id)?;
        for product_code in &codes {
            let key = BuyerKey { product_code: product_code.clone(), buyer: buyer.clone() };
            mark_buyer_in(connection, &key, now)?;
        }
    }
    let customer = customer_in(connection, &id)?.ok_or(StoreError::Corrupt {
        what: "a customer",
        detail: format!("{id} is gone after it was written"),
    })?;
    let event = if known.is_some() { "customer.updated" } else { "customer.created" };
    append_event_in(connection, event, Some(&id), &customer, now)?;
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
             VALUES (:id, :name, :email, ifnull(:metadata, '{}'), 1, :now, :now)
             ON CONFLICT DO UPDATE SET name = ifnull(:name, name), email = ifnull(:email, email),
                 metadata = ifnull(:metadata, metadata), claimed = 1, updated_at_ms = :now",
        )
        .and_then(|mut upsert| {
            upsert.execute(named_params! {
                ":id": id.as_str(), ":name": request.name, ":email": request.email,
                ":metadata": metadata, ":now": millis(now),
            })
        })
        .during("write a customer")?;
    Ok(())
}
