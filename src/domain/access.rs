//! Access decisions: whether a customer may use a feature, and how much of it.
//!
//! Every subscription that counts is judged by itself; the best verdict is the answer, and of equals the same one each
//! time. Of a metered feature those count against which usage would be counted, as `ledger::choose_product` has it: a check
//! allows what a consumption would take, and nothing else.

use std::cmp::Reverse;

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::feature::{FeatureKind, WhenStale};
use super::quantity::as_number;
use super::terms::EntitlementTerms;
use super::{FeatureId, PlanId, Quantity, Source, Status, SubscriptionId};

/// A subscription, as far as it says something about one feature.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The subscription.
    pub subscription_id: &'a SubscriptionId,
    /// Its plan; none while its dimension is not mapped to one.
    pub plan_id: Option<&'a PlanId>,
    /// The place where it was bought.
    pub source: Source,
    /// Its status now.
    pub status: Status,
    /// Its plan's grant of the feature.
    pub grant: PlanGrant<'a>,
    /// The number of units of the plan that were bought.
    pub units: Option<Quantity>,
    /// The usage in the window that counts now.
    pub used: Quantity,
    /// The time at which that window ends.
    pub resets_at: Option<Timestamp>,
}

/// The grant of a feature by a subscription's plan.
#[derive(Clone, Copy, Debug)]
pub enum PlanGrant<'a> {
    /// There is no plan.
    NoPlan,
    /// The plan was never published.
    NotPublished,
    /// The plan does not have it.
    NotIncluded,
    /// The plan has it.
    Included(&'a EntitlementTerms),
}

/// The reason why access is given or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A plan has it.
    Granted,
    /// It would be more than the limit.
    LimitExceeded,
    /// AWS could not be asked for long, and the feature is not given on old knowledge.
    Stale,
    /// The plan that has it was never published.
    PlanNotPublished,
    /// No plan of the customer's has it.
    FeatureNotInPlan,
    /// The dimension that the customer bought is not mapped to a plan.
    DimensionNotMapped,
    /// Nothing that the customer bought is in force.
    NoSubscription,
    /// There is no such customer.
    UnknownCustomer,
    /// There is no such feature.
    UnknownFeature,
    /// Several licences could bear the usage, each with a limit of its own: one has to be named.
    LicenseRequired,
}

impl Reason {
    /// Returns the word that answers write for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::LimitExceeded => "limit_exceeded",
            Self::Stale => "stale",
            Self::PlanNotPublished => "plan_not_published",
            Self::FeatureNotInPlan => "feature_not_in_plan",
            Self::DimensionNotMapped => "dimension_not_mapped",
            Self::NoSubscription => "no_subscription",
            Self::UnknownCustomer => "unknown_customer",
            Self::UnknownFeature => "unknown_feature",
            Self::LicenseRequired => "license_required",
        }
    }
}

/// The answer to an access check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Access {
    /// The feature.
    pub feature_id: FeatureId,
    /// The feature's kind; none where there is no such feature.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<FeatureKind>,
    /// Set if it may be used, by as much as was asked for.
    pub has_access: bool,
    /// The reason.
    pub reason: Reason,
    /// The limit.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_number")]
    #[schema(value_type = Option<f64>, minimum = 0)]
    pub limit: Option<Quantity>,
    /// Set if there is no limit.
    pub unlimited: bool,
    /// The usage in the window that counts now; metered features only.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_number")]
    #[schema(value_type = Option<f64>, minimum = 0)]
    pub usage: Option<Quantity>,
    /// The part of the limit that is left.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_number")]
    #[schema(value_type = Option<f64>, minimum = 0)]
    pub remaining: Option<Quantity>,
    /// The time at which usage counts from zero again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<Timestamp>,
    /// The plan that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_id: Option<PlanId>,
    /// The subscription that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_id: Option<SubscriptionId>,
    /// That subscription's status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_status: Option<Status>,
    /// Since when AWS could not be asked, where that is long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_since: Option<Timestamp>,
}

impl Access {
    /// Returns the answer as it is once so much more is used.
    #[must_use]
    pub fn after(mut self, used: Quantity) -> Self {
        self.usage = self.usage.map(|before| before.saturating_add(used));
        self.remaining = self.remaining.map(|before| before.saturating_sub(used));
        self
    }
}

/// The question of an access check.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The feature.
    pub feature_id: &'a FeatureId,
    /// The feature's kind.
    pub kind: FeatureKind,
    /// The answer on old knowledge.
    pub when_stale: WhenStale,
    /// The quantity that is about to be used. A metered feature is asked for 1 if nothing is said.
    pub requested: Option<Quantity>,
    /// Since when AWS could not be asked, where that is long.
    pub stale_since: Option<Timestamp>,
}

/// Refuses, for a reason that has nothing to do with plans.
pub fn refusal(feature_id: FeatureId, kind: Option<FeatureKind>, reason: Reason) -> Access {
    Access {
        feature_id,
        kind,
        has_access: false,
        reason,
        limit: None,
        unlimited: false,
        usage: None,
        remaining: None,
        resets_at: None,
        plan_id: None,
        subscription_id: None,
        subscription_status: None,
        stale_since: None,
    }
}

