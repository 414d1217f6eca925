//! Queues of events to post: each customer's in their order, and what somebody waits for before what only counts.
//!
//! Pure but for the clock of its pauses.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::receiver::Refusal;
use crate::domain::CustomerId;
use crate::store::Event;

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);
/// The age of an event at which it is given up, if the application refuses it and not everything: what the Standard Webhooks
/// specification gives deliveries.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(72);
/// The refusals without which none is given up, however old it is: a quarter of an hour of them.
const TRIED: u32 = 12;
/// The kinds that come by the hundred: they are told for every record of an hour, or of a decision.
const BULK: [&str; 2] = ["metering.accepted", "metering.resolved"];

/// The key of a queue: the customer whose events go one after another; those of nobody go together.
pub(super) type QueueKey = Option<CustomerId>;

/// Events that are to be posted.
#[derive(Debug, Default)]
pub(super) struct EventQueues {
    queues: BTreeMap<QueueKey, Queue>,
    waiting: BTreeSet<i64>,
    /// Events that were posted beyond the first that waits.
    ahead: BTreeSet<i64>,
    read_to: i64,
    paused: Pause,
    taken_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Event>,
    urgent: usize,
    is_busy: bool,
    pause: Pause,
    refusals: Refusals,
}

/// The refusals of the first of a queue: how many, and since when.
#[derive(Debug, Default)]
struct Refusals {
    count: u32,
    since: Option<Instant>,
}

#[derive(Debug, Default)]
struct Pause {
    until: Option<Instant>,
    wait: Duration,
}

impl Pause {
    fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    fn lengthen(&mut self, now: Instant) {
        self.wait = (self.wait * 2).clamp(FIRST_WAIT, LONGEST_WAIT);
        self.until = Some(now + self.wait);
    }
}

impl EventQueues {
    /// Makes queues for the events after this place of the outbox, but for those that were posted already.
    pub(super) fn after(cursor: i64, ahead: BTreeSet<i64>) -> Self {
        Self { read_to: cursor, ahead, ..Self::default() }
    }

    /// Returns how far the outbox was read.
    pub(super) fn read_to(&self) -> i64 {
        self.read_to
    }

    /// Returns up to where everything was posted.
    pub(super) fn posted_to(&self) -> i64 {
        self.waiting.first().map_or(self.read_to, |first| first - 1)
    }

    /// Returns how many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Returns how many were posted beyond the first that waits.
    pub(super) fn ahead(&self) -> usize {
        self.ahead.len()
    }

    /// Reports whether some are put off since they were refused.
    pub(super) fn has_refused(&self) -> bool {
        self.queues.values().any(|queue| queue.pause.until.is_some())
    }

    pub(super) fn add(&mut self, event: Event) {
        self.read_to = event.seq;
        if self.ahead.contains(&event.seq) {
            self.pass();
            return;
        }
        self.waiting.insert(event.seq);
        let queue = self.queues.entry(event.customer_id.clone()).or_default();
        queue.urgent += usize::from(!BULK.contains(&event.kind.as_str()));
        queue.events.push_back(event);
    }

    /// Returns the next to post, if one may be posted now.
    pub(super) fn next(&mut self, now: Instant) -> Option<(QueueKey, Event)> {
        if !self.paused.is_over(now) {
            return None;
        }
        // After a refusal those go first that were not refused: there may be as many others as can be under way at once.
        let is_doubtful = self.paused.until.is_some();
        let free = self.queues.iter_mut().filter(|(_, it)| !it.is_busy && it.pause.is_over(now));
        let (key, queue) = free.min_by_key(|(_, queue)| {
            let was_refused = is_doubtful && queue.pause.until.is_some();
            (was_refused, queue.urgent == 0, queue.events.front().map(|event| event.seq))
        })?;
        queue.is_busy = true;
        queue.events.front().map(|event| (key.clone(), event.clone()))
    }

    /// Notes that the first of a queue was taken; returns its place.
    pub(super) fn taken(&mut self, key: &QueueKey, now: Instant) -> Option<i64> {
        self.paused = Pause::default();
        self.taken_at = Some(now);
        self.pop(key)
    }

    /// Leaves the first of a queue behind, so that those behind it go on; returns its place in the outbox.
    pub(super) fn given_up(&mut self, key: &QueueKey) -> Option<i64> {
        self.pop(key)
    }

    fn pop(&mut self, key: &QueueKey) -> Option<i64> {
        let queue = self.queues.get_mut(key)?;
        queue.is_busy = false;
        queue.pause = Pause::default();
        queue.refusals = Refusals::default();
        let event = queue.events.pop_front()?;
        queue.urgent -= usize::from(!BULK.contains(&event.kind.as_str()));
        if queue.events.is_empty() {
            self.queues.remove(key);
        }
        self.waiting.remove(&event.seq);
        self.ahead.insert(event.seq);
        self.pass();
        Some(event.seq)
    }

    /// Forgets what is no longer ahead of anything that waits.
    fn pass(&mut self) {
        let posted_to = self.posted_to();
        while self.ahead.first().is_some_and(|first| *first <= posted_to) {
            self.ahead.pop_first();
        }
    }

    /// Notes that the first of a queue was refused: those behind it wait for it, and all others a moment, should nobody
    /// be there.
    pub(super) fn refused(&mut self, key: &QueueKey, now: Instant) {
        // Somebody is there who took one a moment ago. And all that were under way together count as one.
        let is_there = self.taken_at.is_some_and(|at| now < at + FIRST_WAIT);
        if !is_there && self.paused.is_over(now) {
            self.paused.lengthen(now);
        }
        if let Some(queue) = self.queues.get_mut(key) {
            queue.is_busy = false;
            queue.pause.lengthen(now);
            queue.refusals.count += 1;
            queue.refusals.since.get_or_insert(now);
        }
    }

