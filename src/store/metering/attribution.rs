//! Attribution: reads what a customer holds, and has `domain::ledger::attribute` decide which licence bears the usage.

use std::rc::Rc;

use jiff::Timestamp;

use super::catalogue_view::{CatalogueView, DimensionView};
use super::first_hour::first_hour_in;
use super::records::hour_left_in;
use super::remembered::RememberedCustomer;
use super::slots::{MeteringTarget, RecordKey};
use crate::domain::allowance::Billing;
use crate::domain::ledger::{
    Attribution, BilledHolder, FeatureBearer, FeatureUnattributed, HolderChoice, Tenure,
    Unattributed, UsageTime, attribute, choose_product, is_licensed,
};
use crate::domain::usage::UsageSubject;
use crate::domain::window::Window;
use crate::domain::{ClockHour, CustomerId, DimensionKey, FeatureId, LicenseArn, ProductId};
use crate::store::StoreError;
use crate::store::engine::sql::Connection;
use crate::store::subscriptions::grants::{Grants, counting_with, granted_in};
use crate::store::subscriptions::holdings::Holdings;

/// The outcome of attribution: the target of usage, and the windows and holders that it counts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UsageAttribution {
    /// The target that is billed; none where usage is only counted.
    pub(crate) target: Option<MeteringTarget>,
    /// The first hour that AWS takes, where it has told one.
    pub(crate) first_hour: Option<ClockHour>,
    /// The part of the usage that is billed.
    pub(crate) billing: Billing,
    /// The windows in which the usage counts, those of every subscription of the customer's.
    pub(crate) windows: Vec<Window>,
    /// The holders whose usage uses up what the plan includes, where it includes any.
    pub(crate) counts_with: Rc<[String]>,
}

impl UsageAttribution {
    /// Returns the hour that usage of an hour is billed to: AWS takes none from before the first.
    pub(crate) fn hour_for(&self, hour: ClockHour) -> ClockHour {
        self.first_hour.map_or(hour, |first| first.max(hour))
    }
}

/// A question of attribution: usage of a customer's in an hour.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AttributionRequest {
    pub(crate) customer: CustomerId,
    pub(crate) subject: UsageSubject,
    pub(crate) license: Option<LicenseArn>,
    /// The hour of the usage: a product may be metered by licence from some hour on.
    pub(crate) hour: ClockHour,
    /// The beginning of the stretch of time in which it was used: see [`Holdings::stretch`].
    pub(crate) stretch: Timestamp,
}

/// The reason why usage can go nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AttributionError {
    #[error("there is no feature {0}")]
    UnknownFeature(FeatureId),
    #[error(
        "feature {feature} is {kind}: only usage of a metered feature is counted; report it by a metered feature or a dimension"
    )]
    FeatureNotMetered { feature: FeatureId, kind: String },
    #[error("there is no product {0}: import its listing first")]
    UnknownProduct(ProductId),
    #[error("product {product} has no metered dimension {dimension}; keys are case-sensitive")]
    UnknownDimension { product: ProductId, dimension: DimensionKey },
    #[error("customer {customer} holds no licence {license}")]
    UnknownLicense { customer: CustomerId, license: LicenseArn },
    #[error("several licences could bear it: name one as license_arn ({0})")]
    LicenseRequired(String),
    #[error("the subscription ends at {0}, and no hour of it is left that AWS takes usage for")]
    SubscriptionEnded(Timestamp),
}

/// The code of usage that came after its subscription's end.
pub(crate) const SUBSCRIPTION_ENDED: &str = "subscription_ended";

impl AttributionError {
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::UnknownFeature(_) => "unknown_feature",
            Self::FeatureNotMetered { .. } => "feature_not_metered",
            Self::UnknownProduct(_) => "unknown_product",
            Self::UnknownDimension { .. } => "unknown_dimension",
            Self::UnknownLicense { .. } => "unknown_license",
            Self::LicenseRequired(_) => "license_required",
            Self::SubscriptionEnded(_) => SUBSCRIPTION_ENDED,
        }
    }
}

