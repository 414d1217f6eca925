//! A cache of tokens that AWS has refused, so that it is not asked about them again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

/// The most tokens that are remembered.
const TOKENS: usize = 10_000;
/// The time for which a token is remembered: a change of the role may change AWS's answer.
const KEPT: Duration = Duration::from_secs(60);

/// AWS's verdict on a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Unknown,
    Expired,
}

/// The refused tokens, kept as hashes only.
#[derive(Debug, Default)]
pub(super) struct RefusedTokens(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    verdicts: HashMap<[u8; 32], (Verdict, Instant)>,
    /// The hashes, the oldest first.
    order: VecDeque<[u8; 32]>,
}

fn hash(token: &SecretString) -> [u8; 32] {
    Sha256::digest(token.expose_secret()).into()
}

impl RefusedTokens {
    pub(super) fn verdict(&self, token: &SecretString) -> Option<Verdict> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (verdict, until) = held.verdicts.get(&hash(token))?;
        (Instant::now() < *until).then_some(*verdict)
    }

    pub(super) fn remember(&self, token: &SecretString, verdict: Verdict) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (hash, until) = (hash(token), Instant::now() + KEPT);
        if held.verdicts.insert(hash, (verdict, until)).is_none() {
            held.order.push_back(hash);
        }
        if held.order.len() > TOKENS
            && let Some(oldest) = held.order.pop_front()
        {
            held.verdicts.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_verdict_is_kept_for_a_while_and_so_many_at_most() {
        let tokens = RefusedTokens::default();
        let token = |number: usize| SecretString::from(format!("token-{number}"));
        tokens.remember(&token(0), Verdict::Expired);
        assert_eq!(tokens.verdict(&token(0)), Some(Verdict::Expired));
        assert_eq!(tokens.verdict(&token(1)), None);
        tokio::time::advance(KEPT).await;
        assert_eq!(tokens.verdict(&token(0)), None);
        for number in 0..TOKENS + 5 {
            tokens.remember(&token(number), Verdict::Unknown);
            tokens.remember(&token(number), Verdict::Unknown);
        }
        let held = tokens.0.lock().unwrap();
        assert_eq!((held.verdicts.len(), held.order.len()), (TOKENS, TOKENS));
    }
}
