//! Sending frozen records: batches of one product and form, one bad record never sinking the others.

use futures::StreamExt;
use futures::stream;
use tokio_util::sync::CancellationToken;

use super::MeteringEngine;
use super::breaker::{Failure, Gate};
use crate::domain::ledger::{Answer, StandstillCause};
use crate::domain::{AccountId, ProductCode, ProductId, allocation};
use crate::store::{SendOutcome, SendableRecord, StoreError};

/// The most records that AWS takes in a call.
const RECORDS_PER_CALL: usize = 25;
/// Bytes that the records of a call may take. AWS takes less than 1 MB; the rest is for what surrounds them.
const BYTES_PER_CALL: usize = 900_000;
/// The most bytes that a record takes besides its allocations.
const BYTES_PER_RECORD: usize = 1_000;
/// Records taken in one go: at AWS's rate, what takes a quarter of a minute.
const TAKE: u32 = 2_000;
/// The throttled answers in a row after which a call makes room for others.
const THROTTLED: u32 = 4;

/// One call: records of one product in one form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrozenCall {
    /// The region in which they are metered.
    pub region: String,
    /// The account that sells the product, where the catalog has told.
    pub seller: Option<AccountId>,
    /// The product, in the legacy form.
    pub product_code: Option<ProductCode>,
    /// The records.
    pub records: Vec<SendableRecord>,
}

/// The outcome of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallAnswer {
    /// An answer for each record, in their order.
    Answered(Vec<Answer>),
    /// AWS refused the call as a whole, naming no record; none was done.
    Refused {
        /// AWS's code.
        code: String,
        /// AWS's words.
        message: String,
    },
    /// The same for every record: throttled, unanswered, or blocked.
    Failed(Answer),
    /// Nothing was sent: there was nothing to sign it with.
    Unsent(String),
}

/// The metering API: AWS, or what a test puts in its place.
pub trait MeteringApi: Clone + Send + Sync + 'static {
    /// Sends one call once. No retries beneath this: the ledger counts attempts.
    fn send(&self, call: &FrozenCall) -> impl Future<Output = CallAnswer> + Send;
}

/// The outcome of trying to send something.
#[derive(Debug, Default)]
pub(super) struct Tried {
    /// Calls made.
    pub(super) calls: usize,
    /// Calls that AWS answered, whatever it said.
    pub(super) answered: usize,
    /// The numbers of records, by what became of them.
    pub(super) settled: SendOutcome,
    /// The reason why a call came to nothing.
    pub(super) failed: Option<(Failure, String)>,
    /// Set if there may be more that can be sent now.
    pub(super) more: bool,
}

impl Tried {
    fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.answered += other.answered;
        self.settled.accepted += other.settled.accepted;
        self.settled.parked += other.settled.parked;
        self.settled.waiting += other.settled.waiting;
        self.failed = other.failed.or(self.failed.take());
    }
}

impl<A: MeteringApi> MeteringEngine<A> {
    /// Sends the most urgent of what is due, or asks whether AWS is back.
    pub(super) async fn send(&self, shutdown: &CancellationToken) -> Result<Tried, StoreError> {
        let now = self.clock.now();
        let due = self.store.records_to_send(self.window(), TAKE, now).await?;
        if !self.breaker.is_open() {
            return self.send_batch(due, shutdown).await;
        }
        let nearest = self.store.nearest_deadline(now).await?;
        match self.breaker.gate(nearest, now) {
            Gate::Closed => self.send_batch(due, shutdown).await,
            Gate::Wait(_) => Ok(Tried::default()),
            Gate::Ask { failure, suspect } => {
                let call = self.probe(due, failure, suspect).await?;
                let Some(call) = call else { return Ok(Tried::default()) };
                let mut tried = self.send_call(call, Purpose::Probe, shutdown).await?;
                tried.more = !self.breaker.is_open();
                Ok(tried)
            }
        }
    }

