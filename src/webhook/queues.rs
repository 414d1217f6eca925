//! Queues of events to post: in each lane, each customer's in their order. What somebody waits for has a lane of its own.
//!
//! Pure but for the clock of its pauses.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::receiver::Refusal;
use super::{AHEAD, AT_ONCE, HELD};
use crate::domain::CustomerId;
use crate::domain::event::{Lane, PerLane};
use crate::store::{Event, LaneEvents};

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);
/// The age of an event at which it is given up, if the application refuses it and not everything: what the Standard Webhooks
/// specification gives deliveries.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(72);
/// The refusals without which none is given up, however old it is: a quarter of an hour of them.
const TRIED: u32 = 12;
/// Posts under way at once in the bulk lane: there is always one left for what somebody waits for, however long the
/// application takes over the others.
const BULK_AT_ONCE: usize = AT_ONCE - 1;

/// The key of a queue: the lane, and the customer whose events go one after another; those of nobody go together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct QueueKey {
    pub(super) lane: Lane,
    customer: Option<CustomerId>,
}

/// Events that are to be posted.
#[derive(Debug, Default)]
pub(super) struct EventQueues {
    queues: BTreeMap<QueueKey, Queue>,
    lanes: PerLane<LaneState>,
    paused: Pause,
    taken_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct LaneState {
    waiting: BTreeSet<i64>,
    /// Events that were posted beyond the first that waits.
    ahead: BTreeSet<i64>,
    read_to: i64,
    under_way: usize,
}

impl LaneState {
    fn posted_to(&self) -> i64 {
        self.waiting.first().map_or(self.read_to, |first| first - 1)
    }

    /// Forgets what is no longer ahead of anything that waits.
    fn pass(&mut self) {
        let posted_to = self.posted_to();
        while self.ahead.first().is_some_and(|first| *first <= posted_to) {
            self.ahead.pop_first();
        }
    }

    fn is_full(&self, lane: Lane) -> bool {
        lane == Lane::Bulk && self.under_way >= BULK_AT_ONCE
    }
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Event>,
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
    /// Makes queues for the events of each lane after its place, but for those that were posted already.
    pub(super) fn after(places: PerLane<(i64, BTreeSet<i64>)>) -> Self {
        let lanes =
            places.map(|(read_to, ahead)| LaneState { ahead, read_to, ..LaneState::default() });
        Self { lanes, ..Self::default() }
    }

    /// Returns how far a lane was read.
    pub(super) fn read_to(&self, lane: Lane) -> i64 {
        self.lanes.of(lane).read_to
    }

    /// Returns up to where everything of a lane was posted.
    pub(super) fn posted_to(&self) -> PerLane<i64> {
        PerLane::from_fn(|lane| self.lanes.of(lane).posted_to())
    }

    /// Returns how many wait.
    pub(super) fn waiting(&self) -> usize {
        self.lanes.values().map(|lane| lane.waiting.len()).sum()
    }

    /// Reports whether a lane holds as many as it may: waiting ones, or ones that were posted beyond the first of these.
    pub(super) fn is_filled(&self, lane: Lane) -> bool {
        let state = self.lanes.of(lane);
        state.waiting.len() >= HELD || state.ahead.len() >= AHEAD
    }

    /// Reports whether some are put off since they were refused.
    pub(super) fn has_refused(&self) -> bool {
        self.queues.values().any(|queue| queue.pause.until.is_some())
    }

    /// Adds what was read of a lane.
    pub(super) fn add(&mut self, lane: Lane, read: LaneEvents) {
        let state = self.lanes.of_mut(lane);
        for event in read.events {
            if state.ahead.contains(&event.seq) {
                continue;
            }
            state.waiting.insert(event.seq);
            let key = QueueKey { lane, customer: event.customer_id.clone() };
            self.queues.entry(key).or_default().events.push_back(event);
        }
        state.read_to = read.read_to;
        state.pass();
    }

