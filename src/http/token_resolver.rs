//! Resolution of registration tokens, from the redirect or the API: AWS is asked who the buyer is, and refusals are
//! counted, logged and shown, without the token.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;

use super::ApiState;
use super::admission;
use super::refused_tokens::{RefusedTokens, Verdict};
use crate::aws::{Asking, AwsError, RegistrationError, is_possible_token, resolve_customer};
use crate::domain::counted::{agreeing, counted};
use crate::domain::event::EventType;
use crate::domain::event::data::RegistrationRefused;
use crate::domain::{ProductCode, Registration};
use crate::store::StoreError;
use crate::turns::{Line, Source};

/// The least time between two log lines or events for one reason.
const REPORT_INTERVAL: SignedDuration = SignedDuration::from_mins(1);
/// The time for which refusals are shown as a problem.
const SHOWN_FOR: SignedDuration = SignedDuration::from_hours(24);

/// The way by which a buyer arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    /// At the redirect, from this source.
    Redirect(Source),
    /// By the API.
    Api,
}

impl Via {
    const fn label(self) -> &'static str {
        match self {
            Self::Redirect(_) => "door",
            Self::Api => "api",
        }
    }

    /// Returns the time to wait for a turn to ask AWS: a person is waiting at the redirect.
    const fn turn_timeout(self) -> Duration {
        match self {
            Self::Redirect(_) => Duration::from_secs(5),
            Self::Api => Duration::from_secs(20),
        }
    }
}

/// The reason why a buyer is refused.
#[derive(Debug)]
pub(super) enum Refused {
    /// The token has expired.
    Expired,
    /// AWS does not know the token.
    Unknown,
    /// Too many buyers are waiting.
    Busy,
    /// The product was never imported.
    NotImported(ProductCode),
    /// AWS could not be asked.
    Aws(AwsError),
    /// The store failed.
    Store(StoreError),
}

impl Refused {
    const fn label(&self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Unknown => "unknown",
            Self::Busy => "busy",
            Self::NotImported(_) => "product_not_imported",
            Self::Aws(_) => "aws",
            Self::Store(_) => "store",
        }
    }
}

impl From<Verdict> for Refused {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Unknown => Self::Unknown,
            Verdict::Expired => Self::Expired,
        }
    }
}

