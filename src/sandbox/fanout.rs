//! Delivery from AWS's topics and event bus to queues: envelopes, repetition and disorder as they really come.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::market::{Channel, Outgoing};
use super::sqs::random_uuid;
use super::{Parts, locked};

/// The way notifications are delivered.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Delivery {
    /// Delivers one message in this many twice.
    pub(super) repeat_one_in: Option<u32>,
    /// Delivers SNS messages without their envelope.
    pub(super) raw: bool,
    /// Drops every notification, now and later.
    pub(super) lose: bool,
    /// Holds every notification back until this is taken back; then delivers all of them in any order.
    pub(super) hold: bool,
}

#[derive(Clone)]
pub(super) struct FanOut {
    queue: String,
    seed: u64,
    state: Arc<Mutex<State>>,
    /// A lock held from taking notifications from the market until they are delivered, so that none of them outlives a
    /// reset.
    turn: Arc<Mutex<()>>,
}

struct State {
    delivery: Delivery,
    held: Vec<String>,
    random: fastrand::Rng,
}

impl State {
    fn new(seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self { delivery: Delivery::default(), held: Vec::new(), random }
    }
}

impl FanOut {
    pub(super) fn new(queue: String, seed: u64) -> Self {
        let state = Arc::new(Mutex::new(State::new(seed)));
        Self { queue, seed, state, turn: Arc::default() }
    }

    /// Resets delivery to the usual way, and drops what is held back.
    pub(super) fn reset(&self) {
        *locked(&self.state) = State::new(self.seed);
    }

    /// Runs a closure while no notification is on its way from the market to a queue.
    pub(super) fn between_deliveries<R>(&self, act: impl FnOnce() -> R) -> R {
        let _turn = locked(&self.turn);
        act()
    }

    /// Delivers what is due, and returns when the next is due.
    fn deliver_due(&self, parts: &Parts) -> Option<Timestamp> {
        self.between_deliveries(|| {
            let (due, next) = parts.market.peek(|market, now| {
                let due = market.take_outgoing(now);
                (due, market.next_due())
            });
            for outgoing in &due {
                self.publish(parts, outgoing);
            }
            next
        })
    }

    pub(super) fn delivery(&self) -> Delivery {
        locked(&self.state).delivery.clone()
    }

    /// Changes how messages are delivered; what was held back comes now, shuffled.
    pub(super) fn set_delivery(&self, parts: &Parts, delivery: Delivery) {
        let released = {
            let mut state = locked(&self.state);
            state.delivery = delivery;
            if state.delivery.hold {
                return;
            }
            let mut held = std::mem::take(&mut state.held);
            state.random.shuffle(&mut held);
            held
        };
        for body in released {
            parts.queues.deliver(&self.queue, body);
        }
    }

    pub(super) fn held(&self) -> usize {
        locked(&self.state).held.len()
    }

    /// Puts a second copy beside one in this many of the messages that are held back.
    pub(super) fn repeat_held(&self, one_in: u32) {
        let mut state = locked(&self.state);
        let State { held, random, .. } = &mut *state;
        let again: Vec<String> =
            held.iter().filter(|_| random.u32(0..one_in.max(1)) == 0).cloned().collect();
        held.extend(again);
    }

    fn publish(&self, parts: &Parts, outgoing: &Outgoing) {
        let mut state = locked(&self.state);
        if state.delivery.lose {
            return;
        }
        let body = state.body(outgoing);
        let repeat = state.delivery.repeat_one_in;
        let copies = match repeat {
            Some(odds) if state.random.u32(0..odds.max(1)) == 0 => 2,
            _ => 1,
        };
        for _ in 0..copies {
            if state.delivery.hold {
                state.held.push(body.clone());
            } else {
                parts.queues.deliver(&self.queue, body.clone());
            }
        }
    }
}

impl State {
    fn body(&mut self, outgoing: &Outgoing) -> String {
        match &outgoing.channel {
            Channel::EventBridge { event } => event.to_string(),
            Channel::Sns { message, .. } if self.delivery.raw => message.clone(),
            Channel::Sns { topic_arn, message } => self.envelope(topic_arn, message, outgoing.at),
        }
    }

    /// Wraps a message in SNS's envelope, as on its way to a queue.
    fn envelope(&mut self, topic_arn: &str, message: &str, at: Timestamp) -> String {
        let host = "https://sns.us-east-1.amazonaws.com";
        let random: Vec<u8> = std::iter::repeat_with(|| self.random.u8(..)).take(256).collect();
        json!({
            "Type": "Notification",
            "MessageId": random_uuid(&mut self.random),
            "TopicArn": topic_arn,
            "Message": message,
            "Timestamp": format!("{at:.3}"),
            "SignatureVersion": "1",
            "Signature": STANDARD.encode(random),
            "SigningCertURL": format!("{host}/SimpleNotificationService-9c6465fa7f48f5cacd23014631ec1136.pem"),
            "UnsubscribeURL": format!("{host}/?Action=Unsubscribe&SubscriptionArn={topic_arn}:sandbox"),
        })
        .to_string()
    }
}

/// Delivers what the market publishes, as soon as it is due.
pub(super) async fn run(parts: Parts, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        let next = parts.fanout.deliver_due(&parts);
        let next_due = async {
            match next {
                Some(at) => parts.market.clock().sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let mut moves = parts.market.clock().moves();
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = parts.market.acted() => {}
            () = next_due => {}
            _ = moves.changed() => {}
        }
    }
}
