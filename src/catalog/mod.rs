//! Listings in AWS's catalog and their import into products and plans.

mod document;

use jiff::Timestamp;
use serde::Serialize;

use crate::aws::{AwsClients, AwsError, describe_product, list_products};
use crate::domain::plan::Dimension;
use crate::domain::{EntityId, ProductCode, ProductId};
use crate::store::{Listing, ProductChanges, Store, StoreError};

/// A listing, and whether it was imported.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ListingView {
    /// The catalog's id.
    pub entity_id: EntityId,
    /// The title.
    pub title: String,
    /// Draft, Limited, Public or Restricted.
    pub visibility: String,
    /// The product code; drafts may lack one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product_code: Option<ProductCode>,
    /// The dimensions, mapped where they were imported.
    pub dimensions: Vec<Dimension>,
    /// Whether it was imported.
    pub imported: bool,
    /// As what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product_id: Option<ProductId>,
}

/// Why the catalog could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// AWS did not answer as it should.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The account's SaaS products, those imported marked.
pub async fn listings(
    clients: &AwsClients,
    store: &Store,
) -> Result<Vec<ListingView>, CatalogError> {
    let mut views = Vec::new();
    for summary in list_products(clients).await? {
        let listing = listing(clients, &summary.entity_id).await?;
        let product = store.product_of_entity(summary.entity_id.clone()).await?;
        let mut dimensions = listing.dimensions;
        if let Some(product) = &product {
            for dimension in &mut dimensions {
                dimension.plan_id = product
                    .dimensions
                    .iter()
                    .find(|held| held.key == dimension.key)
                    .and_then(|held| held.plan_id.clone());
            }
        }
        views.push(ListingView {
            entity_id: summary.entity_id,
            title: listing.title,
            visibility: listing.visibility,
            product_code: listing.product_code,
            dimensions,
            imported: product.is_some(),
            product_id: product.map(|product| product.id),
        });
    }
    Ok(views)
}

/// One listing as the catalog describes it now.
pub async fn listing(clients: &AwsClients, entity_id: &EntityId) -> Result<Listing, AwsError> {
    let entity = describe_product(clients, entity_id).await?;
    Ok(document::read(entity.entity_id, entity.document))
}

/// Brings an imported product in step with its listing; none if it was never imported.
pub async fn sync(
    clients: &AwsClients,
    store: &Store,
    entity_id: &EntityId,
    now: Timestamp,
) -> Result<Option<ProductChanges>, CatalogError> {
    let listing = listing(clients, entity_id).await?;
    Ok(store.sync_product(listing, now).await?)
}
