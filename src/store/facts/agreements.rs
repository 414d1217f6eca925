//! Answers of the Agreement API: recorded as facts beside those of events, with a mark on each buyer concerned.
//!
//! It only ever adds. A channel partner's agreements are not shown to the seller, so what is missing proves nothing.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::licenses::license_facts_in;
use super::listings::{end_rest_of_license_in, write_progress_in};
use super::told_rows::{told_agreement_in, told_license_in, write_agreement_in, write_license_in};
use crate::domain::agreement::{LicenseState, SeenAgreement};
use crate::domain::listing::Progress;
use crate::domain::reconciliation::LicenseFacts;
use crate::domain::told::ToldAgreement;
use crate::domain::{AgreementId, BuyerKey, BuyerRef, EntityId, LicenseArn, ProductCode};
use crate::store::base::columns::millis;
use crate::store::buyers::due::{MarkCause, mark_buyer_in};
use crate::store::engine::sql::{Connection, OptionalExtension};
use crate::store::{During, Store, StoreError};

/// An observation of a product's agreements.
#[derive(Clone, Debug)]
pub struct AgreementObservation {
    /// The product.
    pub product_code: ProductCode,
    /// The time at which AWS was asked.
    pub observed_at: Timestamp,
    /// The agreements.
    pub agreements: Vec<SeenAgreement>,
    /// The states of the licences that AWS was asked about one by one.
    pub states: BTreeMap<LicenseArn, LicenseState>,
}

impl AgreementObservation {
    /// Makes an observation that showed nothing.
    pub fn of_nothing(product_code: ProductCode, observed_at: Timestamp) -> Self {
        let (agreements, states) = (Vec::new(), BTreeMap::new());
        Self { product_code, observed_at, agreements, states }
    }
}

/// The result of recording an observation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgreementOutcome {
    /// The number of buyers of whom it told something new.
    pub news: usize,
    /// The number of agreements that the database refused.
    pub refused: usize,
}

impl Store {
    /// Takes over what the Agreement API showed, and makes the buyers due of whom it showed something new. Agreements
    /// that the database refuses are left out.
    pub async fn record_agreements(
        &self,
        observation: AgreementObservation,
        now: Timestamp,
    ) -> Result<AgreementOutcome, StoreError> {
        self.record_shown(observation, None, now).await
    }

    /// Takes over the same with the last of what a listing showed: its transaction writes how far listings have got, so
    /// that nothing which was not taken over is taken for read. What the database refuses is listed again.
    pub async fn record_listing(
        &self,
        observation: AgreementObservation,
        progress: Progress,
        now: Timestamp,
    ) -> Result<AgreementOutcome, StoreError> {
        self.record_shown(observation, Some(progress), now).await
    }

    async fn record_shown(
        &self,
        observation: AgreementObservation,
        progress: Option<Progress>,
        now: Timestamp,
    ) -> Result<AgreementOutcome, StoreError> {
        let AgreementObservation { product_code, observed_at, agreements, states } = observation;
        let shown = ObservedAgreements { product_code, observed_at, states };
        let all = agreements.len();
        let apart = self
            .write_isolated(agreements, move |connection, agreements| {
                let news = record(connection, agreements, &shown, now)?;
                if let Some(progress) = progress.filter(|_| agreements.len() == all) {
                    write_progress_in(connection, &shown.product_code, progress, now)?;
                }
                Ok(news)
            })
            .await?;
        let taken =
            AgreementOutcome { news: apart.done.into_iter().sum(), refused: apart.refused.len() };
        for (agreement, error) in apart.refused {
            let (id, error) = (agreement.agreement_id, error.in_full());
            tracing::error!(
                agreement = %id,
                error,
                "what AWS shows of an agreement cannot be taken over; please report it"
            );
        }
        Ok(taken)
    }

    /// Lists those licences of agreements in force that nobody has told to be in force.
    pub async fn unconfirmed_licenses(
        &self,
        agreements: &[SeenAgreement],
    ) -> Result<BTreeSet<AgreementId>, StoreError> {
        let active: Vec<(AgreementId, Vec<LicenseArn>)> = agreements
            .iter()
            .filter(|agreement| agreement.is_active())
            .map(|agreement| (agreement.agreement_id.clone(), agreement.licenses.clone()))
            .collect();
        self.read(move |connection| {
            let mut unconfirmed = BTreeSet::new();
            for (agreement, licenses) in active {
                for arn in licenses {
                    let facts = license_facts_in(connection, &arn)?;
                    if !facts.is_some_and(|facts| facts.is_live()) {
                        unconfirmed.insert(agreement.clone());
                    }
                }
            }
            Ok(unconfirmed)
        })
        .await
    }

