//! Reading a listing's document: what is needed is taken, the rest is kept, and nothing that is missing
//! stops it. Drafts lack most of it.

use serde_json::Value;

use crate::domain::plan::Dimension;
use crate::domain::{DimensionKey, EntityId, ProductCode};
use crate::store::Listing;

/// The listing that a document describes.
pub(super) fn read(entity_id: EntityId, document: Value) -> Listing {
    let description = &document["Description"];
    let text = |key: &str| description[key].as_str().map(str::trim).filter(|text| !text.is_empty());
    Listing {
        title: text("ProductTitle").unwrap_or(entity_id.as_str()).to_owned(),
        visibility: text("Visibility").unwrap_or("Draft").to_owned(),
        product_code: text("ProductCode").map(ProductCode::new),
        dimensions: document["Dimensions"]
            .as_array()
            .map(|rows| rows.iter().filter_map(dimension).collect())
            .unwrap_or_default(),
        entity_id,
        document,
    }
}

fn dimension(row: &Value) -> Option<Dimension> {
    // Without a key nothing can be bought or metered by it.
    let key = row["Key"].as_str()?;
    Some(Dimension {
        key: DimensionKey::new(key),
        name: row["Name"].as_str().unwrap_or(key).to_owned(),
        unit: row["Unit"].as_str().map(str::to_owned),
        types: row["Types"]
            .as_array()
            .map(|types| types.iter().filter_map(|it| it.as_str().map(str::to_owned)).collect())
            .unwrap_or_default(),
        plan_id: None,
        removed_at: None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn drafts_and_documents_from_later_years_are_read() {
        let draft = read(EntityId::new("prod-1"), json!({"Description": {"ProductTitle": null}}));
        assert_eq!((draft.title.as_str(), draft.visibility.as_str()), ("prod-1", "Draft"));
        assert!(draft.product_code.is_none() && draft.dimensions.is_empty());

        let later = json!({
            "Description": {"ProductTitle": "T", "ProductCode": "c", "Visibility": "Public", "New": 1},
            "Dimensions": [{"Key": "k", "Types": ["Entitled", "Novel"], "More": {}}, {"Name": "keyless"}],
        });
        let listing = read(EntityId::new("prod-2"), later.clone());
        assert_eq!(listing.dimensions.len(), 1);
        assert!(listing.dimensions[0].is_entitled());
        assert_eq!(listing.document, later, "what is not understood is kept");
    }
}
