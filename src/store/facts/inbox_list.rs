//! Lists of notifications.

use super::inbox::{NotificationRow, notification_row};
use crate::store::base::by_time::ByTime;
use crate::store::base::filter::Conditions;
use crate::store::base::listing::Listing;
use crate::store::base::page::{Listed, Order, Page, Span};
use crate::store::{During, Store, StoreError};

/// The filter of a list of notifications.
#[derive(Clone, Debug, Default)]
pub struct NotificationFilter {
    /// The state of the notifications.
    pub state: Option<String>,
    /// The action or detail-type.
    pub kind: Option<String>,
    /// The product that they speak of.
    pub product_code: Option<String>,
    /// The time at which they were received.
    pub span: Span,
}

/// Kept in the order of receipt.
const BY_TIME: ByTime = ByTime { table: "notifications", place: "seq", at: "received_at_ms" };

impl Store {
    /// Lists notifications.
    pub async fn notifications(
        &self,
        filter: NotificationFilter,
        order: Order,
        page: Page,
    ) -> Result<Listed<NotificationRow>, StoreError> {
        let NotificationFilter { state, kind, product_code, span } = filter;
        self.read(move |connection| {
            let listed = || {
                let which = BY_TIME.page_in(connection, (order, span, &page), "")?;
                let fitting = Conditions::of("TRUE", Vec::new())
                    .with(":kind", kind.clone(), "kind = :kind")
                    .with(":code", product_code.clone(), "product_code = :code");
                let (which, fitting) = match state.as_deref() {
                    // Told as the index of those that are not applied has it.
                    Some("pending" | "quarantined" | "discarded") => {
                        let which = which.with(":state", state.clone(), "state = :state");
                        (which.that("state <> 'applied'"), fitting)
                    }
                    _ => (which, fitting.with(":state", state.clone(), "state = :state")),
                };
                let order = BY_TIME.order(order, "");
                let listing =
                    Listing { columns: "*", from: "notifications", which, fitting, order };
                let key = |row: &NotificationRow| row.seq.to_string();
                listing.page(connection, page.limit, notification_row, key)
            };
            listed().during("list notifications")
        })
        .await
    }
}
