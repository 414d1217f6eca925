//! AWS's errors, told apart by what to do about them.

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format::HttpDate;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use jiff::Timestamp;

use super::credentials::{LoadError, Origin};
use super::described::{REMOVED, described};
use crate::clock::Clock;

/// The reason why a call to AWS did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: {message}")]
pub struct AwsError {
    /// The operation.
    pub operation: &'static str,
    /// The kind, by the remedy.
    pub kind: AwsErrorKind,
    /// AWS's code, where it answered with one.
    pub code: Option<String>,
    /// The message of AWS or the network.
    pub message: String,
}

/// The kinds of errors, told apart by their remedies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AwsErrorKind {
    /// Too fast: slow down and try again.
    Throttled,
    /// No permission: a person must grant it.
    AccessDenied,
    /// The credentials cannot be used: a person must look.
    Credentials(CredentialsTrouble),
    /// Nothing was sent, since credentials could not be had for now: it was not done.
    Unsent,
    /// No usable answer came. The call may have been carried out all the same: only the very same call may
    /// be made again.
    Unanswered,
    /// AWS refused the call as it is; the same call will be refused again.
    Refused,
}

/// The faults of credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialsTrouble {
    /// There are none.
    Missing,
    /// They were good once, and were not renewed.
    Expired,
    /// AWS does not know them, or not any more.
    Rejected,
    /// The role cannot be assumed with them, or not any more.
    RoleRefused,
    /// They are those of another account than the one that sells the product.
    OtherAccount,
    /// The integration was removed; nothing is asked with any.
    Removed,
}

impl CredentialsTrouble {
    /// Returns what happened and what to do, for a person.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Missing => {
                "there are no AWS credentials: give the process some, as any AWS tool takes them"
            }
            Self::Expired => {
                "the AWS credentials have expired, and loading them anew gave none that AWS takes"
            }
            Self::Rejected => {
                "AWS does not take the credentials: the access key was revoked, or key and secret do not belong together"
            }
            Self::RoleRefused => {
                "the role cannot be assumed: there is no such role, or its trust policy does not name us and the external id (`marketd integration trust-policy` shows it)"
            }
            Self::OtherAccount => {
                "the credentials are those of another AWS account than the one that sells the product: connect a role of that account"
            }
            Self::Removed => REMOVED,
        }
    }
}

impl AwsErrorKind {
    /// As metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::AccessDenied => "access_denied",
            Self::Credentials(CredentialsTrouble::Missing) => "credentials_missing",
            Self::Credentials(CredentialsTrouble::Expired) => "credentials_expired",
            Self::Credentials(CredentialsTrouble::Rejected) => "credentials_rejected",
            Self::Credentials(CredentialsTrouble::RoleRefused) => "role_refused",
            Self::Credentials(CredentialsTrouble::OtherAccount) => "other_account",
            Self::Credentials(CredentialsTrouble::Removed) => "removed",
            Self::Unsent => "unsent",
            Self::Unanswered => "unanswered",
            Self::Refused => "refused",
        }
    }
}

