//! One queue as a pure data structure: no I/O, no clock, time is an argument.
//!
//! Waiting messages are a deque of ids, hidden ones a tree ordered by when they come back, so that
//! sending, receiving and deleting cost the same however many messages there are. An id in the
//! deque may belong to a deleted message; it is skipped when it comes up.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// A message and its deliveries so far.
#[expect(clippy::struct_field_names, reason = "AWS's own word for it")]
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) message_id: String,
    pub(super) body: String,
    pub(super) body_md5: String,
    pub(super) attributes: Value,
    pub(super) sent_at: Timestamp,
    pub(super) first_received_at: Option<Timestamp>,
    pub(super) receive_count: u32,
    hidden_until: Option<Timestamp>,
}

impl Message {
    pub(super) fn new(message_id: String, body: String, attributes: Value, now: Timestamp) -> Self {
        let body_md5 = super::md5_hex(body.as_bytes());
        Self {
            message_id,
            body,
            body_md5,
            attributes,
            sent_at: now,
            first_received_at: None,
            receive_count: 0,
            hidden_until: None,
        }
    }

    fn is_delayed(&self) -> bool {
        self.hidden_until.is_some() && self.receive_count == 0
    }
}

/// The message and the delivery that a receipt handle stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Receipt {
    pub(super) sequence: u64,
    pub(super) delivery: u32,
}

/// The redrive policy: the queue for messages that were received too often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Redrive {
    pub(super) dead_letter_queue: String,
    pub(super) max_receive_count: u32,
}

/// The number of messages by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) visible: usize,
    pub(super) in_flight: usize,
    pub(super) delayed: usize,
}

/// The result of a receive.
#[derive(Debug, Default)]
pub(super) struct Received {
    pub(super) messages: Vec<(Receipt, Message)>,
    /// The messages that were received too often and belong into the dead-letter queue.
    pub(super) dead: Vec<Message>,
}

/// The reason why a message's visibility cannot be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotChangeable {
    Gone,
    NotInFlight,
}

/// The messages of one queue.
#[derive(Debug, Default)]
pub(super) struct Messages {
    next_sequence: u64,
    by_sequence: HashMap<u64, Message>,
    visible: VecDeque<u64>,
    hidden: BTreeSet<(Timestamp, u64)>,
}

impl Messages {
    /// Makes an empty queue; its receipts begin after those that were given out before, so that a receipt of an earlier
    /// queue of the same name stands for nothing.
    pub(super) fn after(sequence: u64) -> Self {
        Self { next_sequence: sequence, ..Self::default() }
    }

    /// Returns the sequence that the next message gets.
    pub(super) const fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    pub(super) fn push(&mut self, mut message: Message, now: Timestamp, delay: SignedDuration) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        message.hidden_until = None;
        if delay > SignedDuration::ZERO {
            let until = later(now, delay);
            message.hidden_until = Some(until);
            self.hidden.insert((until, sequence));
        } else {
            self.visible.push_back(sequence);
        }
        self.by_sequence.insert(sequence, message);
    }

    pub(super) fn receive(
        &mut self,
        now: Timestamp,
        most: usize,
        visibility: SignedDuration,
        max_receive_count: Option<u32>,
    ) -> Received {
        self.reveal(now);
        let mut received = Received::default();
        while received.messages.len() < most {
            let Some(sequence) = self.visible.pop_front() else {
                break;
            };
            let Some(message) = self.by_sequence.get_mut(&sequence) else {
                continue;
            };
            if max_receive_count.is_some_and(|max| message.receive_count >= max) {
                received.dead.extend(self.by_sequence.remove(&sequence));
                continue;
            }
            message.receive_count += 1;
            message.first_received_at.get_or_insert(now);
            let receipt = Receipt { sequence, delivery: message.receive_count };
            if visibility > SignedDuration::ZERO {
                let until = later(now, visibility);
                message.hidden_until = Some(until);
                self.hidden.insert((until, sequence));
            }
            received.messages.push((receipt, message.clone()));
        }
        // With no visibility timeout a message stays receivable, but not twice in one call.
        if visibility <= SignedDuration::ZERO {
            let again = received.messages.iter().map(|(receipt, _)| receipt.sequence);
            self.visible.extend(again);
        }
        received
    }

    /// Deletes the message of a receipt; a receipt of an earlier delivery deletes nothing.
    pub(super) fn delete(&mut self, receipt: Receipt) {
        let Some(message) = self.by_sequence.get(&receipt.sequence) else {
            return;
        };
        if message.receive_count != receipt.delivery {
            return;
        }
        if let Some(until) = message.hidden_until {
            self.hidden.remove(&(until, receipt.sequence));
        }
        self.by_sequence.remove(&receipt.sequence);
    }

    pub(super) fn change_visibility(
        &mut self,
        receipt: Receipt,
        now: Timestamp,
        visibility: SignedDuration,
    ) -> Result<(), NotChangeable> {
        self.reveal(now);
        let message = self.by_sequence.get_mut(&receipt.sequence).ok_or(NotChangeable::Gone)?;
        let until = match message.hidden_until {
            Some(until) if message.receive_count == receipt.delivery => until,
            _ => return Err(NotChangeable::NotInFlight),
        };
        self.hidden.remove(&(until, receipt.sequence));
        if visibility > SignedDuration::ZERO {
            let until = later(now, visibility);
            message.hidden_until = Some(until);
            self.hidden.insert((until, receipt.sequence));
        } else {
            message.hidden_until = None;
            self.visible.push_back(receipt.sequence);
        }
        Ok(())
    }

    pub(super) fn purge(&mut self) {
        self.by_sequence.clear();
        self.visible.clear();
        self.hidden.clear();
    }

    pub(super) fn counts(&mut self, now: Timestamp) -> Counts {
        self.reveal(now);
        let delayed = self
            .hidden
            .iter()
            .filter_map(|(_, sequence)| self.by_sequence.get(sequence))
            .filter(|message| message.is_delayed())
            .count();
        Counts {
            visible: self.by_sequence.len() - self.hidden.len(),
            in_flight: self.hidden.len() - delayed,
            delayed,
        }
    }

    /// Returns the time at which the next hidden message comes back.
    pub(super) fn next_reveal(&self) -> Option<Timestamp> {
        self.hidden.first().map(|(until, _)| *until)
    }

    fn reveal(&mut self, now: Timestamp) {
        while let Some(&(until, sequence)) = self.hidden.first() {
            if until > now {
                break;
            }
            self.hidden.pop_first();
            if let Some(message) = self.by_sequence.get_mut(&sequence) {
                message.hidden_until = None;
                self.visible.push_back(sequence);
            }
        }
    }
}

/// A queue: its messages, attributes and times.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) name: String,
    pub(super) messages: Messages,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) created_at: Timestamp,
    pub(super) changed_at: Timestamp,
    pub(super) redrive: Option<Redrive>,
}

impl Queue {
    /// Returns a whole-number attribute in seconds, or AWS's default for it.
    pub(super) fn seconds(&self, attribute: &str, default: i64) -> i64 {
        self.attributes.get(attribute).and_then(|text| text.parse().ok()).unwrap_or(default)
    }
}

fn later(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.checked_add(by).unwrap_or(Timestamp::MAX)
}
