//! Notifications: recorded once each, with what they say, in the same transaction as the mark on the buyer.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, named_params};
use serde::Serialize;
use serde_json::Value;

use super::buyers::mark_buyer_in;
use super::convert::{millis, timestamp};
use super::page::Page;
use super::{During, Store, StoreError};
use crate::domain::notification::{
    AgreementNews, LicenseNews, Meaning, Notification, SubscriptionNews,
};
use crate::domain::{AccountId, BuyerKey, BuyerRef, LicenseArn, ProductCode};

/// Why a notification waits although nothing is wrong with it.
pub const PRODUCT_NOT_IMPORTED: &str = "product_not_imported";

/// What came in, read or not.
#[derive(Clone, Debug)]
pub enum Incoming {
    /// A notification.
    Notification(Box<Notification>),
    /// A body that nobody can read; kept whole.
    Unreadable {
        /// Recognises repetitions.
        id: String,
        /// The body.
        body: String,
        /// Why it cannot be read.
        reason: String,
    },
}

/// How a batch of incoming messages was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Seen for the first time and readable.
    pub new: usize,
    /// Seen before.
    pub duplicates: usize,
    /// Seen for the first time and not readable.
    pub quarantined: usize,
}

/// A notification as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NotificationRow {
    /// Its id.
    pub id: String,
    /// How it came.
    pub format: String,
    /// The action or detail-type.
    pub kind: String,
    /// `applied`, `pending` or `quarantined`.
    pub state: String,
    /// Why it is pending or quarantined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The product that it speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product_code: Option<String>,
    /// Its own time.
    pub at: Timestamp,
    /// When it was first received.
    pub received_at: Timestamp,
    /// How often it was received.
    pub copies: i64,
    /// The message as it came: JSON where it is, else text.
    pub body: Value,
    #[serde(skip)]
    pub(crate) seq: i64,
}

impl Store {
    /// Records a batch: each message once, with the facts that it tells and the mark on its buyer. `Ok`
    /// means that all of it is on disk, so that the batch may leave the queue.
    pub async fn record_notifications(
        &self,
        batch: Vec<Incoming>,
        now: Timestamp,
    ) -> Result<Recorded, StoreError> {
        let recorded = self
            .write(move |connection| {
                let mut recorded = Recorded::default();
                for incoming in &batch {
                    record(connection, incoming, now, &mut recorded)?;
                }
                Ok::<_, StoreError>(recorded)
            })
            .await?;
        if recorded.new > 0 {
            self.nudges().buyers.notify_one();
        }
        Ok(recorded)
    }

    /// The notifications in one state, or all, oldest first.
    pub async fn notifications(
        &self,
        state: Option<String>,
        page: Page,
    ) -> Result<Vec<NotificationRow>, StoreError> {
        self.read(move |connection| {
            let after = page.after.and_then(|key| key.parse::<i64>().ok()).unwrap_or(0);
            let mut statement = connection
                .prepare_cached(
                    "SELECT * FROM notifications
                     WHERE seq > :after AND (:state IS NULL OR state = :state)
                     ORDER BY seq LIMIT :limit",
                )
                .during("list notifications")?;
            let rows = statement
                .query_map(
                    named_params! {":after": after, ":state": state, ":limit": page.limit},
                    notification_row,
                )
                .during("list notifications")?;
            rows.collect::<Result<_, _>>().during("list notifications")
        })
        .await
    }

    /// How many notifications are in each state.
    pub async fn notification_counts(&self) -> Result<Vec<(String, i64)>, StoreError> {
        self.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT state, count(*) FROM notifications GROUP BY state")
                .during("count notifications")?;
            let rows = statement
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
                .during("count notifications")?;
            rows.collect::<Result<_, _>>().during("count notifications")
        })
        .await
    }

    /// One notification.
    pub async fn notification(&self, id: String) -> Result<Option<NotificationRow>, StoreError> {
        self.read(move |connection| notification_in(connection, &id)).await
    }

    /// Reads a kept notification once more, as if it had just come; none if there is no such one.
    pub async fn replay_notification(
        &self,
        id: String,
        now: Timestamp,
    ) -> Result<Option<NotificationRow>, StoreError> {
        let replayed = self
            .write(move |connection| {
                let Some(row) = notification_in(connection, &id)? else {
                    return Ok(None);
                };
                replay_in(connection, &row, now)?;
                notification_in(connection, &id)
            })
            .await?;
        self.nudges().buyers.notify_one();
        Ok(replayed)
    }
}

