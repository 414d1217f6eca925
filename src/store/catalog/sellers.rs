//! The account that sells a product, as the catalog told.

use super::products::Listing;
use crate::domain::{AccountId, ProductCode, ProductId};
use crate::store::engine::sql::{Connection, OptionalExtension};
use crate::store::{During, Store, StoreError};

/// Notes whose listing it is, where the catalog tells.
pub(crate) fn note_owner_in(connection: &Connection, listing: &Listing) -> Result<(), StoreError> {
    let Some(owner) = &listing.owner else { return Ok(()) };
    connection
        .prepare_cached(
            "UPDATE products SET seller_account_id = ?2
             WHERE entity_id = ?1 AND seller_account_id IS DISTINCT FROM ?2",
        )
        .and_then(|mut update| update.post((listing.entity_id.as_str(), owner.as_str())))
        .during("note whose product it is")?;
    Ok(())
}

impl Store {
    /// Returns the trouble with acting as this account, if any: AWS tells another account that nobody has bought.
    pub async fn account_trouble(&self, account: AccountId) -> Result<Option<String>, StoreError> {
        let others = self.products_not_of(account.clone()).await?;
        Ok(others.first().map(|(product, owner)| {
            format!(
                "the credentials are those of AWS account {account}, but product {product} is sold by {owner}: connect a role of that account"
            )
        }))
    }

    /// Returns the account that sells an imported product, where the catalog has told.
    pub async fn seller_of(&self, code: ProductCode) -> Result<Option<AccountId>, StoreError> {
        self.read(move |connection| {
            connection
                .prepare_cached("SELECT seller_account_id FROM products WHERE code = ?1")
                .and_then(|mut select| {
                    select
                        .query_row([code.as_str()], |row| row.get::<_, Option<String>>(0))
                        .optional()
                })
                .map(|seller| seller.flatten().map(AccountId::new))
                .during("look whose product it is")
        })
        .await
    }

    /// Returns the imported products that another account sells than this one.
    async fn products_not_of(
        &self,
        account: AccountId,
    ) -> Result<Vec<(ProductId, AccountId)>, StoreError> {
        self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT id, seller_account_id FROM products
                     WHERE seller_account_id <> ?1 ORDER BY id",
                )
                .and_then(|mut select| {
                    select
                        .query_map([account.as_str()], |row| {
                            let product = ProductId::new(row.get::<_, String>(0)?);
                            Ok((product, AccountId::new(row.get::<_, String>(1)?)))
                        })?
                        .collect()
                })
                .during("look whose products these are")
        })
        .await
    }
}
