//! Parked records that are sent again, since their subscription turned out to live.

use jiff::Timestamp;
use rusqlite::Connection;

use super::convert::millis;
use super::records::other_form;
use super::{During, StoreError};
use crate::domain::ledger::NOT_SUBSCRIBED;
use crate::domain::{Holder, ProductId};

/// Sends again what AWS refused for want of a subscription, since there is one.
pub(super) fn revive_in(
    connection: &Connection,
    product: &ProductId,
    holder: &Holder,
    now: Timestamp,
) -> Result<usize, StoreError> {
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
            other_form!("o.holder", "r.holder"),
            ")"
        ))
        .and_then(|mut update| {
            update.execute((holder.to_string(), product.as_str(), NOT_SUBSCRIBED, millis(now)))
        })
        .during("send again what had no subscription")
}
