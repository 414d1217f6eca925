//! Which licence or legacy buyer bears a customer's usage.

use std::rc::Rc;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use super::records::hour_left_in;
use super::slots::{BillTo, RecordKey};
use crate::domain::allowance::Billing;
use crate::domain::ledger::{
    Attribution, Bearer, Tenure, Unattributed, UsageTime, attribute, is_licensed,
};
use crate::domain::usage::UsageSubject;
use crate::domain::window::Window;
use crate::domain::{
    ClockHour, CustomerId, DimensionKey, FeatureId, Holder, LicenseArn, ProductId,
};
use crate::store::base::columns::timestamp;
use crate::store::subscriptions::grants::{Grants, counting_with, granted_in};
use crate::store::subscriptions::holdings::Holdings;
use crate::store::{During, StoreError};

/// Where usage goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UsageAttribution {
    /// The bearer that is billed; none where usage is only counted.
    pub(crate) bill_to: Option<BillTo>,
    /// The first hour that AWS takes, where it has told one.
    pub(crate) first_hour: Option<ClockHour>,
    /// The part of it that is billed.
    pub(crate) billing: Billing,
    /// The windows that it counts in, those of every subscription of the customer's.
    pub(crate) windows: Vec<Window>,
    /// The holders whose usage uses up what the plan includes, where it includes any.
    pub(crate) counts_with: Rc<[String]>,
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

/// The first hour that AWS takes for a licence, where it has told a start. A buyer whose start nobody told is
/// billed for whatever the window allows.
pub(crate) fn first_hour_in(
    connection: &Connection,
    holder: Option<&Holder>,
) -> Result<Option<ClockHour>, StoreError> {
    let Some(Holder::License(arn)) = holder else {
        return Ok(None);
    };
    // A renewal that keeps its licence starts later than the licence did.
    connection
        .prepare_cached(
            "SELECT min(a.starts_at_ms, ifnull(l.first_updated_at_ms, a.starts_at_ms))
             FROM licenses l JOIN agreements a USING (agreement_id)
             WHERE l.license_arn = ?1 AND a.starts_at_ms IS NOT NULL",
        )
        .and_then(|mut select| select.query_row([arn.as_str()], |row| row.get(0)).optional())
        .map(|starts: Option<i64>| starts.map(|millis| ClockHour::of(timestamp(millis))))
        .during("read when a licence began")
}

/// Why usage can go nowhere.
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

impl AttributionError {
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::UnknownFeature(_) => "unknown_feature",
            Self::FeatureNotMetered { .. } => "feature_not_metered",
            Self::UnknownProduct(_) => "unknown_product",
            Self::UnknownDimension { .. } => "unknown_dimension",
            Self::UnknownLicense { .. } => "unknown_license",
            Self::LicenseRequired(_) => "license_required",
            Self::SubscriptionEnded(_) => "subscription_ended",
        }
    }
}

pub(crate) fn attribute_in(
    connection: &Connection,
    request: &AttributionRequest,
    holdings: &Holdings,
    now: Timestamp,
) -> Result<Result<UsageAttribution, AttributionError>, StoreError> {
    match bill_to_in(connection, request, holdings, now)? {
        Ok(bill_to) => Ok(Ok(attribution_to(connection, request, bill_to, now)?)),
        Err(error) => Ok(Err(error)),
    }
}

/// The route to what bears the usage.
pub(crate) fn attribution_to(
    connection: &Connection,
    request: &AttributionRequest,
    bill_to: Option<BillTo>,
    now: Timestamp,
) -> Result<UsageAttribution, StoreError> {
    let holder = bill_to.as_ref().and_then(|bill_to| bill_to.holder.as_ref());
    let first_hour = first_hour_in(connection, holder)?;
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
    let billing = holder.map_or(Billing::All, |holder| Billing::of(&grants.under(holder)));
    let counts_with = match (&bill_to, &billing) {
        (Some(BillTo { product_id, holder: Some(holder), .. }), Billing::Overage { .. }) => {
            counting_with(&grants.successions, product_id, holder)
        }
        _ => Rc::default(),
    };
    Ok(UsageAttribution { bill_to, first_hour, billing, windows, counts_with })
}

