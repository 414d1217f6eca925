//! Listings as AWS's catalog describes them.

use std::collections::BTreeSet;

use marketd::catalog::document;
use marketd::domain::EntityId;
use serde_json::Value;

use super::is_plain;

/// Reads a document: whatever it lacks, a listing comes of it.
pub fn check(data: &[u8]) {
    let Ok(document) = serde_json::from_slice::<Value>(data) else { return };
    let listing = document::read(EntityId::new("prod-1"), document.clone());
    assert_eq!(listing.document, document, "what is not understood is kept");
    assert!(is_plain(&listing.title) && is_plain(&listing.visibility));
    assert!(listing.product_code.as_ref().is_none_or(|code| is_plain(code.as_str())));
    assert!(listing.problems.iter().all(|problem| !problem.is_empty()));
    if listing.problems.is_empty() {
        assert!(listing.product_code.is_some() && !listing.dimensions.is_empty());
    }

    let rows = document["Dimensions"].as_array().cloned().unwrap_or_default();
    let keys: BTreeSet<&str> = listing.dimensions.iter().map(|it| it.key.as_str()).collect();
    assert_eq!(keys.len(), listing.dimensions.len(), "a key names one dimension");
    assert!(keys.iter().all(|key| is_plain(key)), "{keys:?}");
    assert!(listing.dimensions.iter().all(|it| !it.name.is_empty()));
    let mut keyless = 0;
    for row in &rows {
        let key = row["Key"].as_str().map(str::trim).filter(|key| !key.is_empty());
        let found = listing.dimensions.iter().find(|it| Some(it.key.as_str()) == key);
        let Some(dimension) = found else {
            assert_eq!(key, None, "a dimension is lost");
            keyless += 1;
            continue;
        };
        for word in row["Types"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            assert!(dimension.types.iter().any(|held| held == word), "{word} of {dimension:?}");
        }
    }
    let problem = format!("{keyless} of its dimensions have no key and are left out");
    assert_eq!(listing.problems.contains(&problem), keyless > 0, "{:?}", listing.problems);
}
