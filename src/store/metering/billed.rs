//! The subscriptions that records are billed to, with the names that AWS has for their buyers.

use std::collections::HashMap;
use std::rc::Rc;

use crate::domain::ledger::{HolderSubscription, LicenseNames, deciding, licensed_names};
use crate::domain::{
    AccountId, ClockHour, CustomerId, Holder, LicenseArn, ProductCode, ProductId, Status,
};
use crate::store::base::columns::optional_timestamp;
use crate::store::engine::sql::{
    self, Connection, OptionalExtension, Row, Statement, named_params,
};
use crate::store::{During, StoreError};

/// The subscription that a holder's records of a product are billed to.
#[derive(Clone, Debug)]
pub(crate) struct BilledSubscription {
    pub(crate) product_code: ProductCode,
    /// The hour from which on the product is metered by licence, where it was sold otherwise before.
    pub(crate) licensed_from: Option<ClockHour>,
    pub(crate) subscription: HolderSubscription,
    /// The licence and account that name its buyer, as far as they are known.
    pub(crate) names: LicenseNames,
}

impl BilledSubscription {
    /// Reports whether the subscription pays as it goes, and has not gone on under another name.
    pub(crate) const fn is_plain_pay_as_you_go(&self) -> bool {
        self.subscription.pays_as_they_go && self.subscription.renewed_by.is_none()
    }
}

/// A product, as far as its records need it.
struct BilledProduct {
    code: ProductCode,
    licensed_from: Option<ClockHour>,
    by_holder: HashMap<Holder, Option<Rc<BilledSubscription>>>,
}

/// Reads billed subscriptions, each once.
pub(crate) struct BilledSubscriptions<'a> {
    connection: &'a Connection,
    products: HashMap<ProductId, BilledProduct>,
}

impl<'a> BilledSubscriptions<'a> {
    pub(crate) fn new(connection: &'a Connection) -> Self {
        Self { connection, products: HashMap::new() }
    }

    /// Returns the subscription that decides over a holder's records of a product; none if there is none.
    pub(crate) fn of(
        &mut self,
        id: &ProductId,
        holder: &Holder,
    ) -> Result<Option<Rc<BilledSubscription>>, StoreError> {
        if !self.products.contains_key(id) {
            let Some(product) = product_in(self.connection, id)? else { return Ok(None) };
            self.products.insert(id.clone(), product);
        }
        let Some(product) = self.products.get_mut(id) else { return Ok(None) };
        if let Some(known) = product.by_holder.get(holder) {
            return Ok(known.clone());
        }
        let found = billed_in(self.connection, id, product, holder)?.map(Rc::new);
        product.by_holder.insert(holder.clone(), found.clone());
        Ok(found)
    }
}

fn product_in(
    connection: &Connection,
    id: &ProductId,
) -> Result<Option<BilledProduct>, StoreError> {
    connection
        .prepare_cached("SELECT code, licensed_from_hour FROM products WHERE id = ?1")
        .and_then(|mut select| {
            let row = |row: &Row<'_>| {
                Ok(BilledProduct {
                    code: ProductCode::new(row.get::<_, String>(0)?),
                    licensed_from: row.get::<_, Option<i64>>(1)?.map(ClockHour::from_number),
                    by_holder: HashMap::new(),
                })
            };
            select.query_row([id.as_str()], row).optional()
        })
        .during("look up a record's product")
}

fn billed_in(
    connection: &Connection,
    id: &ProductId,
    product: &BilledProduct,
    holder: &Holder,
) -> Result<Option<BilledSubscription>, StoreError> {
    let held: Vec<(CustomerId, HolderSubscription)> = connection
        .prepare_cached(
            "SELECT customer_id, status, dimension IS NULL, starts_at_ms, ends_at_ms, ended_at_ms, renewed_by,
                 license_arn, account_id
             FROM subscriptions WHERE product_id = ?1 AND holder = ?2 ORDER BY rowid",
        )
        .and_then(|mut select| {
            select.query_map((id.as_str(), holder.to_string()), subscription_row)?.collect()
        })
        .during("find what a record is billed to")?;
    let Some((customer, subscription)) = deciding(held, |(_, held)| held) else { return Ok(None) };
    // What was told of licences is asked only where hours may be metered so.
    let told = product.licensed_from.is_some().then_some(&product.code);
    let names = names_in(connection, &customer, id, &subscription.names, told)?;
    Ok(Some(BilledSubscription {
        product_code: product.code.clone(),
        licensed_from: product.licensed_from,
        subscription,
        names,
    }))
}

