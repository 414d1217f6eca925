//! Requests at public endpoints, which anybody may reach: the client's address, and how its body is read.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use tokio_util::sync::CancellationToken;

use super::Problem;
use super::admission::{AdmissionError, ConnectionSlot, RequestClass, WorkPermit};
use super::body_budget::{BodyBudget, BodyError};

/// A request at a public endpoint.
#[derive(Clone, Debug, Default)]
pub(super) struct PublicRequest {
    /// The peer's address, where the connection has one.
    pub(super) peer: Option<SocketAddr>,
    /// The connection's slot; none where the routes are served by somebody else.
    slot: Option<ConnectionSlot>,
}

impl PublicRequest {
    pub(super) const fn new(slot: ConnectionSlot, peer: Option<SocketAddr>) -> Self {
        Self { peer, slot: Some(slot) }
    }

    /// Reads the body. Until it is there, the connection may be evicted for others.
    pub(super) async fn read(
        &self,
        headers: &HeaderMap,
        body: Body,
        bytes_max: usize,
    ) -> Result<Vec<u8>, BodyError> {
        let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let announced = length.and_then(|length| length.parse().ok());
        match &self.slot {
            Some(slot) => {
                let slots = slot.all();
                slots.bodies.read(body, announced, bytes_max, &slots.stopping).await
            }
            None => {
                BodyBudget::default()
                    .read(body, announced, bytes_max, &CancellationToken::new())
                    .await
            }
        }
    }

    /// Acquires a permit to be processed, for as long as it is kept.
    pub(super) async fn acquire_permit(&self) -> Result<Option<WorkPermit>, AdmissionError> {
        match &self.slot {
            Some(slot) => slot.acquire_permit(RequestClass::Public).await.map(Some),
            None => Ok(None),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PublicRequest {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}

impl BodyError {
    /// Returns the status of the answer.
    pub(super) const fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Dropped | Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Self::Broken(_) => StatusCode::BAD_REQUEST,
        }
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        let kind = match error {
            BodyError::TooLarge(_) => "body-too-large",
            BodyError::TooSlow => "body-timeout",
            BodyError::Dropped => "busy",
            BodyError::Stopping => "stopping",
            BodyError::Broken(_) => "bad-request",
        };
        Self::new(error.status(), kind, error.to_string())
    }
}

impl From<AdmissionError> for Problem {
    fn from(error: AdmissionError) -> Self {
        let kind = match error {
            AdmissionError::Busy => "busy",
            AdmissionError::Stopping => "stopping",
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, error.to_string())
    }
}
