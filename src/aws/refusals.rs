//! Backing off from AWS's refusals of who we are: for the identity, not for each call.
//!
//! Pure but for the clock of its pauses. While an identity is refused every call ends with what AWS said, unsent, until
//! somebody has asked AWS again. Where AWS knows the identity and one operation refuses it all the same, that operation
//! alone is held back.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::AwsError;

/// The pauses before AWS is asked again; the last goes on. What AWS takes again is noticed within ten seconds.
const PAUSES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(7),
];

/// The interval at which a new session may show whether a denial was of the old one only.
const DENIAL_DOUBTED_EVERY: Duration = Duration::from_secs(60);

/// The decision whether a call may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It may.
    Open,
    /// It may, as the one that finds out whether its operation takes us again.
    Probing,
    /// Not before AWS was asked whether it knows us again, for which it is time.
    AfterAsking,
    /// Not now: AWS said this.
    Closed(AwsError),
}

/// The standing of an identity with AWS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// AWS's refusal, while it refuses the identity.
    pub refused: Option<AwsError>,
    /// Its refusals where only some operations refuse the identity.
    pub operations: Vec<AwsError>,
    /// The time to ask again.
    pub next: Option<Instant>,
}

/// The refusals in force.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    state: Mutex<State>,
    changes: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    whole: Option<Refusal>,
    operations: BTreeMap<&'static str, (u64, Refusal)>,
    /// The credentials that AWS has answered to last.
    known: u64,
    doubted: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Refusal {
    error: AwsError,
    tries: usize,
    next: Instant,
}

impl Refusal {
    fn after(before: Option<&Self>, error: AwsError) -> Self {
        let tries = before.map_or(0, |before| before.tries + 1);
        let pause = PAUSES.get(tries).or(PAUSES.last()).copied().unwrap_or_default();
        Self { error, tries, next: Instant::now() + pause }
    }
}

impl Refusals {
    /// Returns AWS's refusal, if calls of an operation may not be sent now.
    pub(super) fn closed(&self, operation: &'static str) -> Option<AwsError> {
        let state = self.state();
        let refusal = state.whole.as_ref();
        let refusal = refusal.or_else(|| state.operations.get(operation).map(|(_, it)| it))?;
        let is_closed = refusal.next > Instant::now();
        is_closed.then(|| AwsError { operation, ..refusal.error.clone() })
    }

    /// Decides whether a call may be sent now. Whoever is told to probe has to.
    pub(super) fn admit(&self, operation: &'static str) -> Admission {
        if let Some(error) = self.closed(operation) {
            return Admission::Closed(error);
        }
        let mut state = self.state();
        if state.whole.is_some() {
            return Admission::AfterAsking;
        }
        match state.operations.get_mut(operation) {
            None => Admission::Open,
            Some((_, refusal)) => {
                // Others wait for what becomes of this one.
                *refusal = Refusal::after(Some(refusal), refusal.error.clone());
                Admission::Probing
            }
        }
    }

    /// Notes that AWS does not know this identity.
    pub(super) fn refuse(&self, error: AwsError) {
        let mut state = self.state();
        state.whole = Some(Refusal::after(state.whole.as_ref(), error));
        drop(state);
        self.changes.send_replace(());
    }

    /// Notes that this operation refuses an identity that AWS knows, or cannot be asked about.
    pub(super) fn refuse_operation(&self, error: AwsError, generation: u64) {
        let mut state = self.state();
        let operation = error.operation;
        let before = state.operations.get(operation).map(|(_, refusal)| refusal);
        let refusal = Refusal::after(before, error);
        state.operations.insert(operation, (generation, refusal));
        drop(state);
        self.changes.send_replace(());
    }

    /// Notes that an operation has answered to these credentials as to somebody it knows.
    pub(super) fn answered(&self, operation: &'static str, generation: u64) {
        let mut state = self.state();
        state.known = state.known.max(generation);
        if state.operations.is_empty() {
            return;
        }
        // What refused others than these may take these.
        state.operations.retain(|name, (refused, _)| *name != operation && *refused >= generation);
        drop(state);
        self.changes.send_replace(());
    }

    /// Decides whether a denial may be doubted, which takes a new session: one that holds for new ones too is not,
    /// again and again.
    pub(super) fn doubt_denial(&self) -> bool {
        let mut state = self.state();
        let may = state.doubted.is_none_or(|at| at.elapsed() > DENIAL_DOUBTED_EVERY);
        if may {
            state.doubted = Some(Instant::now());
        }
        may
    }

    /// Notes that AWS knows this identity again.
    pub(super) fn lift(&self) {
        let mut state = self.state();
        state.whole = None;
        state.operations.clear();
        drop(state);
        self.changes.send_replace(());
    }

    /// Reports whether AWS has answered to these credentials, or to later ones.
    pub(super) fn has_answered(&self, generation: u64) -> bool {
        self.state().known >= generation
    }

    pub(super) fn standing(&self) -> Standing {
        let state = self.state();
        let refusals = state.whole.iter().chain(state.operations.values().map(|(_, it)| it));
        Standing {
            next: refusals.map(|refusal| refusal.next).min(),
            refused: state.whole.as_ref().map(|refusal| refusal.error.clone()),
            operations: state.operations.values().map(|(_, it)| it.error.clone()).collect(),
        }
    }

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::{AwsErrorKind, CredentialsTrouble};

    fn error(operation: &'static str) -> AwsError {
        let kind = AwsErrorKind::Credentials(CredentialsTrouble::Rejected);
        AwsError { operation, kind, code: None, message: "refused".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn an_identity_is_asked_about_a_few_times_and_never_later_than_ten_seconds() {
        let refusals = Refusals::default();
        refusals.refuse(error("A"));
        let begun = Instant::now();
        let mut asked = 0;
        let mut last = begun;
        while begun.elapsed() < Duration::from_secs(90) {
            tokio::time::advance(Duration::from_millis(100)).await;
            match refusals.admit("B") {
                Admission::Closed(said) => assert_eq!(said.operation, "B"),
                Admission::AfterAsking => {
                    assert!(last.elapsed() < Duration::from_secs(8));
                    last = Instant::now();
                    asked += 1;
                    refusals.refuse(error("A"));
                }
                other => panic!("{other:?}"),
            }
        }
        assert!((10..20).contains(&asked), "{asked}");
        refusals.lift();
        assert_eq!(refusals.admit("B"), Admission::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn an_operation_that_alone_refuses_holds_up_no_other() {
        let refusals = Refusals::default();
        refusals.refuse_operation(error("A"), 2);
        assert_eq!(refusals.admit("A"), Admission::Closed(error("A")));
        assert_eq!(refusals.admit("B"), Admission::Open);
        tokio::time::advance(PAUSES[0]).await;
        assert_eq!(refusals.admit("A"), Admission::Probing);
        assert_eq!(refusals.admit("A"), Admission::Closed(error("A")), "one finds out for all");
        refusals.answered("B", 2);
        assert_eq!(refusals.admit("A"), Admission::Closed(error("A")), "B says nothing of A");
        refusals.answered("B", 3);
        assert_eq!(refusals.admit("A"), Admission::Open, "others than these were refused");
    }
}