fn subscription_row(row: &Row<'_>) -> sql::Result<(CustomerId, HolderSubscription)> {
    let time = |column: usize| row.get(column).map(optional_timestamp);
    let subscription = HolderSubscription {
        status: Status::parse(row.get_ref(1)?.as_str()?).unwrap_or(Status::Pending),
        pays_as_they_go: row.get(2)?,
        starts_at: time(3)?,
        ends_at: time(4)?,
        ended_at: time(5)?,
        renewed_by: row.get::<_, Option<String>>(6)?.as_deref().and_then(Holder::parse),
        names: names_row(row, 7)?,
    };
    Ok((CustomerId::new(row.get::<_, String>(0)?), subscription))
}

/// Reads a licence and its account from two columns, the first of which is given.
pub(crate) fn names_row(row: &Row<'_>, first: usize) -> sql::Result<LicenseNames> {
    Ok(LicenseNames {
        license: row.get::<_, Option<String>>(first)?.map(LicenseArn::new),
        account: row.get::<_, Option<String>>(first + 1)?.map(AccountId::new),
    })
}

/// Reads the names of a customer's subscription to a product: its own, and where they are wanting those of its licence.
/// What was told of licences is asked only with the product's code.
pub(crate) fn names_in(
    connection: &Connection,
    customer: &CustomerId,
    id: &ProductId,
    own: &LicenseNames,
    code: Option<&ProductCode>,
) -> Result<LicenseNames, StoreError> {
    if own.license.is_some() && own.account.is_some() {
        return Ok(own.clone());
    }
    let siblings = match &own.license {
        Some(_) => Vec::new(),
        None => siblings_in(connection, customer, id)?,
    };
    let told = match (&own.license, code) {
        (Some(license), Some(_)) => told_in(connection, license)?,
        (None, Some(code)) if siblings.is_empty() => {
            told_of_account_in(connection, customer, code)?
        }
        _ => Vec::new(),
    };
    Ok(licensed_names(own, &siblings, &told))
}

/// Returns the licences of the customer's live subscriptions to the product.
fn siblings_in(
    connection: &Connection,
    customer: &CustomerId,
    id: &ProductId,
) -> Result<Vec<LicenseNames>, StoreError> {
    connection
        .prepare_cached(
            "SELECT license_arn, account_id FROM subscriptions
             WHERE customer_id = ?1 AND product_id = ?2 AND license_arn IS NOT NULL AND ended_at_ms IS NULL
             ORDER BY rowid",
        )
        .and_then(|select| collect_names(select, (customer.as_str(), id.as_str())))
        .during("find a legacy buyer's licences")
}

/// Returns the names that were told of a licence.
fn told_in(connection: &Connection, license: &LicenseArn) -> Result<Vec<LicenseNames>, StoreError> {
    connection
        .prepare_cached("SELECT license_arn, account_id FROM licenses WHERE license_arn = ?1")
        .and_then(|select| collect_names(select, [license.as_str()]))
        .during("read whose licence it is")
}

/// Returns the names told of those licences of a customer's accounts that may be in force. Two are as good as many.
fn told_of_account_in(
    connection: &Connection,
    customer: &CustomerId,
    code: &ProductCode,
) -> Result<Vec<LicenseNames>, StoreError> {
    connection
        .prepare_cached(
            "SELECT f.license_arn, f.account_id FROM identities i
             JOIN licenses f ON f.account_id = i.value AND f.product_code = :code
             LEFT JOIN agreements a ON a.agreement_id = f.agreement_id
             WHERE i.customer_id = :customer AND i.kind = 'account_id' AND a.ended_status IS NULL
               AND f.change IS DISTINCT FROM 'deprovisioned'
               AND coalesce(f.observed, '') NOT IN ('DEPROVISIONED', 'FAILED')
             LIMIT 2",
        )
        .and_then(|select| {
            let values = named_params! { ":code": code.as_str(), ":customer": customer.as_str() };
            collect_names(select, values)
        })
        .during("find what was told of a legacy buyer's licences")
}

fn collect_names(
    mut select: Statement<'_>,
    values: impl sql::Params,
) -> sql::Result<Vec<LicenseNames>> {
    select.query_map(values, |row| names_row(row, 0))?.collect()
}
