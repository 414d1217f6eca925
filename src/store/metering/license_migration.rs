//! The move of a legacy product to licences: the hour from which on its buyers are metered by licence.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::billed::{names_in, names_row};
use super::catalogue_view::licensed_from_in;
use crate::domain::event::EventType;
use crate::domain::event::data::LicensingChanged;
use crate::domain::ledger::{IdentityGap, LicenseNames};
use crate::domain::{
    ClockHour, CustomerId, CustomerIdentifier, ProductCode, ProductId, SubscriptionId,
};
use crate::store::base::outbox::append_event_in;
use crate::store::engine::sql::{self, Connection, OptionalExtension};
use crate::store::facts::legacy_ids::{has_legacy_buyers_in, naming_in};
use crate::store::{During, Store, StoreError};

/// The reason why a product's move to licences could not be set.
#[derive(Debug, thiserror::Error)]
pub enum LicensingError {
    /// There is no such product.
    #[error("there is no product {0}")]
    UnknownProduct(ProductId),
    /// Some of its hours may have been metered by product code already.
    #[error(
        "{from} is too early: the hour that has begun is metered by product code, and an hour metered in both forms is billed twice; name {first} or later"
    )]
    TooEarly {
        /// The hour asked for.
        from: ClockHour,
        /// The first that can be.
        first: ClockHour,
    },
    /// There is nothing to move.
    #[error(
        "product {0} is sold by licence already: AWS has named its buyers by licence and none by CustomerIdentifier, so there is nothing to move"
    )]
    SoldByLicense(ProductId),
    /// The move has happened.
    #[error("product {product} is metered by licence since {since}; AWS knows no way back")]
    Done {
        /// The product.
        product: ProductId,
        /// The hour since which it is metered by licence.
        since: ClockHour,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The state of a product's move to licences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LicensingView {
    /// The hour from which on its legacy buyers are metered by licence; none while no move is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licensed_from: Option<ClockHour>,
    /// The number of legacy buyers whose licence is known, and the account that holds it.
    pub ready: i64,
    /// The number of legacy buyers of whom AWS has told no licence yet: their usage would be parked.
    pub without_license: i64,
    /// The number of legacy buyers of whose licence AWS has not told the account: their usage would be parked too.
    pub without_account: i64,
    /// The first of those who are not ready.
    pub buyers: Vec<Unlicensed>,
}

/// A legacy buyer who cannot be named by licence yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Unlicensed {
    /// The customer.
    pub customer_id: CustomerId,
    /// The subscription.
    pub subscription_id: SubscriptionId,
    /// The legacy name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_identifier: Option<CustomerIdentifier>,
    /// The missing id: `license_unknown` or `account_unknown`, as their usage would be parked.
    pub missing: String,
}

impl Store {
    /// Returns the state of a product's move to licences; none if there is no such product.
    pub async fn licensing(&self, product: ProductId) -> Result<Option<LicensingView>, StoreError> {
        self.read(move |connection| view_in(connection, &product)).await
    }

    /// Sets or takes back the hour from which a legacy product's buyers are metered by licence. An hour is metered
    /// in one form: the move lies ahead, and what lies behind is never changed.
    pub async fn set_licensed_from(
        &self,
        product: ProductId,
        from: Option<ClockHour>,
        now: Timestamp,
    ) -> Result<(), LicensingError> {
        self.write(move |connection| set_in(connection, &product, from, now)).await
    }
}

/// The most buyers that are named.
const MOST_NAMED: usize = 500;

/// A live legacy subscription, with the names that its own row has for the buyer.
struct LegacySubscription {
    customer: CustomerId,
    id: SubscriptionId,
    customer_identifier: Option<CustomerIdentifier>,
    names: LicenseNames,
}

