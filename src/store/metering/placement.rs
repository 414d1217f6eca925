//! The place of usage: what a piece of it is, where it counts, and what was found for it already.

use std::rc::Rc;
use std::sync::Arc;

use jiff::Timestamp;

use super::remembered::RememberedCustomer;
use super::slots::MeteringTarget;
use crate::domain::{ClockHour, CustomerId, FeatureId, Quantity};

/// One piece of usage.
pub(crate) struct UsageItem<'a> {
    pub(crate) customer: &'a CustomerId,
    pub(crate) feature: Option<&'a FeatureId>,
    pub(crate) quantity: Quantity,
    /// The time of use.
    pub(crate) at: Timestamp,
    /// The hour that it belongs to.
    pub(crate) hour: ClockHour,
    /// Its tags as JSON, if it has any.
    pub(crate) tags: Option<&'a str>,
}

/// The counter of usage. A legacy name is the buyer's in several products, so the holder alone does not say whose plan.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Counter {
    pub(super) customer: CustomerId,
    pub(super) feature: FeatureId,
    /// The holder's product; empty where no holder is known.
    pub(super) product: String,
    /// As subscriptions name it; empty while none is known.
    pub(super) holder: String,
}

/// The place of one route's usage within a report: found once, so that an event costs no look for it.
#[derive(Default)]
pub(crate) struct PlacementCache {
    /// The remembered facts about the customer, if there are any.
    pub(super) standing: Option<Arc<RememberedCustomer>>,
    pub(super) record: Option<(i64, ClockHour)>,
    counter: Option<Rc<Counter>>,
    /// The counter of the first holder of those that count together, by which their windows are known.
    first: Option<Rc<Counter>>,
    pub(super) bearer: Option<i64>,
}

impl PlacementCache {
    /// Makes the cache for a customer of whom something is remembered.
    pub(crate) fn remembering(standing: &Arc<RememberedCustomer>) -> Self {
        Self { standing: Some(Arc::clone(standing)), ..Self::default() }
    }

    pub(super) fn counter(
        &mut self,
        it: &UsageItem<'_>,
        feature: &FeatureId,
        target: Option<&MeteringTarget>,
    ) -> Rc<Counter> {
        let made = || Rc::new(Counter::of(it.customer, feature, target));
        Rc::clone(self.counter.get_or_insert_with(made))
    }

    pub(super) fn first(&mut self, counter: &Rc<Counter>, together: &[String]) -> Rc<Counter> {
        let made = || match together.first().filter(|first| **first != counter.holder) {
            Some(first) => Rc::new(Counter { holder: first.clone(), ..Counter::clone(counter) }),
            None => Rc::clone(counter),
        };
        Rc::clone(self.first.get_or_insert_with(made))
    }
}

impl Counter {
    pub(super) fn of(
        customer: &CustomerId,
        feature: &FeatureId,
        target: Option<&MeteringTarget>,
    ) -> Self {
        let held = target.and_then(|it| Some((&it.product_id, it.holder.as_ref()?)));
        let (product, holder) = match held {
            Some((product, holder)) => (product.to_string(), holder.to_string()),
            None => (String::new(), String::new()),
        };
        Self { customer: customer.clone(), feature: feature.clone(), product, holder }
    }
}
