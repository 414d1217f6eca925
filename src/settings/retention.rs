//! `[retention]`: how long history is kept.

use std::time::Duration;

use super::layers::Layers;
use super::value::{Kept, shown};
use crate::domain::ledger::AWS_WINDOW;
use crate::store::History;

/// The time for which each kind of history is kept; for ever where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionSettings {
    /// Notifications that were applied.
    pub notifications: Option<Duration>,
    /// Events of the outbox.
    pub events: Option<Duration>,
    /// Usage events that are settled.
    pub usage_events: Option<Duration>,
    /// Attempts at metering records that are settled.
    pub attempts: Option<Duration>,
    /// The log of who changed what.
    pub activity: Option<Duration>,
}

impl RetentionSettings {
    /// Returns how long a kind of history is kept; for ever if none.
    pub const fn of(&self, history: History) -> Option<Duration> {
        match history {
            History::Notifications => self.notifications,
            History::Events => self.events,
            History::UsageEvents => self.usage_events,
            History::Attempts => self.attempts,
            History::Activity => self.activity,
        }
    }
}

pub(super) fn read(
    layers: &mut Layers,
    usage_max_age: Option<Duration>,
) -> Option<RetentionSettings> {
    let mut kept = |key| layers.required(key).map(|Kept(kept)| kept);
    let notifications = kept("retention.notifications");
    let events = kept("retention.events");
    let usage_events = kept("retention.usage_events");
    let attempts = kept("retention.attempts");
    let activity = kept("retention.activity");
    if let (Some(Some(kept)), Some(max_age)) = (usage_events, usage_max_age) {
        check_repetitions(layers, kept, max_age);
    }
    Some(RetentionSettings {
        notifications: notifications?,
        events: events?,
        usage_events: usage_events?,
        attempts: attempts?,
        activity: activity?,
    })
}

/// Refuses what would have a repetition taken for new usage: an event is known by its id only for as long as it is kept.
fn check_repetitions(layers: &mut Layers, kept: Duration, max_age: Duration) {
    let window = AWS_WINDOW.unsigned_abs();
    if kept < max_age {
        let fault = format!(
            "is less than usage.max_age ({}): an event that was pruned and is reported again would be young enough to be \
             taken, and billed twice; {} and more is allowed, or 0 for ever",
            shown(max_age),
            shown(max_age.max(window))
        );
        layers.fault("retention.usage_events", &fault);
    } else if kept < window {
        let fault = format!(
            "is less than the {} for which AWS takes usage: what is reported again within them has to be known; {} and more \
             is allowed, or 0 for ever",
            shown(window),
            shown(window)
        );
        layers.fault("retention.usage_events", &fault);
    }
}
