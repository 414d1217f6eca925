//! Agreements with their licences, and the indexes that keep every look-up short.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::{Span, Timestamp};
use serde::Serialize;

/// An agreement's status in AWS's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AgreementStatus {
    /// The agreement is in force.
    Active,
    /// The buyer ended it.
    Cancelled,
    /// Its term ran out.
    Expired,
    /// Followed by a renewal.
    Renewed,
    /// Another agreement replaced it.
    Replaced,
    /// AWS ended it, for instance for a failed payment.
    Terminated,
}

impl AgreementStatus {
    /// Returns AWS's word for the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Cancelled => "CANCELLED",
            Self::Expired => "EXPIRED",
            Self::Renewed => "RENEWED",
            Self::Replaced => "REPLACED",
            Self::Terminated => "TERMINATED",
        }
    }

    /// Reports whether another agreement takes over.
    pub(super) fn has_successor(self) -> bool {
        matches!(self, Self::Renewed | Self::Replaced)
    }
}

/// A licence's state in AWS's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LicenseState {
    /// The licence was bought and is not yet active.
    Pending,
    /// The licence is active.
    Provisioned,
    /// The licence never became active.
    Failed,
    /// The licence ended.
    Deprovisioned,
}

/// One buyer's agreement for one product.
#[derive(Debug, Clone, Serialize)]
pub struct Agreement {
    /// The agreement's id, `agmt-…`.
    pub agreement_id: String,
    /// The buyer's account.
    pub account_id: String,
    /// The product's code.
    pub product_code: String,
    /// The ARN of the licence that it grants.
    pub license_arn: String,
    /// The accepted offer.
    pub offer_id: String,
    /// The agreement's status.
    pub status: AgreementStatus,
    /// The licence's state.
    pub license_state: LicenseState,
    /// The quantities bought, by dimension; empty for pay-as-you-go.
    pub dimensions: BTreeMap<String, u64>,
    /// The time at which the buyer accepted it.
    pub accepted_at: Timestamp,
    /// The time at which it began.
    pub starts_at: Timestamp,
    /// The time from which its usage is accepted: a renewal that keeps the licence keeps this too.
    pub metered_from: Timestamp,
    /// The time at which it ends; none for pay-as-you-go.
    pub ends_at: Option<Timestamp>,
    /// The time at which it last changed.
    pub updated_at: Timestamp,
    /// The time at which its entitlement rows appear.
    pub entitled_from: Timestamp,
    /// The time at which it was cancelled, expired, was terminated or went on as another one.
    pub ended_at: Option<Timestamp>,
    /// The time until which usage is accepted after its end.
    pub metering_until: Option<Timestamp>,
    /// The first agreement of a chain of renewals; its own id when there is none.
    pub initial_agreement_id: String,
    /// True if it renews itself at its end.
    pub auto_renew: bool,
    /// The end of a free trial.
    pub free_trial_ends_at: Option<Timestamp>,
    /// The channel partner that proposed it; none when the seller did.
    pub channel_partner: Option<String>,
    /// The length of its term, and so of its renewal's.
    #[serde(skip)]
    pub(super) term: Span,
}

impl Agreement {
    /// Reports whether it is in force.
    pub fn is_active(&self) -> bool {
        self.status == AgreementStatus::Active
    }

    /// Reports whether usage is accepted now.
    pub fn accepts_usage(&self, now: Timestamp) -> bool {
        match self.license_state {
            LicenseState::Pending | LicenseState::Failed => false,
            _ if self.is_active() => true,
            _ => self.metering_until.is_some_and(|until| now < until),
        }
    }

    fn has_rows(&self) -> bool {
        self.is_active() && !self.dimensions.is_empty()
    }

    /// Returns the value that a search is sorted by.
    pub(super) fn sort_key(&self, order: SortBy) -> Timestamp {
        match order {
            SortBy::EndTime => self.ends_at.unwrap_or(Timestamp::MAX),
            SortBy::StartTime => self.starts_at,
            SortBy::LastUpdateTime => self.updated_at,
        }
    }
}

/// The sort keys of a search.
#[expect(clippy::enum_variant_names, reason = "AWS's own words")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SortBy {
    EndTime,
    StartTime,
    LastUpdateTime,
}

