//! Lists of customers, and finding them by what AWS calls them.

use super::rows::customer_in;
use crate::domain::{AccountId, Customer, CustomerId, CustomerIdentifier, Id, LicenseArn};
use crate::store::base::filter::Conditions;
use crate::store::base::page::Page;
use crate::store::{During, Store, StoreError};

/// The filter of a list of customers.
#[derive(Clone, Debug, Default)]
pub struct CustomerFilter {
    /// Of this AWS account.
    pub account_id: Option<AccountId>,
    /// Of this legacy name.
    pub customer_identifier: Option<CustomerIdentifier>,
    /// Of this licence, by its identity or by what was bought under it.
    pub license_arn: Option<LicenseArn>,
    /// Only those that the seller has named, or only the others.
    pub claimed: Option<bool>,
}

impl Store {
    /// Customers that fit, in the order of their ids.
    pub async fn customers(
        &self,
        filter: CustomerFilter,
        page: Page,
    ) -> Result<Vec<Customer>, StoreError> {
        self.read(move |connection| {
            let begins =
                Conditions::of_page("c.id > :after", page.after.unwrap_or_default(), page.limit);
            let which = identified(begins, filter);
            let ids: Vec<String> = connection
                .prepare_cached(&format!(
                    "SELECT c.id FROM customers c WHERE {} ORDER BY c.id LIMIT :limit",
                    which.text()
                ))
                .and_then(|mut select| {
                    select.query_map(&*which.values(), |row| row.get(0))?.collect()
                })
                .during("list customers")?;
            let mut customers = Vec::with_capacity(ids.len());
            for id in ids {
                customers.extend(customer_in(connection, &CustomerId::new(id))?);
            }
            Ok(customers)
        })
        .await
    }
}

/// Adds what a filter says.
pub(super) fn identified(which: Conditions, filter: CustomerFilter) -> Conditions {
    which
        .with(":claimed", filter.claimed.map(i64::from), "c.claimed = :claimed")
        .with(
            ":account",
            filter.account_id.map(Id::into_string),
            "c.id IN (SELECT customer_id FROM identities WHERE kind = 'account_id' AND value = :account)",
        )
        .with(
            ":identifier",
            filter.customer_identifier.map(Id::into_string),
            "c.id IN (SELECT customer_id FROM identities
                 WHERE kind = 'customer_identifier' AND value = :identifier)",
        )
        .with(
            ":license",
            filter.license_arn.map(Id::into_string),
            "c.id IN (SELECT customer_id FROM identities WHERE kind = 'license_arn' AND value = :license
                 UNION ALL SELECT customer_id FROM subscriptions WHERE license_arn = :license)",
        )
}
