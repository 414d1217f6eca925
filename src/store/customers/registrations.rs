//! Buyers whom AWS's redirect brought: who they are, what their browser posted, and whom the seller took them for.
//! The token that proved it is not kept.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::domain::event::EventType;
use crate::domain::{
    AccountId, AgreementId, BrowserClaims, CustomerId, CustomerIdentifier, LicenseArn, ProductCode,
    Registration,
};
use crate::store::base::columns::{millis, optional_timestamp, timestamp};
use crate::store::base::filter::Conditions;
use crate::store::base::outbox::append_event_in;
use crate::store::base::page::{Order, Page, Span};
use crate::store::engine::secrets::{Secret, secret_in};
use crate::store::engine::sql::{self, Connection, OptionalExtension, Row, named_params};
use crate::store::facts::registered_licenses::note_registration_in;
use crate::store::{During, Store, StoreError};

/// A buyer who came to the door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct RegistrationRow {
    /// Its id.
    pub id: String,
    /// The product that they come from.
    pub product_code: ProductCode,
    /// The buyer's account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<AccountId>,
    /// The buyer's legacy name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_identifier: Option<CustomerIdentifier>,
    /// The licence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license_arn: Option<LicenseArn>,
    /// The agreement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement_id: Option<AgreementId>,
    /// The other fields that the browser posted, as `x-amzn-marketplace-offer-type`: `free-trial`. AWS has it post
    /// that, but a buyer can have it post anything.
    pub claimed_by_browser: BrowserClaims,
    /// The time at which they came.
    pub at: Timestamp,
    /// The customer that the seller took them for; none until the reference is exchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<CustomerId>,
    /// The time at which that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exchanged_at: Option<Timestamp>,
    /// True if the seller named the customer.
    #[serde(skip)]
    pub named: bool,
}

/// For how long registrations are shown. References live for minutes.
const KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);

impl RegistrationRow {
    /// Returns its place in a list.
    pub fn key(&self) -> String {
        format!("{} {}", millis(self.at), self.id)
    }

    /// Returns the registration as AWS told it.
    pub fn told(&self) -> Registration {
        Registration {
            product_code: self.product_code.clone(),
            customer_identifier: self.customer_identifier.clone(),
            account_id: self.account_id.clone(),
            license_arn: self.license_arn.clone(),
            agreement_id: self.agreement_id.clone(),
        }
    }
}

impl Store {
    /// Returns the key that references are signed with.
    pub async fn reference_key(&self) -> Result<Vec<u8>, StoreError> {
        self.read(|connection| secret_in(connection, Secret::Reference)).await
    }

    /// Notes a buyer who came, and returns the name of the row. A buyer who comes again has the same one until it is
    /// exchanged, so that visits do not fill the disk.
    pub async fn record_registration(
        &self,
        registration: RegistrationRow,
    ) -> Result<String, StoreError> {
        self.write(move |connection| record_in(connection, registration.clone())).await
    }

    /// Returns one registration.
    pub async fn registration(&self, id: String) -> Result<Option<RegistrationRow>, StoreError> {
        self.read(move |connection| registration_in(connection, &id)).await
    }

    /// Lists registrations, by the time of their buyers' last visit.
    pub async fn registrations(
        &self,
        span: Span,
        order: Order,
        page: Page,
    ) -> Result<Vec<RegistrationRow>, StoreError> {
        self.read(move |connection| {
            let after = page.after.as_deref().and_then(|key| key.split_once(' '));
            let at: Option<i64> = after.and_then(|(at, _)| at.parse().ok());
            let id = after.map_or("", |(_, id)| id);
            let which = Conditions::of(
                &format!("(at_ms, id) {} (:at, :id)", order.follows()),
                vec![
                    (":at", at.unwrap_or(order.beginning()).into()),
                    (":id", id.to_owned().into()),
                    (":limit", page.limit.into()),
                ],
            )
            .with(":since", span.since.map(millis), "at_ms >= :since")
            .with(":until", span.until.map(millis), "at_ms < :until");
            let direction = order.direction();
            connection
                .prepare_cached(&format!(
                    "SELECT * FROM registrations WHERE {}
                     ORDER BY at_ms {direction}, id {direction} LIMIT :limit",
                    which.text()
                ))
                .and_then(|mut select| {
                    select.query_map(&*which.values(), registration_row)?.collect()
                })
                .during("list registrations")
        })
        .await
    }
}

pub(crate) fn registration_in(
    connection: &Connection,
    id: &str,
) -> Result<Option<RegistrationRow>, StoreError> {
    connection
        .prepare_cached("SELECT * FROM registrations WHERE id = ?1")
        .and_then(|mut select| select.query_row([id], registration_row).optional())
        .during("read a registration")
}

