//! Errors as RFC 9457 problem details: a stable type, and a detail that says what to do.

use std::borrow::Cow;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::aws::{AwsError, AwsErrorKind, CredentialsTrouble};
use crate::domain::usage::Rejection;
use crate::store::{
    DirectError, DiscardError, EraseError, ExchangeError, LicensingError, ProvisionError,
    ResolveError, StoreError, UnlinkError,
};

/// The seconds after which a request that cannot be served now is worth another try.
pub(super) const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// An error as the API answers it: problem details.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    kind: Cow<'static, str>,
    detail: String,
    more: Map<String, Value>,
    /// What holds of the field that is at fault, for those who call it otherwise than the API does.
    predicate: Option<String>,
}

impl Problem {
    /// Makes a problem of this kind; `kind` becomes its `type` and never changes once released.
    pub fn new(
        status: StatusCode,
        kind: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
    ) -> Self {
        Self { status, kind: kind.into(), detail: detail.into(), more: Map::new(), predicate: None }
    }

    /// Makes a 400.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }

    /// Makes a 400 over one field of what was sent.
    pub(super) fn bad_field(field: &str, detail: impl Into<String>) -> Self {
        Self::bad_request(detail).with("field", json!(field))
    }

    /// Makes a 400 over one field of what was sent, with what holds of one that is taken: the detail says that of the field.
    pub(super) fn field_is(field: &str, predicate: impl Into<String>) -> Self {
        let predicate = predicate.into();
        let problem = Self::bad_field(field, format!("{field} {predicate}"));
        Self { predicate: Some(predicate), ..problem }
    }

    /// Makes a 404 for a thing of this kind.
    pub fn not_found(what: &str, id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", format!("there is no {what} {id}"))
    }

    /// Makes a 500: a fault of our own, which the log has in full.
    pub fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, "a request failed by a fault of marketd's own");
        let detail = "this is a fault in marketd; the log has the details";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// Names the place in the request that is wrong.
    #[must_use]
    pub(super) fn at(mut self, place: &[String]) -> Self {
        self.detail = format!("{}: {}", place.join("."), self.detail);
        self.with("at", json!(place))
    }

    /// Returns the HTTP status that it is answered with.
    pub(super) const fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns its kind.
    pub(super) fn kind(&self) -> &str {
        &self.kind
    }

    /// Returns what holds of the field that is at fault, if that is known apart from the field.
    pub(super) fn predicate(&self) -> Option<&str> {
        self.predicate.as_deref()
    }

    /// Returns its kind in words.
    pub(super) fn title(&self) -> String {
        self.kind.replace('-', " ")
    }

    /// Returns what happened, to what, and what to do next.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// Returns one of the members that were added, if it can be read as such.
    pub(super) fn member<T: serde::de::DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_value(self.more.get(name)?.clone()).ok()
    }

    /// Returns the field that is at fault, if it is one, by its last name.
    pub(super) fn field(&self) -> Option<&str> {
        let field = self.more.get("field")?.as_str()?;
        // A field of a form that names a key has a colon before it, and the key may have points.
        if field.contains(':') { Some(field) } else { field.rsplit('.').next() }
    }

    /// Returns its type as a code of an item among others, and its detail.
    pub(super) fn into_code(self) -> (String, String) {
        (self.kind.replace('-', "_"), self.detail)
    }

    /// Adds a member.
    #[must_use]
    pub fn with(mut self, member: &str, value: Value) -> Self {
        self.more.insert(member.to_owned(), value);
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.title();
        let mut body = json!({
            "type": format!("urn:marketd:problem:{}", self.kind),
            "title": title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let Some(members) = body.as_object_mut() {
            members.extend(self.more);
        }
        let mut response = (self.status, body.to_string()).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        let media_type = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, media_type);
        response
    }
}

