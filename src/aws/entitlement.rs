//! `GetEntitlements`, all pages of it.

use std::collections::HashMap;

use aws_sdk_marketplaceentitlement::types::{
    Entitlement, EntitlementValue, GetEntitlementFilterName,
};
use jiff::Timestamp;
use rust_decimal::Decimal;
use rust_decimal::prelude::FromPrimitive;

use super::error::next_page;
use super::{AwsClients, AwsError, Place};
use crate::domain::{
    AccountId, CustomerIdentifier, DimensionKey, Grant, GrantValue, Id, LicenseArn, ProductCode,
};

/// The operation.
pub(super) const GET_ENTITLEMENTS: &str = "GetEntitlements";
/// AWS's largest page.
const PAGE: i32 = 25;

/// The buyer whose entitlements are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntitlementFilter {
    /// Legacy buyers.
    CustomerIdentifiers(Vec<CustomerIdentifier>),
    /// Accounts.
    AccountIds(Vec<AccountId>),
    /// Licences.
    Licenses(Vec<LicenseArn>),
    /// Everybody's: the sweep.
    Everything,
}

impl EntitlementFilter {
    fn into_wire(self) -> Option<HashMap<GetEntitlementFilterName, Vec<String>>> {
        let (name, values) = match self {
            Self::CustomerIdentifiers(ids) => {
                (GetEntitlementFilterName::CustomerIdentifier, texts(ids))
            }
            Self::AccountIds(ids) => (GetEntitlementFilterName::CustomerAwsAccountId, texts(ids)),
            Self::Licenses(arns) => (GetEntitlementFilterName::LicenseArn, texts(arns)),
            Self::Everything => return None,
        };
        Some(HashMap::from([(name, values)]))
    }
}

fn texts<K>(ids: Vec<Id<K>>) -> Vec<String> {
    ids.into_iter().map(Id::into_string).collect()
}

/// Lists every row that AWS has, or fails; never a part of them. An empty page may still lead to another.
pub async fn get_entitlements(
    clients: &AwsClients,
    product_code: &ProductCode,
    filter: EntitlementFilter,
) -> Result<Vec<Grant>, AwsError> {
    let filter = filter.into_wire();
    let mut grants = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let call = clients
            .entitlement
            .get_entitlements()
            .product_code(product_code.as_str())
            .set_filter(filter.clone())
            .max_results(PAGE)
            .set_next_token(token.clone());
        let page = clients
            .call(Place::Last(&clients.rates.entitlements), GET_ENTITLEMENTS, || {
                call.clone().send()
            })
            .await?;
        for row in page.entitlements.unwrap_or_default() {
            grants.push(grant(row, product_code)?);
        }
        token = next_page(GET_ENTITLEMENTS, token.as_deref(), page.next_token)?;
        if token.is_none() {
            return Ok(grants);
        }
    }
}

fn unreadable(detail: &str) -> AwsError {
    AwsError::unreadable(GET_ENTITLEMENTS, detail)
}

fn grant(row: Entitlement, asked: &ProductCode) -> Result<Grant, AwsError> {
    let id = |text: Option<String>| text.as_deref().and_then(Id::from_trimmed);
    Ok(Grant {
        product_code: id(row.product_code).unwrap_or_else(|| asked.clone()),
        dimension: row
            .dimension
            .map(DimensionKey::new)
            .ok_or_else(|| unreadable("a row names no dimension"))?,
        customer_identifier: row.customer_identifier.as_deref().and_then(Id::from_trimmed),
        account_id: row.customer_aws_account_id.as_deref().and_then(Id::from_trimmed),
        license_arn: row.license_arn.as_deref().and_then(Id::from_trimmed),
        value: value(row.value),
        // What lies beyond the calendar is an open end.
        expires_at: row
            .expiration_date
            .and_then(|date| Timestamp::from_millisecond(date.to_millis().ok()?).ok()),
    })
}

/// Reads a row's value. A row without one is taken for one of the thing: some products only ever say that it is held.
fn value(value: Option<EntitlementValue>) -> GrantValue {
    let Some(value) = value else {
        return GrantValue::Boolean(true);
    };
    if let Some(count) = value.integer_value {
        return GrantValue::Integer(count.into());
    }
    if let Some(amount) = value.double_value {
        // AWS's own type is a float here; it is made exact before anything is done with it.
        let exact = Decimal::from_f64(amount).map(GrantValue::Decimal);
        return exact.unwrap_or_else(|| GrantValue::Text(amount.to_string()));
    }
    if let Some(held) = value.boolean_value {
        return GrantValue::Boolean(held);
    }
    value.string_value.map_or(GrantValue::Boolean(true), GrantValue::Text)
}