pub(crate) type Attributed = Result<Option<BillTo>, AttributionError>;

/// Finds the bearer of usage: none where it is only counted, and nobody yet where it waits for a subscription.
pub(crate) fn bill_to_in(
    connection: &Connection,
    request: &AttributionRequest,
    holdings: &Holdings,
    now: Timestamp,
) -> Result<Attributed, StoreError> {
    match &request.subject {
        UsageSubject::Dimension { product_id, dimension } => {
            if let Err(error) = check_dimension(connection, product_id, dimension)? {
                return Ok(Err(error));
            }
            let choice = choose_in(connection, request, (product_id, dimension), holdings, now)?;
            Ok(choice.map(|choice| choice.bill_to(product_id, dimension)))
        }
        UsageSubject::Feature(feature) => {
            attribute_feature(connection, request, feature, holdings, now)
        }
    }
}

fn attribute_feature(
    connection: &Connection,
    request: &AttributionRequest,
    feature: &FeatureId,
    holdings: &Holdings,
    now: Timestamp,
) -> Result<Attributed, StoreError> {
    let kind: Option<String> = connection
        .prepare_cached("SELECT type FROM features WHERE id = ?1")
        .and_then(|mut select| select.query_row([feature.as_str()], |row| row.get(0)).optional())
        .during("look up a feature")?;
    let feature_id = || feature.clone();
    match kind {
        None => return Ok(Err(AttributionError::UnknownFeature(feature_id()))),
        // Taken, it would be counted nowhere: a grant of another kind has no usage.
        Some(kind) if kind != "metered" => {
            return Ok(Err(AttributionError::FeatureNotMetered { feature: feature_id(), kind }));
        }
        Some(_) => {}
    }
    let dimensions = dimensions_of(connection, feature)?;
    // Only what the customer holds, or held, can bear it.
    let mut outcomes = Vec::new();
    for (product, dimension) in &dimensions {
        if holdings.of(product).next().is_some() {
            let choice = choose_in(connection, request, (product, dimension), holdings, now)?;
            outcomes.push((product, dimension, choice));
        }
    }
    if outcomes.is_empty() {
        if let (Some(named), false) = (&request.license, dimensions.is_empty()) {
            return Ok(Err(unknown_license(request, named)));
        }
        // Where several could be bought it waits under the first, until it is known which was.
        let first = dimensions.first();
        return Ok(Ok(
            first.and_then(|(product, dimension)| HolderChoice::Waits.bill_to(product, dimension))
        ));
    }
    let mut billed = Vec::new();
    let mut refusal = None;
    let mut waits = None;
    for (product, dimension, choice) in outcomes {
        match choice {
            Ok(HolderChoice::Holder(holder)) => {
                billed.push(BillTo {
                    product_id: product.clone(),
                    dimension: dimension.clone(),
                    holder: Some(holder),
                });
            }
            Ok(HolderChoice::Waits) => waits = HolderChoice::Waits.bill_to(product, dimension),
            Ok(HolderChoice::Counted) => {}
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    Ok(match (billed.len(), refusal) {
        (0, Some(error)) => Err(error),
        (0, None) => Ok(waits),
        (1, _) => Ok(billed.pop()),
        _ => {
            let names: Vec<&str> =
                billed.iter().map(|bill_to| bill_to.product_id.as_str()).collect();
            Err(AttributionError::LicenseRequired(format!("products {}", names.join(", "))))
        }
    })
}

fn dimensions_of(
    connection: &Connection,
    feature: &FeatureId,
) -> Result<Vec<(ProductId, DimensionKey)>, StoreError> {
    connection
        .prepare_cached(
            "SELECT product_id, dimension FROM feature_dimensions WHERE feature_id = ?1
             ORDER BY product_id",
        )
        .and_then(|mut select| {
            select
                .query_map([feature.as_str()], |row| {
                    let product = ProductId::new(row.get::<_, String>(0)?);
                    Ok((product, DimensionKey::new(row.get::<_, String>(1)?)))
                })?
                .collect()
        })
        .during("read a feature's dimensions")
}

/// Chooses the bearer of a customer's usage of one product: the first to which it belongs that has an hour left for it.
pub(crate) fn choose_in(
    connection: &Connection,
    request: &AttributionRequest,
    (product, dimension): (&ProductId, &DimensionKey),
    holdings: &Holdings,
    now: Timestamp,
) -> Result<Result<HolderChoice, AttributionError>, StoreError> {
    let candidates: Vec<_> = holdings.of(product).collect();
    let licensed = is_licensed(request.hour, licensed_from_in(connection, product)?);
    let time = UsageTime { at: request.stretch, licensed, now };
    let bearers = match attribute(&candidates, request.license.as_ref(), time) {
        Ok(Attribution::BilledTo(bearers)) => bearers,
        Ok(Attribution::Waits) => return Ok(Ok(HolderChoice::Waits)),
        Ok(Attribution::Counted) => return Ok(Ok(HolderChoice::Counted)),
        Err(error) => return Ok(Err(refusal(error, request))),
    };
    for Bearer { holder, tenure } in &bearers {
        if *tenure == Tenure::Lasting {
            return Ok(Ok(HolderChoice::Holder(holder.clone())));
        }
        let first = first_hour_in(connection, Some(holder))?;
        let bill_to = BillTo {
            product_id: product.clone(),
            dimension: dimension.clone(),
            holder: Some(holder.clone()),
        };
        let hour = first.map_or(request.hour, |first| first.max(request.hour));
        let key = RecordKey { bill_to, customer: request.customer.clone(), hour };
        if hour_left_in(connection, &key, *tenure)?.is_some() {
            return Ok(Ok(HolderChoice::Holder(holder.clone())));
        }
    }
    let ends = bearers.iter().filter_map(|it| it.tenure.ended_at().or(it.tenure.last_moment()));
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

/// From which hour on a legacy product's buyers are metered by licence.
pub(crate) fn licensed_from_in(
    connection: &Connection,
    product: &ProductId,
) -> Result<Option<ClockHour>, StoreError> {
    connection
        .prepare_cached("SELECT licensed_from_hour FROM products WHERE id = ?1")
        .and_then(|mut select| {
            select.query_row([product.as_str()], |row| row.get::<_, Option<i64>>(0)).optional()
        })
        .map(|hour| hour.flatten().map(ClockHour::from_number))
        .during("read how a product is metered")
}

fn check_dimension(
    connection: &Connection,
    product: &ProductId,
    dimension: &DimensionKey,
) -> Result<Result<(), AttributionError>, StoreError> {
    let known = connection
        .prepare_cached("SELECT 1 FROM products WHERE id = ?1")
        .and_then(|mut select| select.exists([product.as_str()]))
        .during("look up a product")?;
    if !known {
        return Ok(Err(AttributionError::UnknownProduct(product.clone())));
    }
    let metered = connection
        .prepare_cached(
            "SELECT 1 FROM dimensions WHERE product_id = ?1 AND key = ?2 AND metered = 1",
        )
        .and_then(|mut select| select.exists((product.as_str(), dimension.as_str())))
        .during("look up a dimension")?;
    if metered {
        return Ok(Ok(()));
    }
    Ok(Err(AttributionError::UnknownDimension {
        product: product.clone(),
        dimension: dimension.clone(),
    }))
}

/// The bearer of usage among a customer's subscriptions of one product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HolderChoice {
    /// This holder.
    Holder(Holder),
    /// None yet: it waits for a subscription.
    Waits,
    /// Nobody at AWS: it is counted, not billed.
    Counted,
}

impl HolderChoice {
    fn bill_to(self, product: &ProductId, dimension: &DimensionKey) -> Option<BillTo> {
        let holder = match self {
            Self::Holder(holder) => Some(holder),
            Self::Waits => None,
            Self::Counted => return None,
        };
        Some(BillTo { product_id: product.clone(), dimension: dimension.clone(), holder })
    }
}

fn unknown_license(request: &AttributionRequest, named: &LicenseArn) -> AttributionError {
    AttributionError::UnknownLicense { customer: request.customer.clone(), license: named.clone() }
}
