//! Records that AWS refused for want of a subscription which our books hold: the buyers to ask about, and the records
//! sent again since the subscription turned out to live.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::slots::other_identity;
use crate::domain::ledger::ParkReason;
use crate::domain::{AccountId, BuyerRef, Holder, ProductCode, ProductId};
use crate::store::base::columns::millis;
use crate::store::engine::sql::{Connection, OptionalExtension};
use crate::store::{During, Store, StoreError};

/// Makes the records ready again that AWS refused for want of a subscription, since there is one.
pub(crate) fn revive_in(
    connection: &Connection,
    product: &ProductId,
    holder: &Holder,
    now: Timestamp,
) -> Result<usize, StoreError> {
    // Hardly a holder has any, and a look costs less than a write.
    let (of, reason) = (holder.to_string(), ParkReason::NotSubscribed.as_str());
    let is_parked = connection
        .prepare_cached(
            "SELECT 1 FROM metering_records
             WHERE holder = ?1 AND product_id = ?2 AND state = 'parked' AND reason = ?3 LIMIT 1",
        )
        .and_then(|mut select| select.exists((of.as_str(), product.as_str(), reason)))
        .during("see what had no subscription")?;
    if !is_parked {
        return Ok(0);
    }
    connection
        .prepare_cached(concat!(
            "UPDATE metering_records AS r SET state = 'ready', reason = 'subscription_live', next_attempt_at_ms = ?4,
                 settled_at_ms = NULL
             WHERE holder = ?1 AND product_id = ?2 AND state = 'parked' AND reason = ?3 AND deadline_ms > ?4
               AND EXISTS (SELECT 1 FROM subscriptions s WHERE s.product_id = ?2 AND s.holder = ?1
                   AND s.ended_at_ms IS NULL AND s.status IN ('active', 'trialing', 'ending'))
               AND NOT EXISTS (SELECT 1 FROM metering_records o WHERE o.customer_id = r.customer_id
                   AND o.product_id = r.product_id AND o.dimension = r.dimension AND o.hour = r.hour
                   AND o.state IN ('ready', 'sending', 'accepted') AND ",
            other_identity!("o.holder", "r.holder"),
            ")"
        ))
        .and_then(|mut update| {
            update.execute((of.as_str(), product.as_str(), reason, millis(now)))
        })
        .during("send again what had no subscription")
}

impl Store {
    /// Returns the accounts of buyers whom we take for subscribed, though AWS has just refused usage for want of a
    /// subscription.
    pub async fn accounts_in_doubt(
        &self,
        product_code: ProductCode,
        buyers: Vec<BuyerRef>,
        now: Timestamp,
    ) -> Result<BTreeMap<BuyerRef, AccountId>, StoreError> {
        self.read(move |connection| {
            let mut doubted = BTreeMap::new();
            for buyer in buyers {
                let account = account_in_doubt(connection, &product_code, &buyer, now)?;
                doubted.extend(account.map(|account| (buyer, account)));
            }
            Ok(doubted)
        })
        .await
    }
}

/// The account of a live subscription of which AWS has refused usage.
macro_rules! in_doubt {
    ($whose:literal) => {
        concat!(
            "SELECT s.account_id FROM products p
             JOIN subscriptions s ON s.product_id = p.id AND s.ended_at_ms IS NULL AND s.account_id IS NOT NULL AND ",
            $whose,
            " JOIN metering_records r ON r.holder = s.holder AND r.product_id = s.product_id
                 AND r.state = 'parked' AND r.reason = ?3 AND r.deadline_ms > ?4
             WHERE p.code = ?1 LIMIT 1"
        )
    };
}

fn account_in_doubt(
    connection: &Connection,
    product_code: &ProductCode,
    buyer: &BuyerRef,
    now: Timestamp,
) -> Result<Option<AccountId>, StoreError> {
    let statement = match buyer {
        BuyerRef::Account(_) => in_doubt!("s.account_id = ?2"),
        BuyerRef::CustomerIdentifier(_) => in_doubt!("s.holder = 'buyer:' || ?2"),
        BuyerRef::License(_) => in_doubt!("s.license_arn = ?2"),
    };
    connection
        .prepare_cached(statement)
        .and_then(|mut select| {
            let key = (
                product_code.as_str(),
                buyer.value(),
                ParkReason::NotSubscribed.as_str(),
                millis(now),
            );
            select.query_row(key, |row| row.get(0)).optional()
        })
        .map(|found: Option<String>| found.map(AccountId::new))
        .during("see whose usage AWS refuses")
}
