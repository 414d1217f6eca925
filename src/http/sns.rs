//! The endpoint to which SNS posts AWS Marketplace's messages.

use axum::extract::{Request, State};
use axum::http::StatusCode;

use super::client_ip::source_of;
use super::public_request::PublicRequest;
use super::{ApiState, Problem, Problems};
use crate::intake::sns::{Refusal, SnsError};

/// The most bytes of a message, which is SNS's own limit.
const BODY_LIMIT: usize = 256 * 1_024;

/// Receives a message from SNS: a notification, or the confirmation of a subscription.
///
/// It is trusted if its topic is an imported product's or in `sns.topics`, if its signature is AWS's, and if it is
/// fresh. 200 means that it is on disk; otherwise SNS tries again.
#[utoipa::path(post, path = "/aws/sns", tag = "notifications", operation_id = "receiveSns",
    request_body(content = std::collections::BTreeMap<String, String>, description = "As SNS posts it"),
    responses((status = 200, description = "It is on disk"), Problems))]
pub(super) async fn receive(
    State(state): State<ApiState>,
    incoming: PublicRequest,
    request: Request,
) -> Result<StatusCode, Problem> {
    let source = source_of(incoming.peer, request.headers(), &state.arrivals.trusted_proxies);
    let (head, body) = request.into_parts();
    let body = incoming.read(&head.headers, body, BODY_LIMIT).await?;
    let _permit = incoming.acquire_permit().await?;
    let text = std::str::from_utf8(&body)
        .map_err(|_| Problem::bad_request("an SNS message is JSON in UTF-8"))?;
    match state.sns.take_in_from(source, text).await {
        Ok(_) => Ok(StatusCode::OK),
        Err(SnsError::Store(error)) => Err(error.into()),
        Err(SnsError::Refused(refusal)) => Err(refused(&refusal)),
    }
}

fn refused(refusal: &Refusal) -> Problem {
    let detail = refusal.to_string();
    match refusal {
        Refusal::Unreadable(_) => Problem::bad_request(detail),
        Refusal::Foreign(_) => Problem::new(StatusCode::FORBIDDEN, "sns-foreign", detail),
        Refusal::Forged(_) => Problem::new(StatusCode::FORBIDDEN, "sns-forged", detail),
        Refusal::Unreachable(_) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "aws-unavailable", detail)
        }
    }
}