const SORTS: [SortBy; 3] = [SortBy::EndTime, SortBy::StartTime, SortBy::LastUpdateTime];

/// All agreements, by their position in order of acceptance.
#[derive(Debug, Default)]
pub(super) struct Agreements {
    all: Vec<Agreement>,
    by_id: HashMap<String, usize>,
    by_license: HashMap<String, Vec<usize>>,
    by_buyer: HashMap<String, Vec<usize>>,
    /// The positions of agreements with entitlement rows, per product.
    entitled: HashMap<String, BTreeSet<usize>>,
    sorted: [BTreeSet<(Timestamp, usize)>; 3],
}

impl Agreements {
    pub(super) fn insert(&mut self, agreement: Agreement) -> usize {
        let position = self.all.len();
        self.by_id.insert(agreement.agreement_id.clone(), position);
        self.by_license.entry(agreement.license_arn.clone()).or_default().push(position);
        self.by_buyer.entry(agreement.account_id.clone()).or_default().push(position);
        self.all.push(agreement);
        self.link(position);
        position
    }

    /// Changes an agreement and keeps the indexes in step.
    pub(super) fn update(
        &mut self,
        position: usize,
        now: Timestamp,
        change: impl FnOnce(&mut Agreement),
    ) {
        let agreement = &mut self.all[position];
        for (index, order) in SORTS.iter().enumerate() {
            self.sorted[index].remove(&(agreement.sort_key(*order), position));
        }
        change(agreement);
        agreement.updated_at = now;
        self.link(position);
    }

    fn link(&mut self, position: usize) {
        let agreement = &self.all[position];
        for (index, order) in SORTS.iter().enumerate() {
            self.sorted[index].insert((agreement.sort_key(*order), position));
        }
        if agreement.has_rows() {
            let entitled = self.entitled.entry(agreement.product_code.clone()).or_default();
            entitled.insert(position);
        } else if let Some(entitled) = self.entitled.get_mut(&agreement.product_code) {
            entitled.remove(&position);
        }
    }

    pub(super) fn get(&self, position: usize) -> &Agreement {
        &self.all[position]
    }

    pub(super) fn all(&self) -> &[Agreement] {
        &self.all
    }

    pub(super) fn find(&self, agreement_id: &str) -> Option<usize> {
        self.by_id.get(agreement_id).copied()
    }

    /// Returns the agreements that share a licence, oldest first.
    pub(super) fn of_license(&self, license_arn: &str) -> &[usize] {
        self.by_license.get(license_arn).map_or(&[], Vec::as_slice)
    }

    /// Returns all agreements of a buyer, oldest first.
    pub(super) fn of_buyer(&self, account_id: &str) -> &[usize] {
        self.by_buyer.get(account_id).map_or(&[], Vec::as_slice)
    }

    /// Returns a buyer's agreements for one product, oldest first.
    pub(super) fn of_buyer_and_product<'a>(
        &'a self,
        account_id: &str,
        product_code: &'a str,
    ) -> impl DoubleEndedIterator<Item = usize> + 'a {
        let of_buyer = self.of_buyer(account_id).iter().copied();
        of_buyer.filter(move |position| self.all[*position].product_code == product_code)
    }

    /// Reports whether a buyer has an agreement in force for a product.
    pub(super) fn has_active(&self, account_id: &str, product_code: &str) -> bool {
        self.of_buyer_and_product(account_id, product_code)
            .any(|position| self.all[position].is_active())
    }

    /// Returns a product's agreements with entitlement rows, from a position on.
    pub(super) fn entitled_from(
        &self,
        product_code: &str,
        position: usize,
    ) -> impl Iterator<Item = usize> + use<'_> {
        let entitled = self.entitled.get(product_code);
        entitled.into_iter().flat_map(move |set| set.range(position..).copied())
    }

    pub(super) fn has_rows(&self, position: usize) -> bool {
        self.all[position].has_rows()
    }

    pub(super) fn sorted(&self, order: SortBy) -> &BTreeSet<(Timestamp, usize)> {
        match order {
            SortBy::EndTime => &self.sorted[0],
            SortBy::StartTime => &self.sorted[1],
            SortBy::LastUpdateTime => &self.sorted[2],
        }
    }
}
