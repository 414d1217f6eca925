//! The words about licences and agreements as rows: read whole, and written whole where something changed.
//!
//! Which word counts is decided in `domain/told.rs`.

use jiff::Timestamp;

use crate::domain::notification::{AgreedEnd, LicenseChange};
use crate::domain::told::{Told, ToldAgreement, ToldLicense};
use crate::domain::{AccountId, AgreementId, EntityId, LicenseArn, ProductCode};
use crate::store::base::columns::{millis, optional_timestamp, timestamp};
use crate::store::engine::sql::{self, Connection, OptionalExtension, Row, named_params};
use crate::store::{During, StoreError};

/// Reads a licence's words; none of them, where nothing is told of it.
pub(crate) fn told_license_in(
    connection: &Connection,
    arn: &LicenseArn,
) -> Result<ToldLicense, StoreError> {
    connection
        .prepare_cached(
            "SELECT product_code, account_id, account_told_at_ms, agreement_id, agreement_told_at_ms,
                 change, change_at_ms, first_updated_at_ms
             FROM licenses WHERE license_arn = ?1",
        )
        .and_then(|mut select| select.query_row([arn.as_str()], license).optional())
        .map(Option::unwrap_or_default)
        .during("read what is told of a licence")
}

fn license(row: &Row<'_>) -> sql::Result<ToldLicense> {
    let product_code: Option<String> = row.get(0)?;
    Ok(ToldLicense {
        product_code: product_code.map(ProductCode::new),
        account_id: told(row, 1, |id: String| AccountId::new(id))?,
        agreement_id: told(row, 3, |id: String| AgreementId::new(id))?,
        change: told(row, 5, |word: String| license_change(&word))?,
        first_updated_at: optional_timestamp(row.get(7)?),
    })
}

/// Returns the change that the database writes as this word.
pub(super) fn license_change(word: &str) -> LicenseChange {
    match word {
        "deprovisioned" => LicenseChange::Deprovisioned,
        _ => LicenseChange::Updated,
    }
}

/// Writes a licence's words if they are others than those held, and returns whether they are.
pub(crate) fn write_license_in(
    connection: &Connection,
    arn: &LicenseArn,
    held: &ToldLicense,
    words: &ToldLicense,
) -> Result<bool, StoreError> {
    if words == held {
        return Ok(false);
    }
    connection
        .prepare_cached(
            "INSERT INTO licenses (license_arn, product_code, account_id, account_told_at_ms, agreement_id,
                 agreement_told_at_ms, change, change_at_ms, first_updated_at_ms)
             VALUES (:arn, :code, :account, :account_at, :agreement, :agreement_at, :change, :change_at, :first)
             ON CONFLICT (license_arn) DO UPDATE SET product_code = :code,
                 account_id = :account, account_told_at_ms = :account_at,
                 agreement_id = :agreement, agreement_told_at_ms = :agreement_at,
                 change = :change, change_at_ms = :change_at, first_updated_at_ms = :first",
        )
        .and_then(|mut upsert| {
            upsert.post(named_params! {
                ":arn": arn.as_str(),
                ":code": words.product_code.as_ref().map(ProductCode::as_str),
                ":account": words.account_id.as_ref().map(|told| told.value.as_str()),
                ":account_at": told_at(words.account_id.as_ref()),
                ":agreement": words.agreement_id.as_ref().map(|told| told.value.as_str()),
                ":agreement_at": told_at(words.agreement_id.as_ref()),
                ":change": words.change.as_ref().map(|told| told.value.as_str()),
                ":change_at": told_at(words.change.as_ref()),
                ":first": words.first_updated_at.map(millis),
            })
        })
        .during("write what is told of a licence")?;
    Ok(true)
}

/// Reads an agreement's words; none of them, where nothing is told of it.
pub(crate) fn told_agreement_in(
    connection: &Connection,
    agreement: &AgreementId,
) -> Result<ToldAgreement, StoreError> {
    connection
        .prepare_cached(
            "SELECT account_id, entity_id, previous_agreement_id, initial_agreement_id, offer_id, offer_told_at_ms,
                 intent, intent_told_at_ms, starts_at_ms, starts_told_at_ms, ends_at_ms, ends_told_at_ms,
                 ended_status, ended_at_ms
             FROM agreements WHERE agreement_id = ?1",
        )
        .and_then(|mut select| select.query_row([agreement.as_str()], agreement_row).optional())
        .map(Option::unwrap_or_default)
        .during("read what is told of an agreement")
}

