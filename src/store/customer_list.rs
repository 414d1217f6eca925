//! Finding customers by what AWS calls them.

use rusqlite::named_params;

use super::customers::customer_in;
use super::page::Page;
use super::{During, Store, StoreError};
use crate::domain::{AccountId, Customer, CustomerId, CustomerIdentifier, LicenseArn};

/// Which customers to list.
#[derive(Clone, Debug, Default)]
pub struct CustomerFilter {
    /// Of this AWS account.
    pub account_id: Option<AccountId>,
    /// Of this legacy name.
    pub customer_identifier: Option<CustomerIdentifier>,
    /// Of this licence, by its identity or by what was bought under it.
    pub license_arn: Option<LicenseArn>,
    /// Whether the seller has named them.
    pub claimed: Option<bool>,
}

impl Store {
    /// Customers that fit, in the order of their ids.
    pub async fn find_customers(
        &self,
        filter: CustomerFilter,
        page: Page,
    ) -> Result<Vec<Customer>, StoreError> {
        self.read(move |connection| {
            let ids: Vec<String> = connection
                .prepare_cached(
                    "SELECT id FROM customers c WHERE id > :after
                       AND (:claimed IS NULL OR claimed = :claimed)
                       AND (:account IS NULL OR id IN (SELECT customer_id FROM identities
                           WHERE kind = 'account_id' AND value = :account))
                       AND (:identifier IS NULL OR id IN (SELECT customer_id FROM identities
                           WHERE kind = 'customer_identifier' AND value = :identifier))
                       AND (:license IS NULL OR id IN (SELECT customer_id FROM identities
                           WHERE kind = 'license_arn' AND value = :license
                           UNION ALL SELECT customer_id FROM subscriptions
                           WHERE license_arn = :license))
                     ORDER BY id LIMIT :limit",
                )
                .and_then(|mut select| {
                    let parameters = named_params! {
                        ":after": page.after.unwrap_or_default(),
                        ":claimed": filter.claimed,
                        ":account": filter.account_id.as_ref().map(AccountId::as_str),
                        ":identifier":
                            filter.customer_identifier.as_ref().map(CustomerIdentifier::as_str),
                        ":license": filter.license_arn.as_ref().map(LicenseArn::as_str),
                        ":limit": page.limit,
                    };
                    select.query_map(parameters, |row| row.get(0))?.collect()
                })
                .during("find customers")?;
            let mut customers = Vec::with_capacity(ids.len());
            for id in ids {
                customers.extend(customer_in(connection, &CustomerId::new(id))?);
            }
            Ok(customers)
        })
        .await
    }
}
