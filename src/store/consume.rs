//! Consumption: whether a customer may use so much of a feature is decided, and the usage counted, in one commit.
//!
//! The decision reads the sums of the database inside the transaction that adds to them. Nobody else can write
//! meanwhile, in this process or another, so a hard limit holds however many ask at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::access::{
    AccessTimes, CustomerFacts, FeatureFacts, HeldPlan, catalogue_of_in, customer_in,
};
use super::base::aliases::{ask_canonical, canonical_in};
use super::metering::ahead::ask_about;
use super::metering::attribution::SUBSCRIPTION_ENDED;
use super::metering::ingest::UsageReport;
use super::metering::remembered::Remembered;
use super::metering::repetition::{Refusal, known_or_in};
use super::metering::slots::MeteringTarget;
use super::{Store, StoreError};
use crate::domain::access::{Access, Question, Reason, refusal};
use crate::domain::consumption::Consumption;
use crate::domain::ledger::AgeLimits;
use crate::domain::usage::{Rejection, UsageEvent};
use crate::domain::{CustomerId, FeatureId, Quantity};
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
    pub async fn consume(&self, request: ConsumeRequest) -> Result<Consumed, StoreError> {
        let remembered = Arc::clone(&self.remembered);
        self.write_joined(request, move |connection, requests| {
            consume_all(connection, &remembered, requests)
        })
        .await
    }
}

/// The result of a consumption.
type Consumed = Result<Consumption, Rejection>;

/// Serves requests that wait for the same transaction: those of a customer one after the other, since each counts against
/// what the next may use, and customers beside each other.
fn consume_all(
    connection: &Connection,
    remembered: &Remembered,
    requests: &[&ConsumeRequest],
) -> Result<Vec<Consumed>, StoreError> {
    let customers = by_customer(connection, requests)?;
    let serve = |connection: &Connection, places: &Vec<usize>| {
        let serve = |place: &usize| {
            let consumed = requests[*place].consume(connection, remembered)?;
            Ok::<_, StoreError>((*place, consumed))
        };
        places.iter().map(serve).collect::<Result<Vec<_>, _>>()
    };
    let done = connection.interleave(&customers, serve)?;
    let mut done: Vec<(usize, Consumed)> = done.into_iter().flatten().collect();
    done.sort_by_key(|(place, _)| *place);
    Ok(done.into_iter().map(|(_, consumed)| consumed).collect())
}

/// Returns the places of each customer's requests, whatever id of theirs a request names.
fn by_customer(
    connection: &Connection,
    requests: &[&ConsumeRequest],
) -> Result<Vec<Vec<usize>>, StoreError> {
    // Where they are served one after the other anyway, nobody has to know.
    if !connection.is_remote() || requests.len() < 2 {
        return Ok(vec![(0..requests.len()).collect()]);
    }
    for request in requests {
        ask_canonical(connection, &request.event.customer_id)?;
    }
    let mut places = BTreeMap::<CustomerId, Vec<usize>>::new();
    for (place, request) in requests.iter().enumerate() {
        let id = &request.event.customer_id;
        let customer = canonical_in(connection, id)?.unwrap_or_else(|| id.clone());
        places.entry(customer).or_default().push(place);
    }
    Ok(places.into_values().collect())
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

impl ConsumeRequest {
    fn consume(
        &self,
        connection: &Connection,
        remembered: &Remembered,
    ) -> Result<Consumed, StoreError> {
        ask_about(connection, remembered, std::iter::once(&self.event), self.now)?;
        let mut report = UsageReport::new(connection, remembered, self.limits, self.now)?;
        let consumed = self.consume_in(connection, &mut report)?;
        report.finish()?;
        Ok(consumed)
    }

    fn consume_in(
        &self,
        connection: &Connection,
        report: &mut UsageReport<'_>,
    ) -> Result<Consumed, StoreError> {
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
