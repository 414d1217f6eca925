//! Facts of a licence from `ResolveCustomer`: its buyer, and the agreement that it stands on. It says nothing of
//! whether the licence is in force.

use jiff::Timestamp;
use rusqlite::{Connection, named_params};

use super::legacy_ids::note_sign_up_in;
use crate::domain::{AccountId, AgreementId, AwsIds, BuyerKey, Registration};
use crate::store::buyers::due::{MarkCause, mark_buyer_in};
use crate::store::{During, StoreError};

/// Takes over what a sign-up told: how AWS names the product's buyers, and the licence.
pub(crate) fn note_registration_in(
    connection: &Connection,
    told: &Registration,
    now: Timestamp,
) -> Result<(), StoreError> {
    note_sign_up_in(connection, told, now)?;
    note_license_in(connection, told, now)
}

/// Takes over the licence beside what events told, which goes before it, and makes the buyer due if it is news. This is
/// how the licence of a legacy buyer who pays as they go becomes known.
fn note_license_in(
    connection: &Connection,
    told: &Registration,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Some(license) = &told.license_arn else { return Ok(()) };
    let news = connection
        .prepare_cached(
            "INSERT INTO licenses (license_arn, product_code, account_id, agreement_id)
             VALUES (:arn, :code, :account, :agreement)
             ON CONFLICT DO UPDATE SET product_code = ifnull(product_code, :code),
                 account_id = ifnull(account_id, :account), agreement_id = ifnull(agreement_id, :agreement)
             WHERE product_code IS NULL OR (account_id IS NULL AND :account IS NOT NULL)
                OR (agreement_id IS NULL AND :agreement IS NOT NULL)",
        )
        .and_then(|mut upsert| {
            upsert.execute(named_params! {
                ":arn": license.as_str(),
                ":code": told.product_code.as_str(),
                ":account": told.account_id.as_ref().map(AccountId::as_str),
                ":agreement": told.agreement_id.as_ref().map(AgreementId::as_str),
            })
        })
        .during("take over a buyer's licence")?;
    let best = ids_of(told).references().into_iter().next();
    if let Some(buyer) = best.filter(|_| news > 0) {
        let key = BuyerKey { product_code: told.product_code.clone(), buyer };
        mark_buyer_in(connection, &key, MarkCause::Request, now)?;
    }
    Ok(())
}

/// Returns the buyer's ids. A licence names what was bought, not who bought it.
pub(crate) fn ids_of(told: &Registration) -> AwsIds {
    AwsIds {
        account_id: told.account_id.clone(),
        customer_identifier: told.customer_identifier.clone(),
        license_arn: None,
    }
}
