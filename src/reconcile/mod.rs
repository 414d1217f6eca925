//! Asks AWS what each dirty buyer holds and makes the database agree.
//!
//! Two loops with one way of taking over an answer: [`Reconciler`] asks about buyers who are due, its sweeps
//! list whole products and so heal what no notification told.

mod agreements;
mod brakes;
mod direct;
mod question;
mod sweep;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::aws;
use crate::clock::Clock;
use crate::domain::ProductCode;
use crate::domain::reconciliation::Patience;
use crate::health::Health;
use crate::store::{DueBuyer, Store, StoreError, Waiter};
use crate::supervisor::Part;

pub use brakes::Brakes;
pub use direct::Dates;
pub use sweep::{Sweeps, Swept};

/// The most buyers that one question may name; each answers with few rows, so the pages stay few.
const BUYERS_PER_QUESTION: usize = 20;
/// The most buyers that are decided about at once where AWS need not be asked. What is written together shares pages and
/// a commit; more would keep others waiting for the writer.
const BUYERS_PER_DECISION: usize = 4 * BUYERS_PER_QUESTION;
/// The due buyers that are read for each question that may be put: some are of several products, whose questions
/// differ.
const READ_PER_QUESTION: usize = BUYERS_PER_DECISION;
/// The longest wait for a retry.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_mins(15);
/// A fallback beside wake-ups and due times, should the clock be moved.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

/// The reconciler, which asks AWS about buyers who are due.
#[derive(Clone)]
pub struct Reconciler {
    /// The store, which knows what is held, and who is due.
    pub store: Store,
    /// The AWS clients.
    pub aws: aws::Connection,
    /// The time.
    pub clock: Clock,
    /// The health board.
    pub health: Health,
    /// The patience with AWS's answers.
    pub patience: Patience,
    /// The most questions that may be under way at once.
    pub concurrency: usize,
    /// The interval at which whole products are listed.
    pub sweep_interval: Duration,
}

/// The outcome of one pass over everything due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Buyers taken over.
    pub buyers: usize,
    /// Subscriptions created or changed.
    pub changes: usize,
    /// Buyers about whom asking failed; they are tried again later.
    pub failed: usize,
}

impl Reconciled {
    fn add(&mut self, other: Self) {
        self.buyers += other.buyers;
        self.changes += other.changes;
        self.failed += other.failed;
    }
}

/// Buyers of one product that one question can name.
struct Group {
    product_code: ProductCode,
    buyers: Vec<DueBuyer>,
}

impl Part for Reconciler {
    const NAME: &'static str = "reconcile";

    /// Asks about whoever is due, until told to stop; questions under way are finished.
    async fn work(&mut self, shutdown: &CancellationToken) -> Result<(), StoreError> {
        let this = Arc::new(self.clone());
        let mut questions: JoinSet<(Vec<i64>, Result<Reconciled, StoreError>)> = JoinSet::new();
        let mut asking: HashSet<i64> = HashSet::new();
        let mut alarm = this.clock.alarm();
        let mut woken = this.store.wakeups().of(Waiter::Buyers);
        while !shutdown.is_cancelled() {
            woken.arm();
            let now = this.clock.now();
            let free = this.concurrency.saturating_sub(questions.len());
            for group in this.due_groups(now, free, &asking).await? {
                let ids: Vec<i64> = group.buyers.iter().map(|buyer| buyer.id).collect();
                asking.extend(&ids);
                let this = Arc::clone(&this);
                questions.spawn(async move { (ids, this.ask_about(group).await) });
            }
            let sleep = this.until_next(now, questions.len()).await?;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                Some(done) = questions.join_next() => {
                    finish(done, &mut asking)?;
                    // One commit ends several questions, and who is due is read once for all that may begin.
                    while let Some(done) = questions.try_join_next() {
                        finish(done, &mut asking)?;
                    }
                }
                () = woken.woken(), if questions.len() < this.concurrency => {}
                () = alarm.rest(now, sleep) => {}
            }
        }
        while let Some(done) = questions.join_next().await {
            finish(done, &mut asking)?;
        }
        Ok(())
    }
}

