//! Why a metering record is parked.

use super::Action::{CarryForward, Retry, WriteOff};
use super::Diagnosis;
use crate::domain::ledger::{Gap, IdentityGap, ParkReason, Refusal};
use crate::store::RecordRow;

impl Diagnosis {
    /// Returns what to do about a record, while it is parked.
    pub fn of_record(record: &RecordRow) -> Option<Self> {
        let reason = record.reason.as_deref().filter(|_| record.state == "parked")?;
        ParkReason::parse(reason).map(ParkReason::diagnosis)
    }
}

impl ParkReason {
    /// Returns what this reason means, and what to do.
    pub const fn diagnosis(self) -> Diagnosis {
        match self {
            Self::NoSubscription => Diagnosis {
                happened: "The usage was reported for a customer for whom no AWS subscription came into force while AWS still took the hour.",
                means: "The units are not billed.",
                remedy: "If the customer bought at AWS, find out under which AWS account, give that id to the customer, and carry the record forward: it then waits for the subscription anew. If the customer never bought, write it off.",
                actions: &[CarryForward, WriteOff],
            },
            Self::LicenseRequired => Diagnosis {
                happened: "The customer holds several subscriptions that could bear the usage, and the report named none by its `license_arn`.",
                means: "The units are not billed, since they could be billed to the wrong agreement.",
                remedy: "Report the usage anew with its `license_arn` and a new event id, and write this record off. Carry it forward where only one of the subscriptions is left.",
                actions: &[WriteOff, CarryForward],
            },
            Self::DirectCustomer => Diagnosis {
                happened: "The usage is of a dimension at AWS, and the customer bought from you, not at AWS.",
                means: "AWS has nobody to bill for the units.",
                remedy: "Bill them yourself and write the record off. If the customer has bought at AWS as well, give them their AWS id and carry it forward.",
                actions: &[WriteOff, CarryForward],
            },
            Self::SubscriptionEnded => Diagnosis {
                happened: "The subscription ended, and AWS takes no usage from an hour after the end on.",
                means: "The units are not billed.",
                remedy: "If the customer holds another subscription of the product, report the usage anew for that one, with its `license_arn` and a new event id; then write this record off. If the subscription went on as another, carry it forward.",
                actions: &[WriteOff, CarryForward],
            },
            Self::Fraction => Diagnosis {
                happened: "Less than one unit is left of the usage, and no later hour that could make it whole: AWS takes whole units only.",
                means: "Less than one unit is not billed.",
                remedy: "Write it off; or carry it forward, where the customer still reports usage.",
                actions: &[WriteOff, CarryForward],
            },
            Self::Restored => Diagnosis {
                happened: "A backup was put back, and the usage is of an hour in which AWS may have been told more than the backup knows.",
                means: "The units may be billed already: nobody but AWS knows.",
                remedy: "Compare with AWS: CloudTrail shows each BatchMeterUsage, the billing report what was billed. Carry it forward if AWS has not billed it, else write it off.",
                actions: &[WriteOff, CarryForward],
            },
            Self::DuplicateConflict => Diagnosis {
                happened: "AWS was told of this customer, dimension and hour before, with another quantity, by something that this ledger never sent.",
                means: "AWS has billed the hour with its own quantity, and takes no second one. This record's units are not billed unless they are part of it.",
                remedy: "Look for a second program that meters, or for a ledger of another machine. Write the record off if AWS's quantity holds these units; carry it forward if it does not.",
                actions: &[WriteOff, CarryForward, Retry],
            },
            Self::OutOfWindow => Diagnosis {
                happened: "The record could not be sent in time: AWS takes an hour for 24 hours after it, and until six hours into a new month.",
                means: "The units are not billed.",
                remedy: "Carry it forward: the units are billed with the open hour. Tell the buyer if their bill should name the time of use.",
                actions: &[CarryForward, WriteOff],
            },
            Self::NotSubscribed => Diagnosis {
                happened: "AWS answered that the buyer has no active agreement.",
                means: "The units are not billed. Access is checked anew: AWS is asked what the buyer holds.",
                remedy: "It is sent again by itself once AWS shows the subscription in force, as long as the hour is taken. Else carry it forward when the buyer has subscribed again, or write it off.",
                actions: &[Retry, CarryForward, WriteOff],
            },
            Self::Unnamed(gap) => gap.diagnosis(),
            Self::Refused(refusal) => refusal.diagnosis(),
        }
    }
}

