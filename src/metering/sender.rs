//! Sending frozen records: batches of one product and form, one bad record never sinking the others.

use futures::StreamExt;
use futures::stream;

use super::{MeteringEngine, PassSummary};
use crate::domain::ledger::Answer;
use crate::domain::{ProductCode, ProductId};
use crate::store::{SendableRecord, StoreError};

/// The most records that AWS takes in a call.
const RECORDS_PER_CALL: usize = 25;
/// Records taken in one go; the next go follows at once.
const TAKE: u32 = 2_000;

/// One call: records of one product in one form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrozenCall {
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
    /// Sends what is due until nothing is, or until nothing can be sent.
    pub(super) async fn send_due(&self, summary: &mut PassSummary) -> Result<(), StoreError> {
        loop {
            let now = self.clock.now();
            let due = self.store.take_sendable(self.window(), TAKE, now).await?;
            if due.is_empty() {
                return Ok(());
            }
            let mut calls = stream::iter(batch(due))
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
            if summary.blocked.is_some() {
                return Ok(());
            }
        }
    }

    /// Sends one call, and halves of it for as long as AWS refuses it whole, until the culprit is alone.
    async fn send_call(&self, call: FrozenCall) -> Result<PassSummary, StoreError> {
        let mut summary = PassSummary::default();
        let mut waiting = vec![call];
        while let Some(call) = waiting.pop() {
            let ids: Vec<i64> = call.records.iter().map(|record| record.id).collect();
            self.store.begin_attempts(ids.clone(), self.clock.now()).await?;
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

/// Fills calls in the order of the records' deadlines. A call is of one product and one form: by product code,
/// or by licence. Records of 25 stay far below AWS's 1 MB while none carries allocations.
fn batch(records: Vec<SendableRecord>) -> Vec<FrozenCall> {
    let mut calls: Vec<(ProductId, FrozenCall)> = Vec::new();
    for record in records {
        let room = calls.iter_mut().rev().find(|(product, call)| {
            *product == record.product_id
                && call.product_code == record.identity.product_code
                && call.records.len() < RECORDS_PER_CALL
        });
        if let Some((_, call)) = room {
            call.records.push(record);
            continue;
        }
        let product_code = record.identity.product_code.clone();
        let product = record.product_id.clone();
        calls.push((product, FrozenCall { product_code, records: vec![record] }));
    }
    calls.into_iter().map(|(_, call)| call).collect()
}

fn halves(call: FrozenCall) -> [FrozenCall; 2] {
    let FrozenCall { product_code, mut records } = call;
    let second = records.split_off(records.len() / 2);
    let half = |records| FrozenCall { product_code: product_code.clone(), records };
    // The last is sent first.
    [half(second), half(records)]
}
