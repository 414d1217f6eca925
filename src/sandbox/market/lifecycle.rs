//! The lifecycle of agreements: beginnings, ends, and changes by time alone.

use jiff::{SignedDuration, Timestamp};

use super::agreements::{AgreementStatus, LicenseState};
use super::notices::Topic;
use super::{Agreement, Market, Protocol};

/// A timer: an event that happens to an agreement at a set time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// The licence becomes active.
    Provision(usize),
    /// The term runs out; the end it was set for is checked, as it may have moved.
    End(usize),
    /// The licence of an ended agreement is deprovisioned.
    Deprovision(usize),
    /// The legacy hour after `unsubscribe-pending` is over.
    UnsubscribeSuccess(usize),
}

/// Adds a delay to a time; a time beyond the calendar stays where it was.
pub(super) fn later(at: Timestamp, delay: SignedDuration) -> Timestamp {
    at.checked_add(delay).unwrap_or(at)
}

impl Market {
    /// Performs what is due by `now`, in order of time.
    pub fn tick(&mut self, now: Timestamp) {
        while let Some(entry) = self.timers.first_entry() {
            let (at, _) = *entry.key();
            if at > now {
                break;
            }
            match entry.remove() {
                Timer::Provision(position) => self.provision(position, at),
                Timer::End(position) => self.end_of_term(position, at),
                Timer::Deprovision(position) => self.deprovision(position, at),
                Timer::UnsubscribeSuccess(position) => self.unsubscribe_success(position, at),
            }
        }
    }

    pub(super) fn at_or_now(&mut self, at: Timestamp, now: Timestamp, timer: Timer) {
        let sequence = self.next_sequence();
        self.timers.insert((at, sequence), timer);
        if at <= now {
            self.tick(now);
        }
    }

    pub(super) fn protocol(&self, agreement: &Agreement) -> Protocol {
        self.products[&agreement.product_code].protocol
    }

    /// Sets the timer of an agreement's end.
    pub(super) fn watch_end(&mut self, position: usize, now: Timestamp) {
        let agreement = self.agreements.get(position);
        if let Some(ends_at) = agreement.ends_at {
            let delay = if agreement.auto_renew {
                self.options.auto_renew_delay
            } else {
                SignedDuration::ZERO
            };
            self.at_or_now(later(ends_at, delay), now, Timer::End(position));
        }
    }

    fn provision(&mut self, position: usize, at: Timestamp) {
        if self.agreements.get(position).license_state != LicenseState::Pending {
            return;
        }
        self.agreements.update(position, at, |it| {
            it.license_state = LicenseState::Provisioned;
        });
        let agreement = self.agreements.get(position).clone();
        if self.protocol(&agreement) == Protocol::Licensed {
            self.publish_license(at, "License Updated", &agreement);
        }
    }

    fn end_of_term(&mut self, position: usize, at: Timestamp) {
        let agreement = self.agreements.get(position);
        let due = agreement.ends_at.is_some_and(|ends_at| ends_at <= at);
        if !agreement.is_active() || !due {
            return;
        }
        if agreement.auto_renew {
            self.auto_renew(position, at);
        } else {
            self.end(position, AgreementStatus::Expired, false, at);
        }
    }

    /// Ends an agreement and publishes it to the seller; `immediate` skips AWS's final hour.
    pub(super) fn end(
        &mut self,
        position: usize,
        status: AgreementStatus,
        immediate: bool,
        at: Timestamp,
    ) {
        let final_metering =
            if immediate { SignedDuration::ZERO } else { self.options.final_metering };
        let until = later(at, final_metering);
        self.agreements.update(position, at, |it| {
            it.status = status;
            it.ended_at = Some(at);
            // A successor's licence goes on accepting what belongs to the old one for the hour.
            it.metering_until = Some(until);
        });
        let agreement = self.agreements.get(position).clone();
        match self.protocol(&agreement) {
            Protocol::Legacy => self.end_legacy(position, &agreement, until, at),
            Protocol::Licensed => {
                self.publish_ended(at, &agreement, status);
                let delay =
                    if immediate { SignedDuration::ZERO } else { self.options.deprovision_delay };
                self.at_or_now(later(at, delay), at, Timer::Deprovision(position));
            }
        }
    }

    fn end_legacy(
        &mut self,
        position: usize,
        agreement: &Agreement,
        until: Timestamp,
        at: Timestamp,
    ) {
        self.agreements.update(position, at, |it| {
            it.license_state = LicenseState::Deprovisioned;
        });
        if agreement.status.has_successor() {
            return;
        }
        let pricing = self.products[&agreement.product_code].pricing;
        if pricing.has_contract() {
            self.publish_action(at, Topic::Entitlement, "entitlement-updated", agreement);
        }
        if pricing.has_usage() {
            self.publish_action(at, Topic::Subscription, "unsubscribe-pending", agreement);
            self.at_or_now(until, at, Timer::UnsubscribeSuccess(position));
        }
    }

    fn deprovision(&mut self, position: usize, at: Timestamp) {
        let agreement = self.agreements.get(position).clone();
        if agreement.license_state == LicenseState::Deprovisioned {
            return;
        }
        self.agreements.update(position, at, |it| {
            it.license_state = LicenseState::Deprovisioned;
        });
        // A licence that moved to the successor lives on.
        let shared = self.agreements.of_license(&agreement.license_arn).iter();
        if shared.copied().any(|other| other != position && self.agreements.get(other).is_active())
        {
            return;
        }
        if agreement.license_state == LicenseState::Provisioned {
            self.publish_license(at, "License Deprovisioned", &agreement);
        }
    }

    fn unsubscribe_success(&mut self, position: usize, at: Timestamp) {
        let agreement = self.agreements.get(position).clone();
        // After a quick re-subscription AWS never sends it.
        if self.agreements.has_active(&agreement.account_id, &agreement.product_code) {
            return;
        }
        self.publish_action(at, Topic::Subscription, "unsubscribe-success", &agreement);
    }
}
