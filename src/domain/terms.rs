//! The terms of plan entitlements, and which of them make sense for which kind of feature. Those of subscriptions are
//! `domain/subscription.rs`.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::feature::FeatureKind;
use super::quantity::as_number;
use super::word::Word;
use super::{FeatureId, Quantity};

/// The terms on which a plan grants a feature: how much of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields, from = "WrittenTerms")]
pub struct EntitlementTerms {
    /// The limit of a numeric or metered feature, which has this or `unlimited`. Null, if it is said, says that
    /// there is none.
    #[serde(serialize_with = "as_number")]
    #[schema(value_type = Option<f64>, minimum = 0)]
    pub limit: Option<Quantity>,
    /// Set if there is no limit at all.
    pub unlimited: bool,
    /// Set if the limit warns instead of denying.
    pub soft: bool,
    /// Set if the limit counts once for each unit bought.
    pub per_unit: bool,
    /// The period after which usage is counted from zero again; never if none.
    pub reset: Option<ResetPeriod>,
    /// The start of the periods.
    pub anchor: Anchor,
    /// The usage that is billed to the feature's dimension.
    pub bill: Bill,
}

impl EntitlementTerms {
    /// Reports whether nobody is ever denied for having used too much: there is no limit, or going beyond it is what
    /// the plan warns of or bills.
    pub fn never_denies(&self) -> bool {
        self.is_unlimited() || self.soft || self.bill == Bill::Overage
    }

    /// Returns the limit of somebody who bought so many units: as it stands, or that for each of them.
    pub fn limit_for(&self, units: Option<Quantity>) -> Option<Quantity> {
        let limit = self.limit?;
        match units.filter(|_| self.per_unit) {
            Some(units) => Some(limit.times(units)),
            None => Some(limit),
        }
    }

    /// Reports whether there is no limit.
    pub const fn is_unlimited(&self) -> bool {
        self.unlimited || self.limit.is_none()
    }
}

/// The period after which usage is counted from zero again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResetPeriod {
    /// Every hour.
    Hour,
    /// Every day.
    Day,
    /// Every week, from Monday.
    Week,
    /// Every month.
    Month,
    /// Every year.
    Year,
}

/// The start of a reset period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Anchor {
    /// The calendar, in UTC.
    #[default]
    Calendar,
    /// The subscription's start.
    Subscription,
}

/// The usage of a metered feature that is billed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Bill {
    /// All of it.
    #[default]
    All,
    /// The part beyond the limit.
    Overage,
    /// None of it.
    None,
}

impl Word for ResetPeriod {}

impl Word for Anchor {}

impl Word for Bill {}

/// Terms as they are written. A limit that is said to be none is not one that was left out.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct WrittenTerms {
    limit: WrittenLimit,
    unlimited: bool,
    soft: bool,
    per_unit: bool,
    reset: Option<ResetPeriod>,
    anchor: Anchor,
    bill: Bill,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum WrittenLimit {
    #[default]
    LeftOut,
    /// `null`.
    None,
    Of(Quantity),
}

impl<'de> Deserialize<'de> for WrittenLimit {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(from)?.map_or(Self::None, Self::Of))
    }
}

impl From<WrittenTerms> for EntitlementTerms {
    fn from(written: WrittenTerms) -> Self {
        let WrittenTerms { limit, unlimited, soft, per_unit, reset, anchor, bill } = written;
        // What is beyond a limit cannot be billed where there is said to be none.
        let none = limit == WrittenLimit::None && bill != Bill::Overage;
        let limit = match limit {
            WrittenLimit::LeftOut | WrittenLimit::None => None,
            WrittenLimit::Of(limit) => Some(limit),
        };
        Self { limit, unlimited: unlimited || none, soft, per_unit, reset, anchor, bill }
    }
}

/// A fault of a plan entitlement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {detail}")]
pub struct TermsFault {
    /// The field.
    pub field: &'static str,
    /// The fault, and what is allowed.
    pub detail: String,
    /// The rule that is broken.
    pub rule: TermsRule,
}

/// The rules that the terms of a plan entitlement may break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TermsRule {
    /// What is beyond a limit is billed of a metered feature alone.
    OnlyMeteredIsBilled,
    /// Only usage of a metered feature is counted from zero again.
    OnlyMeteredIsReset,
    /// A boolean feature is had or not had.
    BooleanTakesNone,
    /// There is a limit, or there is none.
    LimitAndUnlimited,
    /// What is beyond a limit is billed only where there is one.
    OverageNeedsLimit,
    /// A limit was left out, and nothing said that there is none.
    LimitMissing,
}

