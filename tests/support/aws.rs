//! AWS by the sandbox's rules, called directly: answers can be lost, and the process can die around a call.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use marketd::clock::Clock;
use marketd::domain::allocation::Allocation;
use marketd::domain::ledger::Answer;
use marketd::domain::{Id, Quantity};
use marketd::metering::{CallAnswer, FrozenCall, MeteringApi};
use marketd::sandbox::market::{CallContext, Market, Service};
use marketd::store::{SendableRecord, Store};
use serde_json::{Value, json};

#[derive(Clone)]
pub(crate) struct Aws {
    pub(crate) market: Arc<Mutex<Market>>,
    /// AWS's own time.
    pub(crate) clock: Clock,
    pub(crate) faults: Arc<Mutex<Faults>>,
    /// What was sent as each record, so that no attempt differs from the first.
    sent: Arc<Mutex<BTreeMap<i64, Value>>>,
}

/// What goes wrong.
#[derive(Default)]
pub(crate) struct Faults {
    /// Decides for each call; nothing goes wrong without it.
    pub(crate) dice: Option<Rng>,
    /// A dimension that AWS refuses, and the whole call with it.
    pub(crate) poison: Option<&'static str>,
    /// What every call comes to, whatever the dice say; nothing reaches AWS.
    pub(crate) always: Option<Answer>,
    /// So many calls are throttled first.
    pub(crate) throttle_next: u32,
    /// AWS is away: no call is answered, though some are done.
    pub(crate) away: bool,
    /// AWS does what the next call says, and its answer is lost.
    pub(crate) lose_next: bool,
    /// AWS does what the next call says, and whoever called dies before hearing of it.
    pub(crate) die_next: bool,
    /// Who dies around a call, if the dice say so.
    pub(crate) mortal: Option<Store>,
}

enum Fate {
    Throttled,
    CutBefore,
    CutAfter,
    Unprocessed,
    Blocked,
    DiesBefore,
    DiesAfter,
    Good,
}

impl Aws {
    pub(crate) fn new(market: Market, clock: Clock) -> Self {
        Self {
            market: Arc::new(Mutex::new(market)),
            clock,
            faults: Arc::default(),
            sent: Arc::default(),
        }
    }

    /// As if what was sent so far had been sent by somebody else.
    pub(crate) fn forget_what_was_sent(&self) {
        self.sent.lock().unwrap().clear();
    }

    fn fate(&self) -> Fate {
        let mut faults = self.faults.lock().unwrap();
        if std::mem::take(&mut faults.lose_next) {
            return Fate::CutAfter;
        }
        if faults.throttle_next > 0 {
            faults.throttle_next -= 1;
            return Fate::Throttled;
        }
        if std::mem::take(&mut faults.die_next) {
            return Fate::DiesAfter;
        }
        let (mortal, away) = (faults.mortal.is_some(), faults.away);
        let Some(dice) = &mut faults.dice else { return Fate::Good };
        if away {
            return if dice.u32(0..5) == 0 { Fate::CutAfter } else { Fate::CutBefore };
        }
        match dice.u32(0..20) {
            0 => Fate::Throttled,
            1 | 2 => Fate::CutBefore,
            3 | 4 => Fate::CutAfter,
            5 | 6 => Fate::Unprocessed,
            7 => Fate::Blocked,
            8 if mortal => Fate::DiesBefore,
            9 if mortal => Fate::DiesAfter,
            _ => Fate::Good,
        }
    }

    fn die(&self) {
        if let Some(store) = &self.faults.lock().unwrap().mortal {
            store.stop_after(0);
        }
    }

    fn assert_same_as_before(&self, record: &SendableRecord, wire: &Value) {
        let mut sent = self.sent.lock().unwrap();
        let first = sent.entry(record.id).or_insert_with(|| wire.clone());
        assert_eq!(first, wire, "record {} changed between attempts", record.id);
    }
}

