//! The subscriptions of an agreement, which AWS names by it and by nothing else in some places.

use crate::domain::SubscriptionId;
use crate::store::engine::sql;
use crate::store::{During, Store, StoreError};

/// The most that are returned.
const MOST: u32 = 20;

impl Store {
    /// Returns the first subscriptions of an agreement: those of its licences.
    pub async fn subscriptions_of_agreement(
        &self,
        agreement: String,
    ) -> Result<Vec<SubscriptionId>, StoreError> {
        self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT s.id FROM licenses l JOIN subscriptions s ON s.license_arn = l.license_arn
                     WHERE l.agreement_id = ?1 LIMIT ?2",
                )
                .and_then(|mut select| {
                    let id = |row: &sql::Row<'_>| row.get::<_, String>(0);
                    select.query_map((agreement, MOST), id)?.collect::<Result<Vec<_>, _>>()
                })
                .map(|ids| ids.into_iter().map(SubscriptionId::new).collect())
                .during("look for an agreement's subscriptions")
        })
        .await
    }
}
