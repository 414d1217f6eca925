//! What buyers do: subscribe, purchase, upgrade, renew, cancel and the rest.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan as _};
use serde::{Deserialize, Serialize};

use super::agreements::{AgreementStatus, LicenseState};
use super::lifecycle::{Timer, later};
use super::notices::{Intent, Topic};
use super::{Agreement, Market, Protocol};

/// What a buyer does.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Subscribes to a pay-as-you-go product, again if need be.
    Subscribe(Order),
    /// Buys a contract; for licensed products beside others of the same buyer.
    Purchase(Order),
    /// Changes dimension or quantity within the term.
    Upgrade(Order),
    /// Renews with a new agreement.
    Renew(Order),
    /// Amends the agreement: auto-renewal, end, or a new private offer.
    Amend(Order),
    /// Cancels.
    Cancel(Order),
    /// Lets the term run out now.
    Expire(Order),
    /// Tries to subscribe, and the payment fails.
    Fail(Order),
    /// AWS suspends the buyer's account, or lifts that with `suspended: false`.
    Suspend(Order),
    /// Presses "Set up your account" and gets a registration token.
    Register(Order),
}

/// The particulars of an action; each action reads what it needs.
#[expect(clippy::struct_excessive_bools, reason = "a request body's independent switches")]
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Order {
    /// Product code or entity id.
    pub product: String,
    /// Which of several agreements; the latest active one without it.
    pub agreement_id: Option<String>,
    /// What is bought: dimension to quantity.
    pub dimensions: BTreeMap<String, u64>,
    /// How long a contract lasts (`1y`, `1mo`, `30d`); a year without it.
    pub term: Option<OrderTerm>,
    /// An exact end instead of a term.
    pub ends_at: Option<Timestamp>,
    /// Whether the contract renews itself.
    pub auto_renew: Option<bool>,
    /// Starts with a free trial of 30 days; a contract is then the trial alone.
    pub free_trial: bool,
    /// Upgrade by a new agreement with intent REPLACE.
    pub replace: bool,
    /// The new agreement of a renewal or replacement gets a new licence.
    pub new_license: bool,
    /// Whether a renewal's event names the previous agreement; yes without it.
    pub previous_agreement_id: Option<bool>,
    /// Cancel without AWS's final hour.
    pub immediate: bool,
    /// The account of a channel partner that sells it.
    pub channel_partner: Option<String>,
    /// Suspend (the default) or lift a suspension.
    pub suspended: Option<bool>,
}

impl Order {
    /// An order for a product, nothing more.
    pub fn of(product: impl Into<String>) -> Self {
        Self { product: product.into(), ..Self::default() }
    }

    /// With a quantity of a dimension.
    #[must_use]
    pub fn with(mut self, dimension: &str, quantity: u64) -> Self {
        self.dimensions.insert(dimension.to_owned(), quantity);
        self
    }
}

/// A contract's length.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(transparent)]
pub struct OrderTerm(pub Span);

impl PartialEq for OrderTerm {
    fn eq(&self, other: &Self) -> bool {
        self.0.fieldwise() == other.0.fieldwise()
    }
}

/// The ids that an action made or touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ActionOutcome {
    /// The buyer.
    pub account_id: String,
    /// The buyer's legacy identity; only for legacy products.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_identifier: Option<String>,
    /// The product.
    pub product_code: String,
    /// The agreement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement_id: Option<String>,
    /// Its licence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license_arn: Option<String>,
    /// A registration token, good for four hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration_token: Option<String>,
}

/// Why an action or an addition cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it")]
pub enum ActionError {
    #[error("no product has the code or entity id {product:?}")]
    UnknownProduct { product: String },
    #[error("no buyer has the account {account_id:?}")]
    UnknownBuyer { account_id: String },
    #[error("the buyer has no agreement {agreement:?}")]
    UnknownAgreement { agreement: String },
    #[error("the buyer has no active agreement for this product")]
    NotSubscribed,
    #[error("the buyer already has one; only licensed products allow concurrent agreements")]
    AlreadySubscribed,
    #[error("this product is sold as {expected}: use that action")]
    WrongPricing { expected: &'static str },
    #[error("the product has no entitled dimension {dimension:?}")]
    UnknownDimension { dimension: String },
    #[error("a contract needs at least one dimension with a quantity above zero")]
    NothingBought,
    #[error("the end of the term is not a valid time after now")]
    BadTerm,
    #[error("an account id has 12 digits, not {account_id:?}")]
    BadAccount { account_id: String },
    #[error("another buyer has the customer identifier {customer_identifier:?}")]
    IdentifierTaken { customer_identifier: String },
    #[error("a product with the code {product:?} or its entity id exists already")]
    ProductExists { product: String },
}

impl ActionError {
    /// Whether something named does not exist, as against not being possible.
    pub fn is_unknown(&self) -> bool {
        matches!(
            self,
            Self::UnknownProduct { .. } | Self::UnknownBuyer { .. } | Self::UnknownAgreement { .. }
        )
    }
}

/// Where a new agreement comes from.
struct Origin<'a> {
    intent: Intent,
    /// The agreement that it follows.
    previous: Option<&'a Agreement>,
    new_license: bool,
    names_previous: bool,
}

