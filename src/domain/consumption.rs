//! Consumption: an access check and the usage event that follows from it, in one step.

use serde::Serialize;
use utoipa::ToSchema;

use super::Quantity;
use super::access::Access;

/// The answer to a consumption.
///
/// `accepted` is what to act on. The rest says how the customer stands after it, as an access check does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Consumption {
    /// The access answer; what was accepted is part of its usage.
    #[serde(flatten)]
    pub access: Access,
    /// Set if the event is counted, by this call or by an earlier one. What is denied is not.
    pub accepted: bool,
    /// Set if it was counted before.
    pub duplicate: bool,
}

impl Consumption {
    /// Answers an event that was counted now, after an access answer that allows it.
    pub fn accepted(access: Access, quantity: Quantity) -> Self {
        Self { access: access.after(quantity), accepted: true, duplicate: false }
    }

    /// Answers an event that was counted before.
    pub fn duplicate(access: Access) -> Self {
        Self { access, accepted: true, duplicate: true }
    }

    /// Answers an event that is not counted.
    pub fn denied(access: Access) -> Self {
        Self { access, accepted: false, duplicate: false }
    }
}
