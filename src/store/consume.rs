//! Consumption: whether a customer may use so much of a feature is decided, and the usage counted, in one commit.
//!
//! The decision reads the sums of the database inside the transaction that adds to them. Nobody else can write
//! meanwhile, in this process or another, so a hard limit holds however many ask at once.

use std::sync::Arc;

use jiff::Timestamp;

use super::access::{
    AccessTimes, CustomerFacts, FeatureFacts, HeldPlan, catalogue_of_in, customer_in,
};
use super::base::aliases::canonical_in;
use super::metering::attribution::SUBSCRIPTION_ENDED;
use super::metering::ingest::UsageReport;
use super::metering::remembered::Remembered;
use super::metering::repetition::{Refusal, known_or_in};
use super::metering::slots::MeteringTarget;
use super::{During as _, Store, StoreError};
use crate::domain::access::{Access, Question, Reason, refusal};
use crate::domain::consumption::Consumption;
use crate::domain::ledger::AgeLimits;
use crate::domain::usage::{Rejection, UsageEvent};
use crate::domain::{FeatureId, Quantity};
use crate::store::engine::sql::Connection;

/// A usage event that is counted only if its customer may use so much.
#[derive(Clone, Debug)]
pub struct ConsumeRequest {
    /// The event, of a feature.
    pub event: UsageEvent,
    /// The limits on its age.
    pub limits: AgeLimits,
    /// Since when AWS could not be asked, where that is long.
    pub stale_since: Option<Timestamp>,
    /// The time.
    pub now: Timestamp,
}

impl Store {
    /// Counts an event if its customer may use so much. `Ok` means that what it says is on disk; the inner error is why
    /// a usage report would reject the event.
    pub async fn consume(
        &self,
        request: ConsumeRequest,
    ) -> Result<Result<Consumption, Rejection>, StoreError> {
        let remembered = Arc::clone(&self.remembered);
        self.write(move |connection| {
            request.read_ahead(connection, &remembered)?;
            let mut report =
                UsageReport::new(connection, &remembered, request.limits, request.now)?;
            let consumed = request.consume_in(connection, &mut report)?;
            report.finish()?;
            Ok(consumed)
        })
        .await
    }
}

/// The reason why an event is not counted.
enum NotCounted {
    Rejected(Refusal),
    Denied(Access),
}

impl From<Refusal> for NotCounted {
    fn from(refusal: Refusal) -> Self {
        Self::Rejected(refusal)
    }
}

/// A part of what is read for a consumption, which needs no other.
#[derive(Clone, Copy)]
enum Part {
    Attribution,
    Access,
}

impl ConsumeRequest {
    /// Reads ahead what decides, each part beside the other.
    fn read_ahead(
        &self,
        connection: &Connection,
        remembered: &Remembered,
    ) -> Result<(), StoreError> {
        let Some(feature) = self.event.feature() else { return Ok(()) };
        let read = |part: &Part| match part {
            Part::Attribution => UsageReport::new(connection, remembered, self.limits, self.now)?
                .attribute(&self.event)
                .map(drop),
            Part::Access => FeatureAccess::read(connection, feature, self).map(drop),
        };
        connection
            .rehearse(&[Part::Attribution, Part::Access], read)
            .during("read ahead what decides over a consumption")
    }

    fn consume_in(
        &self,
        connection: &Connection,
        report: &mut UsageReport<'_>,
    ) -> Result<Result<Consumption, Rejection>, StoreError> {
        let event = &self.event;
        let Some(feature) = event.feature() else {
            let detail = "a dimension has no limit: name a feature, or report the usage";
            return Ok(Err(self.rejection(("invalid_event", detail.to_owned()))));
        };
        let fingerprint = event.fingerprint();
        let attributed = report.attribute(event)?;
        let target = attributed.as_ref().ok().and_then(|it| it.target());
        let facts = FeatureAccess::read(connection, feature, self)?;
        let answer = |requested| facts.answer(feature, self, requested, target);
        let access = answer(event.quantity);
        let not_counted = match &attributed {
            Ok(attributed) if access.has_access => {
                match report.book(event, &fingerprint, attributed)? {
                    Ok(()) => return Ok(Ok(Consumption::accepted(access, event.quantity))),
                    Err(refusal) => NotCounted::Rejected(refusal),
                }
            }
            Ok(_) => NotCounted::Denied(access),
            // Whose subscription is over is told so as by a check, not that the event is wrong.
            Err((code, _)) if *code == SUBSCRIPTION_ENDED && !access.has_access => {
                NotCounted::Denied(access)
            }
            Err(refusal) => NotCounted::Rejected(refusal.clone()),
        };
        Ok(match known_or_in(connection, event, &fingerprint, not_counted)? {
            Ok(()) => Ok(Consumption::duplicate(answer(Quantity::ZERO))),
            Err(NotCounted::Denied(access)) => Ok(Consumption::denied(access)),
            Err(NotCounted::Rejected(refusal)) => Err(self.rejection(refusal)),
        })
    }

    fn rejection(&self, (code, detail): Refusal) -> Rejection {
        Rejection { id: self.event.id.clone(), code, detail }
    }
}

/// A customer's access to one feature, as the database has it around the time of use.
struct FeatureAccess {
    feature: Option<Arc<FeatureFacts>>,
    customer: Option<CustomerFacts>,
}

impl FeatureAccess {
    fn read(
        connection: &Connection,
        feature: &FeatureId,
        request: &ConsumeRequest,
    ) -> Result<Self, StoreError> {
        let event = &request.event;
        let Some(customer) = canonical_in(connection, &event.customer_id)? else {
            return Ok(Self { feature: None, customer: None });
        };
        let catalogue = catalogue_of_in(connection, &customer, feature)?;
        Ok(Self {
            customer: customer_in(connection, &customer, &catalogue, event.at(request.now))?,
            feature: catalogue.features.get(feature).cloned(),
        })
    }

    /// Answers as a check does, by those subscriptions against which the event counts.
    fn answer(
        &self,
        feature_id: &FeatureId,
        request: &ConsumeRequest,
        requested: Quantity,
        target: Option<&MeteringTarget>,
    ) -> Access {
        let ConsumeRequest { event, stale_since, now, .. } = request;
        let refuse = |kind, reason| refusal(feature_id.clone(), kind, reason);
        let Some(customer) = &self.customer else {
            return refuse(None, Reason::UnknownCustomer);
        };
        let Some(feature) = &self.feature else { return refuse(None, Reason::UnknownFeature) };
        let question = Question {
            feature_id,
            kind: feature.kind,
            when_stale: feature.when_stale,
            requested: Some(requested),
            stale_since: *stale_since,
        };
        let times = AccessTimes { now: *now, of_use: event.at(*now) };
        customer.answer(&question, counting(event, target), times)
    }
}

/// Tells the subscriptions against which an event counts; of those that a named licence is about, where one is named.
fn counting<'a>(
    event: &'a UsageEvent,
    target: Option<&'a MeteringTarget>,
) -> impl Fn(&HeldPlan) -> bool + 'a {
    let bearer = target.and_then(|it| Some((it.product_id.as_str(), it.holder.as_ref()?)));
    let bearer = bearer.map(|(product, holder)| (product, holder.to_string()));
    move |held| {
        let bearer = bearer.as_ref().map(|(product, holder)| (*product, holder.as_str()));
        held.bears(bearer, event.license_arn.as_ref())
    }
}
