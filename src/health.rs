//! The health of the parts: one board that the log, the metrics, `/readyz` and the console read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// The health of one part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PartHealth {
    /// Set if its last attempt went well.
    pub ok: bool,
    /// The time since when it has been so.
    pub since: Timestamp,
    /// The last time that it went well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_ok: Option<Timestamp>,
    /// The fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// The health board; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Health {
    parts: Arc<Mutex<BTreeMap<&'static str, PartHealth>>>,
}

impl Health {
    /// Notes how a part's attempt went. A change is logged once; a part that stays as it is says nothing.
    pub fn report(&self, part: &'static str, outcome: Result<(), &str>, now: Timestamp) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let before = parts.get(part);
        let ok = outcome.is_ok();
        let changed = before.is_none_or(|before| before.ok != ok);
        let since = before.filter(|_| !changed).map_or(now, |before| before.since);
        let last_ok = if ok { Some(now) } else { before.and_then(|before| before.last_ok) };
        match outcome {
            Err(detail) if changed => tracing::warn!(part, detail, "{part} is failing"),
            Ok(()) if changed && before.is_some() => tracing::info!(part, "{part} has recovered"),
            _ => {}
        }
        metrics::gauge!("marketd_part_up", "part" => part).set(if ok { 1.0 } else { 0.0 });
        let detail = outcome.err().map(str::to_owned);
        parts.insert(part, PartHealth { ok, since, last_ok, detail });
    }

    /// Returns when a part last went well, if it ever did.
    pub fn last_ok(&self, part: &str) -> Option<Timestamp> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.get(part).and_then(|health| health.last_ok)
    }

    /// Returns when a part last went well, if it is failing; the inner none if it never did.
    pub fn failing(&self, part: &str) -> Option<Option<Timestamp>> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.get(part).filter(|health| !health.ok).map(|health| health.last_ok)
    }

    /// Returns every part that has reported.
    pub fn parts(&self) -> BTreeMap<&'static str, PartHealth> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
