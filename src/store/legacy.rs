//! Whether AWS names a product's buyers the legacy way, which nothing tells until it has named one.

use jiff::Timestamp;
use rusqlite::Connection;

use super::buyers::mark_buyer_in;
use super::{During, StoreError};
use crate::domain::{AccountId, BuyerKey, BuyerRef, LicenseArn, ProductCode};

/// Whether AWS has given any buyer of the product a legacy name.
pub(super) fn has_legacy_buyers_in(
    connection: &Connection,
    product_code: &ProductCode,
) -> Result<bool, StoreError> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM subscription_signals WHERE product_code = ?1)
                 OR EXISTS (SELECT 1 FROM buyer_signals WHERE product_code = ?1)
                 OR EXISTS (SELECT 1 FROM registrations
                     WHERE product_code = ?1 AND customer_identifier IS NOT NULL)
                 OR EXISTS (SELECT 1 FROM products p JOIN subscriptions s ON s.product_id = p.id
                     WHERE p.code = ?1 AND s.holder >= 'buyer:' AND s.holder < 'buyer;')",
        )
        .and_then(|mut select| select.query_row([product_code.as_str()], |row| row.get(0)))
        .during("see how a product's buyers are named")
}

/// Before AWS's first legacy name for a buyer of the product is noted: whoever was taken for a buyer by licence on the
/// Agreement API's word alone is looked at anew.
pub(super) fn expect_legacy_buyers_in(
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
            let row = |row: &rusqlite::Row<'_>| {
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
        mark_buyer_in(connection, &key, now)?;
    }
    Ok(())
}