impl MeteringApi for Aws {
    async fn send(&self, call: &FrozenCall) -> CallAnswer {
        let unanswered = |why: &str| CallAnswer::Failed(Answer::Unanswered(why.into()));
        if let Some(answer) = self.faults.lock().unwrap().always.clone() {
            return CallAnswer::Failed(answer);
        }
        let fate = self.fate();
        match fate {
            Fate::Throttled => return CallAnswer::Failed(Answer::Throttled),
            Fate::CutBefore => return unanswered("cut before"),
            Fate::Blocked => return CallAnswer::Failed(Answer::Blocked("no credentials".into())),
            Fate::DiesBefore => {
                self.die();
                return unanswered("dead");
            }
            _ => {}
        }
        let poison = self.faults.lock().unwrap().poison;
        if call.records.iter().any(|record| Some(record.dimension.as_str()) == poison) {
            let code = "InvalidUsageDimensionException".to_owned();
            return CallAnswer::Refused { code, message: "no such dimension".into() };
        }
        assert!(call.records.len() <= 25, "{} records in a call", call.records.len());
        let records: Vec<Value> = call.records.iter().map(wire).collect();
        for (record, wire) in call.records.iter().zip(&records) {
            self.assert_same_as_before(record, wire);
        }
        let mut input = json!({"UsageRecords": records});
        if let Some(code) = &call.product_code {
            input["ProductCode"] = json!(code);
        }
        let context = CallContext {
            now: self.clock.now(),
            region: call.region.clone(),
            unprocessed: matches!(fate, Fate::Unprocessed).then_some(1),
        };
        let answer = self.market.lock().unwrap().call(
            &context,
            Service::Metering,
            "BatchMeterUsage",
            &input,
        );
        match (fate, answer) {
            (Fate::CutAfter, _) => unanswered("cut after"),
            (Fate::DiesAfter, _) => {
                self.die();
                unanswered("dead")
            }
            (_, Err(error)) => {
                CallAnswer::Refused { code: error.code.to_owned(), message: error.message }
            }
            (_, Ok(answer)) => {
                CallAnswer::Answered(records.iter().map(|sent| of(sent, &answer)).collect())
            }
        }
    }
}

fn wire(record: &SendableRecord) -> Value {
    let mut wire = json!({
        "Timestamp": record.stamp.as_second(),
        "Dimension": record.dimension,
        "Quantity": units(record.quantity),
    });
    let identity = &record.identity;
    for (key, value) in [
        ("CustomerIdentifier", identity.customer_identifier.as_ref().map(Id::as_str)),
        ("CustomerAWSAccountId", identity.account_id.as_ref().map(Id::as_str)),
        ("LicenseArn", identity.license_arn.as_ref().map(Id::as_str)),
    ] {
        if let Some(value) = value {
            wire[key] = json!(value);
        }
    }
    if !record.allocations.is_empty() {
        wire["UsageAllocations"] = record.allocations.iter().map(allocation).collect();
    }
    wire
}

fn units(quantity: Quantity) -> i64 {
    assert_eq!(quantity.fraction(), Quantity::ZERO, "only whole units go out");
    quantity.whole_units()
}

fn allocation(allocation: &Allocation) -> Value {
    let tags: Vec<Value> =
        allocation.tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect();
    let mut wire = json!({"AllocatedUsageQuantity": units(allocation.quantity)});
    if !tags.is_empty() {
        wire["Tags"] = json!(tags);
    }
    wire
}

fn of(sent: &Value, answer: &Value) -> Answer {
    let keys = ["Dimension", "LicenseArn", "CustomerIdentifier", "CustomerAWSAccountId"];
    let is_it = |told: &Value| {
        keys.iter().all(|key| told[*key] == sent[*key])
            && told["Timestamp"].as_number().map(seconds)
                == sent["Timestamp"].as_number().map(seconds)
    };
    let result = answer["Results"].as_array().unwrap().iter().find(|it| is_it(&it["UsageRecord"]));
    let Some(result) = result else { return Answer::Unprocessed };
    let metering_record_id = result["MeteringRecordId"].as_str().map(str::to_owned);
    match result["Status"].as_str().unwrap() {
        "Success" => Answer::Success { metering_record_id },
        "DuplicateRecord" => Answer::Duplicate { metering_record_id, told: None },
        _ => Answer::NotSubscribed,
    }
}

fn seconds(number: &serde_json::Number) -> String {
    number.to_string().trim_end_matches(".0").to_owned()
}