impl AwsError {
    /// Reports whether the same call may succeed later by itself.
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self.kind,
            AwsErrorKind::Throttled | AwsErrorKind::Unsent | AwsErrorKind::Unanswered
        )
    }

    /// Reports whether AWS refused the identity, or there are no credentials to show. Nothing was done.
    pub(super) const fn is_of_identity(&self) -> bool {
        matches!(
            self.kind,
            AwsErrorKind::Credentials(
                CredentialsTrouble::Missing
                    | CredentialsTrouble::Expired
                    | CredentialsTrouble::Rejected
                    | CredentialsTrouble::RoleRefused
            )
        )
    }

    /// Tells why credentials could not be had.
    pub(super) fn of_load(operation: &'static str, error: &LoadError) -> Self {
        let kind = match kind_without_answer(&error.detail) {
            AwsErrorKind::Unanswered | AwsErrorKind::Throttled => AwsErrorKind::Unsent,
            kind => kind,
        };
        let message = match kind {
            AwsErrorKind::Unsent => format!("credentials could not be had: {}", error.detail),
            _ => advised(kind, error.detail.clone()),
        };
        let told = Self { operation, kind, code: None, message };
        match kind {
            // The role is at fault, and whoever may not assume it is in AWS's words.
            AwsErrorKind::Credentials(CredentialsTrouble::RoleRefused) => told,
            _ => told.blaming(&error.origin),
        }
    }

    /// Adds to the message whose credentials were refused, and how to mend it.
    pub(super) fn blaming(mut self, origin: &Origin) -> Self {
        if self.is_of_identity() {
            self.message = format!("{} ({}; {})", self.message, origin.whose, origin.remedy);
        }
        self
    }

    /// Makes an error of an answer that cannot be used, and so is none.
    pub(super) fn unreadable(operation: &'static str, detail: &str) -> Self {
        let (kind, message) = (AwsErrorKind::Unanswered, detail.to_owned());
        Self { operation, kind, code: None, message }
    }

    /// Returns the words of AWS or the network, without what is said before them of what happened and what to do.
    pub fn said(&self) -> &str {
        let said = match self.kind {
            AwsErrorKind::Credentials(trouble) => self.message.strip_prefix(trouble.advice()),
            _ => None,
        };
        said.map_or(&*self.message, |said| said.trim_start_matches([':', ' ']))
    }

    /// Returns AWS's code, empty where there is none.
    pub fn code(&self) -> &str {
        self.code.as_deref().unwrap_or_default()
    }

    /// Tells an SDK error apart.
    #[expect(clippy::needless_pass_by_value, reason = "stands in `map_err`, which hands it over")]
    pub(super) fn of<E>(operation: &'static str, error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let (kind, code, message) = match &error {
            SdkError::ServiceError(answer) => {
                let code = answer.err().code().map(str::to_owned);
                let said = answer.err().message().unwrap_or("no message").to_owned();
                let status = answer.raw().status().as_u16();
                let kind = kind_of_code(code.as_deref().unwrap_or_default(), status);
                let mut message =
                    code.as_ref().map_or(said.clone(), |code| format!("{code}: {said}"));
                if matches!(kind, AwsErrorKind::Credentials(_)) {
                    message += &clock_off(answer.raw());
                }
                (kind, code, message)
            }
            SdkError::DispatchFailure(failure) if !failure.is_io() && !failure.is_timeout() => {
                let message = described(&error);
                (kind_without_answer(&message), None, message)
            }
            // Never sent: it would fail in the same way again.
            SdkError::ConstructionFailure(_) => (AwsErrorKind::Refused, None, described(&error)),
            _ => (AwsErrorKind::Unanswered, None, described(&error)),
        };
        Self { operation, kind, code, message: advised(kind, message) }
    }
}

fn advised(kind: AwsErrorKind, said: String) -> String {
    match kind {
        AwsErrorKind::Credentials(CredentialsTrouble::Removed) => REMOVED.to_owned(),
        AwsErrorKind::Credentials(trouble) => format!("{}: {said}", trouble.advice()),
        _ => said,
    }
}

/// Describes this machine's clock where AWS's is far from it: AWS refuses what is signed for another time.
fn clock_off(answer: &HttpResponse) -> String {
    let date =
        answer.headers().get("date").and_then(|date| DateTime::from_str(date, HttpDate).ok());
    let theirs = date.and_then(|date| Timestamp::from_second(date.secs()).ok());
    let minutes = theirs.map_or(0, |at| at.duration_since(Clock::system().now()).as_mins());
    match minutes {
        4.. => format!("; this machine's clock is {minutes} minutes behind AWS's: set it"),
        ..=-4 => format!("; this machine's clock is {} minutes ahead of AWS's: set it", -minutes),
        _ => String::new(),
    }
}

/// Returns where a list goes on after a page, if it does. A page that leads back to itself would have no end, and a
/// list without its end must not be taken for the whole.
pub(super) fn next_page(
    operation: &'static str,
    asked: Option<&str>,
    answered: Option<String>,
) -> Result<Option<String>, AwsError> {
    let next = answered.filter(|token| !token.is_empty());
    if next.is_some() && next.as_deref() == asked {
        return Err(AwsError::unreadable(operation, "a page leads back to itself"));
    }
    Ok(next)
}

