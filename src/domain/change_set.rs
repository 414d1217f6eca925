//! Change sets: the differences between two sets of grants, to be made to a third. A draft is such a set, and so is
//! what a file changes for those who are held to an older version.

use std::collections::{BTreeMap, BTreeSet};

use super::FeatureId;

/// Changes of grants, feature by feature; `None` for what is granted no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeSet<T>(BTreeMap<FeatureId, Option<T>>);

impl<T: Clone + PartialEq> ChangeSet<T> {
    /// Finds the changes that lead from one set of grants to another.
    pub fn between(before: &BTreeMap<FeatureId, T>, after: &BTreeMap<FeatureId, T>) -> Self {
        let features: BTreeSet<&FeatureId> = before.keys().chain(after.keys()).collect();
        let changed = features.into_iter().filter(|id| before.get(*id) != after.get(*id));
        Self(changed.map(|id| (id.clone(), after.get(id).cloned())).collect())
    }

    /// Makes the changes to a set of grants.
    #[must_use]
    pub fn applied_to(&self, grants: &BTreeMap<FeatureId, T>) -> BTreeMap<FeatureId, T> {
        let mut changed = grants.clone();
        for (feature, terms) in &self.0 {
            match terms {
                Some(terms) => changed.insert(feature.clone(), terms.clone()),
                None => changed.remove(feature),
            };
        }
        changed
    }

    /// Finds the features that both change, each in its own way.
    pub fn contradicts(&self, other: &Self) -> Vec<FeatureId> {
        let differs = |(id, terms): &(&FeatureId, &Option<T>)| {
            other.0.get(*id).is_some_and(|others| others != *terms)
        };
        self.0.iter().filter(differs).map(|(id, _)| id.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(list: &[(&str, u32)]) -> BTreeMap<FeatureId, u32> {
        list.iter().map(|(id, limit)| (FeatureId::new(*id), *limit)).collect()
    }

    #[test]
    fn changes_are_made_to_other_grants_and_contradictions_are_found() {
        let published = grants(&[("calls", 1_000), ("seats", 3), ("sso", 1)]);
        let drafted = ChangeSet::between(&published, &grants(&[("calls", 1_000), ("seats", 5)]));
        let lowered = grants(&[("calls", 100), ("seats", 3), ("sso", 1)]);
        assert_eq!(drafted.applied_to(&lowered), grants(&[("calls", 100), ("seats", 5)]));
        let file = ChangeSet::between(&published, &lowered);
        assert_eq!(drafted.contradicts(&file), []);
        let more = ChangeSet::between(&published, &grants(&[("calls", 9), ("seats", 4)]));
        assert_eq!(drafted.contradicts(&more), [FeatureId::new("seats")], "both take sso out");
        assert_eq!(file.contradicts(&more), [FeatureId::new("calls")]);
        assert_eq!(ChangeSet::between(&published, &published).applied_to(&lowered), lowered);
    }
}
