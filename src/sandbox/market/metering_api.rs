//! `BatchMeterUsage` of the metering service.
//!
//! A call is checked whole before anything is done: one bad record sinks all of them. The checks
//! run in a fixed order: form, product, identity, dimension, time.

use jiff::tz::TimeZone;
use jiff::{RoundMode, SignedDuration, Timestamp, TimestampRound, Unit};
use serde_json::{Value, json};

use super::input::text;
use super::ledger::{Entry, HonouredRecord, LedgerKey, MeteringForm, RefusedRecord};
use super::usage::{UsageRecord, read_record};
use super::{ApiError, CallContext, IdenticalRetry, Market, Protocol};

const RECORDS_MAX: usize = 25;
const CALL_BYTES_MAX: usize = 1_000_000;
/// The age from which records are refused.
const WINDOW: SignedDuration = SignedDuration::from_hours(24);
/// The time on the 1st of a month until which the previous month's records are accepted.
const MONTH_END_GRACE: SignedDuration = SignedDuration::from_hours(6);

/// A record with its resolved identity.
struct Identified {
    record: UsageRecord,
    form: MeteringForm,
    product_code: String,
    account_id: String,
    /// The agreements that it may belong to, oldest first.
    agreements: Vec<usize>,
}

fn out_of_bounds(message: &str) -> ApiError {
    ApiError::bad_request("TimestampOutOfBoundsException", message)
}

fn invalid_customer(message: &str) -> ApiError {
    ApiError::bad_request("InvalidCustomerIdentifierException", message)
}

fn invalid_license(message: &str) -> ApiError {
    ApiError::bad_request("InvalidLicenseException", message)
}

/// Returns the start of the clock hour.
pub(super) fn hour_of(at: Timestamp) -> Timestamp {
    let down = TimestampRound::new().smallest(Unit::Hour).mode(RoundMode::Trunc);
    at.round(down).unwrap_or(at)
}

/// Checks that AWS still takes a record of this time, subscriptions aside.
fn check_window(at: Timestamp, now: Timestamp) -> Result<(), ApiError> {
    if at > now {
        return Err(out_of_bounds("The timestamp is in the future."));
    }
    if now.duration_since(at) >= WINDOW {
        return Err(out_of_bounds("The timestamp is 24 hours old or older."));
    }
    let today = now.to_zoned(TimeZone::UTC);
    let month_start =
        today.first_of_month().and_then(|day| day.start_of_day()).map(|start| start.timestamp());
    let month_start = month_start.unwrap_or(Timestamp::MIN);
    if at < month_start && now.duration_since(month_start) >= MONTH_END_GRACE {
        return Err(out_of_bounds("The previous month is closed since 06:00 UTC on the 1st."));
    }
    Ok(())
}

impl Market {
    pub(super) fn batch_meter_usage(
        &mut self,
        context: &CallContext,
        input: &Value,
    ) -> Result<Value, ApiError> {
        let records = input.get("UsageRecords").and_then(Value::as_array);
        let count = records.map_or(0, Vec::len);
        let identified = match self.check_call(context, input) {
            Ok(identified) => identified,
            Err(error) => {
                self.ledger.refuse(RefusedRecord {
                    at: context.now,
                    reason: error.code.to_owned(),
                    detail: error.message.clone(),
                    records: count,
                });
                return Err(error);
            }
        };
        let unprocessed = context.unprocessed.unwrap_or(0).min(count);
        let processed = count - unprocessed;
        let mut results = Vec::with_capacity(processed);
        let raw = records.map_or(&[][..], Vec::as_slice);
        for (record, given) in identified.into_iter().zip(raw).take(processed) {
            let (status, id) = self.meter(context, &record);
            let mut result = json!({"UsageRecord": given, "Status": status});
            if let Some(id) = id {
                result["MeteringRecordId"] = id.into();
            }
            results.push(result);
        }
        Ok(json!({"Results": results, "UnprocessedRecords": &raw[processed..]}))
    }

    fn check_call(
        &self,
        context: &CallContext,
        input: &Value,
    ) -> Result<Vec<Identified>, ApiError> {
        let validation = |message: &str| ApiError::bad_request("ValidationException", message);
        let given = input
            .get("UsageRecords")
            .and_then(Value::as_array)
            .ok_or_else(|| validation("UsageRecords is required"))?;
        if given.len() > RECORDS_MAX {
            return Err(validation("UsageRecords has at most 25 members"));
        }
        let tagged = given.iter().any(|record| record.get("UsageAllocations").is_some());
        if tagged && input.to_string().len() >= CALL_BYTES_MAX {
            return Err(validation("a request must be less than 1 MB"));
        }
        let records = given.iter().map(read_record).collect::<Result<Vec<_>, _>>()?;

        let product_code = text(input, "ProductCode");
        let by_license = records.iter().any(|record| record.license_arn.is_some());
        let known = product_code.map_or(by_license, |code| self.products.contains_key(code));
        if !known {
            let message = "The product code does not match a product of yours.";
            return Err(ApiError::bad_request("InvalidProductCodeException", message));
        }
        let identified = records
            .into_iter()
            .map(|record| self.identify(record, product_code))
            .collect::<Result<Vec<_>, _>>()?;
        let first = identified.first().map(|it| &it.product_code);
        if identified.iter().any(|it| Some(&it.product_code) != first) {
            return Err(invalid_license("The licences belong to more than one product."));
        }
        for it in &identified {
            if !self.products[&it.product_code].meters(&it.record.dimension) {
                let message = format!(
                    "The usage dimension {} does not match one of the product's.",
                    it.record.dimension
                );
                return Err(ApiError::bad_request("InvalidUsageDimensionException", message));
            }
        }
        for it in &identified {
            check_window(it.record.timestamp, context.now)?;
            self.check_start(it, context.now)?;
        }
        Ok(identified)
    }