fn legacy_subscriptions_in(
    connection: &Connection,
    product: &ProductId,
) -> Result<Vec<LegacySubscription>, StoreError> {
    connection
        .prepare_cached(
            "SELECT customer_id, id, customer_identifier, license_arn, account_id FROM subscriptions
             WHERE product_id = ?1 AND source = 'aws' AND substr(holder, 1, 8) <> 'license:'
               AND ended_at_ms IS NULL AND status <> 'failed' ORDER BY customer_id, id",
        )
        .and_then(|mut select| {
            let row = |row: &sql::Row<'_>| {
                Ok(LegacySubscription {
                    customer: CustomerId::new(row.get::<_, String>(0)?),
                    id: SubscriptionId::new(row.get::<_, String>(1)?),
                    customer_identifier: row
                        .get::<_, Option<String>>(2)?
                        .map(CustomerIdentifier::new),
                    names: names_row(row, 3)?,
                })
            };
            select.query_map([product.as_str()], row)?.collect()
        })
        .during("find a product's legacy buyers")
}

/// Looks for the names that freezing would give each legacy buyer.
fn view_in(
    connection: &Connection,
    product: &ProductId,
) -> Result<Option<LicensingView>, StoreError> {
    let Some(code) = find_code_in(connection, product)? else { return Ok(None) };
    let mut view = LicensingView {
        licensed_from: licensed_from_in(connection, product)?,
        ready: 0,
        without_license: 0,
        without_account: 0,
        buyers: Vec::new(),
    };
    for held in legacy_subscriptions_in(connection, product)? {
        let names = names_in(connection, &held.customer, product, &held.names, Some(&code))?;
        let (count, gap) = match (names.license, names.account) {
            (None, _) => (&mut view.without_license, Some(IdentityGap::License)),
            (Some(_), None) => (&mut view.without_account, Some(IdentityGap::Account)),
            (Some(_), Some(_)) => (&mut view.ready, None),
        };
        *count += 1;
        if let Some(gap) = gap.filter(|_| view.buyers.len() < MOST_NAMED) {
            view.buyers.push(Unlicensed {
                customer_id: held.customer,
                subscription_id: held.id,
                customer_identifier: held.customer_identifier,
                missing: gap.as_str().to_owned(),
            });
        }
    }
    Ok(Some(view))
}

/// Reports whether the product was sold by licence from the first.
fn is_sold_by_license_in(
    connection: &Connection,
    product: &ProductId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let Some(code) = find_code_in(connection, product)? else { return Ok(false) };
    let naming = naming_in(connection, &code, None, now)?;
    Ok(naming.is_licensed() && !has_legacy_buyers_in(connection, &code)?)
}

fn find_code_in(
    connection: &Connection,
    product: &ProductId,
) -> Result<Option<ProductCode>, StoreError> {
    connection
        .prepare_cached("SELECT code FROM products WHERE id = ?1")
        .and_then(|mut select| {
            select.query_row([product.as_str()], |row| row.get::<_, String>(0)).optional()
        })
        .map(|code| code.map(ProductCode::new))
        .during("find a product's code")
}

fn set_in(
    connection: &Connection,
    product: &ProductId,
    from: Option<ClockHour>,
    now: Timestamp,
) -> Result<(), LicensingError> {
    let first = ClockHour::of(now).next();
    let held = licensed_from_in(connection, product)?;
    if held == from && held.is_some() {
        return Ok(());
    }
    if let Some(since) = held.filter(|since| *since < first) {
        return Err(LicensingError::Done { product: product.clone(), since });
    }
    if from.is_some() && is_sold_by_license_in(connection, product, now)? {
        return Err(LicensingError::SoldByLicense(product.clone()));
    }
    if let Some(from) = from.filter(|from| *from < first) {
        return Err(LicensingError::TooEarly { from, first });
    }
    let changed = connection
        .prepare_cached("UPDATE products SET licensed_from_hour = ?2 WHERE id = ?1")
        .and_then(|mut update| update.execute((product.as_str(), from.map(ClockHour::number))))
        .during("set how a product is metered")?;
    if changed == 0 {
        return Err(LicensingError::UnknownProduct(product.clone()));
    }
    let data = LicensingChanged { product_id: product, licensed_from: from };
    append_event_in(connection, EventType::ProductLicensingChanged, None, &data, now)?;
    Ok(())
}
