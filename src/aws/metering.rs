//! `BatchMeterUsage` over the SDK: one call, its answer record by record. `metering/aws_adapter.rs` makes calls of frozen
//! records.

use aws_sdk_marketplacemetering::config::{Builder, Region};
use aws_sdk_marketplacemetering::types::{
    Tag, UsageAllocation, UsageRecord, UsageRecordResultStatus,
};
use aws_smithy_types::DateTime;
use jiff::Timestamp;

use super::error::AwsErrorKind;
use super::{AwsClients, AwsError, Place};
use crate::domain::ClockHour;

const OPERATION: &str = "BatchMeterUsage";

/// One record as it goes out. Frozen by the ledger: building it twice gives the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireRecord {
    /// A moment within the clock hour.
    pub timestamp: Timestamp,
    /// The dimension's key.
    pub dimension: String,
    /// Whole units.
    pub quantity: i32,
    /// The legacy buyer; exclusive of the other two.
    pub customer_identifier: Option<String>,
    /// The buyer's account.
    pub account_id: Option<String>,
    /// The licence.
    pub license_arn: Option<String>,
    /// The split of the quantity by tags: each part's units and its tags.
    pub allocations: Vec<(i32, Vec<(String, String)>)>,
}

/// One call: records of one product in one form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeteringCall {
    /// The region in which it is metered: AWS deduplicates by region, so a record keeps its own.
    pub region: String,
    /// The product, in the legacy form; the new form names licences instead, and both at once bill twice.
    pub product_code: Option<String>,
    /// At most 25 records.
    pub records: Vec<WireRecord>,
}

/// AWS's answer about one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordStatus {
    /// Honoured, now or before.
    Success {
        /// AWS's id of it.
        metering_record_id: Option<String>,
    },
    /// No active agreement, a bad identity, or a suspended account.
    CustomerNotSubscribed,
    /// The hour was metered before; by another quantity, or by this very record.
    DuplicateRecord {
        /// AWS's id of the one it honoured.
        metering_record_id: Option<String>,
        /// The quantity beside it in the answer: that one's, or an echo of ours.
        told: Option<i32>,
    },
    /// Not done: send again.
    Unprocessed,
    /// AWS answered without a word on this record.
    Unmentioned,
}

/// AWS's answer, in the order of the call's records.
pub type MeteringOutcome = Vec<RecordStatus>;

/// Sends one call.
pub async fn batch_meter_usage(
    clients: &AwsClients,
    call: &MeteringCall,
) -> Result<MeteringOutcome, AwsError> {
    let records = call.records.iter().map(wire).collect::<Result<Vec<_>, _>>()?;
    let request = clients
        .metering
        .batch_meter_usage()
        .set_product_code(call.product_code.clone())
        .set_usage_records(Some(records));
    let send = || {
        let region = Builder::new().region(Region::new(call.region.clone()));
        request.clone().customize().config_override(region).send()
    };
    let answer = clients.call(Place::Last(&clients.rates.metering), OPERATION, send).await?;
    let mut statuses = vec![RecordStatus::Unmentioned; call.records.len()];
    let mut note = |record: &UsageRecord, status: RecordStatus| {
        let place = call.records.iter().zip(&statuses).position(|(sent, status)| {
            *status == RecordStatus::Unmentioned && is_same(sent, record)
        });
        if let Some(slot) = place.and_then(|place| statuses.get_mut(place)) {
            *slot = status;
        }
    };
    for result in answer.results.unwrap_or_default() {
        let Some(record) = &result.usage_record else {
            continue;
        };
        let metering_record_id = result.metering_record_id.clone();
        let status = match result.status {
            Some(UsageRecordResultStatus::Success) => RecordStatus::Success { metering_record_id },
            Some(UsageRecordResultStatus::CustomerNotSubscribed) => {
                RecordStatus::CustomerNotSubscribed
            }
            Some(UsageRecordResultStatus::DuplicateRecord) => {
                RecordStatus::DuplicateRecord { metering_record_id, told: record.quantity }
            }
            // A status that this program does not know decides nothing.
            _ => RecordStatus::Unmentioned,
        };
        note(record, status);
    }
    for record in answer.unprocessed_records.unwrap_or_default() {
        note(&record, RecordStatus::Unprocessed);
    }
    Ok(statuses)
}

fn is_same(sent: &WireRecord, told: &UsageRecord) -> bool {
    let told_text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    told.dimension == sent.dimension
        // AWS meters by the hour, and may answer by it.
        && Timestamp::from_second(told.timestamp.secs())
            .is_ok_and(|at| ClockHour::of(at) == ClockHour::of(sent.timestamp))
        && told_text(&told.customer_identifier) == sent.customer_identifier
        && told.customer_aws_account_id.as_deref().and_then(told_text) == sent.account_id
        && told.license_arn.as_deref().and_then(told_text) == sent.license_arn
}

fn wire(record: &WireRecord) -> Result<UsageRecord, AwsError> {
    let malformed = |error: aws_smithy_types::error::operation::BuildError| AwsError {
        operation: OPERATION,
        kind: AwsErrorKind::Refused,
        code: None,
        message: error.to_string(),
    };
    let mut allocations = Vec::with_capacity(record.allocations.len());
    for (quantity, tags) in &record.allocations {
        let mut allocation = UsageAllocation::builder().allocated_usage_quantity(*quantity);
        for (key, value) in tags {
            allocation =
                allocation.tags(Tag::builder().key(key).value(value).build().map_err(malformed)?);
        }
        allocations.push(allocation.build().map_err(malformed)?);
    }
    UsageRecord::builder()
        .timestamp(DateTime::from_secs(record.timestamp.as_second()))
        // The SDK's type demands it; empty means unset, which AWS's model allows.
        .customer_identifier(record.customer_identifier.clone().unwrap_or_default())
        .set_customer_aws_account_id(record.account_id.clone())
        .set_license_arn(record.license_arn.clone())
        .dimension(&record.dimension)
        .quantity(record.quantity)
        .set_usage_allocations((!allocations.is_empty()).then_some(allocations))
        .build()
        .map_err(malformed)
}
