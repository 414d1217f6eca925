//! The rules, pure: no I/O, no async, no clock. Time is an argument.

pub mod access;
pub mod agreement;
pub mod allocation;
pub mod allowance;
mod aws_names;
mod buyer;
pub mod catalogue;
mod customer;
mod fingerprint;
mod generated_id;
mod grant;
mod hour;
mod id;
pub mod ledger;
pub mod naming;
pub mod notification;
pub mod plan;
mod quantity;
pub mod reconciliation;
pub mod reference;
pub mod rollout;
mod subscription;
pub mod succession;
mod terms;
pub mod usage;
pub mod window;

pub use aws_names::{is_external_id, is_region, is_role_arn};
pub use buyer::{BuyerKey, BuyerRef, Holder};
pub use customer::{AwsIdentity, Customer};
pub use fingerprint::fingerprint;
pub use grant::{Grant, GrantValue};
pub use hour::ClockHour;
pub use id::*;
pub use quantity::{Quantity, QuantityError};
pub use subscription::{Source, Status, Subscription, SubscriptionView, Terms};
pub use terms::TermsFault;
