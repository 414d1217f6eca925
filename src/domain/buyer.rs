//! Buyers as AWS identifies them.

use std::fmt;

use super::{AccountId, CustomerIdentifier, Grant, LicenseArn, ProductCode};

/// The id that AWS is asked with: the unit of reconciling, together with a product.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BuyerRef {
    /// A buyer of a licensed product: every licence of the account.
    Account(AccountId),
    /// A legacy buyer.
    CustomerIdentifier(CustomerIdentifier),
    /// A licence whose buyer is not known.
    License(LicenseArn),
}

impl BuyerRef {
    /// Returns the kind, as the database and the API write it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Account(_) => "account_id",
            Self::CustomerIdentifier(_) => "customer_identifier",
            Self::License(_) => "license_arn",
        }
    }

    /// Returns the id itself.
    pub fn value(&self) -> &str {
        match self {
            Self::Account(id) => id.as_str(),
            Self::CustomerIdentifier(id) => id.as_str(),
            Self::License(arn) => arn.as_str(),
        }
    }

    /// Reads the reference that [`BuyerRef::kind`] and [`BuyerRef::value`] wrote.
    pub fn from_parts(kind: &str, value: String) -> Option<Self> {
        match kind {
            "account_id" => Some(Self::Account(AccountId::new(value))),
            "customer_identifier" => Some(Self::CustomerIdentifier(CustomerIdentifier::new(value))),
            "license_arn" => Some(Self::License(LicenseArn::new(value))),
            _ => None,
        }
    }

    /// Returns the buyer that a grant belongs to, by the id that names it best: a legacy name where AWS still
    /// gives one, else the account, which joins its licences.
    pub fn of_grant(grant: &Grant) -> Option<Self> {
        Self::all_of_grant(grant).next()
    }

    /// Returns the buyer that a grant belongs to, by every id that it is listed for, the best first.
    pub fn all_of_grant(grant: &Grant) -> impl Iterator<Item = Self> {
        let identifier = grant.customer_identifier.clone().map(Self::CustomerIdentifier);
        let account = grant.account_id.clone().map(Self::Account);
        let license = grant.license_arn.clone().map(Self::License);
        [identifier, account, license].into_iter().flatten()
    }
}

/// A buyer of one product.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BuyerKey {
    /// The product.
    pub product_code: ProductCode,
    /// The buyer.
    pub buyer: BuyerRef,
}

/// The licence or buyer that a subscription belongs to at AWS, and that its usage is metered against.
///
/// A licence where the product is of the new form: one account may hold several. The buyer where AWS
/// still names one the legacy way, since there the licence may change beneath an unchanged subscription.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// One licence.
    License(LicenseArn),
    /// One legacy buyer.
    Buyer(CustomerIdentifier),
    /// One account, where AWS gives nothing better.
    Account(AccountId),
}

impl Holder {
    /// Returns the holder of a grant.
    pub fn of_grant(grant: &Grant) -> Option<Self> {
        if let Some(id) = &grant.customer_identifier {
            return Some(Self::Buyer(id.clone()));
        }
        if let Some(arn) = &grant.license_arn {
            return Some(Self::License(arn.clone()));
        }
        grant.account_id.clone().map(Self::Account)
    }

    /// Reports whether AWS names it by product code and buyer, not by licence.
    pub const fn is_legacy(&self) -> bool {
        !matches!(self, Self::License(_))
    }

    /// Returns the id itself.
    pub fn value(&self) -> &str {
        match self {
            Self::License(arn) => arn.as_str(),
            Self::Buyer(id) => id.as_str(),
            Self::Account(id) => id.as_str(),
        }
    }

    /// Returns the licence, if it is one.
    pub fn into_license(self) -> Option<LicenseArn> {
        match self {
            Self::License(arn) => Some(arn),
            Self::Buyer(_) | Self::Account(_) => None,
        }
    }

    /// Reads the holder that its `Display` wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, value) = text.split_once(':')?;
        match kind {
            "license" => Some(Self::License(LicenseArn::new(value))),
            "buyer" => Some(Self::Buyer(CustomerIdentifier::new(value))),
            "account" => Some(Self::Account(AccountId::new(value))),
            _ => None,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::License(arn) => write!(f, "license:{arn}"),
            Self::Buyer(id) => write!(f, "buyer:{id}"),
            Self::Account(id) => write!(f, "account:{id}"),
        }
    }
}

/// The ids by which AWS calls a buyer, as far as one answer tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsIds {
    /// The AWS account.
    pub account_id: Option<AccountId>,
    /// The legacy name.
    pub customer_identifier: Option<CustomerIdentifier>,
    /// A licence.
    pub license_arn: Option<LicenseArn>,
}

impl AwsIds {
    /// Returns the ids as references, the ones that name a buyer best first.
    pub fn references(&self) -> Vec<BuyerRef> {
        let identifier = self.customer_identifier.clone().map(BuyerRef::CustomerIdentifier);
        let account = self.account_id.clone().map(BuyerRef::Account);
        let license = self.license_arn.clone().map(BuyerRef::License);
        [identifier, account, license].into_iter().flatten().collect()
    }
}

impl From<&BuyerRef> for AwsIds {
    fn from(buyer: &BuyerRef) -> Self {
        let mut ids = Self::default();
        match buyer {
            BuyerRef::Account(id) => ids.account_id = Some(id.clone()),
            BuyerRef::CustomerIdentifier(id) => ids.customer_identifier = Some(id.clone()),
            BuyerRef::License(arn) => ids.license_arn = Some(arn.clone()),
        }
        ids
    }
}