fn record_in(connection: &Connection, it: RegistrationRow) -> Result<String, StoreError> {
    note_registration_in(connection, &it.told(), it.at)?;
    let kept_since = it.at.saturating_sub(KEPT).unwrap_or(Timestamp::MIN);
    connection
        .prepare_cached("DELETE FROM registrations WHERE at_ms < ?1")
        .and_then(|mut delete| delete.execute([millis(kept_since)]))
        .during("let go of old registrations")?;
    if let Some((open, claims)) = open_in(connection, &it)? {
        renew_in(connection, &open, claims, &it)?;
        return Ok(open);
    }
    insert_in(connection, &it)?;
    append_event_in(connection, EventType::RegistrationReceived, None, &it, it.at)?;
    Ok(it.id)
}

/// Finds the buyer's registration that was not exchanged yet, and what their browser claimed then.
fn open_in(
    connection: &Connection,
    it: &RegistrationRow,
) -> Result<Option<(String, BrowserClaims)>, StoreError> {
    connection
        .prepare_cached(
            "SELECT id, claimed_by_browser FROM registrations
             WHERE exchanged_at_ms IS NULL AND product_code = :code AND account_id IS NOT DISTINCT FROM :account
               AND customer_identifier IS NOT DISTINCT FROM :identifier
               AND license_arn IS NOT DISTINCT FROM :license
             ORDER BY id DESC LIMIT 1",
        )
        .and_then(|mut select| {
            let values = named_params! {
                ":code": it.product_code.as_str(),
                ":account": it.account_id.as_ref().map(AccountId::as_str),
                ":identifier": it.customer_identifier.as_ref().map(CustomerIdentifier::as_str),
                ":license": it.license_arn.as_ref().map(LicenseArn::as_str),
            };
            let found = |row: &Row<'_>| Ok((row.get(0)?, row.get::<_, String>(1)?));
            select.query_row(values, found).optional()
        })
        .during("look for a buyer's registration")
        .map(|found| {
            found.map(|(id, claims)| (id, serde_json::from_str(&claims).unwrap_or_default()))
        })
}

/// Notes that the buyer came again. What an earlier visit claimed and this one does not is kept: that it was a trial is
/// said once.
fn renew_in(
    connection: &Connection,
    open: &str,
    claims: BrowserClaims,
    it: &RegistrationRow,
) -> Result<(), StoreError> {
    let claims = claims.and_later(it.claimed_by_browser.clone());
    connection
        .prepare_cached(
            "UPDATE registrations SET at_ms = :at, agreement_id = coalesce(:agreement, agreement_id),
                 claimed_by_browser = :claims
             WHERE id = :id",
        )
        .and_then(|mut update| {
            update.post(named_params! {
                ":id": open, ":at": millis(it.at),
                ":agreement": it.agreement_id.as_ref().map(AgreementId::as_str),
                ":claims": json!(claims).to_string(),
            })
        })
        .during("note that a buyer came again")?;
    Ok(())
}

fn insert_in(connection: &Connection, it: &RegistrationRow) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO registrations (id, product_code, account_id, customer_identifier, license_arn,
                 agreement_id, claimed_by_browser, at_ms)
             VALUES (:id, :code, :account, :identifier, :license, :agreement, :claims, :at)",
        )
        .and_then(|mut insert| {
            insert.post(named_params! {
                ":id": it.id, ":code": it.product_code.as_str(),
                ":account": it.account_id.as_ref().map(AccountId::as_str),
                ":identifier": it.customer_identifier.as_ref().map(CustomerIdentifier::as_str),
                ":license": it.license_arn.as_ref().map(LicenseArn::as_str),
                ":agreement": it.agreement_id.as_ref().map(AgreementId::as_str),
                ":claims": json!(it.claimed_by_browser).to_string(), ":at": millis(it.at),
            })
        })
        .during("note a registration")?;
    Ok(())
}

fn registration_row(row: &Row<'_>) -> sql::Result<RegistrationRow> {
    let text = |column: &str| row.get::<_, Option<String>>(column);
    let claims: String = row.get("claimed_by_browser")?;
    Ok(RegistrationRow {
        id: row.get("id")?,
        product_code: ProductCode::new(row.get::<_, String>("product_code")?),
        account_id: text("account_id")?.map(AccountId::new),
        customer_identifier: text("customer_identifier")?.map(CustomerIdentifier::new),
        license_arn: text("license_arn")?.map(LicenseArn::new),
        agreement_id: text("agreement_id")?.map(AgreementId::new),
        claimed_by_browser: serde_json::from_str(&claims).unwrap_or_default(),
        at: timestamp(row.get("at_ms")?),
        customer_id: text("customer_id")?.map(CustomerId::new),
        exchanged_at: optional_timestamp(row.get("exchanged_at_ms")?),
        named: row.get("named")?,
    })
}