/// Answers for a customer who is known.
pub fn decide(question: &Question<'_>, candidates: &[Candidate<'_>]) -> Access {
    let verdicts = candidates.iter().map(|candidate| judge(question, candidate));
    let best = verdicts.min_by_key(Verdict::rank);
    let mut access = match best {
        Some(verdict) => verdict.into_access(question),
        None => refusal(question.feature_id.clone(), Some(question.kind), Reason::NoSubscription),
    };
    // What was bought on the seller's own site is as true as ever.
    let depends_on_aws =
        candidates.is_empty() || candidates.iter().any(|it| it.source == Source::Aws);
    access.stale_since = question.stale_since.filter(|_| depends_on_aws);
    access
}

/// The verdict of one subscription.
struct Verdict<'a> {
    candidate: Candidate<'a>,
    reason: Reason,
    /// The limit, where there is one.
    limit: Option<Quantity>,
    /// Set if the limit may be exceeded.
    soft: bool,
    unlimited: bool,
}

fn judge<'a>(question: &Question<'_>, candidate: &Candidate<'a>) -> Verdict<'a> {
    let no = |reason| Verdict {
        candidate: *candidate,
        reason,
        limit: None,
        soft: false,
        unlimited: false,
    };
    if !candidate.status.is_live() {
        return no(Reason::NoSubscription);
    }
    let terms = match candidate.grant {
        PlanGrant::NoPlan => return no(Reason::DimensionNotMapped),
        PlanGrant::NotPublished => return no(Reason::PlanNotPublished),
        PlanGrant::NotIncluded => return no(Reason::FeatureNotInPlan),
        PlanGrant::Included(terms) => terms,
    };
    let old = question.stale_since.is_some() && candidate.source == Source::Aws;
    let reason = if old && question.when_stale == WhenStale::Deny {
        Reason::Stale
    } else if within(question, candidate, terms) {
        Reason::Granted
    } else {
        Reason::LimitExceeded
    };
    let counted = question.kind != FeatureKind::Boolean;
    Verdict {
        candidate: *candidate,
        reason,
        limit: terms.limit_for(candidate.units).filter(|_| counted && !terms.unlimited),
        soft: terms.never_denies(),
        unlimited: counted && terms.is_unlimited(),
    }
}

fn within(question: &Question<'_>, candidate: &Candidate<'_>, terms: &EntitlementTerms) -> bool {
    let limit = match terms.limit_for(candidate.units) {
        Some(limit) if !terms.never_denies() => limit,
        _ => return true,
    };
    match question.kind {
        FeatureKind::Boolean => true,
        FeatureKind::Numeric => question.requested.unwrap_or_default() <= limit,
        FeatureKind::Metered => {
            let requested = question.requested.unwrap_or(Quantity::from_units(1));
            candidate.used.checked_add(requested).is_some_and(|after| after <= limit)
        }
    }
}

impl Verdict<'_> {
    fn remaining(&self) -> Option<Quantity> {
        self.limit.map(|limit| limit.saturating_sub(self.candidate.used))
    }

    /// Returns the verdict's rank. The least is the best: a yes before a no, the roomier before the tighter; then the
    /// one that lasts, and the older subscription.
    fn rank(&self) -> impl Ord + use<> {
        let reason = self.reason as u8;
        let room =
            if self.unlimited { Quantity::MAX } else { self.remaining().unwrap_or_default() };
        let standing = match self.candidate.status {
            Status::Active => 0_u8,
            Status::Trialing => 1,
            Status::Ending => 2,
            Status::Pending => 3,
            Status::Canceled | Status::Expired | Status::Failed => 4,
        };
        let id = self.candidate.subscription_id.clone();
        (
            reason,
            Reverse(self.unlimited),
            Reverse(self.soft),
            Reverse(room),
            Reverse(self.limit),
            standing,
            id,
        )
    }

    fn into_access(self, question: &Question<'_>) -> Access {
        let Candidate { used, resets_at, .. } = self.candidate;
        let granted = matches!(self.candidate.grant, PlanGrant::Included(_));
        let metered =
            question.kind == FeatureKind::Metered && granted && self.candidate.status.is_live();
        let remaining = match question.kind {
            FeatureKind::Metered => self.remaining(),
            FeatureKind::Boolean | FeatureKind::Numeric => None,
        };
        Access {
            feature_id: question.feature_id.clone(),
            kind: Some(question.kind),
            has_access: self.reason == Reason::Granted,
            reason: self.reason,
            limit: self.limit,
            unlimited: self.unlimited,
            usage: metered.then_some(used),
            remaining,
            resets_at: resets_at.filter(|_| metered),
            plan_id: self.candidate.plan_id.cloned(),
            subscription_id: Some(self.candidate.subscription_id.clone()),
            subscription_status: Some(self.candidate.status),
            stale_since: None,
        }
    }
}
