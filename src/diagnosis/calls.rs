//! Why calls to AWS fail.

use super::Action::Connect;
use super::Diagnosis;
use crate::aws::{AwsErrorKind, CredentialsTrouble};

impl AwsErrorKind {
    /// Every kind.
    pub(super) const ALL: [Self; 11] = [
        Self::Throttled,
        Self::AccessDenied,
        Self::Credentials(CredentialsTrouble::Missing),
        Self::Credentials(CredentialsTrouble::Expired),
        Self::Credentials(CredentialsTrouble::Rejected),
        Self::Credentials(CredentialsTrouble::RoleRefused),
        Self::Credentials(CredentialsTrouble::OtherAccount),
        Self::Credentials(CredentialsTrouble::Removed),
        Self::Unsent,
        Self::Unanswered,
        Self::Refused,
    ];

    /// Returns what this kind means, and what to do.
    pub const fn diagnosis(self) -> Diagnosis {
        match self {
            Self::Throttled => Diagnosis {
                happened: "AWS answers that there are too many calls.",
                means: "Looks at buyers and usage come later; nothing is lost as long as hours are sent before their deadline.",
                remedy: "Nothing, if it passes: marketd slows down and tries again. If it stays, look for other programs that call AWS in the same account, or lower `reconcile.rate` and `metering.rate`.",
                actions: &[],
            },
            Self::AccessDenied => Diagnosis {
                happened: "AWS knows the credentials, and does not permit them this call.",
                means: "What this call is for stands still: without BatchMeterUsage nothing is billed, without GetEntitlements and SearchAgreements no purchase or end is seen.",
                remedy: "Give the role the permission: `marketd integration iam-policy` shows the whole policy. It is tried again by itself.",
                actions: &[Connect],
            },
            Self::Credentials(trouble) => trouble.diagnosis(),
            Self::Unsent => Diagnosis {
                happened: "Credentials could not be had for now, so the call was not sent.",
                means: "Looks at buyers and usage come later.",
                remedy: "Nothing, if it passes. Else look at where the credentials come from: the instance's or container's metadata service, or the file that is named.",
                actions: &[],
            },
            Self::Unanswered => Diagnosis {
                happened: "No answer of AWS's came: the network failed, or AWS did.",
                means: "Looks at buyers and usage come later. Usage that AWS may have taken is sent again as it is, and AWS bills it once.",
                remedy: "Nothing, if it passes. Else look at the network, DNS and proxy of this machine, and at AWS's health dashboard.",
                actions: &[],
            },
            Self::Refused => Diagnosis {
                happened: "AWS refused the call as it is.",
                means: "What this call is for stands still for the buyer or product that it names.",
                remedy: "Read AWS's words. They name an id or a value that AWS does not know: correct it, or remove the product that is sold no more.",
                actions: &[],
            },
        }
    }
}

impl CredentialsTrouble {
    const fn diagnosis(self) -> Diagnosis {
        const STANDS_STILL: &str = "Nothing is billed, and no purchase or end is seen, until AWS takes the credentials. Usage is kept, and is lost only when its deadline passes.";
        match self {
            Self::Missing => Diagnosis {
                happened: "There are no AWS credentials.",
                means: STANDS_STILL,
                remedy: "Give the process credentials, as any AWS tool takes them: a role of the instance or task, environment variables, or a profile.",
                actions: &[],
            },
            Self::Expired => Diagnosis {
                happened: "The AWS credentials have expired, and loading them anew gave none that AWS takes.",
                means: STANDS_STILL,
                remedy: "Renew them where they come from. They are loaded anew by themselves, without a restart.",
                actions: &[],
            },
            Self::Rejected => Diagnosis {
                happened: "AWS does not take the credentials: the access key was revoked, or key and secret do not belong together.",
                means: STANDS_STILL,
                remedy: "Give the process credentials that AWS takes. They are loaded anew by themselves, without a restart.",
                actions: &[],
            },
            Self::RoleRefused => Diagnosis {
                happened: "The role cannot be assumed: there is no such role, or its trust policy does not name us and the external id.",
                means: STANDS_STILL,
                remedy: "Compare the role's trust policy with what `marketd integration trust-policy` shows, and connect again.",
                actions: &[Connect],
            },
            Self::OtherAccount => Diagnosis {
                happened: "The credentials are those of another AWS account than the one that sells the product.",
                means: "AWS would refuse this product's usage, so none is sent.",
                remedy: "Connect a role of the account that sells the product.",
                actions: &[Connect],
            },
            Self::Removed => Diagnosis {
                happened: "The integration was removed: nothing is asked of AWS any more.",
                means: "Nothing is billed, and no purchase or end is seen. Customers keep what they had.",
                remedy: "Connect a role, if marketd is to work with AWS again.",
                actions: &[Connect],
            },
        }
    }
}
