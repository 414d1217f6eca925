//! One pace for one AWS operation, shared by all who call it.
//!
//! The pace finds AWS's limit and stays there. Where AWS throttles after a run of answers, the limit is near: the pace
//! gives way a little, comes back quickly to just below where it was throttled, and feels for more ever faster the longer
//! nothing happens. Where AWS throttles again at once, the limit is further down.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Thousandths of a call, in which the pace is counted.
const CALL: u64 = 1_000;
/// The slowest pace: somebody else may use up the account's whole share for a while, not for ever.
const SLOWEST: u64 = CALL / 2;
/// So many answers in a row say that the pace was right, until AWS throttled.
const RUN: u64 = 6;

/// Spaces calls evenly, and follows what AWS allows.
#[derive(Debug)]
pub struct RateLimit {
    /// The fastest pace.
    most: u64,
    /// The limit that AWS documents.
    documented: u64,
    /// Whoever waits here is let through in order, one at a time: so a change of pace holds for all who wait.
    queue: tokio::sync::Mutex<()>,
    waiting: AtomicU32,
    /// The number of processes that share the rate, each of which calls as often.
    sharers: AtomicU32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    next: Instant,
    /// Calls a second.
    pace: u64,
    /// The pace at which AWS throttled last.
    limit: u64,
    /// The number of times that the pace was lowered.
    lowered: u64,
    /// Calls that AWS has answered since.
    answered: u64,
}

/// A call's turn, which knows by which pace the call went out.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Turn<'a> {
    rate: &'a RateLimit,
    lowered: u64,
}

impl Turn<'_> {
    /// Notes that AWS answered the call: the pace goes back to where it throttled, then slowly on.
    pub fn answered(self) {
        self.rate.speed_up(self.lowered);
    }

    /// Notes that AWS throttled the call: the pace goes down. A call that went out before it was last lowered says
    /// nothing new.
    pub fn throttled(self) {
        self.rate.slow_down(self.lowered);
    }
}

impl RateLimit {
    /// Allows so many calls a second at most, and takes them for AWS's limit.
    pub fn per_second(calls: u32) -> Self {
        let most = u64::from(calls.max(1)) * CALL;
        let state =
            State { next: Instant::now(), pace: most, limit: most, lowered: 0, answered: 0 };
        Self {
            most,
            documented: most,
            queue: tokio::sync::Mutex::default(),
            waiting: AtomicU32::new(0),
            sharers: AtomicU32::new(1),
            state: Mutex::new(state),
        }
    }

    /// Has so many processes share the rate from now on, this one among them.
    pub fn share_among(&self, processes: u32) {
        self.sharers.store(processes.max(1), Ordering::Relaxed);
    }

    /// Sets the limit that AWS documents: whoever is set to go faster, and is throttled, falls back to it.
    #[must_use]
    pub fn documented(self, calls: u32) -> Self {
        Self { documented: self.most.min(u64::from(calls) * CALL), ..self }
    }

    /// Waits for this call's turn.
    pub async fn acquire(&self) -> Turn<'_> {
        let _counted = Counted::among(&self.waiting);
        let _first = self.queue.lock().await;
        loop {
            let next = self.state().next;
            if next <= Instant::now() {
                let lowered = self.state().take_turn(self.sharers());
                return Turn { rate: self, lowered };
            }
            // The pace may be lowered meanwhile.
            tokio::time::sleep_until(next).await;
        }
    }

    /// Waits for this call's turn, if it comes soon enough; whoever does not want to wait so long takes no turn.
    pub async fn acquire_within(&self, patience: Duration) -> Option<Turn<'_>> {
        let (next, spacing) = {
            let state = self.state();
            (state.next, state.spacing() * self.sharers())
        };
        let now = Instant::now();
        let before = self.waiting.load(Ordering::Relaxed);
        if next.max(now) + spacing * before > now + patience {
            return None;
        }
        Some(self.acquire().await)
    }

    fn slow_down(&self, lowered: u64) {
        let mut state = self.state();
        if lowered < state.lowered {
            return;
        }
        let held = state.answered >= RUN;
        let beyond = state.pace > self.documented / 5 * 6;
        (state.limit, state.pace) = match (beyond, held) {
            // Faster than AWS documents, and not even for a moment: it is as AWS says.
            (true, false) => (self.documented, self.documented / 20 * 19),
            (true, true) => (state.pace, state.pace / 2),
            (false, true) => (state.pace, state.pace / 100 * 92),
            (false, false) => {
                // Not lower and lower: what is used up by others for a while comes back at once.
                let limit = (state.limit / 100 * 92).max(self.documented / 4);
                (state.pace.max(limit), state.pace / 5 * 4)
            }
        };
        state.pace = state.pace.clamp(SLOWEST.min(self.most), self.most);
        state.lowered += 1;
        state.answered = 0;
        // What AWS counts by is used up: a pause of two turns.
        state.next = Instant::now() + state.spacing() * 2;
    }

    fn speed_up(&self, lowered: u64) {
        let mut state = self.state();
        if lowered < state.lowered {
            return;
        }
        state.answered += 1;
        let below = (state.limit / 100 * 96).saturating_sub(state.pace);
        let run = state.answered.min(100);
        let on = (state.pace * (100 + run * run) / 100_000).max(1);
        state.pace = (state.pace + (below * 3 / 20).max(on)).min(self.most);
    }

    fn sharers(&self) -> u32 {
        self.sharers.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn spacing(&self) -> Duration {
        Duration::from_nanos(1_000_000_000 * CALL / self.pace.max(1))
    }

    /// Takes a turn, and returns how many times the pace was lowered until now.
    fn take_turn(&mut self, sharers: u32) -> u64 {
        let (now, spacing) = (Instant::now(), self.spacing() * sharers);
        // Timers are late by a moment, which must not add up.
        let on_time = now.saturating_duration_since(self.next) <= spacing / 4;
        self.next = if on_time { self.next + spacing } else { now + spacing };
        self.lowered
    }
}

