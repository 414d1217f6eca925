//! Facts of a licence from `ResolveCustomer`: its buyer, and the agreement that it stands on. It says nothing of
//! whether the licence is in force.

use jiff::Timestamp;

use super::legacy_ids::note_sign_up_in;
use super::licenses::add_license_words_in;
use crate::domain::told::ToldLicense;
use crate::domain::{AwsIds, BuyerKey, Registration};
use crate::store::StoreError;
use crate::store::buyers::due::{MarkCause, mark_buyer_in};
use crate::store::engine::sql::Connection;

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
    let words = ToldLicense::undated(
        &told.product_code,
        told.account_id.clone(),
        told.agreement_id.clone(),
    );
    let news = add_license_words_in(connection, license, words)?;
    let best = ids_of(told).references().into_iter().next();
    if let Some(buyer) = best.filter(|_| news) {
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
