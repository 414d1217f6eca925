//! Calls to AWS: each in its turn, with credentials that AWS takes.
//!
//! What AWS refuses because of who we are was not done. So credentials are loaded anew and the very same call is made once
//! more at once; if those are refused too, the identity backs off (`refusals`), and AWS is asked now and then whether it
//! knows us again.

use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use tokio::sync::watch;

use super::credentials::{LoadError, Loaded};
use super::identity::{GET_CALLER_IDENTITY, caller_of};
use super::refusals::{Admission, Standing};
use super::{AwsClients, AwsError, AwsErrorKind, RateLimit, Turn};

/// The place of a call in the turns of its operation.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// There are none: whoever calls sees to it that AWS is not asked too often.
    Apart,
    /// Its turn has come.
    First(Turn<'a>),
    /// It waits for its turn.
    Last(&'a RateLimit),
}

/// A session younger than this was not ended by whoever ended the sessions before it.
const YOUNG: Duration = Duration::from_secs(60);

impl AwsClients {
    /// Makes a call when it may be made, and notes how it went.
    pub async fn call<T, E, F>(
        &self,
        place: Place<'_>,
        operation: &'static str,
        send: impl Fn() -> F + Send + Sync,
    ) -> Result<T, AwsError>
    where
        T: Send,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>> + Send,
    {
        let turn = match place {
            Place::Apart => None,
            Place::First(turn) => Some(turn),
            Place::Last(rate) => {
                // Whoever may not call takes no turn from others.
                self.not_closed(operation)?;
                Some(rate.acquire().await)
            }
        };
        let loaded = self.admitted(operation).await?;
        // The SDK's futures are large, and whoever waits for one would be as large.
        let outcome = self.noted(turn, operation, Box::pin(send()).await);
        let refused = match self.heard(operation, &loaded, outcome) {
            Err(error) if self.may_mend(&error, &loaded) => error,
            outcome => return outcome,
        };
        let renewed = self.renewed(refused, &loaded).await?;
        let outcome = self.noted(turn, operation, Box::pin(send()).await);
        match self.heard(operation, &renewed, outcome) {
            Err(error) if error.is_of_identity() => Err(self.backed_off(error, &renewed).await),
            outcome => outcome,
        }
    }

    /// Reports whether other credentials may be taken where these were not. AWS ends the sessions of a role that
    /// somebody revokes by denying everything to those from before that moment.
    fn may_mend(&self, error: &AwsError, loaded: &Loaded) -> bool {
        let denied = error.kind == AwsErrorKind::AccessDenied
            && loaded.origin.is_session
            && error.message.contains("explicit deny");
        error.is_of_identity() || denied && self.refusals.doubt_denial()
    }

    /// Notes that AWS has answered to these credentials as to somebody it knows, if it has.
    fn heard<T>(
        &self,
        operation: &'static str,
        loaded: &Loaded,
        outcome: Result<T, AwsError>,
    ) -> Result<T, AwsError> {
        let known = outcome.as_ref().err().is_none_or(|error| {
            matches!(error.kind, AwsErrorKind::AccessDenied | AwsErrorKind::Refused)
                && error.code.is_some()
        });
        if known {
            self.refusals.answered(operation, loaded.generation);
        }
        outcome
    }

    fn not_closed(&self, operation: &'static str) -> Result<(), AwsError> {
        self.refusals.closed(operation).map_or(Ok(()), Err)
    }

    /// Returns the credentials that a call is signed with, unless none may be sent now.
    async fn admitted(&self, operation: &'static str) -> Result<Loaded, AwsError> {
        match self.refusals.admit(operation) {
            Admission::Closed(error) => return Err(error),
            Admission::AfterAsking => {
                self.ask_again().await.map_err(|error| AwsError { operation, ..error })?;
            }
            Admission::Probing => {
                let loaded = self.current(operation).await?;
                // Others may be there by now; those that AWS has just given out are not asked for again.
                if loaded.age() > YOUNG || !self.refusals.has_answered(loaded.generation) {
                    let renewed = self.credentials.renew(loaded.generation).await;
                    return renewed.map_err(|error| self.unloaded(operation, &error));
                }
            }
            Admission::Open => {}
        }
        self.current(operation).await
    }

    async fn current(&self, operation: &'static str) -> Result<Loaded, AwsError> {
        self.credentials.current().await.map_err(|error| self.unloaded(operation, &error))
    }

    /// Notes that credentials could not be had, and backs off where AWS or the machine has said so.
    fn unloaded(&self, operation: &'static str, error: &LoadError) -> AwsError {
        let error = AwsError::of_load(operation, error);
        self.calls.failed(&error);
        // Whoever has nothing to sign with finds out no sooner for asking at each call.
        if error.is_of_identity() || error.kind == AwsErrorKind::Unsent {
            self.refusals.refuse(error.clone());
        }
        error
    }

    /// Loads other credentials than those that were refused.
    async fn renewed(&self, refused: AwsError, loaded: &Loaded) -> Result<Loaded, AwsError> {
        let operation = refused.operation;
        match self.credentials.renew(loaded.generation).await {
            Ok(renewed) => {
                self.forget();
                Ok(renewed)
            }
            Err(error) => {
                let unloaded = self.unloaded(operation, &error);
                // What AWS said decides where nothing else was told: it was not done.
                Err(if unloaded.is_of_identity() { unloaded } else { refused })
            }
        }
    }

    /// Backs off: for the whole identity if AWS does not know it at all, else for this operation.
    async fn backed_off(&self, error: AwsError, loaded: &Loaded) -> AwsError {
        let _one = self.asking.lock().await;
        if let Some(refused) = self.refusals.standing().refused {
            return AwsError { operation: error.operation, ..refused };
        }
        let known = self.refusals.has_answered(loaded.generation)
            || error.operation != GET_CALLER_IDENTITY
                && !self.ask().await.is_err_and(|said| said.is_of_identity());
        let error = error.blaming(&loaded.origin);
        if known {
            self.refusals.refuse_operation(error.clone(), loaded.generation);
        } else {
            self.refusals.refuse(error.clone());
        }
        error
    }

    /// Asks AWS whether it knows a refused identity again, with credentials loaded anew.
    pub async fn ask_again(&self) -> Result<(), AwsError> {
        let _one = self.asking.lock().await;
        let standing = self.refusals.standing();
        let Some(refused) = standing.refused else { return Ok(()) };
        if standing.next.is_some_and(|next| next > tokio::time::Instant::now()) {
            return Err(refused);
        }
        let kept = self.credentials.current().await;
        let renewed = match kept {
            Ok(kept) => self.credentials.renew(kept.generation).await,
            // That was a load.
            Err(error) => Err(error),
        };
        let outcome = match renewed {
            Ok(loaded) => {
                self.forget();
                self.ask().await.map_err(|error| error.blaming(&loaded.origin))
            }
            Err(error) => Err(AwsError::of_load(refused.operation, &error)),
        };
        match outcome {
            Err(error) if error.is_of_identity() => {
                self.refusals.refuse(error.clone());
                Err(error)
            }
            Err(error) if error.kind == AwsErrorKind::Unsent => {
                self.refusals.refuse(refused.clone());
                Err(refused)
            }
            // Where AWS cannot be asked, the calls find out.
            _ => {
                self.refusals.lift();
                Ok(())
            }
        }
    }

    /// Asks AWS who we are: whoever it knows may ask that.
    async fn ask(&self) -> Result<(), AwsError> {
        caller_of(self, self.sts.get_caller_identity().send().await).map(drop)
    }

    /// Returns the standing of this identity with AWS.
    pub fn standing(&self) -> Standing {
        self.refusals.standing()
    }

    /// Tells when that changes.
    pub fn standing_changes(&self) -> watch::Receiver<()> {
        self.refusals.changes()
    }
}