impl From<RegistrationError> for Refused {
    fn from(error: RegistrationError) -> Self {
        match error {
            RegistrationError::Expired => Self::Expired,
            RegistrationError::Unknown => Self::Unknown,
            RegistrationError::Busy => Self::Busy,
            RegistrationError::Aws(error) => Self::Aws(error),
        }
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The state of arriving buyers, kept for as long as the program runs.
#[derive(Debug)]
pub struct Arrivals {
    /// The proxies whose `X-Forwarded-For` is trusted.
    pub(super) trusted_proxies: Vec<IpAddr>,
    /// The queue of buyers at the redirect whom AWS is to be asked about: one at a time has the next turn.
    line: Line,
    refused_tokens: RefusedTokens,
    refusals: Mutex<BTreeMap<&'static str, Refusals>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Refusals {
    count: u64,
    last_at: Timestamp,
    reported_at: Option<Timestamp>,
}

impl Arrivals {
    /// Makes the state before anybody arrived, for this many connections.
    pub fn new(trusted_proxies: Vec<IpAddr>, connections: usize) -> Self {
        // Those who wait leave room at the doors for those whose turn it is.
        let line = Line::new(1, admission::public_requests_max(connections) / 2);
        let (refused_tokens, refusals) = <(RefusedTokens, Mutex<_>)>::default();
        Self { trusted_proxies, line, refused_tokens, refusals }
    }

    /// Counts a refusal, and returns the count if it is time to report it again.
    fn count_refusal(
        &self,
        reason: &'static str,
        via: &'static str,
        now: Timestamp,
    ) -> Option<u64> {
        metrics::counter!("marketd_registrations_refused_total", "reason" => reason, "via" => via)
            .increment(1);
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let it = refusals.entry(reason).or_default();
        it.count += 1;
        it.last_at = now;
        if it.reported_at.is_some_and(|reported| now.duration_since(reported) < REPORT_INTERVAL) {
            return None;
        }
        it.reported_at = Some(now);
        Some(it.count)
    }

    /// Returns the problems that the operator should know of.
    pub(super) fn problems(&self, now: Timestamp) -> Vec<String> {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = refusals.iter().filter(|(_, it)| now.duration_since(it.last_at) < SHOWN_FOR);
        lately
            .map(|(reason, it)| {
                format!(
                    "{} {} refused at sign-up ({reason}), the last at {}: {}",
                    counted(it.count, "buyer"),
                    agreeing(it.count, "was", "were"),
                    it.last_at,
                    advice(reason)
                )
            })
            .collect()
    }
}

fn advice(reason: &str) -> &'static str {
    match reason {
        "expired" => "they get a new token with \"Set up your account\" on AWS Marketplace",
        "unknown" => {
            "AWS does not know their tokens: is the integration that of the account that publishes the product?"
        }
        "product_not_imported" => "`marketd listing list` shows what is not imported",
        "busy" => {
            "more came than AWS may be asked about; behind a proxy, http.trusted_proxies tells them apart"
        }
        "not_set_up" => "set registration.redirect_url to your sign-up page",
        "no_token" => "what came was no sign-up from AWS Marketplace",
        _ => "the log says why",
    }
}

/// Asks AWS who the buyer is. An unknown buyer, or one from a product that was never imported, is refused.
pub(super) async fn resolve_token(
    state: &ApiState,
    via: Via,
    token: &SecretString,
) -> Result<Registration, Refused> {
    let resolved = ask_aws(state, via, token).await;
    if let Err(refused) = &resolved {
        let now = state.clock.now();
        if let Some(count) = state.arrivals.count_refusal(refused.label(), via.label(), now) {
            report_refusal(state, via, refused, count, now).await?;
        }
    }
    resolved
}

/// Counts a request without a token.
pub(super) fn count_missing_token(state: &ApiState) {
    if let Some(count) = state.arrivals.count_refusal("no_token", "door", state.clock.now()) {
        tracing::warn!(count, "somebody came to /aws/register without a token");
    }
}

/// Counts a buyer who came while no redirect URL is set.
pub(super) fn count_missing_redirect_url(state: &ApiState) {
    if let Some(count) = state.arrivals.count_refusal("not_set_up", "door", state.clock.now()) {
        tracing::warn!(
            count,
            "a buyer came to /aws/register, and registration.redirect_url is not set"
        );
    }
}

async fn ask_aws(
    state: &ApiState,
    via: Via,
    token: &SecretString,
) -> Result<Registration, Refused> {
    if !is_possible_token(token) {
        return Err(Refused::Unknown);
    }
    let clients = state.aws.clients();
    let resolved = match via {
        Via::Api => {
            let turn = Asking::Api.turn_within(&clients, via.turn_timeout()).await?;
            resolve_customer(&clients, Asking::Api, turn, token).await?
        }
        Via::Redirect(source) => {
            let Arrivals { line, refused_tokens, .. } = &state.arrivals;
            if let Some(verdict) = refused_tokens.verdict(token) {
                return Err(verdict.into());
            }
            let turn = tokio::select! {
                () = state.stopping.cancelled() => None,
                turn = tokio::time::timeout(via.turn_timeout(), line.turn(source)) => turn.ok().flatten(),
            };
            let next = turn.ok_or(Refused::Busy)?;
            let turn = Asking::Door.turn_within(&clients, via.turn_timeout()).await?;
            drop(next);
            let resolved = resolve_customer(&clients, Asking::Door, turn, token).await;
            match &resolved {
                Err(RegistrationError::Unknown) => {
                    line.wasted(source);
                    refused_tokens.remember(token, Verdict::Unknown);
                }
                Err(RegistrationError::Expired) => refused_tokens.remember(token, Verdict::Expired),
                _ => {}
            }
            resolved?
        }
    };
    if state.store.product_of_code(resolved.product_code.clone()).await?.is_none() {
        return Err(Refused::NotImported(resolved.product_code));
    }
    Ok(resolved)
}

/// Reports a refusal, in the log and, where the seller can do something, as an event.
async fn report_refusal(
    state: &ApiState,
    via: Via,
    refused: &Refused,
    count: u64,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (reason, via) = (refused.label(), via.label());
    match refused {
        Refused::Aws(error) => {
            tracing::warn!(%error, via, count, "a buyer's token could not be resolved");
        }
        Refused::NotImported(code) => {
            tracing::warn!(product.code = %code, via, count, "a buyer came from a product that is not imported");
        }
        Refused::Store(error) => {
            tracing::error!(
                error = error as &dyn std::error::Error,
                "a buyer could not be taken in"
            );
        }
        Refused::Expired | Refused::Unknown | Refused::Busy => {
            tracing::warn!(reason, via, count, "a buyer was refused");
        }
    }
    let product_code = match refused {
        Refused::NotImported(code) => Some(code),
        Refused::Expired | Refused::Unknown | Refused::Busy => None,
        Refused::Aws(_) | Refused::Store(_) => return Ok(()),
    };
    let data = RegistrationRefused { reason, via, count, product_code };
    state.store.tell(EventType::RegistrationRefused, &data, now).await
}
