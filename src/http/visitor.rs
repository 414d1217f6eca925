//! Requests at public endpoints, which anybody may reach: the client's address, and how its body is read.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use tokio_util::sync::CancellationToken;

use super::Problem;
use super::admission::{NoPlace, Place, Whom, Work};
use super::body_budget::{Bodies, Unread};

/// A request at a public endpoint.
#[derive(Clone, Debug, Default)]
pub(super) struct Visit {
    /// The peer's address, where the connection has one.
    pub(super) peer: Option<SocketAddr>,
    /// The connection's slot; none where the routes are served by somebody else.
    place: Option<Place>,
}

impl Visit {
    pub(super) const fn new(place: Place, peer: Option<SocketAddr>) -> Self {
        Self { peer, place: Some(place) }
    }

    /// Reads the body. Until it is there, the connection may be evicted for others.
    pub(super) async fn read(
        &self,
        headers: &HeaderMap,
        body: Body,
        most: usize,
    ) -> Result<Vec<u8>, Unread> {
        let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let announced = length.and_then(|length| length.parse().ok());
        match &self.place {
            Some(place) => {
                let places = place.places();
                places.bodies.read(body, announced, most, &places.stopping).await
            }
            None => Bodies::default().read(body, announced, most, &CancellationToken::new()).await,
        }
    }

    /// Acquires a permit to be processed, for as long as it is kept.
    pub(super) async fn work(&self) -> Result<Option<Work>, NoPlace> {
        match &self.place {
            Some(place) => place.work(Whom::Door).await.map(Some),
            None => Ok(None),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Visit {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}

impl Unread {
    /// Returns the status of the answer.
    pub(super) const fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Crowded | Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Self::Broken(_) => StatusCode::BAD_REQUEST,
        }
    }
}

impl From<Unread> for Problem {
    fn from(error: Unread) -> Self {
        let kind = match error {
            Unread::TooLarge(_) => "body-too-large",
            Unread::TooSlow => "body-timeout",
            Unread::Crowded => "busy",
            Unread::Stopping => "stopping",
            Unread::Broken(_) => "bad-request",
        };
        Self::new(error.status(), kind, error.to_string())
    }
}

impl From<NoPlace> for Problem {
    fn from(error: NoPlace) -> Self {
        let kind = match error {
            NoPlace::Busy => "busy",
            NoPlace::Stopping => "stopping",
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, error.to_string())
    }
}