    /// Returns the next to post, if one may be posted now.
    pub(super) fn next(&mut self, now: Instant) -> Option<(QueueKey, Event)> {
        if !self.paused.is_over(now) {
            return None;
        }
        // After a refusal those go first that were not refused: there may be as many others as can be under way at once.
        let is_doubtful = self.paused.until.is_some();
        let lanes = &self.lanes;
        let free = self.queues.iter_mut().filter(|(key, it)| {
            !it.is_busy && it.pause.is_over(now) && !lanes.of(key.lane).is_full(key.lane)
        });
        let (key, queue) = free.min_by_key(|(key, queue)| {
            let was_refused = is_doubtful && queue.pause.until.is_some();
            (was_refused, key.lane, queue.events.front().map(|event| event.seq))
        })?;
        queue.is_busy = true;
        self.lanes.of_mut(key.lane).under_way += 1;
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
        self.end_post(key);
        let queue = self.queues.get_mut(key)?;
        queue.pause = Pause::default();
        queue.refusals = Refusals::default();
        let event = queue.events.pop_front()?;
        if queue.events.is_empty() {
            self.queues.remove(key);
        }
        let lane = self.lanes.of_mut(key.lane);
        lane.waiting.remove(&event.seq);
        lane.ahead.insert(event.seq);
        lane.pass();
        Some(event.seq)
    }

    /// Notes that a post of a queue is under way no more.
    fn end_post(&mut self, key: &QueueKey) {
        let Some(queue) = self.queues.get_mut(key) else { return };
        if std::mem::take(&mut queue.is_busy) {
            self.lanes.of_mut(key.lane).under_way -= 1;
        }
    }

