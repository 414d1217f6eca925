//! Legacy names of buyers: whether a product has any, which nothing tells until AWS has named one, and what becomes of
//! them when AWS ceases to.

use jiff::Timestamp;

use crate::domain::ledger::is_licensed;
use crate::domain::naming::Naming;
use crate::domain::{
    AccountId, BuyerKey, BuyerRef, ClockHour, CustomerIdentifier, Grant, LicenseArn, ProductCode,
    Registration,
};
use crate::store::buyers::due::{MarkCause, mark_buyer_in};
use crate::store::engine::sql::{self, Connection, OptionalExtension};
use crate::store::{During, Store, StoreError};

/// Reports whether AWS named a buyer of product `?1` the legacy way, in a message or at a sign-up.
macro_rules! told_by_name {
    () => {
        "(EXISTS (SELECT 1 FROM subscription_signals WHERE product_code = ?1)
             OR EXISTS (SELECT 1 FROM buyer_signals WHERE product_code = ?1)
             OR EXISTS (SELECT 1 FROM signed_up WHERE product_code = ?1 AND form = 'name'))"
    };
}

impl Store {
    /// Returns AWS's rows with the legacy names that their sales are held by, and without those that they are not.
    pub async fn with_legacy_names(
        &self,
        product_code: ProductCode,
        grants: Vec<Grant>,
        now: Timestamp,
    ) -> Result<Vec<Grant>, StoreError> {
        self.read(move |connection| {
            let licensed_from = licensed_from_in(connection, &product_code)?;
            let naming = naming_in(connection, &product_code, licensed_from, now)?;
            named_in(connection, &product_code, naming, &grants)
        })
        .await
    }

    /// Returns the licences of what these buyers hold by a legacy name: AWS may list it by licence alone by now.
    pub async fn licenses_by_name(
        &self,
        product_code: ProductCode,
        buyers: Vec<CustomerIdentifier>,
    ) -> Result<Vec<LicenseArn>, StoreError> {
        self.read(move |connection| {
            let mut licenses = Vec::new();
            for buyer in buyers {
                let found: Vec<String> = connection
                    .prepare_cached(
                        "SELECT DISTINCT s.license_arn FROM products p
                         JOIN subscriptions s ON s.product_id = p.id AND s.holder = 'buyer:' || ?2
                             AND s.ended_at_ms IS NULL AND s.license_arn IS NOT NULL
                         WHERE p.code = ?1",
                    )
                    .and_then(|mut select| {
                        let key = (product_code.as_str(), buyer.as_str());
                        select.query_map(key, |row| row.get(0))?.collect()
                    })
                    .during("find a legacy buyer's licences")?;
                licenses.extend(found.into_iter().map(LicenseArn::new));
            }
            Ok(licenses)
        })
        .await
    }
}

