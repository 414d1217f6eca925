//! The catalogue as a file that sellers review and keep: products' mappings, features, plans and what they grant.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::feature::{FeatureKind, WhenStale};
use super::plan::PlanStatus;
use super::terms::EntitlementTerms;
use super::text::{line, optional_line};
use super::{DimensionKey, EntityId, FeatureId, PlanId, ProductId};

/// The catalogue file. What it does not name stays as it is; what it names becomes what it says. That holds inside of
/// things too: a table that is left out is left alone, one that is there is all that there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Catalogue {
    /// Imported listings, by our ids.
    pub products: BTreeMap<ProductId, ProductEntry>,
    /// Features, by their ids.
    pub features: BTreeMap<FeatureId, FeatureEntry>,
    /// Plans, by their ids.
    pub plans: BTreeMap<PlanId, PlanEntry>,
}

/// An imported listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProductEntry {
    /// The listing; it is imported if it is not yet.
    pub entity_id: EntityId,
    /// The plan of those who pay as they go; as it is if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage_plan: Option<PlanId>,
    /// The plan that each entitled dimension means; one that the table does not name means none. As they are if the
    /// table is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plans: Option<BTreeMap<DimensionKey, PlanId>>,
}

/// A feature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FeatureEntry {
    /// Its name.
    #[serde(deserialize_with = "line")]
    pub name: String,
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: FeatureKind,
    /// The unit in which it is counted; as it is if left out, nothing if empty.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional_line")]
    pub unit: Option<String>,
    /// The answer on old knowledge; as it is if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_stale: Option<WhenStale>,
    /// The metered dimension that its usage is billed to, product by product; to none of a product that the table
    /// does not name. As they are if the table is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<BTreeMap<ProductId, DimensionKey>>,
}

/// A plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanEntry {
    /// Its name.
    #[serde(deserialize_with = "line")]
    pub name: String,
    /// The product that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<ProductId>,
    /// Its status: what is published is what `entitlements` says.
    pub status: PlanStatus,
    /// The features that it grants: nothing but what the table names. As it is if the table is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entitlements: Option<BTreeMap<FeatureId, TermsEntry>>,
    /// The features that a published plan will grant once its draft is published. As it is if the table is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft: Option<BTreeMap<FeatureId, TermsEntry>>,
    /// The older versions that customers are held to, by number. For the reader: they are written, and never applied.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held: BTreeMap<i64, HeldEntry>,
}

/// An older version of a plan that customers are held to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HeldEntry {
    /// The number of subscriptions that are held to it.
    pub subscriptions: i64,
    /// The features that they have.
    pub entitlements: BTreeMap<FeatureId, TermsEntry>,
}

/// A plan entitlement, of which only what is not as usual is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct TermsEntry(pub EntitlementTerms);

impl Serialize for TermsEntry {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error as _;
        let written =
            |terms: &EntitlementTerms| serde_json::to_value(terms).map_err(S::Error::custom);
        let (mut said, usual) = (written(&self.0)?, written(&EntitlementTerms::default())?);
        if let Some(members) = said.as_object_mut() {
            members.retain(|key, value| usual[key.as_str()] != *value);
        }
        said.serialize(serializer)
    }
}

/// One difference between two catalogues.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// The place: the keys, with dots between.
    pub path: String,
    /// The value that was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// The value that is there instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// Lists the differences between two documents, place by place, in the order of the paths.
pub fn differences(before: &Value, after: &Value) -> Vec<Change> {
    let mut changes = Vec::new();
    compare("", Some(before), Some(after), &mut changes);
    changes
}

fn compare(path: &str, before: Option<&Value>, after: Option<&Value>, changes: &mut Vec<Change>) {
    if before == after {
        return;
    }
    if let (Some(Value::Object(old)), Some(Value::Object(new))) = (before, after) {
        let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for key in keys {
            let place = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            compare(&place, old.get(key), new.get(key), changes);
        }
        return;
    }
    let (before, after) = (before.cloned(), after.cloned());
    changes.push(Change { path: path.to_owned(), before, after });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_name_the_deepest_place() {
        let before = json!({"plans": {"a": {"limit": 1}, "b": {}}, "same": [1]});
        let after = json!({"plans": {"a": {"limit": 2, "soft": true}, "c": {"x": 1}}, "same": [1]});
        let shown: Vec<String> = differences(&before, &after)
            .into_iter()
            .map(|it| {
                format!(
                    "{} {:?} {:?}",
                    it.path,
                    it.before.map(|it| it.to_string()),
                    it.after.map(|it| it.to_string())
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                r#"plans.a.limit Some("1") Some("2")"#,
                r#"plans.a.soft None Some("true")"#,
                r#"plans.b Some("{}") None"#,
                r#"plans.c None Some("{\"x\":1}")"#,
            ]
        );
        assert!(differences(&after, &after).is_empty());
    }

    #[test]
    fn terms_are_written_as_far_as_they_are_not_as_usual() {
        let text = r#"{"limit":0.5,"reset":"month"}"#;
        let terms: TermsEntry = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&terms).unwrap(), text);
        assert_eq!(serde_json::to_string(&TermsEntry::default()).unwrap(), "{}");
    }
}
