//! Park reasons: why a metering record waits for a person.

use super::identity::{Gap, IdentityGap};

/// The reason why a record is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParkReason {
    /// No subscription that could bear the usage came into force in time.
    NoSubscription,
    /// Several subscriptions could bear the usage, and the report named none.
    LicenseRequired,
    /// The customer bought from the seller itself; AWS has nobody to bill.
    DirectCustomer,
    /// The subscription ended before the hour, or before it could be sent.
    SubscriptionEnded,
    /// Less than a unit is left, and no hour that could make it whole.
    Fraction,
    /// The hour lies in a stretch of which AWS may know more than the ledger, since a backup was put back.
    Restored,
    /// AWS was told of the hour by something that the ledger never sent.
    DuplicateConflict,
    /// AWS takes the hour no more.
    OutOfWindow,
    /// AWS knows no active agreement of the buyer.
    NotSubscribed,
    /// A part of the buyer's names is not known.
    Unnamed(Gap),
    /// AWS refused the record as it is.
    Refused(Refusal),
}

/// AWS's refusal of a record, by the code of `BatchMeterUsage` that says so. The same record is refused again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `InvalidCustomerIdentifierException`.
    CustomerIdentifier,
    /// `InvalidLicenseException`.
    License,
    /// `InvalidProductCodeException`.
    ProductCode,
    /// `InvalidTagException`.
    Tag,
    /// `InvalidUsageAllocationsException`.
    UsageAllocations,
    /// `InvalidUsageDimensionException`.
    UsageDimension,
    /// `ValidationException`.
    Validation,
}

impl ParkReason {
    /// Every reason.
    pub const ALL: [Self; 19] = [
        Self::NoSubscription,
        Self::LicenseRequired,
        Self::DirectCustomer,
        Self::SubscriptionEnded,
        Self::Fraction,
        Self::Restored,
        Self::DuplicateConflict,
        Self::OutOfWindow,
        Self::NotSubscribed,
        Self::Unnamed(Gap::LegacyName),
        Self::Unnamed(Gap::License(IdentityGap::License)),
        Self::Unnamed(Gap::License(IdentityGap::Account)),
        Self::Refused(Refusal::CustomerIdentifier),
        Self::Refused(Refusal::License),
        Self::Refused(Refusal::ProductCode),
        Self::Refused(Refusal::Tag),
        Self::Refused(Refusal::UsageAllocations),
        Self::Refused(Refusal::UsageDimension),
        Self::Refused(Refusal::Validation),
    ];

    /// Returns the word of the database and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoSubscription => "no_subscription",
            Self::LicenseRequired => "license_required",
            Self::DirectCustomer => "direct_customer",
            Self::SubscriptionEnded => "subscription_ended",
            Self::Fraction => "fraction",
            Self::Restored => "restored",
            Self::DuplicateConflict => "duplicate_conflict",
            Self::OutOfWindow => "out_of_window",
            Self::NotSubscribed => "customer_not_subscribed",
            Self::Unnamed(Gap::LegacyName) => "legacy_name_unknown",
            Self::Unnamed(Gap::License(gap)) => gap.as_str(),
            Self::Refused(refusal) => refusal.as_str(),
        }
    }

    /// Returns the reason of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }

    /// Returns the reason that a code of `BatchMeterUsage` gives, with or without its `Exception`. Any other refusal, as
    /// by what stands between us and AWS, says nothing of the record.
    pub fn of_code(code: &str) -> Option<Self> {
        let refused = match code.strip_suffix("Exception").unwrap_or(code) {
            "TimestampOutOfBounds" => return Some(Self::OutOfWindow),
            "InvalidCustomerIdentifier" => Refusal::CustomerIdentifier,
            "InvalidLicense" => Refusal::License,
            "InvalidProductCode" => Refusal::ProductCode,
            "InvalidTag" => Refusal::Tag,
            "InvalidUsageAllocations" => Refusal::UsageAllocations,
            "InvalidUsageDimension" => Refusal::UsageDimension,
            "Validation" => Refusal::Validation,
            _ => return None,
        };
        Some(Self::Refused(refused))
    }
}

impl Refusal {
    const fn as_str(self) -> &'static str {
        match self {
            Self::CustomerIdentifier => "invalid_customer_identifier",
            Self::License => "invalid_license",
            Self::ProductCode => "invalid_product_code",
            Self::Tag => "invalid_tag",
            Self::UsageAllocations => "invalid_usage_allocations",
            Self::UsageDimension => "invalid_usage_dimension",
            Self::Validation => "validation",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_reason_has_a_word_of_its_own() {
        let words: BTreeSet<&str> = ParkReason::ALL.map(ParkReason::as_str).into();
        assert_eq!(words.len(), ParkReason::ALL.len());
        for reason in ParkReason::ALL {
            assert_eq!(ParkReason::parse(reason.as_str()), Some(reason));
        }
        assert_eq!(ParkReason::parse("retried"), None);
    }
}
