//! Listings in AWS's catalog and their import into products and plans.

pub mod document;
mod schedule;

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::aws::{
    AwsClients, AwsError, AwsErrorKind, EntitySummary, describe_product, list_products,
};
use crate::domain::product::Dimension;
use crate::domain::{EntityId, ProductCode, ProductId};
use crate::store::{Listing, Page, ProductChanges, Store, StoreError, Synced};

pub use schedule::Schedule;

/// A listing, and whether it was imported.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
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
    /// The faults of its document.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// Set if it was imported.
    pub imported: bool,
    /// As what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product_id: Option<ProductId>,
}

/// The reason why the catalog could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// AWS did not answer as it should.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The listing lacks all that was imported, which is not believed without a person's word.
    #[error(
        "the listing {entity_id} shows none of its product's {dimensions} dimensions any more: nothing was taken over. If it is right, `marketd product confirm-endings PRODUCT` takes it over"
    )]
    Held {
        /// The listing.
        entity_id: EntityId,
        /// The number of dimensions that are gone.
        dimensions: usize,
    },
}

/// Lists the account's SaaS products, those imported marked, in the order of their ids. Each takes a call to AWS of its
/// own, so only those of the page are looked at.
pub async fn listings(
    clients: &AwsClients,
    store: &Store,
    page: Page,
) -> Result<Vec<ListingView>, CatalogError> {
    let mut summaries = list_products(clients).await?;
    summaries.sort_by(|one, other| one.entity_id.cmp(&other.entity_id));
    if let Some(after) = &page.after {
        summaries.retain(|summary| summary.entity_id.as_str() > after.as_str());
    }
    summaries.truncate(usize::try_from(page.limit).unwrap_or(usize::MAX));
    let mut views = Vec::new();
    for summary in summaries {
        match listing_view(clients, store, &summary.entity_id).await {
            Ok(view) => views.push(view),
            // One document that cannot be read hides none of the others.
            Err(CatalogError::Aws(error)) if error.kind == AwsErrorKind::Refused => {
                views.push(ListingView::unreadable(summary, &error));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(views)
}

/// Returns one listing, and whether it was imported.
pub async fn listing_view(
    clients: &AwsClients,
    store: &Store,
    entity_id: &EntityId,
) -> Result<ListingView, CatalogError> {
    let listing = listing(clients, entity_id).await?;
    let product = store.product_of_entity(entity_id.clone()).await?;
    let mut dimensions = listing.dimensions;
    for dimension in &mut dimensions {
        let held = product.iter().flat_map(|product| &product.dimensions);
        dimension.plan_id =
            held.filter(|held| held.key == dimension.key).find_map(|held| held.plan_id.clone());
    }
    Ok(ListingView {
        entity_id: listing.entity_id,
        title: listing.title,
        visibility: listing.visibility,
        product_code: listing.product_code,
        dimensions,
        problems: listing.problems,
        imported: product.is_some(),
        product_id: product.map(|product| product.id),
    })
}

impl ListingView {
    fn unreadable(summary: EntitySummary, error: &AwsError) -> Self {
        Self {
            title: summary.name.unwrap_or_else(|| summary.entity_id.to_string()),
            visibility: summary.visibility.unwrap_or_else(|| "Draft".into()),
            entity_id: summary.entity_id,
            product_code: None,
            dimensions: Vec::new(),
            problems: vec![error.to_string()],
            imported: false,
            product_id: None,
        }
    }
}

/// Reads one listing as the catalog describes it now.
pub async fn listing(clients: &AwsClients, entity_id: &EntityId) -> Result<Listing, AwsError> {
    let entity = describe_product(clients, entity_id).await?;
    let listing = document::read(entity.entity_id, entity.document);
    Ok(Listing { owner: entity.owner, ..listing })
}

/// Brings an imported product in step with its listing; none if it was never imported.
pub async fn sync(
    clients: &AwsClients,
    store: &Store,
    entity_id: &EntityId,
    now: Timestamp,
) -> Result<Option<ProductChanges>, CatalogError> {
    let listing = listing(clients, entity_id).await?;
    match store.sync_product(listing, now).await? {
        None => Ok(None),
        Some(Synced::Done(changes)) => Ok(Some(changes)),
        Some(Synced::Held(changes)) => Err(CatalogError::Held {
            entity_id: entity_id.clone(),
            dimensions: changes.removed.len(),
        }),
    }
}
