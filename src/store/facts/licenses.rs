//! Licences and agreements: what events told, and what the Agreement API showed, read for every decision.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::buyer_names::BuyerNames;
use super::told_rows::{
    license_change, told_agreement_in, told_license_in, write_agreement_in, write_license_in,
};
use crate::domain::agreement::LicenseState;
use crate::domain::notification::{AgreementNews, LicenseNews};
use crate::domain::reconciliation::{AgreementFacts, LicenseFacts};
use crate::domain::told::{ToldAgreement, ToldLicense};
use crate::domain::{AccountId, AgreementId, BuyerKey, BuyerRef, LicenseArn, ProductCode};
use crate::store::base::columns::optional_timestamp;
use crate::store::engine::sql::{self, Connection, OptionalExtension, Row};
use crate::store::{During, StoreError};

/// The most agreements of a chain that are followed back.
const CHAIN_MAX: usize = 20;

/// Takes over a licence event, and returns the account that holds the licence: by its own event, else by its agreement's.
pub(crate) fn record_license_event_in(
    connection: &Connection,
    news: &LicenseNews,
    product_code: &ProductCode,
    at: Timestamp,
) -> Result<Option<AccountId>, StoreError> {
    let of_agreement = match (&news.account_id, &news.agreement_id) {
        (None, Some(agreement)) => told_agreement_in(connection, agreement)?.account_id,
        _ => None,
    };
    let account = news.account_id.clone().or_else(|| of_agreement.clone());
    let word = ToldLicense::by_event(news, product_code, of_agreement, at);
    add_license_words_in(connection, &news.license_arn, word)?;
    Ok(account)
}

/// Adds words about a licence to those that are held, and returns whether they told anything new.
pub(crate) fn add_license_words_in(
    connection: &Connection,
    arn: &LicenseArn,
    words: ToldLicense,
) -> Result<bool, StoreError> {
    let held = told_license_in(connection, arn)?;
    write_license_in(connection, arn, &held, &held.clone().and(words))
}

/// Takes over an agreement event.
pub(crate) fn record_agreement_event_in(
    connection: &Connection,
    news: &AgreementNews,
    at: Timestamp,
) -> Result<(), StoreError> {
    let held = told_agreement_in(connection, &news.agreement_id)?;
    let words = held.clone().and(ToldAgreement::by_event(news, at));
    write_agreement_in(connection, &news.agreement_id, &held, &words)
}

/// Returns the buyers whose licences stand on this agreement, or on one that it continues, as far as events have told:
/// what was told of it may change what becomes of those.
pub(crate) fn buyers_of_agreement(
    connection: &Connection,
    news: &AgreementNews,
) -> Result<BTreeSet<BuyerKey>, StoreError> {
    let mut agreements = vec![news.agreement_id.clone()];
    if let Some(previous) = news.previous_agreement_id.clone() {
        agreements.extend(ancestors_in(connection, previous)?);
    }
    let mut buyers = BTreeSet::new();
    for agreement in agreements {
        buyers.extend(buyers_on(connection, &agreement)?);
    }
    Ok(buyers)
}

fn buyers_on(
    connection: &Connection,
    agreement: &AgreementId,
) -> Result<Vec<BuyerKey>, StoreError> {
    let mut select = connection
        .prepare_cached(
            "SELECT DISTINCT product_code, account_id, CASE WHEN account_id IS NULL THEN license_arn END
             FROM licenses WHERE agreement_id = ?1 AND product_code IS NOT NULL",
        )
        .during("find an agreement's licences")?;
    let rows = select
        .query_map([agreement.as_str()], |row| {
            let account: Option<String> = row.get(1)?;
            let buyer = match account {
                Some(id) => BuyerRef::Account(AccountId::new(id)),
                None => BuyerRef::License(LicenseArn::new(row.get::<_, String>(2)?)),
            };
            Ok(BuyerKey { product_code: ProductCode::new(row.get::<_, String>(0)?), buyer })
        })
        .during("find an agreement's licences")?;
    rows.collect::<Result<_, _>>().during("find an agreement's licences")
}

