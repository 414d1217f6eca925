//! The state of posting: what waits, what is under way, and what was posted and is not noted yet. It outlives trouble
//! with the database, so that nothing is posted again over that.

use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::queues::{EventQueues, QueueKey};
use super::receiver::Refusal;
use super::{AT_ONCE, READ};
use crate::domain::event::{Lane, PerLane};
use crate::store::{DeliveryAttempt, DeliveryOutcome, Event, Store, StoreError, WebhookPlace};

/// The longest time until what was posted is noted.
const NOTE_WITHIN: Duration = Duration::from_millis(250);
/// Posted events that are noted at once, however soon that is: no more than these and those under way are posted again after
/// a crash.
const NOTE_AT: usize = 100;

/// The longest time until it is seen what another process did, as a pass beside a daemon.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// The outcome of a post, by the queue of its event.
pub(super) type Ended = (QueueKey, Result<u16, Refusal>);

#[derive(Default)]
pub(super) struct Posting {
    /// The place in the outbox; none until it is read.
    place: Option<WebhookPlace>,
    queues: EventQueues,
    posts: JoinSet<Ended>,
    unnoted: Vec<DeliveryAttempt>,
    note_at: Option<Instant>,
    posted: usize,
    /// The time at which the database was last read; none once it is known to have something new.
    read_at: Option<Instant>,
    /// Set for a lane of which not all was read.
    has_left: PerLane<bool>,
}

impl Posting {
    /// Returns how many attempts are not noted.
    pub(super) fn unnoted(&self) -> usize {
        self.unnoted.len()
    }

    /// Returns how many events were posted in all.
    pub(super) fn posted(&self) -> usize {
        self.posted
    }

    /// Returns how many wait.
    pub(super) fn left(&self) -> usize {
        self.queues.waiting()
    }

