//! Candidates: what a customer's subscriptions say of a feature at a moment, for `domain/access.rs` to decide.

use jiff::Timestamp;

use super::{CustomerFacts, HeldPlan, Meter};
use crate::domain::access::{Access, Candidate, PlanGrant, Question, decide};
use crate::domain::{FeatureId, Quantity, Source, Status};

/// The times that an answer depends on.
#[derive(Clone, Copy, Debug)]
pub struct AccessTimes {
    /// The time of the question.
    pub now: Timestamp,
    /// The time of use, whose window counts.
    pub of_use: Timestamp,
}

impl CustomerFacts {
    /// Answers a question by those of the customer's subscriptions that count: as they stand now, and by the usage around
    /// the time of use.
    pub fn answer(
        &self,
        question: &Question<'_>,
        counts: impl Fn(&HeldPlan) -> bool,
        times: AccessTimes,
    ) -> Access {
        let candidates: Vec<Candidate<'_>> = self
            .held
            .iter()
            .enumerate()
            .filter(|(_, held)| counts(held))
            .map(|(place, held)| self.candidate(place, held, question.feature_id, times))
            .collect();
        decide(question, &candidates)
    }

    fn candidate<'a>(
        &'a self,
        place: usize,
        held: &'a HeldPlan,
        feature: &FeatureId,
        times: AccessTimes,
    ) -> Candidate<'a> {
        let grant = match held.plan.as_ref().map(|plan| &plan.grants) {
            None => PlanGrant::NoPlan,
            Some(None) => PlanGrant::NotPublished,
            Some(Some(grants)) => {
                grants.get(feature).map_or(PlanGrant::NotIncluded, PlanGrant::Included)
            }
        };
        let of_it = |meter: &&Meter| meter.held == place && meter.feature.id == *feature;
        let meter = self.meters.iter().find(of_it);
        let (used, resets_at) = meter.map_or((0, None), |meter| reading(meter, times.of_use));
        Candidate {
            subscription_id: &held.id,
            plan_id: held.plan.as_ref().map(|plan| &plan.id),
            source: held.source,
            status: status(held, times.now),
            grant,
            units: held.units,
            used: Quantity::from_millionths(used).unwrap_or_default(),
            resets_at,
        }
    }
}

fn status(held: &HeldPlan, now: Timestamp) -> Status {
    match held.source {
        Source::Aws => held.status,
        Source::Direct => held.status.at(held.starts_at, held.ends_at, now),
    }
}

/// Reads a meter at a moment: nothing was used yet in a window that has begun since usage was last counted.
fn reading(meter: &Meter, at: Timestamp) -> (i64, Option<Timestamp>) {
    if at.as_millisecond() < meter.until_ms {
        let end = (meter.until_ms != i64::MAX)
            .then(|| Timestamp::from_millisecond(meter.until_ms).ok())
            .flatten();
        return (meter.used, end);
    }
    (0, meter.window.around(at).end)
}