impl Origin<'_> {
    const NEW: Self =
        Self { intent: Intent::New, previous: None, new_license: true, names_previous: false };
}

impl Market {
    /// Does what a buyer does, and publishes exactly what AWS would.
    ///
    /// A buyer that does not exist yet is added by subscribe, purchase and fail.
    pub fn act(
        &mut self,
        now: Timestamp,
        account_id: &str,
        action: Action,
    ) -> Result<ActionOutcome, ActionError> {
        self.tick(now);
        match action {
            Action::Subscribe(order) => self.subscribe(now, account_id, &order),
            Action::Purchase(order) => self.purchase(now, account_id, &order),
            Action::Fail(order) => self.fail(now, account_id, &order),
            Action::Upgrade(order) => self.upgrade(now, account_id, &order),
            Action::Renew(order) => self.renew(now, account_id, &order),
            Action::Amend(order) => self.amend(now, account_id, &order),
            Action::Cancel(order) => {
                self.finish(now, account_id, &order, AgreementStatus::Cancelled)
            }
            Action::Expire(order) => self.finish(now, account_id, &order, AgreementStatus::Expired),
            Action::Suspend(order) => self.suspend(account_id, &order),
            Action::Register(order) => {
                let code = self.code_of(&order.product)?;
                self.known_buyer(account_id)?;
                let agreement = order.agreement_id.clone();
                let token = self.issue_token(account_id, &code, agreement, now)?;
                let mut outcome = self.outcome(account_id, &code, None);
                outcome.registration_token = Some(token);
                Ok(outcome)
            }
        }
    }

    fn subscribe(
        &mut self,
        now: Timestamp,
        account_id: &str,
        order: &Order,
    ) -> Result<ActionOutcome, ActionError> {
        let code = self.code_of(&order.product)?;
        if self.products[&code].pricing.has_contract() {
            return Err(ActionError::WrongPricing { expected: "a contract (purchase)" });
        }
        self.admit(account_id, &code)?;
        let position = self.create(now, account_id, &code, order, &Origin::NEW)?;
        self.bought(now, position)
    }

    fn purchase(
        &mut self,
        now: Timestamp,
        account_id: &str,
        order: &Order,
    ) -> Result<ActionOutcome, ActionError> {
        let code = self.code_of(&order.product)?;
        if !self.products[&code].pricing.has_contract() {
            return Err(ActionError::WrongPricing { expected: "pay-as-you-go (subscribe)" });
        }
        self.check_dimensions(&code, &order.dimensions)?;
        self.admit(account_id, &code)?;
        let position = self.create(now, account_id, &code, order, &Origin::NEW)?;
        self.bought(now, position)
    }

    /// Publishes a new purchase of a legacy product and answers with its token.
    fn bought(&mut self, now: Timestamp, position: usize) -> Result<ActionOutcome, ActionError> {
        let agreement = self.agreements.get(position).clone();
        let product = &self.products[&agreement.product_code];
        let (protocol, pricing) = (product.protocol, product.pricing);
        if protocol == Protocol::Legacy {
            if pricing.has_usage() {
                self.publish_subscribe(now, "subscribe-success", &agreement);
            }
            if pricing.has_contract() {
                self.publish_action(now, Topic::Entitlement, "entitlement-updated", &agreement);
            }
        }
        let id = Some(agreement.agreement_id.clone());
        let token = self.issue_token(&agreement.account_id, &agreement.product_code, id, now)?;
        let mut outcome = self.outcome_of(position);
        outcome.registration_token = Some(token);
        Ok(outcome)
    }

    fn fail(
        &mut self,
        now: Timestamp,
        account_id: &str,
        order: &Order,
    ) -> Result<ActionOutcome, ActionError> {
        let code = self.code_of(&order.product)?;
        self.admit(account_id, &code)?;
        let position = self.build(now, account_id, &code, order, &Origin::NEW)?;
        self.agreements.update(position, now, |it| {
            it.status = AgreementStatus::Terminated;
            it.license_state = LicenseState::Failed;
        });
        let agreement = self.agreements.get(position).clone();
        match self.protocol(&agreement) {
            Protocol::Legacy => self.publish_subscribe(now, "subscribe-fail", &agreement),
            Protocol::Licensed => {
                self.publish_created(now, &agreement, Intent::New, None);
                self.publish_ended(now, &agreement, AgreementStatus::Terminated);
            }
        }
        let id = Some(agreement.agreement_id.clone());
        let token = self.issue_token(account_id, &code, id, now)?;
        let mut outcome = self.outcome_of(position);
        outcome.registration_token = Some(token);
        Ok(outcome)
    }

