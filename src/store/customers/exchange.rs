//! Buyers of whom AWS has told who they are become customers: by their token, or by the reference that their browser
//! carries, which is exchanged once.

use jiff::Timestamp;

use super::matching::join_known_in;
use super::provision::{ProvisionCustomer, ProvisionError, introduce_in, provision_in};
use super::registrations::{RegistrationRow, registration_in};
use super::rows::customer_in;
use crate::domain::event::EventType;
use crate::domain::event::data::RegistrationExchanged;
use crate::domain::{Customer, CustomerId, Registration};
use crate::store::base::aliases::canonical_in;
use crate::store::base::columns::millis;
use crate::store::base::outbox::append_event_in;
use crate::store::engine::sql::Connection;
use crate::store::facts::registered_licenses::{ids_of, note_registration_in};
use crate::store::{During, Store, StoreError};

/// The seller's data of a buyer who registers.
#[derive(Clone, Debug, Default)]
pub struct RegistrationDetails {
    /// As which customer to take them; without one they stay unclaimed, or who they were.
    pub customer_id: Option<CustomerId>,
    /// The name.
    pub name: Option<String>,
    /// The mail address.
    pub email: Option<String>,
}

/// The reason why a reference could not be exchanged.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// There is no such registration, or no more.
    #[error("there is no registration {0}")]
    Unknown(String),
    /// It was exchanged otherwise.
    #[error("this reference was exchanged already{}", as_whom(.0.as_ref()))]
    Used(Option<CustomerId>),
    /// The customer cannot be as said.
    #[error(transparent)]
    Provision(#[from] ProvisionError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn as_whom(customer: Option<&CustomerId>) -> String {
    customer.map(|id| format!(" for customer {id}")).unwrap_or_default()
}

impl Store {
    /// Takes in a buyer whom AWS has just told of.
    pub async fn register_buyer(
        &self,
        told: Registration,
        said: RegistrationDetails,
        now: Timestamp,
    ) -> Result<Customer, ProvisionError> {
        self.write(move |connection| take_in(connection, &told, &said, now)).await
    }

    /// Takes in a buyer who came to the door, once. The same exchange again has the same answer and writes nothing.
    pub async fn exchange_registration(
        &self,
        id: String,
        said: RegistrationDetails,
        now: Timestamp,
    ) -> Result<Customer, ExchangeError> {
        self.write(move |connection| exchange(connection, &id, &said, now)).await
    }
}

fn exchange(
    connection: &Connection,
    id: &str,
    said: &RegistrationDetails,
    now: Timestamp,
) -> Result<Customer, ExchangeError> {
    let row =
        registration_in(connection, id)?.ok_or_else(|| ExchangeError::Unknown(id.to_owned()))?;
    if row.exchanged_at.is_some() {
        return repeated(connection, &row, said);
    }
    let customer = take_in(connection, &row.told(), said, now)?;
    connection
        .prepare_cached(
            "UPDATE registrations SET customer_id = ?2, exchanged_at_ms = ?3, named = ?4
             WHERE id = ?1 AND exchanged_at_ms IS NULL",
        )
        .and_then(|mut update| {
            update.post((id, customer.id.as_str(), millis(now), said.customer_id.is_some()))
        })
        .during("settle a registration")?;
    let data = RegistrationExchanged { id, customer_id: &customer.id };
    append_event_in(connection, EventType::RegistrationExchanged, Some(&customer.id), &data, now)?;
    Ok(customer)
}

/// Answers whoever asks the same again as before: the answer may have been lost.
fn repeated(
    connection: &Connection,
    row: &RegistrationRow,
    said: &RegistrationDetails,
) -> Result<Customer, ExchangeError> {
    let taken_for = match &row.customer_id {
        Some(id) => canonical_in(connection, id)?,
        None => None,
    };
    let same = match &said.customer_id {
        Some(id) => canonical_in(connection, id)?.is_some_and(|id| Some(id) == taken_for),
        None => !row.named,
    };
    match taken_for {
        Some(id) if same => {
            let gone =
                || StoreError::Corrupt { what: "a customer", detail: format!("{id} is gone") };
            Ok(customer_in(connection, &id)?.ok_or_else(gone)?)
        }
        taken_for => Err(ExchangeError::Used(taken_for)),
    }
}

/// Takes in a buyer of whom AWS has told; the seller may say as which customer.
fn take_in(
    connection: &Connection,
    told: &Registration,
    said: &RegistrationDetails,
    now: Timestamp,
) -> Result<Customer, ProvisionError> {
    note_registration_in(connection, told, now)?;
    let aws = ids_of(told);
    let (name, email) = (said.name.clone(), said.email.clone());
    match said.customer_id.clone() {
        Some(id) => {
            join_known_in(connection, &aws, now)?;
            let request = ProvisionCustomer { id, name, email, aws, metadata: None };
            provision_in(connection, &request, now)
        }
        None => Ok(introduce_in(connection, &aws, name.as_deref(), email.as_deref(), now)?),
    }
}
