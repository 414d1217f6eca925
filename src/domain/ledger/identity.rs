//! The wire identity of a record: its buyer, named by the product's code or by a licence.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::{AccountId, ClockHour, CustomerIdentifier, Holder, LicenseArn, ProductCode};

/// The names by which a record gives AWS its buyer. Frozen with it: one buyer's hour in both forms is billed twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WireIdentity {
    /// The product, where the buyer is named the legacy way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product_code: Option<ProductCode>,
    /// The legacy buyer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_identifier: Option<CustomerIdentifier>,
    /// The buyer's account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<AccountId>,
    /// The licence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license_arn: Option<LicenseArn>,
}

/// A record's buyer, as far as we know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeteredBuyer<'a> {
    /// The licence or buyer that the subscription belongs to at AWS.
    pub holder: &'a Holder,
    /// The product.
    pub product_code: &'a ProductCode,
    /// The buyer's account, where known.
    pub account_id: Option<&'a AccountId>,
    /// The licence, where known.
    pub license_arn: Option<&'a LicenseArn>,
}

/// A part that is missing to name a buyer by its licence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityGap {
    /// The licence.
    License,
    /// The account that holds it.
    Account,
}

/// The part of a buyer's names that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// AWS may have given the buyer a legacy name that it has not told yet.
    LegacyName,
    /// The licence, or the account that holds it.
    License(IdentityGap),
}

impl IdentityGap {
    /// Returns the word that the record's reason is written as.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::License => "license_unknown",
            Self::Account => "account_unknown",
        }
    }
}

/// Names a record's buyer to AWS in the form of its hour: by licence where there is one, and for a legacy buyer
/// from the hour on that its product is metered by licence. One hour is never named in both forms.
pub fn wire_identity(
    buyer: &MeteredBuyer<'_>,
    hour: ClockHour,
    licensed_from: Option<ClockHour>,
) -> Result<WireIdentity, IdentityGap> {
    let by_license = |arn: &LicenseArn| {
        let account_id = buyer.account_id.cloned().ok_or(IdentityGap::Account)?;
        Ok(WireIdentity {
            product_code: None,
            customer_identifier: None,
            account_id: Some(account_id),
            license_arn: Some(arn.clone()),
        })
    };
    let by_product = |customer_identifier, account_id| WireIdentity {
        product_code: Some(buyer.product_code.clone()),
        customer_identifier,
        account_id,
        license_arn: None,
    };
    match buyer.holder {
        Holder::License(arn) => by_license(arn),
        _ if is_licensed(hour, licensed_from) => {
            by_license(buyer.license_arn.ok_or(IdentityGap::License)?)
        }
        Holder::Buyer(id) => Ok(by_product(Some(id.clone()), None)),
        Holder::Account(id) => Ok(by_product(None, Some(id.clone()))),
    }
}

/// Reports whether a legacy product's buyers are metered by licence in this hour.
pub fn is_licensed(hour: ClockHour, licensed_from: Option<ClockHour>) -> bool {
    licensed_from.is_some_and(|from| from <= hour)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_names_its_buyer_in_one_form() {
        let code = ProductCode::new("product");
        let (buyer, arn) = (CustomerIdentifier::new("cust"), LicenseArn::new("arn"));
        let account = AccountId::new("123456789012");
        let from = Some(ClockHour::from_number(100));
        let legacy = Holder::Buyer(buyer);
        let licensed = Holder::License(arn.clone());
        let shown = |holder: &Holder, hour, from, account_id, license_arn| {
            let buyer = MeteredBuyer { holder, product_code: &code, account_id, license_arn };
            match wire_identity(&buyer, ClockHour::from_number(hour), from) {
                Ok(identity) => match (identity.product_code, identity.license_arn) {
                    (Some(_), None) => "by product",
                    (None, Some(_)) => "by licence",
                    _ => "in both forms",
                },
                Err(gap) => gap.as_str(),
            }
        };
        let (account, arn) = (Some(&account), Some(&arn));
        assert_eq!(shown(&legacy, 99, None, account, arn), "by product");
        assert_eq!(shown(&legacy, 99, from, account, arn), "by product");
        assert_eq!(shown(&legacy, 100, from, account, arn), "by licence");
        assert_eq!(shown(&legacy, 100, from, account, None), "license_unknown");
        assert_eq!(shown(&legacy, 100, from, None, arn), "account_unknown");
        assert_eq!(shown(&licensed, 99, from, account, arn), "by licence");
        assert_eq!(shown(&licensed, 99, None, None, arn), "account_unknown");
    }
}