/// Reads a kept message again and takes over what it says.
pub(super) fn replay_in(
    connection: &Connection,
    row: &NotificationRow,
    now: Timestamp,
) -> Result<(), StoreError> {
    let body = match &row.body {
        Value::String(text) => text.clone(),
        document => document.to_string(),
    };
    let delivery =
        crate::intake::wire::Delivery { body: &body, transport_id: &row.id, sent_at: row.at };
    // Still unreadable: it stays where it is.
    let Ok(notification) = crate::intake::wire::read(delivery) else {
        return Ok(());
    };
    let settled = take_over(connection, &notification.meaning, notification.at, now)?;
    settled.write(connection, row.seq)?;
    connection
        .prepare_cached("UPDATE notifications SET format = ?2, kind = ?3 WHERE seq = ?1")
        .and_then(|mut update| {
            update.execute((row.seq, notification.format.as_str(), &notification.kind))
        })
        .during("replay a notification")?;
    Ok(())
}

fn notification_in(
    connection: &Connection,
    id: &str,
) -> Result<Option<NotificationRow>, StoreError> {
    connection
        .prepare_cached("SELECT * FROM notifications WHERE id = ?1")
        .and_then(|mut select| select.query_row([id], notification_row).optional())
        .during("read a notification")
}

pub(super) fn notification_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<NotificationRow> {
    let body: String = row.get("body")?;
    Ok(NotificationRow {
        id: row.get("id")?,
        format: row.get("format")?,
        kind: row.get("kind")?,
        state: row.get("state")?,
        reason: row.get("reason")?,
        product_code: row.get("product_code")?,
        at: timestamp(row.get("at_ms")?),
        received_at: timestamp(row.get("received_at_ms")?),
        copies: row.get("copies")?,
        body: serde_json::from_str(&body).unwrap_or(Value::String(body)),
        seq: row.get("seq")?,
    })
}

fn record(
    connection: &Connection,
    incoming: &Incoming,
    now: Timestamp,
    recorded: &mut Recorded,
) -> Result<(), StoreError> {
    let (id, format, kind, at, body) = match incoming {
        Incoming::Notification(it) => {
            (&it.id, it.format.as_str(), it.kind.as_str(), it.at, &it.body)
        }
        Incoming::Unreadable { id, body, .. } => (id, "unreadable", "unreadable", now, body),
    };
    let mut insert = connection
        .prepare_cached(
            "INSERT INTO notifications (id, format, kind, at_ms, received_at_ms, body, state)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'applied') ON CONFLICT (id) DO NOTHING",
        )
        .during("record a notification")?;
    let inserted = insert
        .execute((id, format, kind, millis(at), millis(now), body))
        .during("record a notification")?;
    if inserted == 0 {
        recorded.duplicates += 1;
        connection
            .prepare_cached("UPDATE notifications SET copies = copies + 1 WHERE id = ?1")
            .and_then(|mut update| update.execute([id]))
            .during("count a repeated notification")?;
        return Ok(());
    }
    let seq = connection.last_insert_rowid();
    let settled = match incoming {
        Incoming::Unreadable { reason, .. } => {
            recorded.quarantined += 1;
            Settled { state: "quarantined", reason: Some(reason.clone()), ..Settled::default() }
        }
        Incoming::Notification(it) => {
            recorded.new += 1;
            take_over(connection, &it.meaning, it.at, now)?
        }
    };
    if settled.state == "applied" { Ok(()) } else { settled.write(connection, seq) }
}

/// Where a notification stands once its facts are taken over.
#[derive(Debug)]
struct Settled {
    state: &'static str,
    reason: Option<String>,
    product_code: Option<ProductCode>,
    buyer: Option<i64>,
}

impl Default for Settled {
    fn default() -> Self {
        Self { state: "applied", reason: None, product_code: None, buyer: None }
    }
}

