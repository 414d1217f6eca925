//! The integration with AWS: whose credentials calls are made with.

/// A role in the seller's account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its ARN.
    pub arn: String,
    /// The external id that its trust policy asks for.
    pub external_id: Option<String>,
}

/// The identity whose credentials calls are made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The environment's own.
    Environment,
    /// Those of a role.
    Role(Role),
    /// Nobody's: the integration was removed, and no call leaves this process.
    Removed,
}