/// One more who waits, until dropped.
struct Counted<'a>(&'a AtomicU32);

impl<'a> Counted<'a> {
    fn among(waiting: &'a AtomicU32) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// As AWS limits calls: so many a second, and a few more at once after a rest.
    struct Bucket {
        per_second: u32,
        most: u32,
        /// In nanoseconds' worth of calls.
        held: Mutex<(Instant, Duration)>,
    }

    impl Bucket {
        fn new(per_second: u32, most: u32) -> Self {
            let full = Duration::from_secs(1) / per_second * most;
            Self { per_second, most, held: Mutex::new((Instant::now(), full)) }
        }

        fn takes(&self) -> bool {
            let one = Duration::from_secs(1) / self.per_second;
            let mut held = self.held.lock().unwrap();
            let now = Instant::now();
            let more = (held.1 + (now - held.0)).min(one * self.most);
            let taken = more.checked_sub(one);
            *held = (now, taken.unwrap_or(more));
            taken.is_some()
        }
    }

    /// Counts the calls that it takes to have so many answered by AWS, eight at once, and their time.
    async fn have_answered(rate: RateLimit, bucket: Bucket, calls: u32) -> (u32, Duration) {
        let (rate, bucket) = (Arc::new(rate), Arc::new(bucket));
        let left = Arc::new(AtomicU32::new(calls));
        let start = Instant::now();
        let worker = async || {
            let mut made = 0;
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |it| it.checked_sub(1))
                .is_ok()
            {
                loop {
                    let turn = rate.acquire().await;
                    tokio::time::sleep(Duration::from_millis(40)).await;
                    made += 1;
                    let taken = bucket.takes();
                    tokio::time::sleep(Duration::from_millis(40)).await;
                    if taken {
                        turn.answered();
                        break;
                    }
                    turn.throttled();
                }
            }
            made
        };
        let made = futures::future::join_all((0..8).map(|_| worker())).await;
        (made.into_iter().sum(), start.elapsed())
    }

    /// A call of the newest pace is throttled.
    fn throttle(rate: &RateLimit) {
        let lowered = rate.state().lowered;
        Turn { rate, lowered }.throttled();
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_spaced_and_slow_down_when_throttled() {
        let rate = RateLimit::per_second(10);
        let start = Instant::now();
        let mut turn = rate.acquire().await;
        for _ in 0..10 {
            turn = rate.acquire().await;
        }
        assert_eq!(start.elapsed(), Duration::from_secs(1));
        turn.throttled();
        let slowed = Instant::now();
        // What was on its way at the same time says nothing new.
        turn.throttled();
        let _turn = rate.acquire().await;
        let _turn = rate.acquire().await;
        assert_eq!(slowed.elapsed(), Duration::from_millis(375));
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_of_pace_holds_for_those_who_wait_already() {
        let rate = Arc::new(RateLimit::per_second(100));
        let _turn = rate.acquire().await;
        let start = Instant::now();
        let waiting = (0..20).map(|_| rate.acquire());
        let slower = async {
            for _ in 0..30 {
                throttle(&rate);
            }
        };
        tokio::join!(futures::future::join_all(waiting), slower);
        assert!(start.elapsed() > Duration::from_secs(20), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn the_pace_finds_the_limit_and_stays_there() {
        // As it is set, and what AWS allows: a second, and at once.
        for (set, allowed, at_once, calls) in [
            (10, 10, 10, 60),
            (10, 10, 2, 60),
            (20, 10, 10, 60),
            (50, 10, 10, 600),
            (1_000, 10, 10, 600),
            (10, 5, 5, 600),
            (10, 3, 3, 600),
        ] {
            let rate = RateLimit::per_second(set).documented(10);
            let (made, took) = have_answered(rate, Bucket::new(allowed, at_once), calls).await;
            let floor = Duration::from_secs(1) / allowed * calls;
            let shown = format!(
                "{set} set, {allowed} allowed: {made} calls for {calls}, {took:?} for {floor:?}"
            );
            assert!(made * 10 <= calls * 11, "{shown}");
            assert!(took * 10 <= floor * 11, "{shown}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_pace_recovers_when_aws_allows_more() {
        let rate = RateLimit::per_second(10);
        for _ in 0..40 {
            throttle(&rate);
        }
        let start = Instant::now();
        for _ in 0..300 {
            let turn = rate.acquire().await;
            turn.answered();
        }
        assert_eq!(rate.state().pace, 10 * CALL, "after {:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(120), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn several_who_share_a_rate_keep_it_together() {
        let each = async |rate: &RateLimit| {
            let start = Instant::now();
            for _ in 0..41 {
                rate.acquire().await.answered();
            }
            start.elapsed()
        };
        let rate = RateLimit::per_second(10);
        let alone = each(&rate).await;
        rate.share_among(3);
        let of_three = each(&rate).await;
        assert!((of_three.as_secs_f64() / alone.as_secs_f64() - 3.0).abs() < 0.2, "{of_three:?}");
        assert!(rate.acquire_within(Duration::from_millis(250)).await.is_none());
        rate.share_among(1);
        assert!(each(&rate).await < alone + Duration::from_millis(400));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_does_not_want_to_wait_takes_no_turn() {
        let rate = RateLimit::per_second(1);
        let _turn = rate.acquire().await;
        assert!(rate.acquire_within(Duration::from_millis(900)).await.is_none());
        assert!(rate.acquire_within(Duration::from_millis(1_100)).await.is_some());
    }
}
