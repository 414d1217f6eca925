//! Reading a listing's document: what is needed is taken, the rest is kept, and nothing that is missing
//! stops it. Drafts lack most of it.

use serde_json::Value;

use crate::domain::product::Dimension;
use crate::domain::{DimensionKey, EntityId, ProductCode};
use crate::store::Listing;

/// Reads the listing that a document describes.
pub fn read(entity_id: EntityId, document: Value) -> Listing {
    let description = &document["Description"];
    let mut problems = Vec::new();
    let text = |key: &str| description[key].as_str().map(str::trim).filter(|text| !text.is_empty());
    let mut or_problem = |found: Option<&str>, otherwise: &str, problem: &str| {
        if found.is_none() {
            problems.push(problem.to_owned());
        }
        found.unwrap_or(otherwise).to_owned()
    };
    let title = or_problem(text("ProductTitle"), entity_id.as_str(), "it has no title");
    let visibility = or_problem(text("Visibility"), "Draft", "it says no visibility");
    let product_code = text("ProductCode").map(ProductCode::new);
    if product_code.is_none() {
        problems.push(
            "it has no product code: AWS gives one when it leaves the draft state".to_owned(),
        );
    }
    let dimensions = dimensions(&document["Dimensions"], &mut problems);
    let owner = None;
    Listing { entity_id, product_code, owner, title, visibility, dimensions, problems, document }
}

fn dimensions(rows: &Value, problems: &mut Vec<String>) -> Vec<Dimension> {
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut found: Vec<Dimension> = Vec::new();
    let mut keyless = 0;
    for row in rows {
        let Some(mut dimension) = dimension(row) else {
            keyless += 1;
            continue;
        };
        // AWS tells dimensions apart by key and types, and everything else that it sends names the key alone.
        match found.iter_mut().find(|held| held.key == dimension.key) {
            Some(held) => {
                dimension.types.retain(|word| !held.types.contains(word));
                held.types.append(&mut dimension.types);
            }
            None => found.push(dimension),
        }
    }
    if rows.is_empty() {
        problems.push("it has no dimensions".to_owned());
    }
    if keyless > 0 {
        problems.push(format!("{keyless} of its dimensions have no key and are left out"));
    }
    for dimension in found.iter().filter(|it| !it.is_entitled() && !it.is_metered()) {
        problems.push(format!(
            "dimension {} says neither Entitled nor Metered: nothing can be sold by it",
            dimension.key
        ));
    }
    found
}

fn dimension(row: &Value) -> Option<Dimension> {
    // Without a key nothing can be bought or metered by it.
    let key = row["Key"].as_str().and_then(DimensionKey::from_trimmed)?;
    let name = row["Name"].as_str().filter(|name| !name.is_empty());
    Some(Dimension {
        name: name.unwrap_or(key.as_str()).to_owned(),
        key,
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
        assert_eq!(draft.problems.len(), 4, "{:?}", draft.problems);

        let later = json!({
            "Description": {"ProductTitle": "T", "ProductCode": "c", "Visibility": "Public", "New": 1},
            "Dimensions": [{"Key": "k", "Types": ["Entitled", "Novel"], "More": {}}, {"Name": "keyless"}],
        });
        let listing = read(EntityId::new("prod-2"), later.clone());
        assert_eq!(listing.dimensions.len(), 1);
        assert!(listing.dimensions[0].is_entitled());
        assert_eq!(listing.problems, ["1 of its dimensions have no key and are left out"]);
        assert_eq!(listing.document, later, "what is not understood is kept");

        for odd in [
            json!(null),
            json!([]),
            json!("text"),
            json!({"Dimensions": {"a": 1}, "Description": []}),
        ] {
            assert!(!read(EntityId::new("prod-3"), odd).problems.is_empty());
        }
    }
}
