//! Licences and agreements: what events told, and what the Agreement API showed, read for every decision.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::buyer_names::BuyerNames;
use crate::domain::agreement::LicenseState;
use crate::domain::notification::{AgreedEnd, AgreementNews, LicenseChange, LicenseNews, is_over};
use crate::domain::reconciliation::{AgreementFacts, LicenseFacts};
use crate::domain::{AccountId, AgreementId, BuyerKey, BuyerRef, LicenseArn, ProductCode};
use crate::store::base::columns::{millis, optional_timestamp};
use crate::store::{During, StoreError};

/// The most agreements of a chain that are followed back.
const CHAIN_MAX: usize = 20;

/// Returns the account that holds a licence: by the licence's own event, else by its agreement's.
pub(crate) fn account_behind(
    connection: &Connection,
    news: &LicenseNews,
) -> Result<Option<AccountId>, StoreError> {
    let (Some(agreement), None) = (&news.agreement_id, &news.account_id) else {
        return Ok(news.account_id.clone());
    };
    connection
        .prepare_cached("SELECT account_id FROM agreements WHERE agreement_id = ?1")
        .and_then(|mut select| {
            select.query_row([agreement.as_str()], |row| row.get::<_, Option<String>>(0)).optional()
        })
        .map(|found| found.flatten().map(AccountId::new))
        .during("find the buyer of a licence's agreement")
}

pub(crate) fn write_license(
    connection: &Connection,
    news: &LicenseNews,
    product_code: &ProductCode,
    at: Timestamp,
) -> Result<(), StoreError> {
    let account_id = account_behind(connection, news)?;
    let first_updated = (news.change == LicenseChange::Updated).then(|| millis(at));
    // The newest event by its own time decides; at the same second the end is taken for the newer one,
    // which is also the order of the two words.
    connection
        .prepare_cached(
            "INSERT INTO licenses (license_arn, product_code, account_id, agreement_id, change,
                 change_at_ms, first_updated_at_ms)
             VALUES (:arn, :code, :account, :agreement, :change, :at, :first)
             ON CONFLICT DO UPDATE SET
                 product_code = :code,
                 account_id = ifnull(:account, account_id),
                 agreement_id = CASE WHEN :at > ifnull(change_at_ms, 0)
                     OR (:at = change_at_ms AND (:change, ifnull(:agreement, '')) <= (change, ifnull(agreement_id, '')))
                     THEN ifnull(:agreement, agreement_id) ELSE ifnull(agreement_id, :agreement) END,
                 change = CASE WHEN :at > ifnull(change_at_ms, 0)
                     OR (:at = change_at_ms AND :change = 'deprovisioned')
                     THEN :change ELSE change END,
                 change_at_ms = max(ifnull(change_at_ms, 0), :at),
                 first_updated_at_ms = CASE WHEN :first IS NULL THEN first_updated_at_ms
                     ELSE min(ifnull(first_updated_at_ms, :first), :first) END",
        )
        .and_then(|mut upsert| {
            upsert.execute(named_params! {
                ":arn": news.license_arn.as_str(),
                ":code": product_code.as_str(),
                ":account": account_id.as_ref().map(AccountId::as_str),
                ":agreement": news.agreement_id.as_ref().map(AgreementId::as_str),
                ":change": news.change.as_str(),
                ":at": millis(at),
                ":first": first_updated,
            })
        })
        .during("take over a licence event")?;
    Ok(())
}