    fn upgrade(
        &mut self,
        now: Timestamp,
        account_id: &str,
        order: &Order,
    ) -> Result<ActionOutcome, ActionError> {
        let (position, code) = self.active(account_id, order)?;
        if !self.products[&code].pricing.has_contract() {
            return Err(ActionError::WrongPricing {
                expected: "pay-as-you-go: nothing to upgrade",
            });
        }
        self.check_dimensions(&code, &order.dimensions)?;
        if order.replace {
            return self.succeed(now, position, order, Intent::Replace);
        }
        let dimensions = order.dimensions.clone();
        self.agreements.update(position, now, |it| it.dimensions = dimensions);
        self.publish_change(now, position);
        Ok(self.outcome_of(position))
    }

    fn renew(
        &mut self,
        now: Timestamp,
        account_id: &str,
        order: &Order,
    ) -> Result<ActionOutcome, ActionError> {
        let (position, code) = self.active(account_id, order)?;
        if !order.dimensions.is_empty() {
            self.check_dimensions(&code, &order.dimensions)?;
        }
        self.succeed(now, position, order, Intent::Renew)
    }

    /// Renews an agreement whose term is over by itself, keeping its licence.
    pub(super) fn auto_renew(&mut self, position: usize, at: Timestamp) {
        let code = self.agreements.get(position).product_code.clone();
        let renewed = self.succeed(at, position, &Order::of(code), Intent::Renew);
        if renewed.is_err() {
            // A term that leads past the calendar's end cannot renew.
            self.end(position, AgreementStatus::Expired, false, at);
        }
    }

    /// Lets a new agreement follow an active one.
    fn succeed(
        &mut self,
        now: Timestamp,
        position: usize,
        order: &Order,
        intent: Intent,
    ) -> Result<ActionOutcome, ActionError> {
        let old = self.agreements.get(position).clone();
        let mut order = order.clone();
        if order.dimensions.is_empty() {
            order.dimensions.clone_from(&old.dimensions);
        }
        order.term = order.term.or(Some(OrderTerm(old.term)));
        order.auto_renew = order.auto_renew.or(Some(old.auto_renew));
        order.channel_partner = order.channel_partner.or_else(|| old.channel_partner.clone());
        if order.ends_at.is_none() && old.ends_at.is_some() {
            order.ends_at = match intent {
                // A replacement keeps the term; a renewal adds one to it.
                Intent::Replace => old.ends_at,
                _ => old.ends_at.and_then(|end| add_span(end.max(now), old.term_of(&order))),
            };
            order.ends_at.ok_or(ActionError::BadTerm)?;
        }
        let origin = Origin {
            intent,
            previous: Some(&old),
            new_license: order.new_license,
            names_previous: order.previous_agreement_id.unwrap_or(true),
        };
        let (account_id, code) = (old.account_id.clone(), old.product_code.clone());
        let successor = self.create(now, &account_id, &code, &order, &origin)?;
        let status = match intent {
            Intent::Replace => AgreementStatus::Replaced,
            _ => AgreementStatus::Renewed,
        };
        self.end(position, status, false, now);
        if self.products[&code].protocol == Protocol::Legacy {
            self.publish_change(now, successor);
        }
        Ok(self.outcome_of(successor))
    }

    fn amend(
        &mut self,
        now: Timestamp,
        account_id: &str,
        order: &Order,
    ) -> Result<ActionOutcome, ActionError> {
        let (position, code) = self.active(account_id, order)?;
        if !order.dimensions.is_empty() {
            self.check_dimensions(&code, &order.dimensions)?;
        }
        if order.ends_at.is_some_and(|ends_at| ends_at <= now) {
            return Err(ActionError::BadTerm);
        }
        let offer_id = self.ids.offer_id();
        self.agreements.update(position, now, |it| {
            it.offer_id = offer_id;
            it.auto_renew = order.auto_renew.unwrap_or(it.auto_renew);
            if it.ends_at.is_some() {
                it.ends_at = order.ends_at.or(it.ends_at);
            }
            if !order.dimensions.is_empty() {
                it.dimensions.clone_from(&order.dimensions);
            }
        });
        self.watch_end(position, now);
        self.publish_change(now, position);
        Ok(self.outcome_of(position))
    }