impl EntitlementTerms {
    /// Returns the terms as they are kept, if they make sense for a feature of this kind.
    pub fn checked_for(
        mut self,
        feature: &FeatureId,
        kind: FeatureKind,
    ) -> Result<Self, TermsFault> {
        let fault = |field, rule, detail: &str| {
            Err(TermsFault {
                field,
                rule,
                detail: format!("feature {feature} is {}{detail}", word(kind)),
            })
        };
        if self.bill == Bill::Overage && kind != FeatureKind::Metered {
            return fault(
                "bill",
                TermsRule::OnlyMeteredIsBilled,
                ": \"overage\" needs a metered feature",
            );
        }
        if self.reset.is_some() && kind != FeatureKind::Metered {
            return fault(
                "reset",
                TermsRule::OnlyMeteredIsReset,
                ": only usage of a metered feature is counted from zero again",
            );
        }
        if kind == FeatureKind::Boolean {
            let given =
                [("limit", self.limit.is_some()), ("soft", self.soft), ("per_unit", self.per_unit)];
            if let Some((field, _)) = given.into_iter().find(|(_, given)| *given) {
                let detail = ": a plan has it or not, and says {} of it";
                return fault(field, TermsRule::BooleanTakesNone, detail);
            }
            self.unlimited = false;
            return Ok(self);
        }
        match (self.limit, self.unlimited) {
            (Some(_), true) => fault(
                "unlimited",
                TermsRule::LimitAndUnlimited,
                ": give a limit, or say \"unlimited\": true, not both",
            ),
            (None, false) if self.bill == Bill::Overage => fault(
                "limit",
                TermsRule::OverageNeedsLimit,
                ": bill \"overage\" bills what is beyond the limit; give a limit, or \"unlimited\": true",
            ),
            (None, false) => fault(
                "limit",
                TermsRule::LimitMissing,
                ": give a limit, or say \"unlimited\": true (\"limit\": null says the same)",
            ),
            _ => Ok(self),
        }
    }
}

const fn word(kind: FeatureKind) -> &'static str {
    match kind {
        FeatureKind::Boolean => "boolean",
        FeatureKind::Numeric => "numeric",
        FeatureKind::Metered => "metered",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Returns the terms as they are kept, or the field that is refused.
    fn check(kind: FeatureKind, said: Value) -> Result<Value, &'static str> {
        let terms: EntitlementTerms = serde_json::from_value(said).unwrap();
        let checked = terms.checked_for(&FeatureId::new("f"), kind).map_err(|fault| fault.field)?;
        let kept = serde_json::to_value(checked).unwrap();
        let usual = serde_json::to_value(EntitlementTerms::default()).unwrap();
        let members = kept.as_object().unwrap().clone().into_iter();
        Ok(members.filter(|(key, value)| usual[key.as_str()] != *value).collect())
    }

    #[test]
    fn terms_that_contradict_their_feature_are_refused_by_the_field() {
        use FeatureKind::{Boolean, Metered, Numeric};
        let rows = [
            (Boolean, json!({}), Ok(json!({}))),
            (Boolean, json!({"limit": null, "unlimited": false, "reset": null}), Ok(json!({}))),
            (Boolean, json!({"limit": 1}), Err("limit")),
            (Boolean, json!({"reset": "month"}), Err("reset")),
            (Boolean, json!({"soft": true}), Err("soft")),
            (Boolean, json!({"per_unit": true}), Err("per_unit")),
            (Boolean, json!({"bill": "overage"}), Err("bill")),
            (Numeric, json!({}), Err("limit")),
            (Numeric, json!({"limit": 0}), Ok(json!({"limit": 0}))),
            (Numeric, json!({"limit": 5, "reset": "day"}), Err("reset")),
            (Numeric, json!({"limit": 5, "bill": "overage"}), Err("bill")),
            (Numeric, json!({"limit": 5, "unlimited": true}), Err("unlimited")),
            (Metered, json!({}), Err("limit")),
            (Metered, json!({"reset": "month"}), Err("limit")),
            (Metered, json!({"limit": null}), Ok(json!({"unlimited": true}))),
            (Metered, json!({"unlimited": true}), Ok(json!({"unlimited": true}))),
            (Metered, json!({"limit": 5, "unlimited": true}), Err("unlimited")),
            (Metered, json!({"bill": "overage"}), Err("limit")),
            (Metered, json!({"limit": null, "bill": "overage"}), Err("limit")),
            (
                Metered,
                json!({"limit": 5, "bill": "overage"}),
                Ok(json!({"limit": 5, "bill": "overage"})),
            ),
        ];
        for (kind, said, expected) in rows {
            assert_eq!(check(kind, said.clone()), expected, "{kind:?} {said}");
        }
    }
}