impl From<Rejection> for Problem {
    fn from(Rejection { code, detail, .. }: Rejection) -> Self {
        let status = match code {
            "unknown_customer" | "unknown_feature" => StatusCode::NOT_FOUND,
            "conflicting_duplicate" => StatusCode::CONFLICT,
            code if code.starts_with("invalid_") => StatusCode::BAD_REQUEST,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, code.replace('_', "-"), detail).with("code", json!(code))
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        // The caller can do nothing but try again; the operator reads why in the log, and of what passes on the board.
        if error.is_passing() {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "a request has to wait for the database"
            );
        } else {
            tracing::error!(error = &error as &dyn std::error::Error, "the store failed a request");
        }
        let detail = match error.to_be_mended() {
            Some(how) => format!(
                "nothing was changed, and nothing can be until a person mends the database: {how}"
            ),
            None => "the database could not do this now; nothing was changed, try again".to_owned(),
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "store-unavailable", detail)
    }
}

impl From<AwsError> for Problem {
    fn from(error: AwsError) -> Self {
        let detail = error.to_string();
        match error.kind {
            AwsErrorKind::Throttled => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "aws-unavailable",
                format!("AWS is asked too often at the moment, try again: {detail}"),
            ),
            AwsErrorKind::Unsent | AwsErrorKind::Unanswered => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "aws-unavailable",
                format!("AWS did not answer, try again: {detail}"),
            ),
            AwsErrorKind::AccessDenied => Self::new(
                StatusCode::BAD_GATEWAY,
                "aws-access-denied",
                format!(
                    "the role lacks a permission (`marketd integration iam-policy` lists all of them): {detail}"
                ),
            ),
            AwsErrorKind::Credentials(CredentialsTrouble::Removed) => {
                Self::new(StatusCode::CONFLICT, "not-connected", error.message)
            }
            AwsErrorKind::Credentials(_) => {
                Self::new(StatusCode::BAD_GATEWAY, "aws-credentials", detail)
            }
            AwsErrorKind::Refused if error.code().contains("NotFound") => {
                Self::new(StatusCode::NOT_FOUND, "not-found", detail)
            }
            AwsErrorKind::Refused => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "aws-refused", detail)
            }
        }
    }
}

impl From<DirectError> for Problem {
    fn from(error: DirectError) -> Self {
        let detail = error.to_string();
        let conflict = |kind| Self::new(StatusCode::CONFLICT, kind, detail.clone());
        match error {
            DirectError::UnknownSubscription(_)
            | DirectError::UnknownCustomer(_)
            | DirectError::UnknownPlan(_) => Self::new(StatusCode::NOT_FOUND, "not-found", detail),
            DirectError::SoldByAws(_) | DirectError::BoughtOnAws(_) => conflict("sold-by-aws"),
            DirectError::Archived(_) => conflict("plan-archived"),
            DirectError::OtherCustomer { .. } => conflict("id-taken"),
            DirectError::Over(_) => conflict("subscription-over"),
            DirectError::EndsBeforeItBegins { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-dates", detail)
            }
            DirectError::Store(error) => error.into(),
        }
    }
}

impl From<ProvisionError> for Problem {
    fn from(error: ProvisionError) -> Self {
        let detail = error.to_string();
        match error {
            ProvisionError::IdentityTaken { kind, value, holder } => {
                Self::new(StatusCode::CONFLICT, "aws-id-taken", detail)
                    .with("field", json!(kind))
                    .with("value", json!(value))
                    .with("customer_id", json!(holder))
            }
            ProvisionError::SecondAccount { .. } => {
                Self::new(StatusCode::CONFLICT, "second-account", detail)
            }
            ProvisionError::SecondBuyer { .. } => {
                Self::new(StatusCode::CONFLICT, "second-legacy-buyer", detail)
            }
            ProvisionError::Reserved(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "customer-id-reserved", detail)
            }
            ProvisionError::Alias { customer, .. } => {
                Self::new(StatusCode::CONFLICT, "customer-id-merged", detail)
                    .with("customer_id", json!(customer))
            }
            ProvisionError::Store(error) => error.into(),
        }
    }
}

