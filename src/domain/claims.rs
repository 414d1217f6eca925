//! Claims that a buyer's browser posts beside the token. AWS has it post those, but a buyer can have it post anything:
//! they are kept for the seller to see, nothing follows from them, and there are never more of them than this.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// The prefix of AWS's fields.
const PREFIX: &str = "x-amzn-marketplace-";
/// The most fields that are kept.
const FIELDS_MOST: usize = 20;
/// The most bytes of a field's name and value together.
const FIELD_LONGEST: usize = 1_024;
/// The most bytes of all of them together.
const LONGEST: usize = 16 * 1_024;

/// Fields that a browser claims AWS to have set, as `x-amzn-marketplace-offer-type`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(value_type = BTreeMap<String, String>)]
#[serde(transparent)]
pub struct BrowserClaims(BTreeMap<String, String>);

impl BrowserClaims {
    /// Reports whether nothing is claimed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the fields, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Adds the claims of a later visit. What was claimed before stays unless it is claimed anew; what there is no room
    /// for is left out.
    #[must_use]
    pub fn and_later(mut self, later: Self) -> Self {
        self.extend(later.0);
        self
    }

    fn extend(&mut self, fields: impl IntoIterator<Item = (String, String)>) {
        let mut length: usize = self.iter().map(|(name, value)| name.len() + value.len()).sum();
        for (name, value) in fields {
            let known = name.get(..PREFIX.len()).is_some_and(|it| it.eq_ignore_ascii_case(PREFIX));
            let added = name.len() + value.len();
            let held = self.0.get(&name).map(|held| name.len() + held.len());
            let room = held.is_some() || self.0.len() < FIELDS_MOST;
            let total = length - held.unwrap_or(0) + added;
            if known && room && added <= FIELD_LONGEST && total <= LONGEST {
                self.0.insert(name, value);
                length = total;
            }
        }
    }
}

impl FromIterator<(String, String)> for BrowserClaims {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(fields: I) -> Self {
        let mut claims = Self::default();
        claims.extend(fields);
        claims
    }
}

impl<'de> Deserialize<'de> for BrowserClaims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(BTreeMap::<String, String>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(fields: impl IntoIterator<Item = (String, String)>) -> BrowserClaims {
        fields.into_iter().collect()
    }

    fn field(number: usize, length: usize) -> (String, String) {
        (format!("{PREFIX}{number}"), "x".repeat(length))
    }

    fn length(claims: &BrowserClaims) -> usize {
        claims.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    #[test]
    fn only_fields_of_aws_s_are_kept() {
        let fields = ["x-amzn-marketplace-offer-type", "X-Amzn-Marketplace-Agreement-Id"];
        let others = ["x-amzn-market", "offer-type", "", "x-amzn-marketplace_", "\u{e9}"];
        let posted = fields.iter().chain(&others).map(|name| ((*name).to_owned(), "a".to_owned()));
        let kept = claims(posted);
        assert_eq!(kept.iter().map(|(name, _)| name).collect::<Vec<_>>(), [fields[1], fields[0]]);
    }

    #[test]
    fn however_often_somebody_comes_there_is_never_more() {
        let mut held = BrowserClaims::default();
        for visit in 0..500 {
            held = held.and_later(claims((0..20).map(|it| field(visit * 20 + it, 900))));
            assert!(held.iter().count() <= FIELDS_MOST && length(&held) <= LONGEST);
        }
        assert!(length(&held) > LONGEST - FIELD_LONGEST, "there is room for that much");
        assert!(held.iter().any(|(name, _)| name == "x-amzn-marketplace-0"), "the first stays");
        // Nor by making longer what is there already.
        for at in 0..500 {
            held = held.and_later(claims([field(at % 20, 1_000)]));
            assert!(length(&held) <= LONGEST);
        }
        assert!(claims([field(1, FIELD_LONGEST)]).is_empty());
    }

    #[test]
    fn what_is_claimed_anew_replaces_what_was() {
        let first = claims([field(1, 3), field(2, 4)]);
        let then = first.clone().and_later(claims([field(2, 9)]));
        assert_eq!(then, claims([field(1, 3), field(2, 9)]));
        assert_eq!(first.clone().and_later(BrowserClaims::default()), first);
    }
}
