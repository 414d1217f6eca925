//! The catalog: the seller's SaaS products as AWS describes them.

use serde_json::Value;

use super::error::{AwsErrorKind, next_page};
use super::{AwsClients, AwsError, Place};
use crate::domain::{AccountId, EntityId};

/// AWS's largest page.
const PAGE: i32 = 50;

/// A product as the list shows it; the list has no product code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntitySummary {
    /// The catalog's id.
    pub entity_id: EntityId,
    /// The title.
    pub name: Option<String>,
    /// Draft, Limited, Public or Restricted.
    pub visibility: Option<String>,
}

/// A product's whole document.
#[derive(Clone, Debug, PartialEq)]
pub struct EntityDocument {
    /// The catalog's id, without its revision.
    pub entity_id: EntityId,
    /// The account that sells it, which its ARN names.
    pub owner: Option<AccountId>,
    /// The document as it came, unknown fields included.
    pub document: Value,
}

pub(super) const LIST_ENTITIES: &str = "ListEntities";
pub(super) const DESCRIBE_ENTITY: &str = "DescribeEntity";

/// Lists every SaaS product of the account.
pub async fn list_products(clients: &AwsClients) -> Result<Vec<EntitySummary>, AwsError> {
    let mut products = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let call = clients
            .catalog
            .list_entities()
            .catalog("AWSMarketplace")
            .entity_type("SaaSProduct")
            .max_results(PAGE)
            .set_next_token(token.clone());
        let page = clients
            .call(Place::Last(&clients.rates.entities), LIST_ENTITIES, || call.clone().send())
            .await?;
        for entity in page.entity_summary_list.unwrap_or_default() {
            let Some(entity_id) = entity.entity_id.as_deref().and_then(EntityId::from_trimmed)
            else {
                continue;
            };
            products.push(EntitySummary {
                entity_id,
                name: entity.name,
                visibility: entity.visibility,
            });
        }
        token = next_page(LIST_ENTITIES, token.as_deref(), page.next_token)?;
        if token.is_none() {
            return Ok(products);
        }
    }
}

/// Reads one product's document.
pub async fn describe_product(
    clients: &AwsClients,
    entity_id: &EntityId,
) -> Result<EntityDocument, AwsError> {
    let call =
        clients.catalog.describe_entity().catalog("AWSMarketplace").entity_id(entity_id.as_str());
    let entity = clients
        .call(Place::Last(&clients.rates.entity), DESCRIBE_ENTITY, || call.clone().send())
        .await?;
    let unreadable = |detail: String| AwsError {
        operation: DESCRIBE_ENTITY,
        kind: AwsErrorKind::Refused,
        code: None,
        message: format!("the document of {entity_id} cannot be read: {detail}"),
    };
    // `Details` is the same document as text, and every version of the API has it.
    let document = match entity.details.as_deref() {
        Some(details) => {
            serde_json::from_str(details).map_err(|error| unreadable(error.to_string()))?
        }
        None => return Err(unreadable("it has no Details".into())),
    };
    let owner = entity.entity_arn.as_deref().and_then(|arn| arn.split(':').nth(4));
    let owner = owner.and_then(AccountId::from_trimmed);
    Ok(EntityDocument { entity_id: entity_id.clone(), owner, document })
}