    /// Reports whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.posts.is_empty()
    }

    /// Reports whether a person has it post nothing.
    pub(super) fn is_paused(&self) -> bool {
        self.place.is_some_and(|place| place.is_paused)
    }

    /// Reports whether some are put off since they were refused.
    pub(super) fn has_refused(&self) -> bool {
        self.queues.has_refused()
    }

    /// Returns when what was posted is to be noted.
    pub(super) fn note_at(&self) -> Option<Instant> {
        self.note_at
    }

    pub(super) fn is_to_be_noted(&self, now: Instant) -> bool {
        self.unnoted.len() >= NOTE_AT || self.note_at.is_some_and(|at| at <= now)
    }

    /// Returns when one may be posted that may not now; none while a post has to end first.
    pub(super) fn next_at(&self, now: Instant) -> Option<Instant> {
        self.queues.next_at(now).filter(|_| self.posts.len() < AT_ONCE && !self.is_paused())
    }

    /// Reports whether the database may tell something new: of events, or that somebody set the webhook elsewhere. This
    /// process is told when that is so, but not of what another one does; and some were left when there were enough.
    pub(super) fn is_behind(&self, now: Instant) -> bool {
        let has_room = |lane| *self.has_left.of(lane) && !self.queues.is_filled(lane);
        self.read_at.is_none_or(|at| now >= at + READ_AGAIN) || Lane::ALL.into_iter().any(has_room)
    }

    /// Notes that the database has something new.
    pub(super) fn fall_behind(&mut self) {
        self.read_at = None;
    }

    /// Follows a place that was set by somebody else, once nothing is under way; returns whether that is awaited.
    pub(super) async fn follow(&mut self, store: &Store) -> Result<bool, StoreError> {
        let held = store.webhook_place().await?;
        if self.place == Some(held) {
            return Ok(false);
        }
        self.read_at = None;
        if !self.posts.is_empty() {
            return Ok(true);
        }
        self.note(store).await?;
        // The place first: what is noted between the two is ahead of it, or behind.
        let place = store.webhook_place().await?;
        let ahead = async |lane| store.posted_ahead(lane).await;
        let (prompt, bulk) = (ahead(Lane::Prompt).await?, ahead(Lane::Bulk).await?);
        self.queues = EventQueues::after(place.lanes.zip(PerLane::new(prompt, bulk)));
        self.place = Some(place);
        Ok(false)
    }

    /// Reads what there is to post.
    pub(super) async fn read(&mut self, store: &Store, now: Instant) -> Result<(), StoreError> {
        for lane in Lane::ALL {
            *self.has_left.of_mut(lane) = true;
            while *self.has_left.of(lane) && !self.queues.is_filled(lane) {
                let read = store.lane_after(lane, self.queues.read_to(lane), READ).await?;
                *self.has_left.of_mut(lane) = read.events.len() >= READ as usize;
                self.queues.add(lane, read);
            }
        }
        self.read_at = Some(now);
        Ok(())
    }

    /// Returns the next to post, if one may be posted now.
    pub(super) fn next(&mut self, now: Instant) -> Option<(QueueKey, Event)> {
        if self.posts.len() >= AT_ONCE || self.is_paused() {
            return None;
        }
        self.queues.next(now)
    }

    pub(super) fn begin(&mut self, post: impl Future<Output = Ended> + Send + 'static) {
        self.posts.spawn(post);
    }

    /// Waits for a post to end; returns none at once if there is none.
    pub(super) async fn ended(&mut self) -> Option<Ended> {
        let ended = self.posts.join_next().await?;
        Some(ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())))
    }

    /// Notes that an event was taken, with the status that said so.
    pub(super) fn taken(&mut self, key: &QueueKey, status: u16, at: Timestamp) {
        let Some(seq) = self.queues.taken(key, Instant::now()) else { return };
        self.posted += 1;
        self.keep(key.lane, seq, at, DeliveryOutcome::Taken(status));
    }

    /// Returns the event that was refused if it is to be given up.
    pub(super) fn hopeless(
        &self,
        key: &QueueKey,
        refusal: &Refusal,
        at: Timestamp,
    ) -> Option<&Event> {
        self.queues.hopeless(key, refusal, at)
    }

    /// Leaves an event behind.
    pub(super) fn given_up(&mut self, key: &QueueKey, at: Timestamp) {
        if let Some(seq) = self.queues.given_up(key) {
            self.keep(key.lane, seq, at, DeliveryOutcome::GivenUp);
        }
    }

    /// Notes that an event was refused.
    pub(super) fn refused(&mut self, key: &QueueKey, refusal: &Refusal, at: Timestamp) {
        let Some(seq) = self.queues.refused(key, Instant::now()) else { return };
        let Refusal { status, reason, .. } = refusal.clone();
        let outcome = DeliveryOutcome::Refused { status, error: reason };
        self.keep(key.lane, seq, at, outcome);
    }

    /// Keeps an attempt until it is noted in the database.
    fn keep(&mut self, lane: Lane, seq: i64, at: Timestamp, outcome: DeliveryOutcome) {
        self.unnoted.push(DeliveryAttempt { lane, seq, at, outcome });
        self.note_at.get_or_insert(Instant::now() + NOTE_WITHIN);
    }

    /// Notes what was posted.
    pub(super) async fn note(&mut self, store: &Store) -> Result<(), StoreError> {
        if let Some(place) = &mut self.place
            && !self.unnoted.is_empty()
        {
            let to = self.queues.posted_to();
            if store.note_posted(place.turn, to, self.unnoted.clone()).await? {
                place.lanes = to;
            } else {
                self.read_at = None;
            }
        }
        self.unnoted.clear();
        self.note_at = None;
        Ok(())
    }

    /// Cuts off what is under way.
    pub(super) async fn cut(&mut self) {
        let posts = self.posts.len();
        self.posts.shutdown().await;
        tracing::warn!(
            posts,
            "the application has not answered in time: these events are posted again"
        );
    }
}