impl Gap {
    const fn diagnosis(self) -> Diagnosis {
        match self {
            Self::LegacyName => Diagnosis {
                happened: "The buyer may have a CustomerIdentifier from before licences that AWS has not told, and the hour may be metered under it.",
                means: "The units are not billed, since the same hour in both forms would be billed twice.",
                remedy: "Import the mapping of CustomerIdentifiers to accounts that AWS sent you (`marketd customer import-mapping`), then carry it forward.",
                actions: &[CarryForward, WriteOff],
            },
            Self::License(IdentityGap::License) => Diagnosis {
                happened: "The product is metered by licence, and AWS has not told this buyer's.",
                means: "The units are not billed.",
                remedy: "Give the customer the licence's ARN, or wait until the sweep has found it; then carry it forward.",
                actions: &[CarryForward, WriteOff],
            },
            Self::License(IdentityGap::Account) => Diagnosis {
                happened: "The product is metered by licence, which asks for the buyer's AWS account, and that is not known.",
                means: "The units are not billed.",
                remedy: "Give the customer the account's id; then carry it forward.",
                actions: &[CarryForward, WriteOff],
            },
        }
    }
}

impl Refusal {
    const fn diagnosis(self) -> Diagnosis {
        match self {
            Self::CustomerIdentifier => Diagnosis {
                happened: "AWS does not know the CustomerIdentifier that the record names.",
                means: "The units are not billed.",
                remedy: "Compare the customer's AWS ids with AWS's. Correct them and carry it forward; write it off if the buyer is none of yours.",
                actions: &[CarryForward, WriteOff],
            },
            Self::License => Diagnosis {
                happened: "AWS does not know the licence that the record names, or it belongs to another account.",
                means: "The units are not billed.",
                remedy: "Compare the subscription's licence and account with the agreement at AWS. Correct the customer's AWS ids and carry it forward.",
                actions: &[CarryForward, WriteOff],
            },
            Self::ProductCode => Diagnosis {
                happened: "AWS does not take the product's code from this account.",
                means: "No usage of the product is billed.",
                remedy: "Check that the connected account sells the product (`marketd integration show`), and compare the listing (`marketd listing sync`); then retry.",
                actions: &[Retry, CarryForward, WriteOff],
            },
            Self::Tag => Diagnosis {
                happened: "AWS refuses a tag of the usage: its key or value has a form that AWS does not take.",
                means: "The units are not billed.",
                remedy: "Correct the tags that your application reports. A record is never changed: report the units anew without the tag and with new event ids, and write it off.",
                actions: &[WriteOff],
            },
            Self::UsageAllocations => Diagnosis {
                happened: "AWS refuses the split of the quantity by tags.",
                means: "The units are not billed.",
                remedy: "Report the units anew without tags and with new event ids, and write it off.",
                actions: &[WriteOff],
            },
            Self::UsageDimension => Diagnosis {
                happened: "AWS does not know the dimension, or does not meter it.",
                means: "No usage of the dimension is billed.",
                remedy: "Compare the listing (`marketd listing sync`): it must have the dimension at AWS as a metered one. Once it does, retry within the hour's 24 hours, or carry it forward.",
                actions: &[Retry, CarryForward, WriteOff],
            },
            Self::Validation => Diagnosis {
                happened: "AWS refuses the record as it is, in the words of its last error.",
                means: "The units are not billed.",
                remedy: "Read AWS's words. If they name an id, correct the customer's and carry it forward; else write it off and report it as a fault of marketd's.",
                actions: &[CarryForward, WriteOff],
            },
        }
    }
}