/// Reads the forms in which AWS has named a product's buyers.
pub(crate) fn naming_in(
    connection: &Connection,
    product_code: &ProductCode,
    licensed_from: Option<ClockHour>,
    now: Timestamp,
) -> Result<Naming, StoreError> {
    let (by_name, by_license) = connection
        .prepare_cached(concat!(
            "SELECT ",
            told_by_name!(),
            ", EXISTS (SELECT 1 FROM licenses WHERE product_code = ?1 AND change IS NOT NULL)
                 OR EXISTS (SELECT 1 FROM signed_up WHERE product_code = ?1 AND form = 'license')"
        ))
        .and_then(|mut select| {
            select.query_row([product_code.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        })
        .during("see how AWS names a product's buyers")?;
    let moved = is_licensed(ClockHour::of(now), licensed_from);
    Ok(Naming { by_name, by_license, moved })
}

fn licensed_from_in(
    connection: &Connection,
    product_code: &ProductCode,
) -> Result<Option<ClockHour>, StoreError> {
    connection
        .prepare_cached("SELECT licensed_from_hour FROM products WHERE code = ?1")
        .and_then(|mut select| {
            select.query_row([product_code.as_str()], |row| row.get::<_, Option<i64>>(0)).optional()
        })
        .map(|found| found.flatten().map(ClockHour::from_number))
        .during("read from when on a product is metered by licence")
}

/// Returns these rows, each with the legacy name that its sale is held by, if by any.
pub(crate) fn named_in(
    connection: &Connection,
    product_code: &ProductCode,
    naming: Naming,
    grants: &[Grant],
) -> Result<Vec<Grant>, StoreError> {
    let named = grants.iter().map(|grant| {
        // Nothing is held by name where it would not count.
        let held =
            if naming.is_licensed() { None } else { name_in(connection, product_code, grant)? };
        let customer_identifier = naming.legacy_name(grant, held);
        Ok(Grant { customer_identifier, ..grant.clone() })
    });
    named.collect()
}

/// Notes the form in which AWS named a buyer who signed up. Registrations are let go; how the product is sold is not.
pub(crate) fn note_sign_up_in(
    connection: &Connection,
    told: &Registration,
    now: Timestamp,
) -> Result<(), StoreError> {
    let form = match (&told.customer_identifier, &told.account_id) {
        (Some(_), _) => {
            expect_legacy_buyers_in(connection, &told.product_code, now)?;
            "name"
        }
        (None, Some(_)) => "license",
        (None, None) => return Ok(()),
    };
    connection
        .prepare_cached(
            "INSERT INTO signed_up (product_code, form) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        )
        .and_then(|mut insert| insert.post((told.product_code.as_str(), form)))
        .during("note how AWS named a buyer")?;
    Ok(())
}

fn name_in(
    connection: &Connection,
    product_code: &ProductCode,
    grant: &Grant,
) -> Result<Option<CustomerIdentifier>, StoreError> {
    let Some(license) = &grant.license_arn else { return Ok(None) };
    connection
        .prepare_cached(
            "SELECT s.customer_identifier FROM products p
             JOIN subscriptions s ON s.product_id = p.id AND s.license_arn = ?2 AND s.ended_at_ms IS NULL
                 AND s.customer_identifier IS NOT NULL AND coalesce(s.account_id = ?3, TRUE)
             WHERE p.code = ?1 LIMIT 1",
        )
        .and_then(|mut select| {
            let account = grant.account_id.as_ref().map(AccountId::as_str);
            let key = (product_code.as_str(), license.as_str(), account);
            select.query_row(key, |row| row.get(0)).optional()
        })
        .map(|found: Option<String>| found.map(CustomerIdentifier::new))
        .during("find a licence's legacy buyer")
}

/// Reports whether AWS has given any buyer of the product a legacy name.
pub(crate) fn has_legacy_buyers_in(
    connection: &Connection,
    product_code: &ProductCode,
) -> Result<bool, StoreError> {
    connection
        .prepare_cached(concat!(
            "SELECT ",
            told_by_name!(),
            " OR EXISTS (SELECT 1 FROM products p JOIN subscriptions s ON s.product_id = p.id
                     WHERE p.code = ?1 AND s.holder >= 'buyer:' AND s.holder < 'buyer;')"
        ))
        .and_then(|mut select| select.query_row([product_code.as_str()], |row| row.get(0)))
        .during("see how a product's buyers are named")
}

/// Reports whether only the Agreement API tells of a licence.
pub(crate) fn is_untold_in(connection: &Connection, arn: &LicenseArn) -> Result<bool, StoreError> {
    connection
        .prepare_cached("SELECT 1 FROM licenses WHERE license_arn = ?1 AND change IS NULL")
        .and_then(|mut select| select.exists([arn.as_str()]))
        .during("see who told of a licence")
}

/// Prepares for AWS's first legacy name for a buyer of the product: whoever was taken for a buyer by licence on the
/// Agreement API's word alone is looked at anew.
pub(crate) fn expect_legacy_buyers_in(
    connection: &Connection,
    product_code: &ProductCode,
    now: Timestamp,
) -> Result<(), StoreError> {
    if has_legacy_buyers_in(connection, product_code)? {
        return Ok(());
    }
    let taken: Vec<(Option<String>, String)> = connection
        .prepare_cached(
            "SELECT DISTINCT s.account_id, CASE WHEN s.account_id IS NULL THEN s.license_arn END
             FROM products p
             JOIN subscriptions s ON s.product_id = p.id
                 AND s.holder >= 'license:' AND s.holder < 'license;' AND s.ended_at_ms IS NULL
             JOIN licenses l ON l.license_arn = s.license_arn AND l.change IS NULL
             WHERE p.code = ?1",
        )
        .and_then(|mut select| {
            let row = |row: &sql::Row<'_>| {
                Ok((row.get(0)?, row.get::<_, Option<String>>(1)?.unwrap_or_default()))
            };
            select.query_map([product_code.as_str()], row)?.collect()
        })
        .during("find who is known by the Agreement API alone")?;
    for (account, license) in taken {
        let buyer = match account {
            Some(account) => BuyerRef::Account(AccountId::new(account)),
            None => BuyerRef::License(LicenseArn::new(license)),
        };
        let key = BuyerKey { product_code: product_code.clone(), buyer };
        mark_buyer_in(connection, &key, MarkCause::News, now)?;
    }
    Ok(())
}