    /// Notes that the first of a queue was refused: those behind it wait for it, and all others a moment, should nobody
    /// be there. Returns its place.
    pub(super) fn refused(&mut self, key: &QueueKey, now: Instant) -> Option<i64> {
        // Somebody is there who took one a moment ago. And all that were under way together count as one.
        let is_there = self.taken_at.is_some_and(|at| now < at + FIRST_WAIT);
        if !is_there && self.paused.is_over(now) {
            self.paused.lengthen(now);
        }
        self.end_post(key);
        let queue = self.queues.get_mut(key)?;
        queue.pause.lengthen(now);
        queue.refusals.count += 1;
        queue.refusals.since.get_or_insert(now);
        queue.events.front().map(|event| event.seq)
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
        let may = |key: &QueueKey| !self.lanes.of(key.lane).is_full(key.lane);
        let free = self.queues.iter().filter(|(key, queue)| !queue.is_busy && may(key));
        let next = free.map(|(_, queue)| queue.pause.until.unwrap_or(now)).min()?;
        Some(self.paused.until.map_or(next, |until| until.max(next)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::domain::event::EventType;

    const BULK: &str = EventType::MeteringAccepted.as_str();

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

    fn after(seq: i64, ahead: &[i64]) -> EventQueues {
        EventQueues::after(PerLane::from_fn(|lane| {
            let ahead = if lane == Lane::Prompt { ahead } else { &[] };
            (seq, ahead.iter().copied().collect())
        }))
    }

    impl EventQueues {
        /// Adds events to the lanes of their types, as if both were read up to the last.
        fn add_all(&mut self, events: impl IntoIterator<Item = Event>) {
            let events: Vec<Event> = events.into_iter().collect();
            let read_to = events.last().map_or(0, |event| event.seq);
            for lane in Lane::ALL {
                let is_of = |it: &&Event| {
                    EventType::parse(&it.kind).is_none_or(|kind| kind.lane() == lane)
                        && (EventType::parse(&it.kind).is_some() || lane == Lane::Prompt)
                };
                let events = events.iter().filter(is_of).cloned().collect();
                self.add(lane, LaneEvents { events, read_to });
            }
        }
    }

    fn prompt(customer: &str) -> QueueKey {
        QueueKey { lane: Lane::Prompt, customer: Some(CustomerId::new(customer)) }
    }

    #[tokio::test(start_paused = true)]
    async fn what_somebody_waits_for_goes_before_all_that_only_counts_the_customers_own_too() {
        let mut queues = after(0, &[]);
        queues.add_all((1..=600).map(|seq| event(seq, BULK, &format!("c-{}", seq % 100))));
        queues.add_all([
            event(601, "subscription.ending", "c-7"),
            event(602, "subscription.canceled", "c-7"),
            event(603, "subscription.created", "c-8"),
        ]);
        let mut order = Vec::new();
        while let Some((key, event)) = queues.next(Instant::now()) {
            order.push(event.seq);
            queues.taken(&key, Instant::now());
        }
        assert_eq!(order[..5], [601, 602, 603, 1, 2]);
        assert_eq!((order.len(), queues.waiting()), (603, 0));
        assert_eq!(queues.posted_to(), PerLane::from_fn(|_| 603));
    }

    #[tokio::test(start_paused = true)]
    async fn what_only_counts_leaves_room_for_what_somebody_waits_for() {
        let mut queues = after(0, &[]);
        queues.add_all((1..=50).map(|seq| event(seq, BULK, &format!("c-{seq}"))));
        let now = Instant::now();
        let under_way: Vec<_> = std::iter::from_fn(|| queues.next(now)).collect();
        assert_eq!(under_way.len(), AT_ONCE - 1);
        assert_eq!(queues.next_at(now), None, "nothing may begin before one ends");
        queues.add_all([event(51, "subscription.canceled", "c-1")]);
        assert_eq!(queues.next_at(now), Some(now));
        assert_eq!(queues.next(now).unwrap().1.seq, 51);
        // One that is refused makes room too.
        queues.refused(&under_way[0].0, now);
        tokio::time::sleep(FIRST_WAIT).await;
        assert_eq!(queues.next(Instant::now()).unwrap().1.seq, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_that_is_held_up_holds_up_no_other() {
        let mut queues = after(0, &[]);
        queues.add_all([event(1, "x", "a"), event(2, BULK, "a"), event(3, "y", "b")]);
        let begun = Instant::now();
        let mut order = Vec::new();
        while order.len() < 2 {
            let now = Instant::now();
            match queues.next(now) {
                Some((key, event)) if event.seq == 1 => drop(queues.refused(&key, now)),
                Some((key, _)) => order.extend(queues.taken(&key, now)),
                None => tokio::time::sleep_until(queues.next_at(now).unwrap()).await,
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "after a minute: {order:?}");
        }
        assert_eq!(order, [3, 2], "the customer's own in the other lane too");
        let posted_to = queues.posted_to();
        assert_eq!((posted_to.of(Lane::Prompt), posted_to.of(Lane::Bulk)), (&0, &3));
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_are_refused_hold_up_their_own_customers_only() {
        let mut queues = after(0, &[]);
        // As many as are under way at once are refused whenever they are posted.
        queues.add_all((1..=8).map(|seq| event(seq, "x", &format!("refused-{}", seq % 4))));
        queues.add_all((9..=20).map(|seq| event(seq, "x", &format!("taken-{}", seq % 2))));
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
        let state = queues.lanes.of(Lane::Prompt);
        assert_eq!((state.posted_to(), state.ahead.len()), (0, 12), "the refused ones still wait");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_posted_before_a_crash_is_not_posted_again() {
        let mut queues = after(10, &[12, 13]);
        let events = [(11, "a"), (12, "b"), (13, "b"), (14, "b")];
        queues.add_all(events.map(|(seq, customer)| event(seq, "x", customer)));
        let mut order = Vec::new();
        while let Some((key, event)) = queues.next(Instant::now()) {
            order.push(event.seq);
            assert_eq!(queues.taken(&key, Instant::now()), Some(event.seq));
        }
        let state = queues.lanes.of(Lane::Prompt);
        assert_eq!((order, state.posted_to(), state.ahead.len()), (vec![11, 14], 14, 0));
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
            let mut queues = after(0, &[]);
            queues.add_all([event(1, "x", "refused"), event(2, "x", "taken")]);
            let refused = prompt("refused");
            // One that was taken before tells nothing.
            queues.taken(&prompt("taken"), Instant::now());
            queues.add_all([event(3, "x", "taken")]);
            for _ in 0..refusals {
                tokio::time::sleep(Duration::from_secs(300)).await;
                queues.refused(&refused, Instant::now());
            }
            if others {
                tokio::time::sleep(Duration::from_secs(1)).await;
                queues.taken(&prompt("taken"), Instant::now());
            }
            let refusal = Refusal { reason: "no".into(), status: None, is_definite };
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
