//! The catalogue as a file in TOML, and as the body that it is posted in.

use marketd::domain::manifest::{Catalogue, differences};
use serde_json::Value;

/// What is read and written out again is the same catalogue.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let from_toml = |text: &str| -> Option<Catalogue> {
        serde_json::from_value(toml::from_str::<Value>(text).ok()?).ok()
    };
    let read = from_toml(text).or_else(|| serde_json::from_str(text).ok());
    let Some(catalogue) = read else { return };

    let json = serde_json::to_value(&catalogue).expect("it can be answered");
    let again: Catalogue = serde_json::from_value(json.clone()).expect("and posted");
    assert_eq!(again, catalogue);
    let file = toml::to_string(&catalogue).expect("it can be exported");
    let again = from_toml(&file).expect("and applied");
    assert_eq!(again, catalogue);
    let nothing = differences(&json, &serde_json::to_value(&again).expect("JSON"));
    assert!(nothing.is_empty(), "{nothing:?}");

    let changes = differences(&Value::default(), &json);
    assert_eq!(changes.len(), 1, "all of it is new");
    let empty = serde_json::to_value(Catalogue::default()).expect("JSON");
    let changes = differences(&empty, &json);
    let back = differences(&json, &empty);
    assert_eq!(changes.len(), back.len(), "there and back");
    assert!(
        changes.iter().all(|it| it.before.is_none() && it.after.is_some() && !it.path.is_empty())
    );
}
