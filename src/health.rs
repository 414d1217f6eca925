//! The health of the parts: one board that the log, the metrics, `/readyz` and the console read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
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
    parts: Arc<Mutex<BTreeMap<&'static str, Reported>>>,
}

/// A part that has reported.
#[derive(Debug)]
struct Reported {
    health: PartHealth,
    /// The time at which the log last said how it stands.
    said_at: Timestamp,
}

/// The interval at which the log says again that a part is failing still.
const SAID_AGAIN: SignedDuration = SignedDuration::from_mins(10);

impl Health {
    /// Notes how a part's attempt went. A change is logged once, and that a part is failing still every few minutes.
    pub fn report(&self, part: &'static str, outcome: Result<(), &str>, now: Timestamp) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let reported = parts.get(part);
        let before = reported.map(|it| &it.health);
        let ok = outcome.is_ok();
        let changed = before.is_none_or(|before| before.ok != ok);
        let since = before.filter(|_| !changed).map_or(now, |before| before.since);
        let last_ok = if ok { Some(now) } else { before.and_then(|before| before.last_ok) };
        let said = reported.map(|it| it.said_at).filter(|_| !changed);
        // A clock that was set back waits for no time that has been.
        let is_quiet = said.is_some_and(|said| now.duration_since(said).abs() < SAID_AGAIN);
        match outcome {
            Err(detail) if changed => tracing::warn!(part, detail, "{part} is failing"),
            Err(detail) if !is_quiet => {
                tracing::warn!(part, detail, %since, "{part} is failing still");
            }
            Ok(()) if changed && before.is_some() => tracing::info!(part, "{part} has recovered"),
            _ => {}
        }
        metrics::gauge!("marketd_part_up", "part" => part).set(if ok { 1.0 } else { 0.0 });
        let detail = outcome.err().map(str::to_owned);
        let said_at = said.filter(|_| is_quiet).unwrap_or(now);
        let health = PartHealth { ok, since, last_ok, detail };
        parts.insert(part, Reported { health, said_at });
    }

    /// Takes parts off the board that somebody else works for from now on: how they stood says nothing any more.
    pub fn leave_to_others(&self, left: &[&str]) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.retain(|part, _| !left.contains(part));
    }

    /// Returns when a part last went well, if it ever did.
    pub fn last_ok(&self, part: &str) -> Option<Timestamp> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.get(part).and_then(|it| it.health.last_ok)
    }

    /// Returns when a part last went well, if it is failing; the inner none if it never did.
    pub fn failing(&self, part: &str) -> Option<Option<Timestamp>> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.get(part).filter(|it| !it.health.ok).map(|it| it.health.last_ok)
    }

    /// Returns every part that has reported.
    pub fn parts(&self) -> BTreeMap<&'static str, PartHealth> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.iter().map(|(part, it)| (*part, it.health.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::captured_log::CapturedLog;

    #[test]
    fn what_is_left_to_others_is_not_failing_here() {
        let (health, now) = (Health::default(), Timestamp::UNIX_EPOCH);
        health.report("entitlements", Err("away"), now);
        health.report("database", Err("away"), now);
        health.leave_to_others(&["entitlements", "metering"]);
        assert!(health.failing("entitlements").is_none());
        assert_eq!(health.parts().into_keys().collect::<Vec<_>>(), ["database"]);
    }

    #[test]
    fn what_goes_on_failing_is_said_again_every_few_minutes() {
        let log = CapturedLog::default();
        let health = Health::default();
        let begun: Timestamp = "2026-11-10T09:00:00Z".parse().unwrap();
        let at = |minutes: i64| begun + SignedDuration::from_mins(minutes);
        log.during(|| {
            // (when, how it went, how many lines there are then)
            let rows = [
                (0, Ok(()), 0),
                (1, Err("gone"), 1),
                (2, Err("gone"), 1),
                (10, Err("gone"), 1),
                (11, Err("gone"), 2),
                (20, Err("gone"), 2),
                (21, Err("gone"), 3),
                (22, Ok(()), 4),
                (40, Ok(()), 4),
                (41, Err("gone"), 5),
                // A clock that was set back.
                (-500, Err("gone"), 6),
                (-499, Err("gone"), 6),
            ];
            for (minute, outcome, lines) in rows {
                health.report("part", outcome, at(minute));
                assert_eq!(log.text().lines().count(), lines, "at minute {minute}");
            }
        });
    }
}