pub(crate) fn attribute_in(
    catalogue: &CatalogueView<'_>,
    request: &AttributionRequest,
    standing: &RememberedCustomer,
    now: Timestamp,
) -> Result<Result<UsageAttribution, AttributionError>, StoreError> {
    let connection = catalogue.connection;
    let target = match target_in(catalogue, request, &standing.holdings, now)? {
        Ok(target) => target,
        Err(error) => return Ok(Err(error)),
    };
    let holder = target.as_ref().and_then(|target| target.holder.as_ref());
    let first_hour = standing.first_hour(connection, holder)?;
    attribution_to(connection, request, target, first_hour, now).map(Ok)
}

/// Completes an attribution: how the usage counts with the target that was found.
pub(crate) fn attribution_to(
    connection: &Connection,
    request: &AttributionRequest,
    target: Option<MeteringTarget>,
    first_hour: Option<ClockHour>,
    now: Timestamp,
) -> Result<UsageAttribution, StoreError> {
    let grants = match &request.subject {
        UsageSubject::Feature(feature) => granted_in(connection, &request.customer, feature, now)?,
        UsageSubject::Dimension { .. } => Grants::default(),
    };
    let mut windows = Vec::new();
    for (_, granted) in &grants.held {
        if !windows.contains(&granted.window) {
            windows.push(granted.window);
        }
    }
    // While no subscription has turned up, no plan says what it includes.
    let held = target.as_ref().and_then(|it| Some((&it.product_id, it.holder.as_ref()?)));
    let billing =
        held.map_or(Billing::All, |(product, holder)| Billing::of(&grants.under(product, holder)));
    let counts_with = match (held, &billing) {
        (Some((product, holder)), Billing::Overage { .. }) => {
            counting_with(&grants.successions, product, holder)
        }
        _ => Rc::default(),
    };
    Ok(UsageAttribution { target, first_hour, billing, windows, counts_with })
}

pub(crate) type Attributed = Result<Option<MeteringTarget>, AttributionError>;

/// Finds the target of usage: none where it is only counted, and one without a holder where it waits for a subscription.
pub(crate) fn target_in(
    catalogue: &CatalogueView<'_>,
    request: &AttributionRequest,
    holdings: &Holdings,
    now: Timestamp,
) -> Result<Attributed, StoreError> {
    match &request.subject {
        UsageSubject::Dimension { product_id, dimension } => {
            let (product, key) = (product_id.clone(), dimension.clone());
            match catalogue.dimension(product_id, dimension)? {
                DimensionView::Metered => {}
                DimensionView::OfNoProduct => {
                    return Ok(Err(AttributionError::UnknownProduct(product)));
                }
                DimensionView::Unknown => {
                    return Ok(Err(AttributionError::UnknownDimension { product, dimension: key }));
                }
            }
            let choice = choose_in(catalogue, request, (product_id, dimension), holdings, now)?;
            Ok(choice.map(|choice| target(choice, product_id, dimension)))
        }
        UsageSubject::Feature(feature) => {
            attribute_feature(catalogue, request, feature, holdings, now)
        }
    }
}

fn attribute_feature(
    catalogue: &CatalogueView<'_>,
    request: &AttributionRequest,
    feature: &FeatureId,
    holdings: &Holdings,
    now: Timestamp,
) -> Result<Attributed, StoreError> {
    let seen = catalogue.feature(feature)?;
    let feature_id = || feature.clone();
    match &seen.kind {
        None => return Ok(Err(AttributionError::UnknownFeature(feature_id()))),
        // Taken, it would be counted nowhere: a grant of another kind has no usage.
        Some(kind) if kind != "metered" => {
            let kind = kind.clone();
            return Ok(Err(AttributionError::FeatureNotMetered { feature: feature_id(), kind }));
        }
        Some(_) => {}
    }
    let dimensions = &seen.dimensions;
    // Only what the customer holds, or held, can bear it.
    let mut outcomes = Vec::new();
    for (product, dimension) in dimensions {
        if holdings.of(product).next().is_some() {
            let choice = choose_in(catalogue, request, (product, dimension), holdings, now)?;
            outcomes.push(((product, dimension), choice));
        }
    }
    if outcomes.is_empty() {
        if let (Some(named), false) = (&request.license, dimensions.is_empty()) {
            return Ok(Err(unknown_license(request, named)));
        }
        // Where several could be bought it waits under the first, until it is known which was.
        let first = dimensions.first();
        return Ok(Ok(
            first.and_then(|(product, dimension)| target(HolderChoice::Waits, product, dimension))
        ));
    }
    Ok(match choose_product(outcomes) {
        Ok(FeatureBearer::Holder((product, dimension), holder)) => {
            Ok(target(HolderChoice::Holder(holder), product, dimension))
        }
        Ok(FeatureBearer::Waits((product, dimension))) => {
            Ok(target(HolderChoice::Waits, product, dimension))
        }
        Ok(FeatureBearer::Nobody) => Ok(None),
        Err(FeatureUnattributed::Refused(error)) => Err(error),
        Err(FeatureUnattributed::Several(products)) => {
            let names: Vec<&str> = products.iter().map(|(product, _)| product.as_str()).collect();
            Err(AttributionError::LicenseRequired(format!("products {}", names.join(", "))))
        }
    })
}

