//! One customer in memory.

use jiff::Timestamp;

use crate::domain::LicenseArn;
use crate::domain::access::{Access, Question};
use crate::store::{CountedUsage, CustomerFacts, FeatureFacts, Meter, bounds};

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
        feature: &FeatureFacts,
        license: Option<&LicenseArn>,
        now: Timestamp,
    ) -> Access {
        self.facts.check(question, feature, license, now)
    }
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
