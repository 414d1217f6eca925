//! Authentication of callers: keys that were replaced, sessions that were ended, clocks that are off.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::answer::refusal;
use super::locked;
use super::market::ApiError;
use super::wire::{Call, Signer, Target};
use crate::clock::Clock;

/// The most that the time of a signature may be from AWS's.
const SIGNED_WITHIN: SignedDuration = SignedDuration::from_mins(5);

/// The demands on those who sign; a field that is left out stays as it is.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Demands {
    /// The only keys, and tokens of web identities, that are taken besides those of sessions; every one is where there
    /// is no list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_keys: Option<Vec<String>>,
    /// Keys that are expired from now on, whoever gave them out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_keys: Option<Vec<String>>,
    /// Ends every session that was given out until now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_sessions: Option<SessionEnd>,
    /// The time by which AWS's clock is ahead of the machine's. Signatures of another time are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_ahead: Option<SignedDuration>,
}

/// The way in which a session ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEnd {
    /// As if its time were over.
    Expired,
    /// As whoever revokes a role's sessions does it: everything is denied to those from before.
    Denied,
}

/// The callers that AWS takes.
#[derive(Clone)]
pub(super) struct Trust {
    machine: Clock,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    accepted: Option<BTreeSet<String>>,
    ended: HashMap<String, SessionEnd>,
    ahead: SignedDuration,
}

impl Trust {
    pub(super) fn new(machine: Clock) -> Self {
        Self { machine, state: Arc::default() }
    }

    /// Demands something else from now on, of these sessions among others.
    pub(super) fn demand(&self, demands: Demands, sessions: Vec<String>) {
        let mut state = locked(&self.state);
        if let Some(keys) = demands.accept_keys {
            state.accepted = Some(keys.into_iter().collect());
        }
        let expired = demands.expire_keys.into_iter().flatten();
        state.ended.extend(expired.map(|key| (key, SessionEnd::Expired)));
        if let Some(end) = demands.end_sessions {
            state.ended.extend(sessions.into_iter().map(|key| (key, end)));
        }
        if let Some(ahead) = demands.clock_ahead {
            state.ahead = ahead;
        }
    }

    /// Takes everybody again.
    pub(super) fn reset(&self) {
        *locked(&self.state) = State::default();
    }

    /// Returns AWS's time, where it is not the machine's.
    pub(super) fn date(&self) -> Option<Timestamp> {
        let ahead = locked(&self.state).ahead;
        (!ahead.is_zero()).then(|| self.machine.now() + ahead)
    }

    /// Refuses a caller who is not taken for who they say they are.
    pub(super) fn check(&self, signer: &Signer, call: &Call) -> Result<(), ApiError> {
        let target = call.target;
        let token = call.web_identity();
        if let Some(date) = self.date().filter(|_| token.is_none()) {
            signed_about(signer, date)?;
        }
        let state = locked(&self.state);
        let key = token.unwrap_or(&signer.access_key);
        let invalid = "The security token included in the request is invalid";
        match state.ended.get(key) {
            Some(SessionEnd::Expired) => {
                let code =
                    if target == Target::Sts { "ExpiredToken" } else { "ExpiredTokenException" };
                let message = "The security token included in the request is expired";
                return Err(refusal(403, code, message));
            }
            Some(SessionEnd::Denied) if target != Target::Sts => {
                let message = "not authorized: with an explicit deny in an identity-based policy";
                return Err(refusal(400, "AccessDeniedException", message));
            }
            _ => {}
        }
        let is_session = key.starts_with("ASIA");
        if !is_session && state.accepted.as_ref().is_some_and(|keys| !keys.contains(key)) {
            let code = match target {
                Target::Sts if token.is_some() => "InvalidIdentityToken",
                Target::Sts | Target::Sqs => "InvalidClientTokenId",
                Target::Market(_) => "UnrecognizedClientException",
            };
            return Err(refusal(403, code, invalid));
        }
        Ok(())
    }
}

fn signed_about(signer: &Signer, date: Timestamp) -> Result<(), ApiError> {
    let signed = strtime::parse("%Y%m%dT%H%M%SZ", &signer.signed_at)
        .and_then(|parts| parts.to_datetime())
        .and_then(|at| at.to_zoned(TimeZone::UTC))
        .map(|at| at.timestamp());
    let off = signed.map_or(SignedDuration::MAX, |at| at.duration_since(date));
    if off.abs() <= SIGNED_WITHIN {
        return Ok(());
    }
    let said = if off.is_positive() { "not yet current" } else { "expired" };
    let message = format!("Signature {said}: {} is not about {date}", signer.signed_at);
    Err(refusal(403, "SignatureDoesNotMatch", message))
}