    /// Tells the seller that an agreement is not what it was.
    fn publish_change(&mut self, now: Timestamp, position: usize) {
        let agreement = self.agreements.get(position).clone();
        let product = &self.products[&agreement.product_code];
        match product.protocol {
            Protocol::Legacy if product.pricing.has_contract() => {
                self.publish_action(now, Topic::Entitlement, "entitlement-updated", &agreement);
            }
            // A new private offer repeats the success.
            Protocol::Legacy => self.publish_subscribe(now, "subscribe-success", &agreement),
            Protocol::Licensed => {
                self.publish_amended(now, &agreement);
                if agreement.license_state == LicenseState::Provisioned {
                    self.publish_license(now, "License Updated", &agreement);
                }
            }
        }
    }

    fn finish(
        &mut self,
        now: Timestamp,
        account_id: &str,
        order: &Order,
        status: AgreementStatus,
    ) -> Result<ActionOutcome, ActionError> {
        let (position, _) = self.active(account_id, order)?;
        self.end(position, status, order.immediate, now);
        Ok(self.outcome_of(position))
    }

    fn suspend(&mut self, account_id: &str, order: &Order) -> Result<ActionOutcome, ActionError> {
        let code = match order.product.as_str() {
            "" => String::new(),
            product => self.code_of(product)?,
        };
        let buyer = self
            .buyers
            .get_mut(account_id)
            .ok_or_else(|| ActionError::UnknownBuyer { account_id: account_id.to_owned() })?;
        buyer.suspended = order.suspended.unwrap_or(true);
        Ok(self.outcome(account_id, &code, None))
    }

    /// Makes an agreement, and for licensed products publishes it.
    fn create(
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

    fn build(
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

    /// Lets a buyer in who may buy this product now.
    fn admit(&mut self, account_id: &str, product_code: &str) -> Result<(), ActionError> {
        self.add_buyer(Some(account_id.to_owned()), None)?;
        let taken = self.agreements.has_active(account_id, product_code);
        if taken && self.products[product_code].protocol == Protocol::Legacy {
            return Err(ActionError::AlreadySubscribed);
        }
        Ok(())
    }

    fn check_dimensions(
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

    /// The agreement that an order is about, and its product.
    fn active(&self, account_id: &str, order: &Order) -> Result<(usize, String), ActionError> {
        let code = self.code_of(&order.product)?;
        self.known_buyer(account_id)?;
        let mut held = self.agreements.of_buyer_and_product(account_id, &code);
        let found = match &order.agreement_id {
            Some(id) => {
                let position = held.find(|at| self.agreements.get(*at).agreement_id == *id);
                let unknown = || ActionError::UnknownAgreement { agreement: id.clone() };
                Some(position.ok_or_else(unknown)?)
            }
            None => held.rfind(|position| self.agreements.get(*position).is_active()),
        };
        let position = found
            .filter(|position| self.agreements.get(*position).is_active())
            .ok_or(ActionError::NotSubscribed)?;
        drop(held);
        Ok((position, code))
    }

    fn code_of(&self, product: &str) -> Result<String, ActionError> {
        let found = self.product(product).map(|it| it.product_code.clone());
        found.ok_or_else(|| ActionError::UnknownProduct { product: product.to_owned() })
    }

    fn known_buyer(&self, account_id: &str) -> Result<(), ActionError> {
        let known = self.buyers.contains_key(account_id);
        known
            .then_some(())
            .ok_or_else(|| ActionError::UnknownBuyer { account_id: account_id.to_owned() })
    }

    fn outcome_of(&self, position: usize) -> ActionOutcome {
        let agreement = self.agreements.get(position);
        self.outcome(&agreement.account_id, &agreement.product_code, Some(position))
    }

    fn outcome(
        &self,
        account_id: &str,
        product_code: &str,
        position: Option<usize>,
    ) -> ActionOutcome {
        let legacy =
            self.products.get(product_code).is_some_and(|it| it.protocol == Protocol::Legacy);
        let position = position
            .or_else(|| self.agreements.of_buyer_and_product(account_id, product_code).next_back());
        let agreement = position.map(|position| self.agreements.get(position));
        ActionOutcome {
            account_id: account_id.to_owned(),
            customer_identifier: legacy
                .then(|| self.buyers[account_id].customer_identifier.clone()),
            product_code: product_code.to_owned(),
            agreement_id: agreement.map(|it| it.agreement_id.clone()),
            license_arn: agreement.map(|it| it.license_arn.clone()),
            registration_token: None,
        }
    }
}

impl Agreement {
    fn term_of(&self, order: &Order) -> Span {
        order.term.map_or(self.term, |term| term.0)
    }
}

/// Adds a calendar span; `None` past the calendar's end.
fn add_span(at: Timestamp, span: Span) -> Option<Timestamp> {
    at.to_zoned(TimeZone::UTC).checked_add(span).ok().map(|it| it.timestamp())
}
