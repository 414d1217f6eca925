//! One customer in memory.

use jiff::Timestamp;

use crate::domain::access::{Access, Candidate, PlanGrant, Question, decide};
use crate::domain::{FeatureId, LicenseArn, Quantity, Source, Status};
use crate::store::{CountedUsage, CustomerFacts, HeldPlan, Meter, bounds};

/// A customer as it was read, with the usage that was counted since.
pub(super) struct Known {
    facts: CustomerFacts,
    /// The catalogue that it was read with.
    pub(super) generation: u64,
}

impl Known {
    pub(super) fn new(facts: CustomerFacts, generation: u64) -> Self {
        Self { facts, generation }
    }

    /// Reports whether a window lies ahead of the time, as after a clock was set back: what was used in the one before
    /// it is not known here.
    pub(super) fn is_ahead_of(&self, now: Timestamp) -> bool {
        let now = now.as_millisecond();
        self.facts.meters.iter().any(|meter| now < meter.from_ms)
    }

    /// Adds usage that was counted.
    pub(super) fn add(&mut self, used: &CountedUsage) {
        for meter in &mut self.facts.meters {
            let held = self.facts.held.get(meter.held);
            let counts = held.is_some_and(|held| held.counts(&used.product, &used.holder));
            if counts && meter.feature.id == used.feature_id {
                meter_up(meter, used);
            }
        }
    }

    /// Answers one question.
    pub(super) fn answer(
        &self,
        question: &Question<'_>,
        license: Option<&LicenseArn>,
        now: Timestamp,
    ) -> Access {
        let named = license.map(|arn| format!("license:{arn}"));
        let candidates: Vec<Candidate<'_>> = self
            .facts
            .held
            .iter()
            .enumerate()
            .filter(|(_, held)| named.as_deref().is_none_or(|named| *held.holder == *named))
            .map(|(place, held)| self.candidate(place, held, question.feature_id, now))
            .collect();
        decide(question, &candidates)
    }

    fn candidate<'a>(
        &'a self,
        place: usize,
        held: &'a HeldPlan,
        feature: &FeatureId,
        now: Timestamp,
    ) -> Candidate<'a> {
        let grant = match held.plan.as_ref().map(|plan| &plan.grants) {
            None => PlanGrant::NoPlan,
            Some(None) => PlanGrant::NotPublished,
            Some(Some(grants)) => {
                grants.get(feature).map_or(PlanGrant::NotIncluded, PlanGrant::Included)
            }
        };
        let of_it = |meter: &&Meter| meter.held == place && meter.feature.id == *feature;
        let meter = self.facts.meters.iter().find(of_it);
        let (used, resets_at) = meter.map_or((0, None), |meter| reading(meter, now));
        Candidate {
            subscription_id: &held.id,
            plan_id: held.plan.as_ref().map(|plan| &plan.id),
            source: held.source,
            status: status(held, now),
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
fn reading(meter: &Meter, now: Timestamp) -> (i64, Option<Timestamp>) {
    if now.as_millisecond() < meter.until_ms {
        let end = (meter.until_ms != i64::MAX)
            .then(|| Timestamp::from_millisecond(meter.until_ms).ok())
            .flatten();
        return (meter.used, end);
    }
    (0, meter.window.around(now).end)
}

fn meter_up(meter: &mut Meter, used: &CountedUsage) {
    if used.from_ms < meter.from_ms {
        return;
    }
    if used.from_ms >= meter.until_ms {
        // Usage lies at or before the time of its report: its window is the newest that there is.
        let at = Timestamp::from_millisecond(used.from_ms).unwrap_or(Timestamp::MAX);
        (meter.from_ms, meter.until_ms) = bounds(meter.window, at);
        meter.used = 0;
    }
    meter.used = meter.used.saturating_add(used.millionths);
}