    /// Builds the probe: the call that asks whether AWS answers. Its outcome may stay unknown, so it is of one record,
    /// and rather of one whose outcome is unknown already. Where nothing leaves the house there is no such danger, and
    /// it may be of use.
    async fn probe(
        &self,
        due: Vec<SendableRecord>,
        failure: Failure,
        suspect: Option<i64>,
    ) -> Result<Option<FrozenCall>, StoreError> {
        let suspect = match suspect {
            Some(id) if failure == Failure::Unanswered => {
                self.store.unsettled_record(id, self.clock.now()).await?
            }
            _ => None,
        };
        let mut call = match suspect {
            Some(record) => fill_calls(vec![record], false),
            None => fill_calls(due, false),
        };
        let mut call = (!call.is_empty()).then(|| call.swap_remove(0));
        if let (Failure::Unanswered, Some(call)) = (failure, &mut call) {
            call.records.truncate(1);
        }
        Ok(call)
    }

    async fn send_batch(
        &self,
        due: Vec<SendableRecord>,
        shutdown: &CancellationToken,
    ) -> Result<Tried, StoreError> {
        let mut tried = Tried { more: !due.is_empty(), ..Tried::default() };
        let more = due.len() >= TAKE as usize;
        // Where the database fails, no more calls begin, and the answers to those under way are waited for.
        let stop = shutdown.child_token();
        let mut calls = stream::iter(fill_calls(due, more))
            .map(|call| self.send_call(call, Purpose::Batch, &stop))
            .buffer_unordered(self.concurrency);
        let mut failed = Ok(());
        while let Some(sent) = calls.next().await {
            match sent {
                Ok(sent) => tried.add(sent),
                Err(error) => {
                    stop.cancel();
                    failed = failed.and(Err(error));
                }
            }
        }
        failed?;
        tried.more &= !self.breaker.is_open();
        Ok(tried)
    }

    /// Sends one call, and halves of it for as long as AWS refuses it whole, until the culprit is alone.
    async fn send_call(
        &self,
        call: FrozenCall,
        purpose: Purpose,
        shutdown: &CancellationToken,
    ) -> Result<Tried, StoreError> {
        let mut tried = Tried::default();
        let mut waiting = vec![call];
        while let Some(mut call) = waiting.pop() {
            let held_back = purpose == Purpose::Batch && self.breaker.is_open();
            if held_back || shutdown.is_cancelled() {
                break;
            }
            let Some(product) = call.records.first().map(|record| record.product_id.clone()) else {
                continue;
            };
            let ids = call.records.iter().map(|record| record.id).collect();
            let attempts = self.store.begin_attempts(ids, self.clock.now()).await?;
            let ids: Vec<i64> = attempts.iter().map(|attempt| attempt.record).collect();
            // What was taken off the list since it was read is not sent.
            call.records.retain(|record| ids.contains(&record.id));
            if ids.is_empty() {
                continue;
            }
            let answer = self.make_call(&call, &mut tried, shutdown).await;
            let is_unsent = matches!(answer, CallAnswer::Unsent(_));
            let answers = match answer {
                CallAnswer::Unsent(reason) => vec![Answer::Blocked(reason); ids.len()],
                CallAnswer::Answered(answers) => answers,
                CallAnswer::Failed(answer) => vec![answer; ids.len()],
                CallAnswer::Refused { code, message } if ids.len() > 1 => {
                    self.store.record_refused_call(attempts, format!("{code}: {message}")).await?;
                    self.note_answer(&product, &mut tried).await?;
                    waiting.extend(halves(call));
                    continue;
                }
                CallAnswer::Refused { code, message } => vec![Answer::Refused { code, message }],
            };
            let failed = failure(&answers);
            let outcomes = attempts.into_iter().zip(answers).collect();
            let settled = self.store.record_outcomes(outcomes, self.clock.now()).await?;
            count(settled.accepted, "accepted");
            count(settled.parked, "parked");
            count(settled.waiting, "waiting");
            tried.add(Tried { settled, ..Tried::default() });
            match failed {
                Some((failure, reason)) => {
                    self.note_failure(failure, &reason, &ids, &mut tried).await?;
                    let cause = if is_unsent { StandstillCause::Unsent } else { failure.into() };
                    self.note_standstill(product, cause, reason).await?;
                }
                None => self.note_answer(&product, &mut tried).await?,
            }
        }
        Ok(tried)
    }

