//! Recording a notification: the facts that it tells, and the mark on its buyer.

use jiff::Timestamp;

use super::legacy_ids::expect_legacy_buyers_in;
use super::licenses::{buyers_of_agreement, record_agreement_event_in, record_license_event_in};
use super::listings::{end_rest_of_license_in, end_rest_on_agreement_in};
use super::sns::write_subscription_signal;
use super::topics::write_topic;
use crate::domain::notification::{LicenseNews, Meaning};
use crate::domain::{BuyerKey, BuyerRef, ProductCode};
use crate::store::base::columns::millis;
use crate::store::buyers::due::{MarkCause, mark_buyer_in};
use crate::store::engine::sql::{Connection, OptionalExtension};
use crate::store::{During, StoreError};

/// The reason of a notification that waits although nothing is wrong with it.
pub const PRODUCT_NOT_IMPORTED: &str = "product_not_imported";

/// The outcome of taking over a notification's facts.
#[derive(Debug)]
pub(crate) struct NotificationOutcome {
    pub(crate) state: &'static str,
    pub(crate) reason: Option<String>,
    pub(crate) product_code: Option<ProductCode>,
    pub(crate) buyer: Option<i64>,
}

impl Default for NotificationOutcome {
    fn default() -> Self {
        Self { state: "applied", reason: None, product_code: None, buyer: None }
    }
}

impl NotificationOutcome {
    pub(crate) fn quarantined(reason: String) -> Self {
        Self { state: "quarantined", reason: Some(reason), ..Self::default() }
    }

    /// Writes it to a kept notification. One that a person has discarded does not come back to quarantine.
    pub(crate) fn write(&self, connection: &Connection, seq: i64) -> Result<(), StoreError> {
        connection
            .prepare_cached(
                "UPDATE notifications SET reason = ?3, product_code = ?4, buyer = ?5,
                     state = CASE WHEN ?2 = 'quarantined' AND discarded_at_ms IS NOT NULL THEN 'discarded' ELSE ?2 END
                 WHERE seq = ?1",
            )
            .and_then(|mut update| {
                let code = self.product_code.as_ref().map(ProductCode::as_str);
                update.post((seq, self.state, &self.reason, code, self.buyer))
            })
            .during("settle a notification")?;
        Ok(())
    }
}

pub(crate) fn record_facts(
    connection: &Connection,
    meaning: &Meaning,
    at: Timestamp,
    now: Timestamp,
) -> Result<NotificationOutcome, StoreError> {
    match meaning {
        Meaning::Informational => Ok(NotificationOutcome::default()),
        Meaning::Topic(news) => {
            write_topic(connection, news, at)?;
            Ok(NotificationOutcome::default())
        }
        Meaning::Subscription(news) => {
            expect_legacy_buyers_in(connection, &news.product_code, now)?;
            write_subscription_signal(connection, news, at)?;
            let buyer = BuyerRef::CustomerIdentifier(news.customer_identifier.clone());
            mark(connection, news.product_code.clone(), buyer, now)
        }
        Meaning::EntitlementUpdated { product_code, customer_identifier } => {
            connection
                .prepare_cached(
                    "INSERT INTO buyer_signals (product_code, customer_identifier, entitlement_updated_at_ms)
                     VALUES (?1, ?2, ?3)
                     ON CONFLICT (product_code, customer_identifier) DO UPDATE SET entitlement_updated_at_ms =
                         greatest(buyer_signals.entitlement_updated_at_ms, excluded.entitlement_updated_at_ms)",
                )
                .and_then(|mut upsert| {
                    upsert.post((product_code.as_str(), customer_identifier.as_str(), millis(at)))
                })
                .during("take over an entitlement notification")?;
            let buyer = BuyerRef::CustomerIdentifier(customer_identifier.clone());
            mark(connection, product_code.clone(), buyer, now)
        }
        Meaning::License(news) => {
            let Some(product_code) = product_code_of(connection, news)? else {
                return Ok(NotificationOutcome {
                    state: "pending",
                    reason: Some(PRODUCT_NOT_IMPORTED.into()),
                    ..NotificationOutcome::default()
                });
            };
            let account = record_license_event_in(connection, news, &product_code, at)?;
            end_rest_of_license_in(connection, &news.license_arn)?;
            let buyer = match account {
                Some(account) => BuyerRef::Account(account),
                None => BuyerRef::License(news.license_arn.clone()),
            };
            mark(connection, product_code, buyer, now)
        }
        Meaning::Agreement(news) => {
            record_agreement_event_in(connection, news, at)?;
            end_rest_on_agreement_in(connection, &news.agreement_id)?;
            let mut settled = NotificationOutcome::default();
            for key in buyers_of_agreement(connection, news)? {
                settled = mark(connection, key.product_code, key.buyer, now)?;
            }
            Ok(settled)
        }
    }
}

fn mark(
    connection: &Connection,
    product_code: ProductCode,
    buyer: BuyerRef,
    now: Timestamp,
) -> Result<NotificationOutcome, StoreError> {
    let key = BuyerKey { product_code: product_code.clone(), buyer };
    let marked = mark_buyer_in(connection, &key, MarkCause::News, now)?;
    Ok(NotificationOutcome {
        state: "pending",
        reason: (!marked.imported).then(|| PRODUCT_NOT_IMPORTED.to_owned()),
        product_code: Some(product_code),
        buyer: Some(marked.id),
    })
}

fn product_code_of(
    connection: &Connection,
    news: &LicenseNews,
) -> Result<Option<ProductCode>, StoreError> {
    if let Some(code) = &news.product_code {
        return Ok(Some(code.clone()));
    }
    let Some(entity_id) = &news.entity_id else {
        return Ok(None);
    };
    connection
        .prepare_cached("SELECT code FROM products WHERE entity_id = ?1")
        .and_then(|mut select| {
            select.query_row([entity_id.as_str()], |row| row.get::<_, String>(0)).optional()
        })
        .map(|code| code.map(ProductCode::new))
        .during("find a product by its entity id")
}
