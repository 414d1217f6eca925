//! Subscriptions that live on past the end of their agreement, of which AWS told neither a renewal nor an end.

use jiff::Timestamp;

use crate::domain::SubscriptionId;
use crate::domain::aws_limits::FINAL_HOUR;
use crate::store::base::columns::{millis, timestamp};
use crate::store::engine::sql::{Connection, OptionalExtension as _};
use crate::store::{During, Store, StoreError};

/// The pay-as-you-go subscriptions whose agreement should be over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastAgreementEnd {
    /// The number of them.
    pub count: i64,
    /// The one that is so for the longest time.
    pub first: SubscriptionId,
    /// The time at which its agreement should have ended.
    pub since: Timestamp,
}

impl Store {
    /// Finds subscriptions that live on though their agreement's end has passed by over an hour and nobody told why.
    /// The licence is told to be in force, which may be by a renewal: a date alone ends no access, but a person has to
    /// know.
    pub async fn past_agreement_end(
        &self,
        now: Timestamp,
    ) -> Result<Option<PastAgreementEnd>, StoreError> {
        let last = now.saturating_sub(FINAL_HOUR).unwrap_or(Timestamp::MIN);
        self.read(move |connection| past_agreement_end_in(connection, last)).await
    }
}

fn past_agreement_end_in(
    connection: &Connection,
    last: Timestamp,
) -> Result<Option<PastAgreementEnd>, StoreError> {
    connection
        .prepare_cached(
            "SELECT count(*) OVER (), id, ends_at_ms FROM subscriptions
             WHERE source = 'aws' AND dimension IS NULL AND ended_at_ms IS NULL
               AND status IN ('active', 'trialing') AND ends_at_ms <= ?1
             ORDER BY ends_at_ms, id LIMIT 1",
        )
        .and_then(|mut select| {
            let past = select.query_row([millis(last)], |row| {
                Ok(PastAgreementEnd {
                    count: row.get(0)?,
                    first: SubscriptionId::new(row.get::<_, String>(1)?),
                    since: timestamp(row.get(2)?),
                })
            });
            past.optional()
        })
        .during("look for subscriptions past their end")
}