impl Settled {
    fn write(&self, connection: &Connection, seq: i64) -> Result<(), StoreError> {
        connection
            .prepare_cached(
                "UPDATE notifications SET state = ?2, reason = ?3, product_code = ?4, buyer = ?5
                 WHERE seq = ?1",
            )
            .and_then(|mut update| {
                let code = self.product_code.as_ref().map(ProductCode::as_str);
                update.execute((seq, self.state, &self.reason, code, self.buyer))
            })
            .during("settle a notification")?;
        Ok(())
    }
}

fn take_over(
    connection: &Connection,
    meaning: &Meaning,
    at: Timestamp,
    now: Timestamp,
) -> Result<Settled, StoreError> {
    match meaning {
        Meaning::Informational => Ok(Settled::default()),
        Meaning::Subscription(news) => {
            write_subscription_signal(connection, news, at)?;
            let buyer = BuyerRef::CustomerIdentifier(news.customer_identifier.clone());
            mark(connection, news.product_code.clone(), buyer, now)
        }
        Meaning::EntitlementUpdated { product_code, customer_identifier } => {
            connection
                .prepare_cached(
                    "INSERT INTO buyer_signals (product_code, customer_identifier, entitlement_updated_at_ms)
                     VALUES (?1, ?2, ?3)
                     ON CONFLICT DO UPDATE SET entitlement_updated_at_ms =
                         max(ifnull(entitlement_updated_at_ms, 0), excluded.entitlement_updated_at_ms)",
                )
                .and_then(|mut upsert| {
                    upsert.execute((product_code.as_str(), customer_identifier.as_str(), millis(at)))
                })
                .during("take over an entitlement notification")?;
            let buyer = BuyerRef::CustomerIdentifier(customer_identifier.clone());
            mark(connection, product_code.clone(), buyer, now)
        }
        Meaning::License(news) => {
            let Some(product_code) = product_code_of(connection, news)? else {
                return Ok(Settled {
                    state: "pending",
                    reason: Some(PRODUCT_NOT_IMPORTED.into()),
                    ..Settled::default()
                });
            };
            write_license(connection, news, &product_code, at)?;
            let buyer = match &news.account_id {
                Some(account) => BuyerRef::Account(account.clone()),
                None => BuyerRef::License(news.license_arn.clone()),
            };
            mark(connection, product_code, buyer, now)
        }
        Meaning::Agreement(news) => {
            write_agreement(connection, news, at)?;
            let mut settled = Settled::default();
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
) -> Result<Settled, StoreError> {
    let marked =
        mark_buyer_in(connection, &BuyerKey { product_code: product_code.clone(), buyer }, now)?;
    Ok(Settled {
        state: "pending",
        reason: (!marked.imported).then(|| PRODUCT_NOT_IMPORTED.to_owned()),
        product_code: Some(product_code),
        buyer: Some(marked.id),
    })
}

fn write_subscription_signal(
    connection: &Connection,
    news: &SubscriptionNews,
    at: Timestamp,
) -> Result<(), StoreError> {
    use crate::domain::notification::SubscriptionAction;
    let key = (news.product_code.as_str(), news.customer_identifier.as_str());
    let held: Option<(Option<String>, Option<i64>)> = connection
        .prepare_cached(
            "SELECT action, action_at_ms FROM buyer_signals
             WHERE product_code = ?1 AND customer_identifier = ?2",
        )
        .and_then(|mut select| {
            select.query_row(key, |row| Ok((row.get(0)?, row.get(1)?))).optional()
        })
        .during("read a buyer's newest notification")?;
    let newest = held.and_then(|(action, at)| Some((at?, SubscriptionAction::parse(&action?)?)));
    let at = millis(at);
    if newest.is_none_or(|newest| newest < (at, news.action)) {
        connection
            .prepare_cached(
                "INSERT INTO buyer_signals
                     (product_code, customer_identifier, action, action_at_ms, free_trial, offer_id)
                 VALUES (:code, :buyer, :action, :at, :trial, :offer)
                 ON CONFLICT DO UPDATE SET action = :action, action_at_ms = :at,
                     free_trial = ifnull(:trial, free_trial), offer_id = ifnull(:offer, offer_id)",
            )
            .and_then(|mut upsert| {
                upsert.execute(named_params! {
                    ":code": key.0, ":buyer": key.1, ":action": news.action.as_str(), ":at": at,
                    ":trial": news.free_trial, ":offer": news.offer_id,
                })
            })
            .during("take over a subscription notification")?;
    }
    if news.action == SubscriptionAction::Success {
        connection
            .prepare_cached(
                "UPDATE buyer_signals SET first_success_at_ms = min(ifnull(first_success_at_ms, ?3), ?3)
                 WHERE product_code = ?1 AND customer_identifier = ?2",
            )
            .and_then(|mut update| update.execute((key.0, key.1, at)))
            .during("take over a subscription notification")?;
    }
    Ok(())
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

fn write_license(
    connection: &Connection,
    news: &LicenseNews,
    product_code: &ProductCode,
    at: Timestamp,
) -> Result<(), StoreError> {
    use crate::domain::notification::LicenseChange;
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
                 agreement_id = CASE WHEN :at >= ifnull(change_at_ms, 0)
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
                ":account": news.account_id.as_ref().map(AccountId::as_str),
                ":agreement": news.agreement_id.as_ref().map(crate::domain::AgreementId::as_str),
                ":change": news.change.as_str(),
                ":at": millis(at),
                ":first": first_updated,
            })
        })
        .during("take over a licence event")?;
    Ok(())
}