    /// Makes a call. One that was throttled was not done, and is made again as it is, when the pace allows.
    async fn make_call(
        &self,
        call: &FrozenCall,
        tried: &mut Tried,
        shutdown: &CancellationToken,
    ) -> CallAnswer {
        let mut throttled = 0;
        loop {
            let answer = self.api.send(call).await;
            tried.calls += 1;
            throttled += 1;
            let again = answer == CallAnswer::Failed(Answer::Throttled) && throttled < THROTTLED;
            if !again || shutdown.is_cancelled() {
                return answer;
            }
        }
    }
}

/// The purpose of a call: to send what is due, or to see whether AWS answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Batch,
    Probe,
}

/// Returns why a call came to nothing, where AWS said nothing about any of its records.
fn failure(answers: &[Answer]) -> Option<(Failure, String)> {
    let of = |answer: &Answer| match answer {
        Answer::Blocked(reason) => Some((Failure::Blocked, reason.clone())),
        Answer::Unanswered(reason) => Some((Failure::Unanswered, reason.clone())),
        Answer::Throttled => Some((Failure::Unanswered, "AWS throttles every call".to_owned())),
        _ => None,
    };
    let first = answers.first().and_then(of)?;
    answers.iter().all(|answer| of(answer).is_some()).then_some(first)
}

impl From<Failure> for StandstillCause {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Blocked => Self::Refused,
            Failure::Unanswered => Self::Unanswered,
        }
    }
}

fn count(records: usize, outcome: &'static str) {
    metrics::counter!("marketd_metering_records_total", "outcome" => outcome)
        .increment(u64::try_from(records).unwrap_or(u64::MAX));
}

/// A call that is being filled.
struct Filling {
    product: ProductId,
    bytes: usize,
    call: FrozenCall,
}

impl Filling {
    fn has_room_for(&self, record: &SendableRecord, bytes: usize) -> bool {
        self.product == record.product_id
            && self.call.region == record.region
            && self.call.product_code == record.identity.product_code
            && self.call.records.len() < RECORDS_PER_CALL
            && self.bytes + bytes <= BYTES_PER_CALL
    }
}

/// Fills calls in the order of the records' deadlines. A call is of one region, one product and one form: by
/// product code, or by licence. Where there are more records to come, calls that are not full wait for them, so
/// that as few calls are made as AWS allows.
fn fill_calls(records: Vec<SendableRecord>, more: bool) -> Vec<FrozenCall> {
    let mut open: Vec<Filling> = Vec::new();
    let mut full = Vec::new();
    for record in records {
        let bytes = BYTES_PER_RECORD + allocation::bytes(&record.allocations);
        match open.iter_mut().find(|filling| filling.has_room_for(&record, bytes)) {
            Some(filling) => {
                filling.bytes += bytes;
                filling.call.records.push(record);
            }
            None => open.push(Filling {
                product: record.product_id.clone(),
                bytes,
                call: FrozenCall {
                    region: record.region.clone(),
                    seller: record.seller.clone(),
                    product_code: record.identity.product_code.clone(),
                    records: vec![record],
                },
            }),
        }
        full.extend(
            open.extract_if(.., |it| it.call.records.len() == RECORDS_PER_CALL).map(|it| it.call),
        );
    }
    if !more || full.is_empty() {
        full.extend(open.into_iter().map(|it| it.call));
    }
    full
}

fn halves(call: FrozenCall) -> [FrozenCall; 2] {
    let FrozenCall { region, seller, product_code, mut records } = call;
    let second = records.split_off(records.len() / 2);
    let half = |records| FrozenCall {
        region: region.clone(),
        seller: seller.clone(),
        product_code: product_code.clone(),
        records,
    };
    // The last is sent first.
    [half(second), half(records)]
}