fn kind_of_code(code: &str, status: u16) -> AwsErrorKind {
    match code {
        "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "SlowDown" => AwsErrorKind::Throttled,
        "AccessDenied"
        | "AccessDeniedException"
        | "UnauthorizedOperation"
        | "AWS.SimpleQueueService.AccessDenied" => AwsErrorKind::AccessDenied,
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => {
            AwsErrorKind::Credentials(CredentialsTrouble::Expired)
        }
        "InvalidClientTokenId"
        | "InvalidAccessKeyId"
        | "UnrecognizedClientException"
        | "SignatureDoesNotMatch"
        | "InvalidSignatureException"
        | "RequestTimeTooSkewed"
        | "RequestInTheFuture"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException" => {
            AwsErrorKind::Credentials(CredentialsTrouble::Rejected)
        }
        "InternalServiceErrorException"
        | "InternalServiceException"
        | "InternalFailure"
        | "InternalServerException"
        | "ServiceUnavailable"
        | "ServiceUnavailableException"
        | "RequestTimeout"
        | "RequestTimeoutException" => AwsErrorKind::Unanswered,
        _ if status == 429 => AwsErrorKind::Throttled,
        _ if status >= 500 => AwsErrorKind::Unanswered,
        // AWS says why it refuses: this is the word of something in between.
        "" => AwsErrorKind::Unanswered,
        _ => AwsErrorKind::Refused,
    }
}

/// Finds why a call was never sent: the credentials for it could not be had, or the way to AWS. All that the
/// SDK tells of the first is its causes' words, AWS's codes among them.
fn kind_without_answer(message: &str) -> AwsErrorKind {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if says(&[REMOVED]) {
        AwsErrorKind::Credentials(CredentialsTrouble::Removed)
    } else if says(&["Throttl", "Rate exceeded"]) {
        AwsErrorKind::Throttled
    } else if says(&["io error", "timed out", "timeout", "Unavailable", "InternalFailure"]) {
        AwsErrorKind::Unanswered
    } else if says(&["ExpiredToken"]) {
        AwsErrorKind::Credentials(CredentialsTrouble::Expired)
    } else if says(&[
        "InvalidClientTokenId",
        "UnrecognizedClient",
        "SignatureDoesNotMatch",
        // Of a web identity's token.
        "InvalidIdentityToken",
        "IDPRejectedClaim",
    ]) {
        AwsErrorKind::Credentials(CredentialsTrouble::Rejected)
    } else if says(&["AccessDenied", "sts:AssumeRole", "AssumeRole"]) {
        AwsErrorKind::Credentials(CredentialsTrouble::RoleRefused)
    } else if message.to_ascii_lowercase().contains("credential") || says(&["identity"]) {
        AwsErrorKind::Credentials(CredentialsTrouble::Missing)
    } else {
        AwsErrorKind::Unanswered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_aws_s_own_only_if_it_says_why() {
        for (code, status, kind) in [
            ("InvalidProductCodeException", 400, AwsErrorKind::Refused),
            ("", 403, AwsErrorKind::Unanswered),
            ("", 407, AwsErrorKind::Unanswered),
            ("", 429, AwsErrorKind::Throttled),
            ("RequestTimeoutException", 400, AwsErrorKind::Unanswered),
            ("AccessDeniedException", 400, AwsErrorKind::AccessDenied),
            ("Anything", 503, AwsErrorKind::Unanswered),
        ] {
            assert_eq!(kind_of_code(code, status), kind, "{code} {status}");
        }
    }

    /// The SDK's words when credentials cannot be had, as they were seen.
    #[test]
    fn troubles_with_credentials_are_told_apart() {
        use CredentialsTrouble::{Expired, Missing, Rejected, RoleRefused};
        let rows = [
            (
                "failed to get identity: the credential provider was not enabled: no providers in chain provided credentials",
                AwsErrorKind::Credentials(Missing),
            ),
            (
                "an error occurred while loading credentials: AccessDenied: User is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::1:role/x",
                AwsErrorKind::Credentials(RoleRefused),
            ),
            (
                "an error occurred while loading credentials: ExpiredToken: The security token included in the request is expired",
                AwsErrorKind::Credentials(Expired),
            ),
            (
                "an error occurred while loading credentials: InvalidClientTokenId: The security token included in the request is invalid",
                AwsErrorKind::Credentials(Rejected),
            ),
            (
                "an error occurred while loading credentials: InvalidIdentityToken: No OpenIDConnect provider found in your account",
                AwsErrorKind::Credentials(Rejected),
            ),
            (
                "an error occurred while loading credentials: dispatch failure: io error: connection refused",
                AwsErrorKind::Unanswered,
            ),
            (
                "an error occurred while loading credentials: Throttling: Rate exceeded",
                AwsErrorKind::Throttled,
            ),
        ];
        for (message, expected) in rows {
            assert_eq!(kind_without_answer(message), expected, "{message}");
        }
    }
}
