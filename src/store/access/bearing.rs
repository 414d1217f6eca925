//! Bearing: against which of a customer's subscriptions a check's usage would count, by the rule of a report.

use jiff::Timestamp;

use super::{AccessTimes, CustomerFacts, FeatureFacts};
use crate::domain::access::{Access, Question, Reason, refusal};
use crate::domain::feature::FeatureKind;
use crate::domain::ledger::{
    Candidate, FeatureBearer, FeatureUnattributed, Unattributed, UsageTime, choose_product,
    holder_of_now, is_licensed,
};
use crate::domain::{ClockHour, LicenseArn};

/// The subscriptions against which usage counts.
enum Bearing {
    /// Those that count with this product's holder.
    Holder(String, String),
    /// Whatever is held.
    Any,
    /// None: a licence has to be named.
    Several,
    /// None: what could bear it is over, or not the customer's.
    Nothing,
}

impl CustomerFacts {
    /// Answers a check as a consumption of so much now would be answered, at the licence that is named if one is.
    pub fn check(
        &self,
        question: &Question<'_>,
        feature: &FeatureFacts,
        license: Option<&LicenseArn>,
        now: Timestamp,
    ) -> Access {
        let times = AccessTimes { now, of_use: now };
        let bearing = self.bearing(feature, license, now);
        let bearer = match &bearing {
            Bearing::Holder(product, holder) => Some((product.as_str(), holder.as_str())),
            Bearing::Any | Bearing::Several | Bearing::Nothing => None,
        };
        let access = self.answer(question, |held| held.bears(bearer, license), times);
        let reason = match bearing {
            Bearing::Several => Reason::LicenseRequired,
            Bearing::Nothing => Reason::NoSubscription,
            Bearing::Holder(..) | Bearing::Any => return access,
        };
        if access.has_access {
            return refusal(question.feature_id.clone(), Some(question.kind), reason);
        }
        access
    }

    fn bearing(
        &self,
        feature: &FeatureFacts,
        license: Option<&LicenseArn>,
        now: Timestamp,
    ) -> Bearing {
        if feature.kind != FeatureKind::Metered || feature.billed.is_empty() {
            return Bearing::Any;
        }
        let Some(holdings) = &self.holdings else { return self.only_bearing(feature, license) };
        let (hour, at) = (ClockHour::of(now), holdings.stretch(now));
        let choices = feature.billed.iter().filter_map(|(product, licensed_from)| {
            let held: Vec<&Candidate> = holdings.of(product).collect();
            let time = UsageTime { at, licensed: is_licensed(hour, *licensed_from), now };
            (!held.is_empty()).then(|| (product, holder_of_now(&held, license, time)))
        });
        let mut choices = choices.peekable();
        if choices.peek().is_none() {
            return if license.is_some() { Bearing::Nothing } else { Bearing::Any };
        }
        match choose_product(choices) {
            Ok(FeatureBearer::Holder(product, holder)) => {
                Bearing::Holder(product.to_string(), holder.to_string())
            }
            Ok(FeatureBearer::Waits(_) | FeatureBearer::Nobody) => Bearing::Any,
            Err(
                FeatureUnattributed::Several(_)
                | FeatureUnattributed::Refused(Unattributed::Several(_)),
            ) => Bearing::Several,
            Err(FeatureUnattributed::Refused(_)) => Bearing::Nothing,
        }
    }

    /// The same where one plan is held: there is nothing to choose, but a licence of another product's may be named.
    fn only_bearing(&self, feature: &FeatureFacts, license: Option<&LicenseArn>) -> Bearing {
        let Some(named) = license else { return Bearing::Any };
        let bears = self.held.iter().any(|held| {
            let billed =
                feature.billed.iter().any(|(product, _)| product.as_str() == &*held.product);
            billed && held.is_under(named)
        });
        if bears { Bearing::Any } else { Bearing::Nothing }
    }
}