    /// Resolves the buyer and the agreements that a record belongs to.
    fn identify(
        &self,
        record: UsageRecord,
        product_code: Option<&str>,
    ) -> Result<Identified, ApiError> {
        if record.customer_identifier.is_some() && record.account_id.is_some() {
            return Err(invalid_customer(
                "CustomerIdentifier and CustomerAWSAccountId are mutually exclusive.",
            ));
        }
        if let Some(license_arn) = &record.license_arn {
            let account_id = record.account_id.clone().ok_or_else(|| {
                invalid_customer("LicenseArn needs a CustomerAWSAccountId beside it.")
            })?;
            let agreements = self.agreements.of_license(license_arn).to_vec();
            let held = agreements.first().map(|position| self.agreements.get(*position));
            let held = held
                .filter(|it| it.account_id == account_id)
                .filter(|it| product_code.is_none_or(|code| code == it.product_code))
                .ok_or_else(|| {
                    invalid_license("The licence is unknown or does not match the customer.")
                })?;
            return Ok(Identified {
                form: MeteringForm::LicenseArn,
                product_code: held.product_code.clone(),
                account_id,
                agreements,
                record,
            });
        }
        let code = product_code.ok_or_else(|| invalid_license("A record has no LicenseArn."))?;
        let account_id = match (&record.customer_identifier, &record.account_id) {
            (Some(identifier), None) => self
                .customer_accounts
                .get(identifier)
                .filter(|_| self.products[code].protocol == Protocol::Legacy)
                .ok_or_else(|| invalid_customer("The customer identifier does not exist."))?,
            (None, Some(account_id)) if self.buyers.contains_key(account_id) => account_id,
            _ => {
                return Err(invalid_customer("The record names no customer that exists."));
            }
        };
        Ok(Identified {
            form: MeteringForm::ProductCode,
            product_code: code.to_owned(),
            agreements: self.agreements.of_buyer_and_product(account_id, code).collect(),
            account_id: account_id.clone(),
            record,
        })
    }

    /// Refuses usage from before the software was in use.
    fn check_start(&self, it: &Identified, now: Timestamp) -> Result<(), ApiError> {
        let usable = it.agreements.iter().map(|position| self.agreements.get(*position));
        let start = usable.filter(|it| it.accepts_usage(now)).map(|it| it.metered_from).min();
        // Usage may be stamped in whole seconds.
        if start.is_some_and(|start| it.record.timestamp.as_second() < start.as_second()) {
            return Err(out_of_bounds("The timestamp is before the start of the subscription."));
        }
        Ok(())
    }

    fn meter(&mut self, context: &CallContext, it: &Identified) -> (&'static str, Option<String>) {
        let mut held = it.agreements.iter().map(|position| self.agreements.get(*position));
        let subscribed = held.any(|it| it.accepts_usage(context.now));
        if !subscribed || self.buyers[&it.account_id].suspended {
            self.refuse_record(context, "CustomerNotSubscribed", it);
            return ("CustomerNotSubscribed", None);
        }
        let hour = hour_of(it.record.timestamp);
        let by_license = it.record.license_arn.clone();
        let key = LedgerKey {
            region: context.region.clone(),
            identity: by_license
                .unwrap_or_else(|| format!("{} {}", it.product_code, it.account_id)),
            dimension: it.record.dimension.clone(),
            hour,
        };
        let legacy = self.products[&it.product_code].protocol == Protocol::Legacy;
        let by_customer = legacy && it.form == MeteringForm::ProductCode;
        let honoured = HonouredRecord {
            product_code: it.product_code.clone(),
            customer_identifier: by_customer
                .then(|| self.buyers[&it.account_id].customer_identifier.clone()),
            account_id: it.account_id.clone(),
            license_arn: it.record.license_arn.clone(),
            form: it.form,
            region: context.region.clone(),
            dimension: it.record.dimension.clone(),
            hour,
            quantity: it.record.quantity,
            metering_record_id: self.ids.uuid(),
            sends: 1,
            billed_twice: false,
            honoured_at: context.now,
            allocations: it.record.allocations.clone(),
        };
        match self.ledger.offer(key, honoured) {
            Entry::New(id) => ("Success", Some(id)),
            Entry::Identical(id) if self.options.identical_retry == IdenticalRetry::Success => {
                ("Success", Some(id))
            }
            Entry::Identical(id) => ("DuplicateRecord", Some(id)),
            Entry::Different(id) => {
                self.refuse_record(context, "DuplicateRecord", it);
                ("DuplicateRecord", Some(id))
            }
        }
    }

    fn refuse_record(&mut self, context: &CallContext, reason: &str, it: &Identified) {
        let who = it.record.license_arn.as_deref().unwrap_or(&it.account_id);
        let detail = format!(
            "{} of {} for {} at {}, {who}",
            it.record.quantity, it.record.dimension, it.product_code, it.record.timestamp,
        );
        let reason = reason.to_owned();
        self.ledger.refuse(RefusedRecord { at: context.now, reason, detail, records: 1 });
    }
}
