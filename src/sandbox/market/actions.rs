//! Actions of buyers: subscribe, purchase, upgrade, renew, cancel and the rest.

use jiff::{Span, Timestamp};

use super::agreements::{AgreementStatus, LicenseState};
use super::contracting::{Origin, add_span};
use super::notices::{Intent, Topic};
use super::orders::{Action, ActionError, ActionOutcome, Order, OrderTerm};
use super::{Agreement, Market, Protocol};

impl Market {
    /// Performs a buyer's action, and publishes exactly what AWS would.
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
        self.publish_purchase(now, position)
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
        self.publish_purchase(now, position)
    }

    /// Publishes a new purchase of a legacy product and returns its token.
    fn publish_purchase(
        &mut self,
        now: Timestamp,
        position: usize,
    ) -> Result<ActionOutcome, ActionError> {
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
            return self.create_successor(now, position, order, Intent::Replace);
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
        let position = self.changeable(account_id, order)?;
        self.create_successor(now, position, order, Intent::Renew)
    }

    /// Renews an agreement whose term is over by itself, keeping its licence.
    pub(super) fn auto_renew(&mut self, position: usize, at: Timestamp) {
        let code = self.agreements.get(position).product_code.clone();
        let renewed = self.create_successor(at, position, &Order::of(code), Intent::Renew);
        if renewed.is_err() {
            // A term that leads past the calendar's end cannot renew.
            self.end(position, AgreementStatus::Expired, false, at);
        }
    }

    /// Replaces an active agreement by a new one, which renews or changes it.
    fn create_successor(
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
        let position = self.changeable(account_id, order)?;
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

    /// Publishes the change of an agreement to the seller.
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

    /// Returns the position of the buyer's active agreement, whose dimensions may become those of the order.
    fn changeable(&self, account_id: &str, order: &Order) -> Result<usize, ActionError> {
        let (position, code) = self.active(account_id, order)?;
        if !order.dimensions.is_empty() {
            self.check_dimensions(&code, &order.dimensions)?;
        }
        Ok(position)
    }

    /// Finds the agreement that an order is about, and its product.
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
