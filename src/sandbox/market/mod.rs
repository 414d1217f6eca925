//! AWS Marketplace's seller side as a pure state machine.
//!
//! Owns what AWS owns: products, buyers, agreements, licences, registration tokens and the metering
//! ledger. It does no I/O and has no clock: time is an argument, and for one seed the same calls
//! give the same ids. What AWS would publish is handed out by [`Market::take_outgoing`].

mod actions;
mod agreement_api;
mod agreements;
mod allocations;
mod catalog_api;
mod contracting;
mod entitlement_api;
mod ids;
mod input;
mod ledger;
mod lifecycle;
mod metering_api;
mod model;
mod notices;
mod orders;
mod quantity;
mod registration;
#[cfg(test)]
mod tests;
mod usage;

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use serde_json::Value;

pub use agreements::{Agreement, AgreementStatus, LicenseState};
pub use ledger::{HonouredRecord, Ledger, MeteringForm, RefusedRecord};
pub use model::{
    Buyer, Dimension, DimensionType, IdenticalRetry, ListingChange, NewProduct, Options, Pricing,
    Product, Protocol, Visibility,
};
pub use orders::{Action, ActionError, ActionOutcome, Order, OrderTerm};

use agreements::Agreements;
use ids::Ids;
use lifecycle::Timer;
use registration::Registration;

/// The seller's AWS account, unless another is chosen.
pub const SELLER_ACCOUNT: &str = "111122223333";

/// The AWS services that the market answers for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// `AWSMPEntitlementService`.
    Entitlement,
    /// `AWSMPMeteringService`.
    Metering,
    /// The Marketplace Catalog API.
    Catalog,
    /// `AWSMPCommerceService_v20200301`.
    Agreement,
}

/// The context of an API call.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// The time at which the call is made.
    pub now: Timestamp,
    /// The region of the signature's scope; metering deduplicates per region.
    pub region: String,
    /// The number of usage records to leave unprocessed, as a fault.
    pub unprocessed: Option<usize>,
}

/// A refusal in AWS's own words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// The exception's name, e.g. `TimestampOutOfBoundsException`.
    pub code: &'static str,
    /// AWS's message about it.
    pub message: String,
}

impl ApiError {
    fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: 400, code, message: message.into() }
    }
}

/// A notification to deliver once the clock reaches `at`.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// The time at which AWS publishes it.
    pub at: Timestamp,
    /// The channel on which it is published.
    pub channel: Channel,
}

/// The channels on which notifications are published.
#[derive(Debug, Clone, PartialEq)]
pub enum Channel {
    /// An SNS topic of AWS Marketplace's.
    Sns {
        /// The ARN of the product's subscription or entitlement topic.
        topic_arn: String,
        /// The message as JSON text.
        message: String,
    },
    /// The default event bus.
    EventBridge {
        /// The whole event.
        event: Value,
    },
}

/// AWS Marketplace as one seller sees it.
#[derive(Debug)]
pub struct Market {
    seed: u64,
    ids: Ids,
    seller_account: String,
    options: Options,
    products: BTreeMap<String, Product>,
    entity_codes: BTreeMap<String, String>,
    buyers: BTreeMap<String, Buyer>,
    customer_accounts: HashMap<String, String>,
    agreements: Agreements,
    registrations: HashMap<String, Registration>,
    ledger: Ledger,
    timers: BTreeMap<(Timestamp, u64), Timer>,
    outgoing: BTreeMap<(Timestamp, u64), Channel>,
    sequence: u64,
}

impl Market {
    /// Creates an empty market; the same seed gives the same ids.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            ids: Ids::new(seed),
            seller_account: SELLER_ACCOUNT.to_owned(),
            options: Options::default(),
            products: BTreeMap::new(),
            entity_codes: BTreeMap::new(),
            buyers: BTreeMap::new(),
            customer_accounts: HashMap::new(),
            agreements: Agreements::default(),
            registrations: HashMap::new(),
            ledger: Ledger::default(),
            timers: BTreeMap::new(),
            outgoing: BTreeMap::new(),
            sequence: 0,
        }
    }

    /// Creates a market with a product of every kind.
    pub fn with_demo_catalog(seed: u64) -> Self {
        let mut market = Self::new(seed);
        market.load_demo_catalog(Timestamp::UNIX_EPOCH);
        market
    }

    /// Resets the market to its beginning with the same seed; the seller's account stays.
    pub fn reset(&mut self) {
        let seller_account = std::mem::take(&mut self.seller_account);
        *self = Self { seller_account, ..Self::new(self.seed) };
    }

    /// Returns the account that owns the products.
    pub fn seller_account(&self) -> &str {
        &self.seller_account
    }

    /// Makes another account the seller.
    pub fn set_seller_account(&mut self, account_id: impl Into<String>) {
        self.seller_account = account_id.into();
    }

    /// Returns the options for the market's behaviour where AWS's own varies.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Changes the options from now on.
    pub fn set_options(&mut self, options: Options) {
        self.options = options;
    }

    /// Answers one API call as AWS would, refusals included.
    pub fn call(
        &mut self,
        context: &CallContext,
        service: Service,
        operation: &str,
        input: &Value,
    ) -> Result<Value, ApiError> {
        self.tick(context.now);
        match (service, operation) {
            (Service::Entitlement, "GetEntitlements") => self.get_entitlements(context, input),
            (Service::Metering, "BatchMeterUsage") => self.batch_meter_usage(context, input),
            (Service::Metering, "ResolveCustomer") => self.resolve_customer(context, input),
            (Service::Catalog, "ListEntities") => self.list_entities(input),
            (Service::Catalog, "DescribeEntity") => self.describe_entity(input),
            (Service::Agreement, "SearchAgreements") => self.search_agreements(input),
            (Service::Agreement, "DescribeAgreement") => self.describe_agreement(input),
            (Service::Agreement, "GetAgreementTerms") => self.get_agreement_terms(input),
            (Service::Agreement, "GetAgreementEntitlements") => {
                self.get_agreement_entitlements(input)
            }
            _ => Err(ApiError::bad_request(
                "UnknownOperationException",
                format!("the sandbox has no operation {operation} in this service"),
            )),
        }
    }

    /// Takes the notifications that are due, oldest first.
    pub fn take_outgoing(&mut self, now: Timestamp) -> Vec<Outgoing> {
        self.tick(now);
        let later = self.outgoing.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut self.outgoing, later);
        due.into_iter().map(|((at, _), channel)| Outgoing { at, channel }).collect()
    }

    /// Returns the time at which something happens next without anyone asking.
    pub fn next_due(&self) -> Option<Timestamp> {
        let timer = self.timers.keys().next().map(|(at, _)| *at);
        let outgoing = self.outgoing.keys().next().map(|(at, _)| *at);
        timer.into_iter().chain(outgoing).min()
    }

    /// Returns the ledger of metered records: honoured and refused.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Returns all agreements, in order of acceptance.
    pub fn agreements(&self) -> &[Agreement] {
        self.agreements.all()
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}
