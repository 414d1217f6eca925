//! What SNS messages about a legacy buyer's subscription say together.

use jiff::Timestamp;

use crate::domain::notification::SubscriptionAction;

/// One such message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionMessage {
    /// What it said.
    pub action: SubscriptionAction,
    /// Its own time.
    pub at: Timestamp,
    /// Whether a free trial applies; not every message says.
    pub free_trial: Option<bool>,
}

/// How the subscription stands by all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionSignal {
    /// What the newest said.
    pub action: SubscriptionAction,
    /// The newest's own time.
    pub at: Timestamp,
    /// Whether the newest word on it was that a free trial applies.
    pub free_trial: bool,
    /// When the buyer was first told to be subscribed, since an earlier subscription ended.
    pub begun_at: Option<Timestamp>,
}

impl SubscriptionSignal {
    /// What they say, whatever order they came in; nothing if there are none.
    pub fn of(mut messages: Vec<SubscriptionMessage>) -> Option<Self> {
        messages.sort_by_key(|message| (message.at, message.action));
        let newest = *messages.last()?;
        let subscribes = |it: &SubscriptionMessage| it.action == SubscriptionAction::Success;
        // What was told before the end that lies before the newest success is about an earlier subscription.
        let up_to_success = messages.iter().rposition(subscribes).unwrap_or(0);
        let begins = messages
            .iter()
            .take(up_to_success)
            .rposition(|it| it.action.is_end())
            .map_or(0, |end| end.saturating_add(1));
        let current = || messages.iter().skip(begins);
        Some(Self {
            action: newest.action,
            at: newest.at,
            free_trial: current().rev().find_map(|it| it.free_trial).unwrap_or(false),
            begun_at: current().find(|it| subscribes(it)).map(|it| it.at),
        })
    }
}
