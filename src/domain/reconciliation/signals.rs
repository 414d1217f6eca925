//! Signals: what SNS messages about a legacy buyer's subscription say together.

use jiff::Timestamp;

use crate::domain::notification::SubscriptionAction;

/// An SNS message about a legacy buyer's subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionMessage {
    /// The action that it told.
    pub action: SubscriptionAction,
    /// Its own time.
    pub at: Timestamp,
    /// Set if a free trial applies; not every message says.
    pub free_trial: Option<bool>,
    /// The private offer that it is about; the public one is not named.
    pub offer_id: Option<String>,
}

/// The state of the subscription by all of its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionSignal {
    /// The action that the newest told.
    pub action: SubscriptionAction,
    /// The newest's own time.
    pub at: Timestamp,
    /// Set if the newest word on it was that a free trial applies.
    pub free_trial: bool,
    /// The time at which the buyer was first told to be subscribed, since an earlier subscription ended.
    pub begun_at: Option<Timestamp>,
}

impl SubscriptionSignal {
    /// Combines the messages, whatever order they came in; nothing if there are none.
    pub fn of(mut messages: Vec<SubscriptionMessage>) -> Option<Self> {
        messages.sort_by(|a, b| (a.at, a.action, &a.offer_id).cmp(&(b.at, b.action, &b.offer_id)));
        let messages = about_one_subscription(messages);
        let newest = messages.last()?;
        let (action, at) = (newest.action, newest.at);
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
            action,
            at,
            free_trial: current().rev().find_map(|it| it.free_trial).unwrap_or(false),
            begun_at: current().find(|it| subscribes(it)).map(|it| it.at),
        })
    }
}

/// Returns the messages without those that tell of another offer's failure. Who is subscribed and tries an offer in
/// vain keeps what they have: only a failure of the very offer that is in force takes it away.
fn about_one_subscription(messages: Vec<SubscriptionMessage>) -> Vec<SubscriptionMessage> {
    let mut in_force: Option<Option<String>> = None;
    let is_about_it = |message: &SubscriptionMessage| {
        let counts = message.action != SubscriptionAction::Fail
            || in_force.as_ref().is_none_or(|offer| *offer == message.offer_id);
        match message.action {
            SubscriptionAction::Success => in_force = Some(message.offer_id.clone()),
            SubscriptionAction::UnsubscribeSuccess => in_force = None,
            SubscriptionAction::Fail if counts => in_force = None,
            SubscriptionAction::Fail | SubscriptionAction::UnsubscribePending => {}
        }
        counts
    };
    let mut messages = messages;
    messages.retain(is_about_it);
    messages
}

#[cfg(test)]
mod tests {
    use super::*;
    use SubscriptionAction::{Fail, Success, UnsubscribePending, UnsubscribeSuccess};

    type Told = (SubscriptionAction, Option<&'static str>);

    #[test]
    fn a_failure_ends_only_the_offer_that_it_is_about() {
        let (one, two) = (Some("offer-1"), Some("offer-2"));
        // (the messages in the order of their times, what they come to)
        let rows: [(&[Told], SubscriptionAction); 11] = [
            (&[(Fail, one)], Fail),
            (&[(Fail, None)], Fail),
            (&[(Success, one), (Fail, one)], Fail),
            (&[(Success, None), (Fail, None)], Fail),
            (&[(Success, one), (Fail, two)], Success),
            (&[(Success, None), (Fail, two)], Success),
            (&[(Success, one), (Fail, None)], Success),
            (&[(Success, one), (Success, two), (Fail, one)], Success),
            (&[(Success, one), (UnsubscribePending, None), (Fail, two)], UnsubscribePending),
            (&[(Success, one), (UnsubscribeSuccess, None), (Fail, two)], Fail),
            (&[(Success, one), (Fail, one), (Fail, two)], Fail),
        ];
        for (told, expected) in rows {
            let message = |(second, (action, offer)): (usize, &Told)| SubscriptionMessage {
                action: *action,
                at: Timestamp::from_second(i64::try_from(second).unwrap()).unwrap(),
                free_trial: None,
                offer_id: offer.map(str::to_owned),
            };
            let mut messages: Vec<_> = told.iter().enumerate().map(message).collect();
            messages.reverse();
            let found = SubscriptionSignal::of(messages).unwrap().action;
            assert_eq!(found, expected, "{told:?}");
        }
    }
}