impl From<EraseError> for Problem {
    fn from(error: EraseError) -> Self {
        let detail = error.to_string();
        match error {
            EraseError::Unknown(_) => Self::new(StatusCode::NOT_FOUND, "not-found", detail),
            EraseError::Subscribed { subscriptions, .. } => {
                Self::new(StatusCode::CONFLICT, "subscriptions-live", detail)
                    .with("subscriptions", json!(subscriptions))
            }
            EraseError::Store(error) => error.into(),
        }
    }
}

impl From<UnlinkError> for Problem {
    fn from(error: UnlinkError) -> Self {
        let detail = error.to_string();
        match error {
            UnlinkError::Unknown(_) => Self::new(StatusCode::NOT_FOUND, "not-found", detail),
            UnlinkError::Unclaimed(_) => Self::new(StatusCode::CONFLICT, "not-claimed", detail),
            UnlinkError::Store(error) => error.into(),
        }
    }
}

impl From<ExchangeError> for Problem {
    fn from(error: ExchangeError) -> Self {
        let detail = error.to_string();
        match error {
            ExchangeError::Unknown(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "reference-unknown", detail)
            }
            ExchangeError::Used(_) => Self::new(StatusCode::GONE, "reference-used", detail),
            ExchangeError::Provision(error) => error.into(),
            ExchangeError::Store(error) => error.into(),
        }
    }
}

impl From<ResolveError> for Problem {
    fn from(error: ResolveError) -> Self {
        let detail = error.to_string();
        match error {
            ResolveError::Unknown(_) => Self::new(StatusCode::NOT_FOUND, "not-found", detail),
            ResolveError::NotParked { .. } => Self::new(StatusCode::CONFLICT, "not-parked", detail),
            ResolveError::MaybeHonoured(_) => {
                Self::new(StatusCode::CONFLICT, "outcome-unknown", detail)
            }
            ResolveError::NeverFrozen(_) => Self::new(StatusCode::CONFLICT, "never-frozen", detail),
            ResolveError::OtherForm(_) => {
                Self::new(StatusCode::CONFLICT, "metered-in-other-form", detail)
            }
            ResolveError::OutOfTime { .. } => {
                Self::new(StatusCode::CONFLICT, "out-of-time", detail)
            }
            ResolveError::SubscriptionEnded { .. } | ResolveError::NamesEnded { .. } => {
                Self::new(StatusCode::CONFLICT, "subscription-ended", detail)
            }
            ResolveError::Store(error) => error.into(),
        }
    }
}

impl From<DiscardError> for Problem {
    fn from(error: DiscardError) -> Self {
        let detail = error.to_string();
        match error {
            DiscardError::Unknown(_) => Self::new(StatusCode::NOT_FOUND, "not-found", detail),
            DiscardError::NotQuarantined { .. } => {
                Self::new(StatusCode::CONFLICT, "not-quarantined", detail)
            }
            DiscardError::Store(error) => error.into(),
        }
    }
}

impl From<LicensingError> for Problem {
    fn from(error: LicensingError) -> Self {
        let detail = error.to_string();
        match error {
            LicensingError::UnknownProduct(_) => {
                Self::new(StatusCode::NOT_FOUND, "not-found", detail)
            }
            LicensingError::TooEarly { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "too-early", detail)
            }
            LicensingError::Done { .. } | LicensingError::SoldByLicense(_) => {
                Self::new(StatusCode::CONFLICT, "already-licensed", detail)
            }
            LicensingError::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ErrorKind;

    #[test]
    fn a_database_that_a_person_has_to_mend_is_said_with_how() {
        let refused = |kind| {
            Problem::from(StoreError::Commit { reason: "put it back by INSERT".into(), kind })
        };
        let (stuck, away) = (refused(ErrorKind::Stuck), refused(ErrorKind::Passing));
        assert!(stuck.detail.contains("until a person") && stuck.detail.contains("by INSERT"));
        assert!(away.detail.contains("try again") && !away.detail.contains("INSERT"));
        assert_eq!(stuck.status, StatusCode::SERVICE_UNAVAILABLE);
    }
}
