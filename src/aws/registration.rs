//! `ResolveCustomer`: who the buyer behind a registration token is. It proves identity, not payment.

use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_sdk_marketplacemetering::config::Builder;
use aws_sdk_marketplacemetering::operation::resolve_customer::ResolveCustomerError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use secrecy::{ExposeSecret, SecretString};

use super::{AwsClients, AwsError, Place, RateLimit, Turn};
use crate::domain::{Id, Registration};

pub(super) const RESOLVE_CUSTOMER: &str = "ResolveCustomer";

/// The reason why a token could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// The token has expired; the buyer can get another by the "Set up your account" link at AWS.
    #[error("the registration token has expired")]
    Expired,
    /// AWS does not know the token, or it belongs to another seller's product.
    #[error("AWS does not know the registration token")]
    Unknown,
    /// Too many buyers are waiting for their turn.
    #[error("too many buyers are registering at once; try again")]
    Busy,
    /// The call failed.
    #[error(transparent)]
    Aws(#[from] AwsError),
}

/// The longest token that AWS is asked about; its own are some hundred characters long.
const LONGEST: usize = 4 * 1_024;

/// The number of times that AWS is asked before the buyer is told to come back.
const TRIES: u32 = 3;
/// The pause before the second try; the next is longer.
const PAUSE: Duration = Duration::from_millis(250);
/// AWS answers within a moment; who waits longer is gone.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// The one who asks. Anybody may come to the redirect; the API's callers are the seller's own. Each has turns of its
/// own, so that neither a flood at the door nor AWS's answer to it holds up the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asking {
    /// A browser at the door.
    Door,
    /// The seller's back end.
    Api,
}

impl Asking {
    fn rate(self, clients: &AwsClients) -> &RateLimit {
        match self {
            Self::Door => &clients.rates.door,
            Self::Api => &clients.rates.registrations,
        }
    }

    /// Waits for a turn to ask, if it comes soon enough.
    pub async fn turn_within(
        self,
        clients: &AwsClients,
        patience: Duration,
    ) -> Result<Turn<'_>, RegistrationError> {
        let turn = self.rate(clients).acquire_within(patience).await;
        turn.ok_or(RegistrationError::Busy)
    }
}

/// Asks AWS who the buyer is, by a turn that was waited for, and once or twice more if AWS fails.
pub async fn resolve_customer(
    clients: &AwsClients,
    asking: Asking,
    mut turn: Turn<'_>,
    token: &SecretString,
) -> Result<Registration, RegistrationError> {
    let mut tries = 1;
    loop {
        match ask(clients, turn, token).await {
            // A browser waits: once more, and not for long. The token resolves to the same again.
            Err(RegistrationError::Aws(error)) if error.is_retryable() && tries < TRIES => {
                tokio::time::sleep(PAUSE * tries).await;
            }
            outcome => return outcome,
        }
        turn = asking.turn_within(clients, ANSWERED_WITHIN).await?;
        tries += 1;
    }
}

/// Reports whether AWS need be asked about a token. Its own are letters, digits and signs, without a blank.
pub fn is_possible_token(token: &SecretString) -> bool {
    let token = token.expose_secret();
    !token.is_empty() && token.len() <= LONGEST && token.bytes().all(|it| it.is_ascii_graphic())
}

/// Asks AWS who the buyer is. The token is a credential: it goes into this call and nowhere else.
async fn ask(
    clients: &AwsClients,
    turn: Turn<'_>,
    token: &SecretString,
) -> Result<Registration, RegistrationError> {
    let call = clients.metering.resolve_customer().registration_token(token.expose_secret());
    let send = || {
        let call = call.clone().customize();
        let patience = TimeoutConfig::builder().operation_attempt_timeout(ANSWERED_WITHIN).build();
        let call = call.config_override(Builder::new().timeout_config(patience));
        async move {
            // What AWS says of the token is an answer, and no fault of the call.
            let outcome = call.send().await;
            match outcome.as_ref().err().and_then(about_token) {
                Some(about) => Ok(Err(about)),
                None => outcome.map(Ok),
            }
        }
    };
    let resolved = clients.call(Place::First(turn), RESOLVE_CUSTOMER, send).await??;
    let product_code = resolved.product_code.as_deref().and_then(Id::from_trimmed);
    Ok(Registration {
        product_code: product_code.ok_or(RegistrationError::Unknown)?,
        customer_identifier: resolved.customer_identifier.as_deref().and_then(Id::from_trimmed),
        account_id: resolved.customer_aws_account_id.as_deref().and_then(Id::from_trimmed),
        license_arn: resolved.license_arn.as_deref().and_then(Id::from_trimmed),
        agreement_id: resolved
            .metadata
            .and_then(|metadata| metadata.agreement_id)
            .as_deref()
            .and_then(Id::from_trimmed),
    })
}

/// Returns the fault of the token, where an error is about that.
fn about_token(error: &SdkError<ResolveCustomerError, HttpResponse>) -> Option<RegistrationError> {
    let error = error.as_service_error()?;
    // Our own credentials expire under the same name.
    if error.message().is_some_and(|message| message.contains("security token")) {
        return None;
    }
    match error {
        ResolveCustomerError::ExpiredTokenException(_) => Some(RegistrationError::Expired),
        ResolveCustomerError::InvalidTokenException(_) => Some(RegistrationError::Unknown),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_token_is_told_apart() {
        let long = "a".repeat(LONGEST);
        for token in ["a", "YWJj+/==", "a%2Bb", &long] {
            assert!(is_possible_token(&token.to_owned().into()), "{token}");
        }
        for token in ["", " ", "a b", "a\nb", "\u{e9}", &format!("{long}a")] {
            assert!(!is_possible_token(&token.to_owned().into()), "{token}");
        }
    }
}
