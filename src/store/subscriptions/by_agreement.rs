//! The subscriptions of an agreement, which AWS names by it and by nothing else in some places.

use crate::domain::SubscriptionId;
use crate::store::engine::sql;
use crate::store::{During, Store, StoreError};

/// The most that are returned.
const MOST: u32 = 20;
/// The beginning of each agreement's id.
const NAMED_SO: &str = "agmt-";

impl Store {
    /// Returns the first subscriptions of an agreement, or of those whose ids begin so: those of its licences.
    pub async fn subscriptions_of_agreement(
        &self,
        agreement: String,
    ) -> Result<Vec<SubscriptionId>, StoreError> {
        self.read(move |connection| {
            // The last character there is: nothing that begins with the text is behind it.
            let begins = agreement.starts_with(NAMED_SO) && agreement.len() > NAMED_SO.len();
            let end = if begins { format!("{agreement}\u{10ffff}") } else { agreement.clone() };
            connection
                .prepare_cached(
                    "SELECT s.id FROM licenses l JOIN subscriptions s ON s.license_arn = l.license_arn
                     WHERE l.agreement_id >= ?1 AND l.agreement_id <= ?3 ORDER BY s.id LIMIT ?2",
                )
                .and_then(|mut select| {
                    let id = |row: &sql::Row<'_>| row.get::<_, String>(0);
                    select.query_map((agreement, MOST, end), id)?.collect::<Result<Vec<_>, _>>()
                })
                .map(|ids| ids.into_iter().map(SubscriptionId::new).collect())
                .during("look for an agreement's subscriptions")
        })
        .await
    }
}
