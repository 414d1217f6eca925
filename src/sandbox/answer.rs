//! Refusals that the sandbox itself gives, with AWS's codes and messages.

use super::market::ApiError;

/// Builds a refusal.
pub(super) fn refusal(status: u16, code: &'static str, message: impl Into<String>) -> ApiError {
    ApiError { status, code, message: message.into() }
}

/// Builds a refusal of the caller's input.
pub(super) fn bad_request(code: &'static str, message: impl Into<String>) -> ApiError {
    refusal(400, code, message)
}
