//! The AWS clients: one file a service, credentials by role, one rate limit an operation.
//!
//! Nothing outside this folder sees the SDK's marketplace types; what comes back are the domain's. The queue
//! is the exception: `intake` speaks SQS itself, since that is all it does.

mod agreement;
mod call_states;
mod calling;
mod catalog;
mod chain;
mod connection;
mod credentials;
mod described;
mod entitlement;
mod error;
mod identity;
mod metering;
mod policies;
mod principal;
mod rate;
mod refusals;
mod registration;
mod template;

pub use agreement::{
    AgreementPage, AgreementSearch, GET_AGREEMENT_ENTITLEMENTS, SEARCH_AGREEMENTS,
    agreement_licenses, search_agreements,
};
pub use call_states::CallState;
pub use calling::Place;
pub use catalog::{EntityDocument, EntitySummary, describe_product, list_products};
pub use connection::{AwsClients, Connection, ConnectionOptions};
pub use entitlement::{EntitlementFilter, get_entitlements};
pub use error::{AwsError, AwsErrorKind, CredentialsTrouble};
pub use identity::{
    Caller, Check, UNTRIED, ask_operation, caller, caller_account, check_seller, probe_permissions,
};
pub use metering::{MeteringCall, MeteringOutcome, RecordStatus, WireRecord, batch_meter_usage};
pub use policies::{Topics, TrustedBy, iam_policy, queue_arn, queue_policy, trust_policy};
pub use principal::Principal;
pub use rate::{RateLimit, Turn};
pub use refusals::Standing;
pub use registration::{Asking, RegistrationError, is_possible_token, resolve_customer};
pub use template::{Format, Template};
