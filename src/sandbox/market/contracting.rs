//! Creation of agreements: the checks of who may buy what, and the agreement with its licence.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan as _};

use super::agreements::{AgreementStatus, LicenseState};
use super::lifecycle::{Timer, later};
use super::notices::Intent;
use super::orders::{ActionError, Order};
use super::{Agreement, Market, Protocol};

/// The origin of a new agreement.
pub(super) struct Origin<'a> {
    pub(super) intent: Intent,
    /// The agreement that it follows.
    pub(super) previous: Option<&'a Agreement>,
    pub(super) new_license: bool,
    pub(super) names_previous: bool,
}

impl Origin<'_> {
    pub(super) const NEW: Self =
        Self { intent: Intent::New, previous: None, new_license: true, names_previous: false };
}

impl Market {
    /// Creates an agreement, and for licensed products publishes it.
    pub(super) fn create(
        &mut self,
        now: Timestamp,
        account_id: &str,
        product_code: &str,
        order: &Order,
        origin: &Origin<'_>,
    ) -> Result<usize, ActionError> {
        let position = self.build(now, account_id, product_code, order, origin)?;
        let agreement = self.agreements.get(position).clone();
        if self.protocol(&agreement) == Protocol::Licensed {
            let named = origin.previous.filter(|_| origin.names_previous);
            let previous = named.map(|it| it.agreement_id.as_str());
            self.publish_created(now, &agreement, origin.intent, previous);
            let at = later(now, self.options.license_delay);
            self.at_or_now(at, now, Timer::Provision(position));
        } else {
            self.agreements.update(position, now, |it| {
                it.license_state = LicenseState::Provisioned;
            });
        }
        self.watch_end(position, now);
        Ok(position)
    }

    pub(super) fn build(
        &mut self,
        now: Timestamp,
        account_id: &str,
        product_code: &str,
        order: &Order,
        origin: &Origin<'_>,
    ) -> Result<usize, ActionError> {
        let trial_ends_at = if order.free_trial { add_span(now, 30.days()) } else { None };
        let term = order.term.map_or_else(|| 1.year(), |term| term.0);
        let ends_at = if self.products[product_code].pricing.has_contract() {
            let end = order.ends_at.or(trial_ends_at).or_else(|| add_span(now, term));
            Some(end.filter(|end| *end > now).ok_or(ActionError::BadTerm)?)
        } else {
            None
        };
        let agreement_id = self.ids.agreement_id();
        let license_arn = match origin.previous {
            Some(previous) if !origin.new_license => previous.license_arn.clone(),
            _ => self.ids.license_arn(),
        };
        let keeps_identity =
            !origin.new_license || self.products[product_code].protocol == Protocol::Legacy;
        let predecessor = origin.previous.filter(|_| keeps_identity);
        let entitled_from = match origin.previous {
            Some(previous) => previous.entitled_from,
            None => later(now, self.options.provisioning_delay),
        };
        let initial = origin.previous.map(|it| it.initial_agreement_id.clone());
        let agreement = Agreement {
            account_id: account_id.to_owned(),
            product_code: product_code.to_owned(),
            license_arn,
            offer_id: self.products[product_code].offer_id.clone(),
            status: AgreementStatus::Active,
            license_state: LicenseState::Pending,
            dimensions: order.dimensions.clone(),
            accepted_at: now,
            starts_at: now,
            metered_from: predecessor.map_or(now, |it| it.metered_from),
            ends_at,
            updated_at: now,
            entitled_from,
            ended_at: None,
            metering_until: None,
            initial_agreement_id: initial.unwrap_or_else(|| agreement_id.clone()),
            agreement_id,
            auto_renew: order.auto_renew.unwrap_or(false),
            free_trial_ends_at: trial_ends_at,
            channel_partner: order.channel_partner.clone(),
            term,
        };
        Ok(self.agreements.insert(agreement))
    }

    /// Admits a buyer, unless an agreement in force keeps it from buying this product again.
    pub(super) fn admit(
        &mut self,
        account_id: &str,
        product_code: &str,
    ) -> Result<(), ActionError> {
        self.add_buyer(Some(account_id.to_owned()), None)?;
        let taken = self.agreements.has_active(account_id, product_code);
        if taken && self.products[product_code].protocol == Protocol::Legacy {
            return Err(ActionError::AlreadySubscribed);
        }
        Ok(())
    }

    pub(super) fn check_dimensions(
        &self,
        product_code: &str,
        dimensions: &BTreeMap<String, u64>,
    ) -> Result<(), ActionError> {
        let product = &self.products[product_code];
        if let Some(dimension) = dimensions.keys().find(|key| !product.entitles(key)) {
            return Err(ActionError::UnknownDimension { dimension: dimension.clone() });
        }
        if dimensions.is_empty() || dimensions.values().any(|quantity| *quantity == 0) {
            return Err(ActionError::NothingBought);
        }
        Ok(())
    }
}

/// Adds a calendar span; `None` past the calendar's end.
pub(super) fn add_span(at: Timestamp, span: Span) -> Option<Timestamp> {
    at.to_zoned(TimeZone::UTC).checked_add(span).ok().map(|it| it.timestamp())
}