    /// Returns the catalog's id of a product.
    pub async fn entity_of(
        &self,
        product_code: ProductCode,
    ) -> Result<Option<EntityId>, StoreError> {
        self.read(move |connection| {
            connection
                .prepare_cached("SELECT entity_id FROM products WHERE code = ?1")
                .and_then(|mut select| {
                    select
                        .query_row([product_code.as_str()], |row| row.get::<_, Option<String>>(0))
                        .optional()
                })
                .map(|found| found.flatten().map(EntityId::new))
                .during("find a product's entity id")
        })
        .await
    }
}

/// The part that all agreements of an observation have in common.
struct ObservedAgreements {
    product_code: ProductCode,
    observed_at: Timestamp,
    states: BTreeMap<LicenseArn, LicenseState>,
}

fn record(
    connection: &Connection,
    agreements: &[SeenAgreement],
    observation: &ObservedAgreements,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let mut buyers = BTreeSet::new();
    for agreement in agreements {
        let before = facts_of(connection, agreement)?;
        record_agreement(connection, agreement, observation.observed_at)?;
        for arn in &agreement.licenses {
            end_rest_of_license_in(connection, arn)?;
            record_license_of(connection, agreement, arn, observation)?;
        }
        if facts_of(connection, agreement)? != before {
            buyers.extend(buyers_of(agreement));
        }
    }
    for buyer in &buyers {
        let key = BuyerKey { product_code: observation.product_code.clone(), buyer: buyer.clone() };
        mark_buyer_in(connection, &key, MarkCause::News, now)?;
    }
    Ok(buyers.len())
}

fn facts_of(
    connection: &Connection,
    agreement: &SeenAgreement,
) -> Result<Vec<LicenseFacts>, StoreError> {
    let mut facts = Vec::new();
    for arn in &agreement.licenses {
        facts.extend(license_facts_in(connection, arn)?);
    }
    Ok(facts)
}

fn buyers_of(agreement: &SeenAgreement) -> Vec<BuyerRef> {
    match &agreement.account_id {
        Some(account) => vec![BuyerRef::Account(account.clone())],
        None => agreement.licenses.iter().cloned().map(BuyerRef::License).collect(),
    }
}

fn record_agreement(
    connection: &Connection,
    agreement: &SeenAgreement,
    asked_at: Timestamp,
) -> Result<(), StoreError> {
    let id = &agreement.agreement_id;
    let held = told_agreement_in(connection, id)?;
    let words = held.clone().and_answer(ToldAgreement::by_answer(agreement, asked_at));
    write_agreement_in(connection, id, &held, &words)
}

/// Links a licence with its agreement, and writes down how it stands where events have not told as much.
fn record_license_of(
    connection: &Connection,
    agreement: &SeenAgreement,
    arn: &LicenseArn,
    observation: &ObservedAgreements,
) -> Result<(), StoreError> {
    let facts = license_facts_in(connection, arn)?;
    let began = facts.as_ref().and_then(|facts| facts.agreement.as_ref()?.starts_at);
    let held = told_license_in(connection, arn)?;
    let mut words = held.clone().shown_on(agreement, began);
    words.product_code.get_or_insert_with(|| observation.product_code.clone());
    write_license_in(connection, arn, &held, &words)?;
    let news = observation.states.get(arn).filter(|state| {
        !facts.as_ref().is_some_and(|facts| facts.agrees_with(**state, observation.observed_at))
    });
    let Some(state) = news else { return Ok(()) };
    connection
        .prepare_cached(
            "UPDATE licenses SET observed = ?2, observed_at_ms = ?3 WHERE license_arn = ?1",
        )
        .and_then(|mut update| {
            update.post((arn.as_str(), state.as_str(), millis(observation.observed_at)))
        })
        .during("write the state of a licence")?;
    Ok(())
}