/// Chooses the holder that a customer's usage of one product is billed to: the first that has an hour left for it.
pub(crate) fn choose_in(
    catalogue: &CatalogueView<'_>,
    request: &AttributionRequest,
    (product, dimension): (&ProductId, &DimensionKey),
    holdings: &Holdings,
    now: Timestamp,
) -> Result<Result<HolderChoice, AttributionError>, StoreError> {
    let candidates: Vec<_> = holdings.of(product).collect();
    let connection = catalogue.connection;
    let licensed = is_licensed(request.hour, catalogue.licensed_from(product)?);
    let time = UsageTime { at: request.stretch, licensed, now };
    let billed = match attribute(&candidates, request.license.as_ref(), time) {
        Ok(Attribution::BilledTo(holders)) => holders,
        Ok(Attribution::Waits) => return Ok(Ok(HolderChoice::Waits)),
        Ok(Attribution::Counted) => return Ok(Ok(HolderChoice::Counted)),
        Err(error) => return Ok(Err(refusal(error, request))),
    };
    for BilledHolder { holder, tenure } in &billed {
        if *tenure == Tenure::Lasting {
            return Ok(Ok(HolderChoice::Holder(holder.clone())));
        }
        let first = first_hour_in(connection, Some(holder))?;
        let target = MeteringTarget {
            product_id: product.clone(),
            dimension: dimension.clone(),
            holder: Some(holder.clone()),
        };
        let hour = first.map_or(request.hour, |first| first.max(request.hour));
        let key = RecordKey { target, customer: request.customer.clone(), hour };
        if hour_left_in(connection, &key, *tenure)?.is_some() {
            return Ok(Ok(HolderChoice::Holder(holder.clone())));
        }
    }
    let ends = billed.iter().filter_map(|it| it.tenure.ended_at().or(it.tenure.last_moment()));
    Ok(Err(AttributionError::SubscriptionEnded(ends.max().unwrap_or(now))))
}

fn refusal(error: Unattributed, request: &AttributionRequest) -> AttributionError {
    match (error, &request.license) {
        (Unattributed::Ended(at), _) => AttributionError::SubscriptionEnded(at),
        (Unattributed::UnknownLicense, Some(named)) => unknown_license(request, named),
        (Unattributed::Several(holders), _) => {
            let names: Vec<String> = holders.iter().map(ToString::to_string).collect();
            AttributionError::LicenseRequired(names.join(", "))
        }
        (Unattributed::UnknownLicense, None) => AttributionError::LicenseRequired(String::new()),
    }
}

/// Returns the target of usage of a product's dimension; none where it is only counted.
fn target(
    choice: HolderChoice,
    product: &ProductId,
    dimension: &DimensionKey,
) -> Option<MeteringTarget> {
    let holder = match choice {
        HolderChoice::Holder(holder) => Some(holder),
        HolderChoice::Waits => None,
        HolderChoice::Counted => return None,
    };
    Some(MeteringTarget { product_id: product.clone(), dimension: dimension.clone(), holder })
}

fn unknown_license(request: &AttributionRequest, named: &LicenseArn) -> AttributionError {
    AttributionError::UnknownLicense { customer: request.customer.clone(), license: named.clone() }
}
