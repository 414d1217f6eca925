//! `ListEntities` and `DescribeEntity` of the Marketplace Catalog API.

use serde_json::{Value, json};

use super::input::{decode_token, encode_token, page_size, text};
use super::{ApiError, Market, Product, Visibility};

const PAGE_MAX: usize = 50;

fn validation(message: impl Into<String>) -> ApiError {
    ApiError { status: 422, code: "ValidationException", message: message.into() }
}

fn not_found(message: impl Into<String>) -> ApiError {
    ApiError { status: 404, code: "ResourceNotFoundException", message: message.into() }
}

/// Returns a member by its spelling in bodies or in query parameters, which differ.
fn member<'a>(input: &'a Value, upper: &str, lower: &str) -> Option<&'a str> {
    text(input, upper).or_else(|| text(input, lower))
}

fn check_catalog(input: &Value) -> Result<(), ApiError> {
    match member(input, "Catalog", "catalog") {
        Some("AWSMarketplace") => Ok(()),
        Some(other) => Err(not_found(format!("There is no catalog {other}."))),
        None => Err(validation("Catalog is required.")),
    }
}

impl Market {
    pub(super) fn list_entities(&self, input: &Value) -> Result<Value, ApiError> {
        check_catalog(input)?;
        let entity_type =
            text(input, "EntityType").ok_or_else(|| validation("EntityType is required."))?;
        if entity_type.contains('@') {
            return Err(validation("EntityType is written without its version."));
        }
        let page = match input.get("MaxResults") {
            None | Some(Value::Null) => 20,
            Some(_) => page_size(input, "MaxResults", PAGE_MAX, validation)?,
        };
        let after = match text(input, "NextToken") {
            None => String::new(),
            Some(token) => {
                decode_token(token).ok_or_else(|| validation("NextToken is invalid."))?
            }
        };
        if entity_type != "SaaSProduct" {
            return Ok(json!({"EntitySummaryList": [], "NextToken": null}));
        }
        let codes = self.entity_codes.range::<str, _>((
            std::ops::Bound::Excluded(after.as_str()),
            std::ops::Bound::Unbounded,
        ));
        let mut found = codes
            .map(|(_, code)| &self.products[code])
            .filter(|product| matches_filters(product, input));
        let shown: Vec<&Product> = found.by_ref().take(page).collect();
        let next = found.next().and(shown.last()).map(|last| encode_token(&last.entity_id));
        let list: Vec<Value> = shown.into_iter().map(|it| self.summary(it)).collect();
        Ok(json!({"EntitySummaryList": list, "NextToken": next}))
    }

    pub(super) fn describe_entity(&self, input: &Value) -> Result<Value, ApiError> {
        check_catalog(input)?;
        let id = member(input, "EntityId", "entityId")
            .ok_or_else(|| validation("EntityId is required."))?;
        // A revision may follow the id.
        let id = id.split('@').next().unwrap_or(id);
        let product = self
            .entity_codes
            .get(id)
            .and_then(|code| self.products.get(code))
            .ok_or_else(|| not_found(format!("There is no entity {id}.")))?;
        let details = details(product);
        Ok(json!({
            "EntityType": "SaaSProduct@1.0",
            "EntityIdentifier": format!("{}@1", product.entity_id),
            "EntityArn": self.entity_arn(product),
            "LastModifiedDate": product.updated_at.to_string(),
            "Details": details.to_string(),
            "DetailsDocument": details,
        }))
    }

    fn entity_arn(&self, product: &Product) -> String {
        let seller = &self.seller_account;
        let id = &product.entity_id;
        format!("arn:aws:aws-marketplace:us-east-1:{seller}:AWSMarketplace/SaaSProduct/{id}")
    }

    fn summary(&self, product: &Product) -> Value {
        json!({
            "Name": product.title,
            "EntityType": "SaaSProduct",
            "EntityId": product.entity_id,
            "EntityArn": self.entity_arn(product),
            "LastModifiedDate": product.updated_at.to_string(),
            "Visibility": product.visibility,
            "SaaSProductSummary": {
                "ProductTitle": product.title,
                "Visibility": product.visibility,
            },
        })
    }
}

/// Reports whether a product matches the value filters.
fn matches_filters(product: &Product, input: &Value) -> bool {
    let filters = input.pointer("/EntityTypeFilters/SaaSProductFilters");
    let Some(filters) = filters else { return true };
    let visibility = json!(product.visibility);
    let holds = |name: &str, value: &str| {
        let list = filters.get(name).and_then(|it| it.get("ValueList")).and_then(Value::as_array);
        list.is_none_or(|list| list.iter().any(|it| it.as_str() == Some(value)))
    };
    holds("EntityId", &product.entity_id)
        && holds("ProductTitle", &product.title)
        && holds("Visibility", visibility.as_str().unwrap_or_default())
}

/// Returns the document of a product; drafts have little more than a description.
fn details(product: &Product) -> Value {
    let mut details = json!({
        "Description": {
            "ProductTitle": product.title,
            "ProductCode": product.product_code,
            "ShortDescription": product.title,
            "LongDescription": product.title,
            "Manufacturer": null,
            "Sku": null,
            "Highlights": [],
            "AssociatedProducts": null,
            "SearchKeywords": [],
            "Visibility": product.visibility,
            "ProductState": "Active",
            "Categories": [],
        },
        "Targeting": {"PositiveTargeting": {"BuyerAccounts": []}},
    });
    if product.visibility == Visibility::Draft {
        return details;
    }
    let dimensions = product.dimensions.iter().map(|it| {
        json!({
            "Key": it.key,
            "Name": it.name,
            "Description": it.description,
            "Unit": it.unit,
            "Types": it.types,
        })
    });
    details["Dimensions"] = dimensions.collect();
    details["Versions"] = json!([{
        "Id": format!("version-{}", product.entity_id.trim_start_matches("prod-")),
        "DeliveryOptions": [{
            "Id": format!("do-{}", product.entity_id.trim_start_matches("prod-")),
            "Type": "SaaSUrlDeliveryOption",
            "FulfillmentUrl": "https://seller.example/register",
            "Visibility": product.visibility,
        }],
    }]);
    details
}