/// Returns the licences that are told to be this buyer's.
pub(crate) fn licenses_of(
    connection: &Connection,
    product_code: &ProductCode,
    circle: &BuyerNames,
) -> Result<BTreeSet<LicenseArn>, StoreError> {
    let mut arns: BTreeSet<LicenseArn> = circle.license.iter().cloned().collect();
    for account in &circle.accounts {
        arns.extend(licenses_of_account(connection, product_code, account)?);
    }
    Ok(arns)
}

/// Lists the licences that are told to be this account's.
pub(crate) fn licenses_of_account(
    connection: &Connection,
    product_code: &ProductCode,
    account: &AccountId,
) -> Result<Vec<LicenseArn>, StoreError> {
    connection
        .prepare_cached(
            "SELECT license_arn FROM licenses WHERE account_id = ?1 AND product_code = ?2",
        )
        .and_then(|mut select| {
            let row = |row: &Row<'_>| row.get::<_, String>(0).map(LicenseArn::new);
            select.query_map((account.as_str(), product_code.as_str()), row)?.collect()
        })
        .during("list an account's licences")
}

/// Reads the facts of a licence.
pub(crate) fn license_facts_in(
    connection: &Connection,
    arn: &LicenseArn,
) -> Result<Option<LicenseFacts>, StoreError> {
    let found = connection
        .prepare_cached(
            "SELECT l.*, a.intent, a.initial_agreement_id, a.previous_agreement_id, a.starts_at_ms,
                 a.ends_at_ms, a.ended_status, a.ended_at_ms,
                 EXISTS (SELECT 1 FROM agreements n WHERE n.previous_agreement_id = l.agreement_id) AS followed
             FROM licenses l LEFT JOIN agreements a USING (agreement_id) WHERE l.license_arn = ?1",
        )
        .and_then(|mut select| select.query_row([arn.as_str()], license_row).optional())
        .during("read a licence's facts")?;
    let Some((mut facts, previous)) = found else { return Ok(None) };
    if let (Some(agreement), Some(previous)) = (&mut facts.agreement, previous) {
        agreement.ancestors = ancestors_in(connection, previous)?;
    }
    Ok(Some(facts))
}

/// Reads a licence's facts, and the agreement that its agreement continues.
fn license_row(row: &Row<'_>) -> sql::Result<(LicenseFacts, Option<AgreementId>)> {
    let text = |column: &str| row.get::<_, Option<String>>(column);
    let time = |column: &str| row.get(column).map(optional_timestamp);
    let change = text("change")?.map(|word| license_change(&word));
    let observed = text("observed")?.and_then(|word| LicenseState::parse(&word));
    let agreement = match text("agreement_id")? {
        Some(id) => Some(AgreementFacts {
            agreement_id: AgreementId::new(id),
            initial_agreement_id: text("initial_agreement_id")?.map(AgreementId::new),
            ancestors: Vec::new(),
            intent: text("intent")?,
            followed: row.get("followed")?,
            starts_at: time("starts_at_ms")?,
            ends_at: time("ends_at_ms")?,
            ended: text("ended_status")?.zip(time("ended_at_ms")?),
        }),
        None => None,
    };
    let facts = LicenseFacts {
        license_arn: LicenseArn::new(row.get::<_, String>("license_arn")?),
        account_id: text("account_id")?.map(AccountId::new),
        change: change.zip(time("change_at_ms")?),
        first_updated_at: time("first_updated_at_ms")?,
        observed: observed.zip(time("observed_at_ms")?),
        agreement,
    };
    Ok((facts, text("previous_agreement_id")?.map(AgreementId::new)))
}

/// Returns this agreement and those that it continues, the nearest first.
fn ancestors_in(
    connection: &Connection,
    nearest: AgreementId,
) -> Result<Vec<AgreementId>, StoreError> {
    let mut ancestors = vec![nearest];
    while let Some(last) = ancestors.last().filter(|_| ancestors.len() < CHAIN_MAX) {
        let previous: Option<String> = connection
            .prepare_cached("SELECT previous_agreement_id FROM agreements WHERE agreement_id = ?1")
            .and_then(|mut select| {
                select.query_row([last.as_str()], |row| row.get::<_, Option<String>>(0)).optional()
            })
            .during("follow a chain of agreements")?
            .flatten();
        match previous.map(AgreementId::new) {
            Some(previous) if !ancestors.contains(&previous) => ancestors.push(previous),
            _ => break,
        }
    }
    Ok(ancestors)
}