fn write_agreement(
    connection: &Connection,
    news: &AgreementNews,
    at: Timestamp,
) -> Result<(), StoreError> {
    let at = millis(at);
    // Each field keeps its newest known value; an end is final and keeps its own time.
    connection
        .prepare_cached(
            "INSERT INTO agreements (agreement_id, account_id, entity_id, offer_id, intent,
                 previous_agreement_id, starts_at_ms, ends_at_ms, told_at_ms, ended_status, ended_at_ms)
             VALUES (:id, :account, :entity, :offer, :intent, :previous, :starts, :ends, :at, :ended, :ended_at)
             ON CONFLICT DO UPDATE SET
                 account_id = ifnull(:account, account_id),
                 entity_id = ifnull(:entity, entity_id),
                 previous_agreement_id = ifnull(:previous, previous_agreement_id),
                 offer_id = CASE WHEN :at >= told_at_ms THEN ifnull(:offer, offer_id)
                     ELSE ifnull(offer_id, :offer) END,
                 intent = CASE WHEN :at >= told_at_ms THEN ifnull(:intent, intent)
                     ELSE ifnull(intent, :intent) END,
                 starts_at_ms = CASE WHEN :at >= told_at_ms THEN ifnull(:starts, starts_at_ms)
                     ELSE ifnull(starts_at_ms, :starts) END,
                 ends_at_ms = CASE WHEN :at >= told_at_ms THEN ifnull(:ends, ends_at_ms)
                     ELSE ifnull(ends_at_ms, :ends) END,
                 told_at_ms = max(told_at_ms, :at),
                 ended_status = ifnull(:ended, ended_status),
                 ended_at_ms = ifnull(:ended_at, ended_at_ms)",
        )
        .and_then(|mut upsert| {
            upsert.execute(named_params! {
                ":id": news.agreement_id.as_str(),
                ":account": news.account_id.as_ref().map(AccountId::as_str),
                ":entity": news.entity_id.as_ref().map(crate::domain::EntityId::as_str),
                ":offer": news.offer_id,
                ":intent": news.intent,
                ":previous": news.previous_agreement_id.as_ref().map(crate::domain::AgreementId::as_str),
                ":starts": news.starts_at.map(millis),
                ":ends": news.ends_at.map(millis),
                ":at": at,
                ":ended": news.ended,
                ":ended_at": news.ended.as_ref().map(|_| at),
            })
        })
        .during("take over an agreement event")?;
    Ok(())
}

/// The buyers whose licences stand on this agreement, as far as licence events have told.
fn buyers_of_agreement(
    connection: &Connection,
    news: &AgreementNews,
) -> Result<Vec<BuyerKey>, StoreError> {
    let mut select = connection
        .prepare_cached(
            "SELECT DISTINCT product_code, account_id, CASE WHEN account_id IS NULL THEN license_arn END
             FROM licenses WHERE agreement_id = ?1 AND product_code IS NOT NULL",
        )
        .during("find an agreement's licences")?;
    let rows = select
        .query_map([news.agreement_id.as_str()], |row| {
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