impl Reconciler {
    /// Asks about everybody who is due now, and about those who become due by a second look meanwhile.
    pub async fn run_once(&self) -> Result<Reconciled, StoreError> {
        let this = Arc::new(self.clone());
        let mut total = Reconciled::default();
        let deadline = self.clock.now().saturating_add(self.patience.second_look * 2);
        loop {
            let now = self.clock.now();
            let groups = this.due_groups(now, 10 * self.concurrency, &HashSet::new()).await?;
            if groups.is_empty() {
                // A second look that is about to be due belongs to this pass.
                match self.store.next_due_buyer().await? {
                    Some(next) if deadline.as_ref().is_ok_and(|deadline| next <= *deadline) => {
                        tokio::time::sleep(wait_until(next, now)).await;
                        continue;
                    }
                    _ => return Ok(total),
                }
            }
            let mut questions = JoinSet::new();
            for group in groups {
                if questions.len() >= self.concurrency
                    && let Some(done) = questions.join_next().await
                {
                    total.add(joined(done)?);
                }
                let this = Arc::clone(&this);
                questions.spawn(async move { this.ask_about(group).await });
            }
            while let Some(done) = questions.join_next().await {
                total.add(joined(done)?);
            }
        }
    }

    /// Returns so many groups of those who wait longest, without those who are being asked about.
    async fn due_groups(
        &self,
        now: Timestamp,
        most: usize,
        asking: &HashSet<i64>,
    ) -> Result<Vec<Group>, StoreError> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let due = self.store.due_buyers(now, most * READ_PER_QUESTION + asking.len()).await?;
        let unasked = if due.len() > BUYERS_PER_QUESTION {
            self.store.codes_without_contracts().await?
        } else {
            BTreeSet::new()
        };
        // Groups in the order of whoever waits longest in each: no product has to wait for another's buyers.
        let mut groups: Vec<Group> = Vec::new();
        let mut filling: BTreeMap<(ProductCode, &'static str), usize> = BTreeMap::new();
        for buyer in due {
            if asking.contains(&buyer.id) {
                continue;
            }
            let question = (buyer.key.product_code.clone(), buyer.key.buyer.kind());
            let most = if unasked.contains(&question.0) {
                BUYERS_PER_DECISION
            } else {
                BUYERS_PER_QUESTION
            };
            let open = filling.get(&question).and_then(|place| groups.get_mut(*place));
            if let Some(group) = open.filter(|group| group.buyers.len() < most) {
                group.buyers.push(buyer);
            } else {
                filling.insert(question, groups.len());
                let product_code = buyer.key.product_code.clone();
                groups.push(Group { product_code, buyers: vec![buyer] });
            }
        }
        groups.truncate(most);
        Ok(groups)
    }

    async fn until_next(&self, now: Timestamp, asking: usize) -> Result<Duration, StoreError> {
        if asking > 0 {
            // The next step comes from a question that ends.
            return Ok(LONGEST_SLEEP);
        }
        let next = self.store.next_due_buyer().await?;
        Ok(next.map_or(LONGEST_SLEEP, |next| wait_until(next, now).min(LONGEST_SLEEP)))
    }
}

fn wait_until(next: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(next.duration_since(now)).unwrap_or(Duration::ZERO)
}

fn finish(
    done: Result<(Vec<i64>, Result<Reconciled, StoreError>), tokio::task::JoinError>,
    asking: &mut HashSet<i64>,
) -> Result<(), StoreError> {
    match done {
        Ok((ids, outcome)) => {
            for id in ids {
                asking.remove(&id);
            }
            outcome.map(drop)
        }
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

fn joined(
    done: Result<Result<Reconciled, StoreError>, tokio::task::JoinError>,
) -> Result<Reconciled, StoreError> {
    done.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
}

/// Returns how long to wait after so many failures: doubling from a second, jittered so that many buyers who
/// failed together do not come back together.
fn retry_wait(attempts: u32, jitter: u32) -> SignedDuration {
    let doubled = SignedDuration::from_secs(1) * 2_i32.pow(attempts.min(12));
    let longest = doubled.min(LONGEST_WAIT);
    longest / 2 + (longest / 2 / 1_000) * i32::try_from(jitter % 1_000).unwrap_or(0)
}
