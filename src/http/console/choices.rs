//! What is called by a name and meant by an id: products and plans to choose from, features in what plans grant.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};

use super::parts;
use crate::domain::feature::{Feature, FeatureKind};
use crate::domain::terms::EntitlementTerms;
use crate::domain::{FeatureId, Id};
use crate::http::{ApiState, Problem};
use crate::store::Page;

/// The most features whose names are known.
const FEATURES: u32 = 500;

/// What a list may be filtered by: each thing by its name, and by its id too where another has the same name.
pub(super) struct Choices(Vec<Choice>);

/// One thing to choose.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) id: String,
    pub(super) text: String,
    pub(super) is_chosen: bool,
}

impl Choices {
    /// Returns the products, with that one chosen which is asked for.
    pub(super) async fn products(state: &ApiState, asked: &str) -> Result<Self, Problem> {
        Ok(Self::of(&state.store.product_names().await?, asked))
    }

    /// Returns the plans, with that one chosen which is asked for.
    pub(super) async fn plans(state: &ApiState, asked: &str) -> Result<Self, Problem> {
        Ok(Self::of(&state.store.plan_names().await?, asked))
    }

    /// What is asked for stays chosen, also if there is no such thing, or too many to list it.
    pub(super) fn of<K>(named: &[(Id<K>, String)], asked: &str) -> Self {
        let asked = asked.trim();
        let mut names = BTreeMap::<&str, usize>::new();
        for (_, name) in named {
            *names.entry(name).or_default() += 1;
        }
        let mut choices: Vec<Choice> = named
            .iter()
            .map(|(id, name)| Choice {
                id: id.to_string(),
                text: match names.get(name.as_str()) {
                    Some(2..) => format!("{name} ({id})"),
                    _ => name.clone(),
                },
                is_chosen: id.as_str() == asked,
            })
            .collect();
        if !asked.is_empty() && !choices.iter().any(|it| it.is_chosen) {
            choices.push(Choice { id: asked.into(), text: asked.into(), is_chosen: true });
        }
        Self(choices)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Choice> {
        self.0.iter()
    }
}

/// The words for what a plan grants.
pub(super) struct Grants {
    features: HashMap<FeatureId, Feature>,
    /// Set if AWS sells the plan, and bills what its customers use.
    is_sold: bool,
}

impl Grants {
    pub(super) async fn of(state: &ApiState, is_sold: bool) -> Result<Self, Problem> {
        let all = Page { after: None, limit: FEATURES };
        Ok(Self::new(state.store.features(all).await?, is_sold))
    }

    /// Makes the words of features that were read before.
    pub(super) fn new(features: Vec<Feature>, is_sold: bool) -> Self {
        let features = features.into_iter().map(|it| (it.id.clone(), it)).collect();
        Self { features, is_sold }
    }

    /// Returns the name of a feature; its id where the name is not known.
    pub(super) fn name<'a>(&'a self, id: &'a FeatureId) -> &'a str {
        self.features.get(id).map_or(id.as_str(), |it| it.name.as_str())
    }

    /// Returns a feature, where it is known.
    pub(super) fn feature(&self, id: &FeatureId) -> Option<&Feature> {
        self.features.get(id)
    }

    /// Describes the terms on which a feature is granted.
    pub(super) fn terms(&self, id: &FeatureId, terms: &EntitlementTerms) -> String {
        let is_billed = self.is_sold && self.features.get(id).is_some_and(is_billed);
        parts::terms(terms, is_billed)
    }
}

/// Reports whether usage of a feature is billed by a dimension.
pub(super) fn is_billed(feature: &Feature) -> bool {
    feature.kind == FeatureKind::Metered && !feature.dimensions.is_empty()
}

/// Returns the kind of a feature in words.
pub(super) fn kind(kind: impl Borrow<FeatureKind>) -> &'static str {
    match kind.borrow() {
        FeatureKind::Boolean => "had or not had",
        FeatureKind::Numeric => "a limit",
        FeatureKind::Metered => "metered",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::PlanId;

    #[test]
    fn names_that_two_have_stand_with_their_ids() {
        let named = || {
            [("a", "Pro"), ("b", "Pro"), ("c", "Team")]
                .map(|(id, name)| (PlanId::new(id), name.to_owned()))
                .to_vec()
        };
        let texts = |asked: &str| {
            let choices = Choices::of(&named(), asked);
            choices.iter().map(|it| (it.text.clone(), it.is_chosen)).collect::<Vec<_>>()
        };
        let all = |chosen: usize| {
            ["Pro (a)", "Pro (b)", "Team"]
                .into_iter()
                .enumerate()
                .map(|(place, text)| (text.to_owned(), place == chosen))
                .collect::<Vec<_>>()
        };
        assert_eq!(texts(""), all(9));
        assert_eq!(texts(" b "), all(1));
        let gone = [all(9), vec![("gone".to_owned(), true)]].concat();
        assert_eq!(texts("gone"), gone, "a filter is never changed unseen");
    }
}
