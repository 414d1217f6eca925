//! The adapter of the metering engine to AWS: frozen records as `BatchMeterUsage` calls, made by `aws/metering.rs`, and what
//! their results mean as answers.

use super::sender::{CallAnswer, FrozenCall, MeteringApi};
use crate::aws::{
    AwsErrorKind, Connection, CredentialsTrouble, MeteringCall, RecordStatus, WireRecord,
    batch_meter_usage, check_seller,
};
use crate::domain::allocation::Allocation;
use crate::domain::ledger::Answer;
use crate::domain::{Id, Quantity};
use crate::store::SendableRecord;

/// AWS's metering API, by `BatchMeterUsage`.
#[derive(Clone)]
pub struct AwsMetering(pub Connection);

impl MeteringApi for AwsMetering {
    async fn send(&self, call: &FrozenCall) -> CallAnswer {
        let wire = MeteringCall {
            region: call.region.clone(),
            product_code: call.product_code.clone().map(Id::into_string),
            records: call.records.iter().map(wire_record).collect(),
        };
        let clients = self.0.clients();
        let sent = match check_seller(&clients, call.seller.as_ref()).await {
            Ok(()) => batch_meter_usage(&clients, &wire).await,
            Err(error) => Err(error),
        };
        let error = match sent {
            Ok(statuses) => {
                return CallAnswer::Answered(statuses.into_iter().map(answer).collect());
            }
            Err(error) => error,
        };
        match error.kind {
            AwsErrorKind::Throttled => CallAnswer::Failed(Answer::Throttled),
            AwsErrorKind::Unanswered => CallAnswer::Failed(Answer::Unanswered(error.to_string())),
            AwsErrorKind::Unsent
            | AwsErrorKind::Credentials(
                CredentialsTrouble::Missing
                | CredentialsTrouble::OtherAccount
                | CredentialsTrouble::Removed,
            ) => CallAnswer::Unsent(error.to_string()),
            // AWS did not take us for who we are: no record was done.
            AwsErrorKind::AccessDenied | AwsErrorKind::Credentials(_) => {
                CallAnswer::Failed(Answer::Blocked(error.to_string()))
            }
            // The region does not offer metering: no record is at fault.
            AwsErrorKind::Refused if error.code().starts_with("DisabledApi") => {
                CallAnswer::Failed(Answer::Blocked(error.to_string()))
            }
            AwsErrorKind::Refused => {
                CallAnswer::Refused { code: error.code().to_owned(), message: error.message }
            }
        }
    }
}

fn answer(status: RecordStatus) -> Answer {
    match status {
        RecordStatus::Success { metering_record_id } => Answer::Success { metering_record_id },
        RecordStatus::DuplicateRecord { metering_record_id, told } => {
            let told = told.and_then(|units| u32::try_from(units).ok()).map(Quantity::from_units);
            Answer::Duplicate { metering_record_id, told }
        }
        RecordStatus::CustomerNotSubscribed => Answer::NotSubscribed,
        RecordStatus::Unprocessed => Answer::Unprocessed,
        // AWS may have done it and left it out of its answer.
        RecordStatus::Unmentioned => Answer::Unanswered("AWS's answer does not mention it".into()),
    }
}

fn wire_record(record: &SendableRecord) -> WireRecord {
    // Freezing keeps quantities whole and within what AWS takes.
    let units = |quantity: Quantity| i32::try_from(quantity.whole_units()).unwrap_or(i32::MAX);
    let allocation = |it: &Allocation| (units(it.quantity), it.tags.clone().into_iter().collect());
    WireRecord {
        timestamp: record.stamp,
        dimension: record.dimension.as_str().to_owned(),
        quantity: units(record.quantity),
        customer_identifier: record.identity.customer_identifier.clone().map(Id::into_string),
        account_id: record.identity.account_id.clone().map(Id::into_string),
        license_arn: record.identity.license_arn.clone().map(Id::into_string),
        allocations: record.allocations.iter().map(allocation).collect(),
    }
}
