//! Taking back a claim: what was bought on AWS leaves the customer who claimed it, for one whom nobody has provisioned.

use jiff::Timestamp;

use super::identities::{identities_in, link_in};
use super::matching::match_customer_in;
use super::provision::mark_in;
use super::rows::customer_in;
use crate::domain::event::EventType;
use crate::domain::event::data::CustomerUnlinked;
use crate::domain::{AwsIds, BuyerRef, Customer, CustomerId};
use crate::store::base::aliases::canonical_in;
use crate::store::base::outbox::append_event_in;
use crate::store::engine::secrets::{Secret, secret_in};
use crate::store::engine::sql::Connection;
use crate::store::{During, Store, StoreError};

/// The two customers that an unlinked one became.
#[derive(Clone, Debug, PartialEq)]
pub struct Unlinked {
    /// The one that the seller provisioned; it has no AWS ids any more.
    pub customer: Customer,
    /// The buyer, as a customer whom nobody has provisioned; none if the customer had no AWS ids.
    pub buyer: Option<Customer>,
}

/// The reason why a customer could not be unlinked.
#[derive(Debug, thiserror::Error)]
pub enum UnlinkError {
    /// There is no such customer.
    #[error("there is no customer {0}")]
    Unknown(CustomerId),
    /// Nobody has claimed it.
    #[error(
        "customer {0} is known from AWS alone: nobody has claimed it, so there is nothing to unlink"
    )]
    Unclaimed(CustomerId),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Separates a customer from its AWS buyer. The buyer's subscriptions, and the usage and metering records that are
    /// billed to them, go to a customer whom nobody has provisioned, who can be claimed anew; name, mail, metadata,
    /// direct subscriptions and usage that is billed to nobody at AWS stay.
    pub async fn unlink_customer(
        &self,
        id: CustomerId,
        now: Timestamp,
    ) -> Result<Unlinked, UnlinkError> {
        self.write(move |connection| unlink_in(connection, &id, now)).await
    }
}

/// The columns that go with the buyer: all that is held under AWS's names. Usage events keep the id they were reported
/// with.
const MOVES: &[&str] = &[
    "UPDATE subscriptions SET customer_id = ?2 WHERE customer_id = ?1 AND source = 'aws'",
    "UPDATE metering_records SET customer_id = ?2 WHERE customer_id = ?1 AND holder <> ''",
    "UPDATE usage_hours SET customer_id = ?2 WHERE customer_id = ?1 AND holder <> ''",
    "UPDATE registrations SET customer_id = ?2 WHERE customer_id = ?1",
];

fn unlink_in(
    connection: &Connection,
    id: &CustomerId,
    now: Timestamp,
) -> Result<Unlinked, UnlinkError> {
    let unknown = || UnlinkError::Unknown(id.clone());
    let id = canonical_in(connection, id)?.ok_or_else(unknown)?;
    let before = customer_in(connection, &id)?.ok_or_else(unknown)?;
    if !before.claimed {
        return Err(UnlinkError::Unclaimed(id));
    }
    let references: Vec<BuyerRef> = identities_in(connection, &id)?
        .into_iter()
        .filter_map(|(kind, value)| BuyerRef::from_parts(&kind, value))
        .collect();
    if references.is_empty() {
        return Ok(Unlinked { customer: before, buyer: None });
    }
    free_names_in(connection, &id, &references)?;
    let Some(buyer) = make_buyer_in(connection, &references, now)? else {
        return Ok(Unlinked { customer: before, buyer: None });
    };
    for statement in MOVES {
        connection
            .prepare_cached(statement)
            .and_then(|mut update| update.post((id.as_str(), buyer.as_str())))
            .during("move what belongs to a buyer")?;
    }
    let data = CustomerUnlinked { id: &id, aws: &before.aws, unlinked: &buyer };
    append_event_in(connection, EventType::CustomerUnlinked, Some(&id), &data, now)?;
    Ok(Unlinked {
        customer: customer_in(connection, &id)?.ok_or_else(unknown)?,
        buyer: customer_in(connection, &buyer)?,
    })
}

/// Gives a buyer the id back that was generated for it, and led to whoever claimed it.
fn free_names_in(
    connection: &Connection,
    id: &CustomerId,
    references: &[BuyerRef],
) -> Result<(), StoreError> {
    let key = secret_in(connection, Secret::CustomerIds)?;
    for reference in references {
        connection
            .prepare_cached("DELETE FROM customer_aliases WHERE alias = ?1 AND customer_id = ?2")
            .and_then(|mut delete| {
                let alias = CustomerId::generate(&key, reference, 0);
                delete.execute((alias.as_str(), id.as_str()))
            })
            .during("free a buyer's id")?;
    }
    Ok(())
}

/// Makes a customer of the buyer whom all these names mean.
fn make_buyer_in(
    connection: &Connection,
    references: &[BuyerRef],
    now: Timestamp,
) -> Result<Option<CustomerId>, StoreError> {
    connection
        .prepare_cached("DELETE FROM identities WHERE kind = ?1 AND value = ?2")
        .and_then(|mut delete| {
            references.iter().try_for_each(|it| delete.execute((it.kind(), it.value())).map(drop))
        })
        .during("unlink AWS ids")?;
    let mut ids = AwsIds::default();
    for reference in references {
        match reference {
            BuyerRef::Account(account) => ids.account_id = Some(account.clone()),
            BuyerRef::CustomerIdentifier(name) => ids.customer_identifier = Some(name.clone()),
            BuyerRef::License(arn) => ids.license_arn = Some(arn.clone()),
        }
    }
    let Some(buyer) = match_customer_in(connection, &ids, now)? else { return Ok(None) };
    // Of licences the ids have room for one.
    for reference in references {
        link_in(connection, reference, &buyer)?;
    }
    mark_in(connection, &ids, now)?;
    Ok(Some(buyer))
}
