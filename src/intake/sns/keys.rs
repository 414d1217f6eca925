//! The keys that messages are verified with: fetched once each, a few at a time. Anybody may name addresses that have none;
//! a message of AWS's does not wait behind those.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use reqwest::Url;
use tokio::sync::Mutex as Turn;

use super::Refusal;
use super::certificate::{Host, SigningKey, signing_key};
use super::fetch::Fetch;
use crate::turns::{Line, Source};

/// The most keys that are kept; AWS changes its own once in years.
const KEYS: usize = 16;
/// The most fetches under way at once.
const FETCHES: usize = 4;
/// The most callers that may wait for one.
const WAITING: usize = 16;
/// The time for which an address that gave no key is not asked again.
const BAD_FOR: SignedDuration = SignedDuration::from_secs(10);

/// The outcome of fetching the key at an address.
type Held = Option<Result<SigningKey, (Refusal, Timestamp)>>;

/// An address, and the turn of the one who asks it; others wait for what comes of that.
struct Slot {
    url: Url,
    held: Turn<Held>,
}

impl Slot {
    fn is_good(&self) -> bool {
        self.held.try_lock().is_ok_and(|held| matches!(*held, Some(Ok(_))))
    }
}

pub(super) struct Keys {
    fetch: Arc<dyn Fetch>,
    fetches: Line,
    /// The slots, the oldest first.
    slots: Mutex<VecDeque<Arc<Slot>>>,
}

impl Keys {
    pub(super) fn new(fetch: Arc<dyn Fetch>) -> Self {
        Self { fetch, fetches: Line::new(FETCHES, WAITING), slots: Mutex::default() }
    }

    /// Returns the key that lies at an address.
    pub(super) async fn key(
        &self,
        url: &Url,
        host: &Host<'_>,
        source: Source,
        now: Timestamp,
    ) -> Result<SigningKey, Refusal> {
        let slot = self.slot(url);
        let mut held = slot.held.lock().await;
        match &*held {
            Some(Ok(key)) if now < key.good_until => return Ok(key.clone()),
            Some(Err((refusal, until))) if now < *until => return Err(refusal.clone()),
            _ => {}
        }
        let Some(turn) = self.fetches.turn(source).await else {
            let said = "too many certificates are asked for at once".into();
            return Err(Refusal::Unreachable(said));
        };
        let key = self.fetched(url, host, now).await;
        // Known before the next one is chosen.
        if matches!(key, Err(Refusal::Forged(_))) {
            self.fetches.wasted(source);
        }
        drop(turn);
        *held = Some(key.clone().map_err(|refusal| (refusal, now + BAD_FOR)));
        key
    }

    async fn fetched(
        &self,
        url: &Url,
        host: &Host<'_>,
        now: Timestamp,
    ) -> Result<SigningKey, Refusal> {
        signing_key(&self.fetch.fetch(url).await?, host, now)
    }

    fn slot(&self, url: &Url) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.iter().find(|slot| slot.url == *url) {
            return Arc::clone(slot);
        }
        if slots.len() >= KEYS {
            // Addresses that somebody made up do not drive out a key that is in use.
            let oldest = slots.iter().position(|slot| !slot.is_good()).unwrap_or(0);
            slots.remove(oldest);
        }
        let slot = Arc::new(Slot { url: url.clone(), held: Turn::default() });
        slots.push_back(Arc::clone(&slot));
        slot
    }
}
