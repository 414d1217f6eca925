//! Registrations: buyers who came from AWS's redirect, as AWS names them.

use super::{AccountId, AgreementId, CustomerIdentifier, LicenseArn, ProductCode};

/// A buyer who came from AWS's redirect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The product.
    pub product_code: ProductCode,
    /// The legacy name; products of the new form leave it out.
    pub customer_identifier: Option<CustomerIdentifier>,
    /// The AWS account.
    pub account_id: Option<AccountId>,
    /// The licence.
    pub license_arn: Option<LicenseArn>,
    /// The agreement.
    pub agreement_id: Option<AgreementId>,
}