    /// Returns the first of a queue if it is to be given up, having been refused for so long that it is this event which
    /// the application will not have: it says so, or takes others. While nobody is there everything is kept.
    pub(super) fn hopeless(
        &self,
        key: &QueueKey,
        refusal: &Refusal,
        at: Timestamp,
    ) -> Option<&Event> {
        let queue = self.queues.get(key)?;
        let event = queue.events.front()?;
        let takes_others = self.taken_at > queue.refusals.since;
        let is_old = at.duration_since(event.at) >= KEPT_FOR;
        let is_its_own = refusal.is_definite || (queue.refusals.since.is_some() && takes_others);
        (is_old && is_its_own && queue.refusals.count >= TRIED).then_some(event)
    }

    /// Returns when one may be posted that may not now.
    pub(super) fn next_at(&self, now: Instant) -> Option<Instant> {
        let free = self.queues.values().filter(|queue| !queue.is_busy);
        let next = free.map(|queue| queue.pause.until.unwrap_or(now)).min()?;
        Some(self.paused.until.map_or(next, |until| until.max(next)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn event(seq: i64, kind: &str, customer: &str) -> Event {
        Event {
            seq,
            id: format!("evt_{seq}"),
            kind: kind.into(),
            at: jiff::Timestamp::UNIX_EPOCH,
            customer_id: Some(CustomerId::new(customer)),
            data: Value::Null,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_somebody_waits_for_goes_first_but_not_before_the_customers_own() {
        let mut queues = EventQueues::after(0, BTreeSet::new());
        for seq in 1..=600 {
            queues.add(event(seq, BULK[0], &format!("c-{}", seq % 100)));
        }
        queues.add(event(601, "subscription.canceled", "c-7"));
        let mut order = Vec::new();
        while let Some((key, event)) = queues.next(Instant::now()) {
            order.push(event.seq);
            queues.taken(&key, Instant::now());
        }
        assert_eq!(order[..7], [7, 107, 207, 307, 407, 507, 601]);
        assert_eq!((order.len(), queues.posted_to(), queues.waiting()), (601, 601, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_are_refused_hold_up_their_own_customers_only() {
        let mut queues = EventQueues::after(0, BTreeSet::new());
        // As many as are under way at once are refused whenever they are posted.
        for seq in 1..=8 {
            queues.add(event(seq, "x", &format!("refused-{}", seq % 4)));
        }
        for seq in 9..=20 {
            queues.add(event(seq, "x", &format!("taken-{}", seq % 2)));
        }
        let begun = Instant::now();
        let mut taken = Vec::new();
        while taken.len() < 12 {
            let now = Instant::now();
            let posts: Vec<_> = std::iter::from_fn(|| queues.next(now)).take(4).collect();
            for (key, event) in &posts {
                if event.seq <= 8 {
                    queues.refused(key, now);
                } else {
                    taken.extend(queues.taken(key, now));
                }
            }
            if posts.is_empty() {
                tokio::time::sleep_until(queues.next_at(now).unwrap()).await;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "after a minute: {taken:?}");
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        assert_eq!(taken, (9..=20).collect::<Vec<_>>());
        assert_eq!((queues.posted_to(), queues.ahead()), (0, 12), "the refused ones still wait");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_posted_before_a_crash_is_not_posted_again() {
        let mut queues = EventQueues::after(10, BTreeSet::from([12, 13]));
        for (seq, customer) in [(11, "a"), (12, "b"), (13, "b"), (14, "b")] {
            queues.add(event(seq, "x", customer));
        }
        let mut order = Vec::new();
        while let Some((key, event)) = queues.next(Instant::now()) {
            order.push(event.seq);
            assert_eq!(queues.taken(&key, Instant::now()), Some(event.seq));
        }
        assert_eq!((order, queues.posted_to(), queues.ahead()), (vec![11, 14], 14, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_the_application_will_not_have_is_given_up() {
        // Whether the answer said whose fault it is, whether another customer's was taken since, how old it is, how often
        // it was refused, and whether it is given up.
        let rows = [
            (false, false, 1_000, 100, false),
            (true, false, 1_000, 100, true),
            (false, true, 1_000, 100, true),
            (true, true, 71, 100, false),
            (true, true, 72, 12, true),
            (true, true, 72, 11, false),
        ];
        for (is_definite, others, hours, refusals, given_up) in rows {
            let mut queues = EventQueues::after(0, BTreeSet::new());
            queues.add(event(1, "x", "refused"));
            queues.add(event(2, "x", "taken"));
            let refused = Some(CustomerId::new("refused"));
            // One that was taken before tells nothing.
            queues.taken(&Some(CustomerId::new("taken")), Instant::now());
            queues.add(event(3, "x", "taken"));
            for _ in 0..refusals {
                tokio::time::sleep(Duration::from_secs(300)).await;
                queues.refused(&refused, Instant::now());
            }
            if others {
                tokio::time::sleep(Duration::from_secs(1)).await;
                queues.taken(&Some(CustomerId::new("taken")), Instant::now());
            }
            let refusal = Refusal { reason: "no".into(), is_definite };
            let at = jiff::Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
            let found = queues.hopeless(&refused, &refusal, at).map(|event| event.seq);
            assert_eq!(found, given_up.then_some(1), "{is_definite} {others} {hours} {refusals}");
            if given_up {
                assert_eq!(queues.given_up(&refused), Some(1));
                assert!(!queues.has_refused());
            }
        }
    }
}
