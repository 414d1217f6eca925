//! Sending frozen records: batches of one product and form, one bad record never sinking the others.

use futures::StreamExt;
use futures::stream;

use super::{MeteringEngine, PassSummary};
use crate::domain::ledger::Answer;
use crate::domain::{AccountId, ProductCode, ProductId, allocation};
use crate::store::{SendableRecord, StoreError};

/// The most records that AWS takes in a call.
const RECORDS_PER_CALL: usize = 25;
/// Bytes that the records of a call may take. AWS takes less than 1 MB; the rest is for what surrounds them.
const BYTES_PER_CALL: usize = 900_000;
/// What a record takes besides its allocations, at most.
const BYTES_PER_RECORD: usize = 1_000;
/// Records taken in one go: at AWS's rate, what takes a quarter of a minute.
const TAKE: u32 = 2_000;

/// One call: records of one product in one form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrozenCall {
    /// Where they are metered.
    pub region: String,
    /// The account that sells the product, where the catalog has told.
    pub seller: Option<AccountId>,
    /// The product, in the legacy form.
    pub product_code: Option<ProductCode>,
    /// The records.
    pub records: Vec<SendableRecord>,
}

/// What a call came to.
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
}

/// Who bills: AWS, or what a test puts in its place.
pub trait MeteringApi: Clone + Send + Sync + 'static {
    /// Sends one call once. No retries beneath this: the ledger counts attempts.
    fn send(&self, call: &FrozenCall) -> impl Future<Output = CallAnswer> + Send;
}

impl<A: MeteringApi> MeteringEngine<A> {
    /// Sends the most urgent of what is due; whether there may be more that can be sent.
    pub(super) async fn send_batch(&self, summary: &mut PassSummary) -> Result<bool, StoreError> {
        let due = self.store.take_sendable(self.window(), TAKE, self.clock.now()).await?;
        if due.is_empty() {
            return Ok(false);
        }
        let more = due.len() >= TAKE as usize;
        let mut calls = stream::iter(fill_calls(due, more))
            .map(|call| self.send_call(call))
            .buffer_unordered(self.concurrency);
        while let Some(sent) = calls.next().await {
            let sent = sent?;
            summary.calls += sent.calls;
            summary.accepted += sent.accepted;
            summary.parked += sent.parked;
            summary.waiting += sent.waiting;
            summary.blocked = summary.blocked.take().or(sent.blocked);
        }
        Ok(summary.blocked.is_none())
    }

    /// Sends one call, and halves of it for as long as AWS refuses it whole, until the culprit is alone.
    async fn send_call(&self, call: FrozenCall) -> Result<PassSummary, StoreError> {
        let mut summary = PassSummary::default();
        let mut waiting = vec![call];
        while let Some(mut call) = waiting.pop() {
            let ids = call.records.iter().map(|record| record.id).collect();
            let ids: Vec<i64> = self.store.begin_attempts(ids, self.clock.now()).await?;
            // What was taken off the list since it was read is not sent.
            call.records.retain(|record| ids.contains(&record.id));
            if ids.is_empty() {
                continue;
            }
            let answer = self.api.send(&call).await;
            summary.calls += 1;
            let answers = match answer {
                CallAnswer::Answered(answers) => answers,
                CallAnswer::Failed(answer) => {
                    if let Answer::Blocked(reason) = &answer {
                        summary.blocked = Some(reason.clone());
                    }
                    vec![answer; ids.len()]
                }
                CallAnswer::Refused { code, message } if ids.len() > 1 => {
                    self.store.record_refused_call(ids, format!("{code}: {message}")).await?;
                    waiting.extend(halves(call));
                    continue;
                }
                CallAnswer::Refused { code, message } => vec![Answer::Refused { code, message }],
            };
            let outcomes = ids.into_iter().zip(answers).collect();
            let settled = self.store.record_outcomes(outcomes, self.clock.now()).await?;
            summary.accepted += settled.accepted;
            summary.parked += settled.parked;
            summary.waiting += settled.waiting;
            count(settled.accepted, "accepted");
            count(settled.parked, "parked");
            count(settled.waiting, "waiting");
        }
        Ok(summary)
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