fn agreement_row(row: &Row<'_>) -> sql::Result<ToldAgreement> {
    let text = |column: usize| row.get::<_, Option<String>>(column);
    let ends_at = optional_timestamp(row.get(10)?).map_or(AgreedEnd::Open, AgreedEnd::At);
    let ends_told_at = optional_timestamp(row.get(11)?);
    Ok(ToldAgreement {
        account_id: text(0)?.map(AccountId::new),
        entity_id: text(1)?.map(EntityId::new),
        previous_agreement_id: text(2)?.map(AgreementId::new),
        initial_agreement_id: text(3)?.map(AgreementId::new),
        offer_id: told(row, 4, |text: String| text)?,
        intent: told(row, 6, |text: String| text)?,
        starts_at: told(row, 8, timestamp)?,
        ends_at: ends_told_at.map(|at| Told { at, value: ends_at }),
        ended: told(row, 12, |text: String| text)?,
    })
}

/// Writes an agreement's words if they are others than those held.
pub(crate) fn write_agreement_in(
    connection: &Connection,
    agreement: &AgreementId,
    held: &ToldAgreement,
    words: &ToldAgreement,
) -> Result<(), StoreError> {
    if words == held {
        return Ok(());
    }
    connection
        .prepare_cached(
            "INSERT INTO agreements (agreement_id, account_id, entity_id, previous_agreement_id, initial_agreement_id,
                 offer_id, offer_told_at_ms, intent, intent_told_at_ms, starts_at_ms, starts_told_at_ms,
                 ends_at_ms, ends_told_at_ms, ended_status, ended_at_ms)
             VALUES (:id, :account, :entity, :previous, :initial, :offer, :offer_at, :intent, :intent_at,
                 :starts, :starts_at, :ends, :ends_at, :ended, :ended_at)
             ON CONFLICT (agreement_id) DO UPDATE SET account_id = :account, entity_id = :entity,
                 previous_agreement_id = :previous, initial_agreement_id = :initial,
                 offer_id = :offer, offer_told_at_ms = :offer_at, intent = :intent, intent_told_at_ms = :intent_at,
                 starts_at_ms = :starts, starts_told_at_ms = :starts_at,
                 ends_at_ms = :ends, ends_told_at_ms = :ends_at,
                 ended_status = :ended, ended_at_ms = :ended_at",
        )
        .and_then(|mut upsert| {
            upsert.post(named_params! {
                ":id": agreement.as_str(),
                ":account": words.account_id.as_ref().map(AccountId::as_str),
                ":entity": words.entity_id.as_ref().map(EntityId::as_str),
                ":previous": words.previous_agreement_id.as_ref().map(AgreementId::as_str),
                ":initial": words.initial_agreement_id.as_ref().map(AgreementId::as_str),
                ":offer": words.offer_id.as_ref().map(|told| told.value.as_str()),
                ":offer_at": told_at(words.offer_id.as_ref()),
                ":intent": words.intent.as_ref().map(|told| told.value.as_str()),
                ":intent_at": told_at(words.intent.as_ref()),
                ":starts": words.starts_at.as_ref().map(|told| millis(told.value)),
                ":starts_at": told_at(words.starts_at.as_ref()),
                ":ends": words.ends_at.as_ref().and_then(|told| told.value.at()).map(millis),
                ":ends_at": told_at(words.ends_at.as_ref()),
                ":ended": words.ended.as_ref().map(|told| told.value.as_str()),
                ":ended_at": told_at(words.ended.as_ref()),
            })
        })
        .during("write what is told of an agreement")?;
    name_buyer_in(connection, agreement, words.account_id.as_ref())
}

/// Names the buyer of an agreement's licences whose own events named none.
fn name_buyer_in(
    connection: &Connection,
    agreement: &AgreementId,
    account: Option<&AccountId>,
) -> Result<(), StoreError> {
    let Some(account) = account else { return Ok(()) };
    connection
        .prepare_cached(
            "UPDATE licenses SET account_id = ?2, account_told_at_ms = 0
             WHERE agreement_id = ?1 AND account_id IS NULL",
        )
        .and_then(|mut update| update.post((agreement.as_str(), account.as_str())))
        .during("name the buyer of an agreement's licences")?;
    Ok(())
}

/// Reads a value and, from the next column, the time at which it was told.
fn told<C: sql::FromSql, T>(
    row: &Row<'_>,
    column: usize,
    value: impl FnOnce(C) -> T,
) -> sql::Result<Option<Told<T>>> {
    let Some(held) = row.get::<_, Option<C>>(column)? else { return Ok(None) };
    let at = optional_timestamp(row.get(column + 1)?).unwrap_or(Timestamp::UNIX_EPOCH);
    Ok(Some(Told { at, value: value(held) }))
}

fn told_at<T>(told: Option<&Told<T>>) -> Option<i64> {
    told.map(|told| millis(told.at))
}