pub(crate) fn write_agreement(
    connection: &Connection,
    news: &AgreementNews,
    at: Timestamp,
) -> Result<(), StoreError> {
    let at = millis(at);
    // Each of its terms is that of the newest event that tells it, whichever comes first: what an event leaves out is
    // unknown to it. Of two at the same time, the later time counts. The newest end is the agreement's, and keeps its
    // own time. An end tells no terms, and whom and what the agreement is about never changes.
    let ended = news.ended.as_deref().filter(|status| is_over(status));
    let tells_terms = news.starts_at.is_some() || news.ends_at.is_some();
    connection
        .prepare_cached(
            "INSERT INTO agreements AS held (agreement_id, account_id, entity_id, offer_id, intent,
                 previous_agreement_id, starts_at_ms, starts_told_at_ms, ends_at_ms, ends_told_at_ms, told_at_ms,
                 ended_status, ended_at_ms)
             VALUES (:id, :account, :entity, :offer, :intent, :previous, :starts, iif(:starts IS NULL, NULL, :at),
                 :ends, iif(:tells_end, :at, NULL), :told, :ended, :ended_at)
             ON CONFLICT DO UPDATE SET
                 account_id = ifnull(:account, account_id),
                 entity_id = ifnull(:entity, entity_id),
                 previous_agreement_id = ifnull(:previous, previous_agreement_id),
                 (offer_id, intent, told_at_ms) = (SELECT
                     CASE WHEN newer THEN ifnull(:offer, held.offer_id) ELSE ifnull(held.offer_id, :offer) END,
                     CASE WHEN newer THEN ifnull(:intent, held.intent) ELSE ifnull(held.intent, :intent) END,
                     CASE WHEN newer THEN :told ELSE held.told_at_ms END
                     FROM (SELECT :told IS NOT NULL AND (held.told_at_ms IS NULL
                         OR (:told, ifnull(:intent, ''), ifnull(:offer, ''))
                             > (held.told_at_ms, ifnull(held.intent, ''), ifnull(held.offer_id, ''))) AS newer)),
                 (starts_at_ms, starts_told_at_ms) = (SELECT
                     CASE WHEN newer THEN :starts ELSE held.starts_at_ms END,
                     CASE WHEN newer THEN :at ELSE held.starts_told_at_ms END
                     FROM (SELECT :starts IS NOT NULL AND (held.starts_told_at_ms IS NULL
                         OR (:at, :starts) > (held.starts_told_at_ms, held.starts_at_ms)) AS newer)),
                 (ends_at_ms, ends_told_at_ms) = (SELECT
                     CASE WHEN newer THEN :ends ELSE held.ends_at_ms END,
                     CASE WHEN newer THEN :at ELSE held.ends_told_at_ms END
                     FROM (SELECT :tells_end AND (held.ends_told_at_ms IS NULL
                         OR (:at, ifnull(:ends, :never)) > (held.ends_told_at_ms, ifnull(held.ends_at_ms, :never))
                         ) AS newer)),
                 (ended_status, ended_at_ms) = (SELECT
                     CASE WHEN newer THEN :ended ELSE held.ended_status END,
                     CASE WHEN newer THEN :ended_at ELSE held.ended_at_ms END
                     FROM (SELECT :ended IS NOT NULL AND (held.ended_status IS NULL
                         OR (:ended_at, :ended) > (held.ended_at_ms, held.ended_status)) AS newer))",
        )
        .and_then(|mut upsert| {
            upsert.execute(named_params! {
                ":id": news.agreement_id.as_str(),
                ":account": news.account_id.as_ref().map(AccountId::as_str),
                ":entity": news.entity_id.as_ref().map(crate::domain::EntityId::as_str),
                ":offer": news.offer_id,
                // That it was amended does not tell where it came from.
                ":intent": news.intent.as_deref().filter(|intent| *intent != "AMEND"),
                ":previous": news.previous_agreement_id.as_ref().map(AgreementId::as_str),
                ":starts": news.starts_at.map(millis),
                ":ends": news.ends_at.and_then(AgreedEnd::at).map(millis),
                ":tells_end": news.ends_at.is_some(),
                ":at": at,
                ":told": tells_terms.then_some(at),
                ":never": i64::MAX,
                ":ended": ended,
                ":ended_at": ended.map(|_| at),
            })
        })
        .during("take over an agreement event")?;
    // A licence whose event named no buyer is the agreement's.
    connection
        .prepare_cached(
            "UPDATE licenses SET account_id = ?2
             WHERE agreement_id = ?1 AND account_id IS NULL AND ?2 IS NOT NULL",
        )
        .and_then(|mut update| {
            let account = news.account_id.as_ref().map(AccountId::as_str);
            update.execute((news.agreement_id.as_str(), account))
        })
        .during("name the buyer of an agreement's licences")?;
    Ok(())
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
fn license_row(row: &Row<'_>) -> rusqlite::Result<(LicenseFacts, Option<AgreementId>)> {
    let text = |column: &str| row.get::<_, Option<String>>(column);
    let time = |column: &str| row.get(column).map(optional_timestamp);
    let change = text("change")?.map(|word| match word.as_str() {
        "deprovisioned" => LicenseChange::Deprovisioned,
        _ => LicenseChange::Updated,
    });
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
