//! Customers: who they are to the seller and to AWS, sign-ups, and what a merge of two moves.
//!
//! It imports metering and the rooms below it.
//!
//! - A customer is one AWS account and one legacy buyer at most; what contradicts that is for a person to decide.
//! - An id of AWS is one customer's. A merge keeps the other's id as an alias.

pub(super) mod account_mapping;
pub(super) mod conflicts;
pub(super) mod erase;
pub(super) mod erase_history;
pub(super) mod exchange;
pub(super) mod identities;
pub(super) mod likely_same;
pub(super) mod list;
pub(super) mod matching;
pub(super) mod merge;
pub(super) mod names;
pub(super) mod provision;
pub(super) mod registrations;
pub(super) mod rows;
pub(super) mod search;
pub(super) mod unlink;
