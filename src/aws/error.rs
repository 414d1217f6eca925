//! AWS's errors, told apart by what to do about them.

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::ErrorMetadata;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

/// Why a call to AWS did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: {message}")]
pub struct AwsError {
    /// The operation.
    pub operation: &'static str,
    /// What to do about it.
    pub kind: AwsErrorKind,
    /// AWS's code, where it answered with one.
    pub code: Option<String>,
    /// What AWS or the network said.
    pub message: String,
}

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AwsErrorKind {
    /// Too fast: slow down and try again.
    Throttled,
    /// No permission: a person must grant it.
    AccessDenied,
    /// The credentials are missing, expired or wrong: a person must look.
    Credentials,
    /// No usable answer came. The call may have been carried out all the same: only the very same call may
    /// be made again.
    Unanswered,
    /// AWS refused the call as it is; the same call will be refused again.
    Refused,
}

impl AwsErrorKind {
    /// As metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::AccessDenied => "access_denied",
            Self::Credentials => "credentials",
            Self::Unanswered => "unanswered",
            Self::Refused => "refused",
        }
    }
}

impl AwsError {
    /// Whether the same call may succeed later by itself.
    pub const fn is_retryable(&self) -> bool {
        matches!(self.kind, AwsErrorKind::Throttled | AwsErrorKind::Unanswered)
    }

    /// AWS's code, empty where there is none.
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
                let message = code.as_ref().map_or(said.clone(), |code| format!("{code}: {said}"));
                (kind, code, message)
            }
            SdkError::DispatchFailure(failure) if !failure.is_io() && !failure.is_timeout() => {
                let message = described(&error);
                let about_credentials = message.to_ascii_lowercase().contains("credential")
                    || message.contains("sts")
                    || message.contains("identity");
                let kind = if about_credentials {
                    AwsErrorKind::Credentials
                } else {
                    AwsErrorKind::Unanswered
                };
                (kind, None, message)
            }
            // Never sent: it would fail in the same way again.
            SdkError::ConstructionFailure(_) => (AwsErrorKind::Refused, None, described(&error)),
            _ => (AwsErrorKind::Unanswered, None, described(&error)),
        };
        Self { operation, kind, code, message }
    }
}

/// What an error says, its causes included: the SDK's own words for where it was are left out.
pub(crate) fn described(error: &(dyn std::error::Error + 'static)) -> String {
    let mut said: Vec<String> = Vec::new();
    let mut cause = Some(error);
    while let Some(error) = cause {
        let text = match error.downcast_ref::<ErrorMetadata>() {
            Some(answer) => {
                format!(
                    "{}: {}",
                    answer.code().unwrap_or("error"),
                    answer.message().unwrap_or("no message")
                )
            }
            None => error.to_string(),
        };
        let empty = ["dispatch failure", "other", "service error"].contains(&text.as_str())
            || text.starts_with("unhandled error");
        if !empty && said.last() != Some(&text) {
            said.push(text);
        }
        cause = error.source();
    }
    if said.is_empty() { error.to_string() } else { said.join(": ") }
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
        "ExpiredToken"
        | "ExpiredTokenException"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "SignatureDoesNotMatch"
        | "InvalidSignatureException"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "RequestExpired" => AwsErrorKind::Credentials,
        "InternalServiceErrorException"
        | "InternalServiceException"
        | "InternalFailure"
        | "InternalServerException"
        | "ServiceUnavailable"
        | "ServiceUnavailableException" => AwsErrorKind::Unanswered,
        _ if status == 429 => AwsErrorKind::Throttled,
        _ if status >= 500 => AwsErrorKind::Unanswered,
        _ => AwsErrorKind::Refused,
    }
}
