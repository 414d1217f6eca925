//! The credentials of one identity: loaded from the ground up, kept until they are due or AWS refuses them.
//!
//! The SDK's providers keep what they have read, so that a file whose keys were replaced is never read again. Here each
//! load builds them anew: environment, files, process, web identity, metadata, and the role on top. Whoever finds that
//! AWS refuses what is kept asks for a renewal by the number of what was refused, so that of many who find out at once
//! one loads and the others take what it has loaded.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::credential_feature::AwsCredentialFeature as Feature;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use futures::future::BoxFuture;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::described::described;
use crate::clock::Clock;

/// Credentials are renewed this long before they expire, so that no call meets the moment.
const RENEW_EARLY: Duration = Duration::from_secs(5 * 60);
/// The shortest time between two loads, whatever a wrong clock says of the credentials' expiry.
const SOONEST: Duration = Duration::from_secs(60);
/// Long enough for a process that asks elsewhere.
const LOADED_WITHIN: Duration = Duration::from_secs(30);

/// The origin of credentials, in words for whoever has to mend them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// As in "these are …".
    pub(super) whose: String,
    /// The remedy if AWS refuses them.
    pub(super) remedy: &'static str,
    /// Set if STS gave them for a role: such a session can be ended by itself.
    pub(super) is_session: bool,
}

impl Origin {
    /// Tells where the SDK found credentials.
    pub(super) fn of(credentials: &Credentials) -> Self {
        let features = credentials.get_property::<Vec<Feature>>();
        let key = credentials.access_key_id();
        let (place, remedy) = match features.and_then(|features| features.last()) {
            Some(Feature::CredentialsEnvVars) => (
                "the environment variables",
                "they stay what they are while marketd runs: start it again with others",
            ),
            Some(
                Feature::CredentialsProfile
                | Feature::CredentialsProfileSourceProfile
                | Feature::CredentialsProfileNamedProvider,
            ) => (
                "the shared AWS files",
                "write others there: the files are read again every few seconds",
            ),
            Some(Feature::CredentialsProcess | Feature::CredentialsProfileProcess) => {
                ("a credential_process", "it is run again every few seconds: see what it hands out")
            }
            Some(Feature::CredentialsSso | Feature::CredentialsProfileSso) => {
                ("single sign-on", "sign in again, as by `aws sso login`")
            }
            Some(
                Feature::CredentialsStsAssumeRoleWebId
                | Feature::CredentialsEnvVarsStsWebIdToken
                | Feature::CredentialsProfileStsWebIdToken,
            ) => (
                "a web identity",
                "its token file is read again every few seconds: see the role that trusts it",
            ),
            Some(Feature::CredentialsHttp) => {
                ("the container's role", "see the task's role, and that its agent answers")
            }
            Some(Feature::CredentialsImds) => {
                ("the instance's role", "see the instance profile and its role")
            }
            _ => ("this process", "give it others, as any AWS tool takes them"),
        };
        let whose = format!("access key {key} of {place}");
        Self { whose, remedy, is_session: credentials.session_token().is_some() }
    }

    pub(super) fn role(arn: &str) -> Self {
        Self {
            whose: format!("the session of role {arn}"),
            remedy: "new sessions are taken every few seconds: see at AWS that the role is there and its sessions are not denied",
            is_session: true,
        }
    }

    fn nowhere() -> Self {
        Self {
            whose: "this process's own".into(),
            remedy: "give it some, as any AWS tool takes them; files and metadata are looked at every few seconds",
            is_session: false,
        }
    }
}

/// Credentials as they were loaded.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    /// Counts the loads.
    pub(super) generation: u64,
    pub(super) origin: Arc<Origin>,
    credentials: Credentials,
    at: Instant,
}

impl Loaded {
    pub(super) fn age(&self) -> Duration {
        self.at.elapsed()
    }

    fn is_due(&self, now: SystemTime) -> bool {
        let expires = self.credentials.expiry();
        self.age() >= SOONEST && expires.is_some_and(|at| at <= now + RENEW_EARLY)
    }
}

/// The reason why credentials could not be had. Nothing was sent with any.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{detail}")]
pub(super) struct LoadError {
    /// The error's text, its causes included.
    pub(super) detail: String,
    /// The origin of the credentials at fault.
    pub(super) origin: Arc<Origin>,
}

impl LoadError {
    pub(super) fn of(error: &CredentialsError, origin: Option<Origin>) -> Self {
        let origin = Arc::new(origin.unwrap_or_else(Origin::nowhere));
        Self { detail: described(error), origin }
    }
}

/// The outcome of a load: credentials and their origin.
pub(super) type Outcome = Result<(Credentials, Origin), LoadError>;

/// The source of an identity's credentials. Nothing of an earlier load is used again.
pub(super) trait Source: fmt::Debug + Send + Sync {
    fn load(&self) -> BoxFuture<'_, Outcome>;
}

/// The credentials that the clients of one identity share.
#[derive(Debug)]
pub(super) struct CredentialCache {
    source: Box<dyn Source>,
    clock: Clock,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    loads: u64,
    loaded: Option<Loaded>,
    /// The last load that failed: those who waited for it meanwhile need none of their own.
    failed: Option<(LoadError, Instant)>,
}

impl Held {
    fn failed_since(&self, asked: Instant) -> Option<LoadError> {
        let failed = self.failed.as_ref().filter(|(_, at)| *at > asked);
        failed.map(|(error, _)| error.clone())
    }
}

impl CredentialCache {
    pub(super) fn new(source: Box<dyn Source>, clock: Clock) -> Self {
        Self { source, clock, held: Mutex::default() }
    }

    /// Returns the credentials that calls are signed with now.
    pub(super) async fn current(&self) -> Result<Loaded, LoadError> {
        let asked = Instant::now();
        let mut held = self.held.lock().await;
        match held.loaded.clone() {
            None => match held.failed_since(asked) {
                Some(error) => Err(error),
                None => self.load(&mut held).await,
            },
            Some(kept) if kept.is_due(self.clock.now().into()) => {
                // Until AWS refuses them they are better than none.
                Ok(self.load(&mut held).await.unwrap_or_else(|error| {
                    tracing::warn!(%error, whose = kept.origin.whose, "credentials that expire soon could not be renewed yet");
                    let kept = Loaded { at: Instant::now(), ..kept };
                    held.loaded = Some(kept.clone());
                    kept
                }))
            }
            Some(kept) => Ok(kept),
        }
    }

    /// Loads anew in place of what AWS refused, unless somebody has done so meanwhile.
    pub(super) async fn renew(&self, refused: u64) -> Result<Loaded, LoadError> {
        let asked = Instant::now();
        let mut held = self.held.lock().await;
        match &held.loaded {
            Some(loaded) if loaded.generation > refused => return Ok(loaded.clone()),
            Some(_) => {}
            None => {
                if let Some(error) = held.failed_since(asked) {
                    return Err(error);
                }
            }
        }
        self.load(&mut held).await
    }

    async fn load(&self, held: &mut Held) -> Result<Loaded, LoadError> {
        held.loaded = None;
        let loading = tokio::time::timeout(LOADED_WITHIN, self.source.load());
        let outcome = loading.await.unwrap_or_else(|_elapsed| {
            Err(LoadError::of(&CredentialsError::provider_timed_out(LOADED_WITHIN), None))
        });
        let (credentials, origin) = outcome.inspect_err(|error| {
            held.failed = Some((error.clone(), Instant::now()));
        })?;
        held.loads += 1;
        let origin = Arc::new(origin);
        let loaded = Loaded { generation: held.loads, origin, credentials, at: Instant::now() };
        held.loaded = Some(loaded.clone());
        Ok(loaded)
    }
}

/// The cache as the SDK's clients take it, beside whose own no other is needed.
#[derive(Clone, Debug)]
pub(super) struct Cached(pub(super) Arc<CredentialCache>);

impl ProvideCredentials for Cached {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async move {
            let loaded = self.0.current().await.map_err(CredentialsError::provider_error)?;
            Ok(loaded.credentials)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Gives a new key each time, until it is told to fail.
    #[derive(Debug, Default)]
    struct Counting {
        loads: AtomicU64,
        fail: std::sync::atomic::AtomicBool,
        lifetime: Option<Duration>,
    }

    impl Source for Arc<Counting> {
        fn load(&self) -> BoxFuture<'_, Outcome> {
            Box::pin(async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                let number = self.loads.fetch_add(1, Ordering::SeqCst);
                if self.fail.load(Ordering::SeqCst) {
                    return Err(LoadError::of(&CredentialsError::not_loaded("nothing"), None));
                }
                let expiry = self.lifetime.map(|it| SystemTime::UNIX_EPOCH + it);
                let key = format!("key-{number}");
                let credentials = Credentials::new(key, "secret", None, expiry, "test");
                let origin = Origin::of(&credentials);
                Ok((credentials, origin))
            })
        }
    }

    fn cache(lifetime: Option<Duration>) -> (Arc<Counting>, CredentialCache, Clock) {
        let source = Arc::new(Counting { lifetime, ..Counting::default() });
        let clock = Clock::manual(jiff::Timestamp::UNIX_EPOCH);
        let cache = CredentialCache::new(Box::new(Arc::clone(&source)), clock.clone());
        (source, cache, clock)
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_who_are_refused_at_once_one_loads() {
        let (source, cache, _) = cache(None);
        let first = cache.current().await.unwrap().generation;
        let renewals = (0..50).map(|_| cache.renew(first));
        for renewed in futures::future::join_all(renewals).await {
            assert_eq!(renewed.unwrap().generation, first + 1);
        }
        assert_eq!(source.loads.load(Ordering::SeqCst), 2, "the first, and one renewal");
        source.fail.store(true, Ordering::SeqCst);
        let renewals = (0..50).map(|_| cache.renew(first + 1));
        for renewed in futures::future::join_all(renewals).await {
            renewed.unwrap_err();
        }
        assert_eq!(source.loads.load(Ordering::SeqCst), 3, "and one that failed for all");
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_that_expire_soon_are_renewed_and_kept_while_that_fails() {
        let hour = Duration::from_secs(3_600);
        let (source, cache, clock) = cache(Some(hour));
        let first = cache.current().await.unwrap().generation;
        let minutes = |count: i64| jiff::Timestamp::from_second(count * 60).unwrap();
        tokio::time::advance(50 * Duration::from_secs(60)).await;
        clock.set(minutes(50));
        assert_eq!(cache.current().await.unwrap().generation, first);
        clock.set(minutes(56));
        source.fail.store(true, Ordering::SeqCst);
        assert_eq!(cache.current().await.unwrap().generation, first, "better than none");
        assert_eq!(cache.current().await.unwrap().generation, first, "and not asked at each call");
        assert_eq!(source.loads.load(Ordering::SeqCst), 2);
        source.fail.store(false, Ordering::SeqCst);
        tokio::time::advance(SOONEST).await;
        assert_eq!(cache.current().await.unwrap().generation, first + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_far_ahead_does_not_load_for_each_call() {
        let (source, cache, clock) = cache(Some(Duration::from_secs(3_600)));
        clock.set(jiff::Timestamp::from_second(7 * 3_600).unwrap());
        for _ in 0..20 {
            cache.current().await.unwrap();
        }
        assert_eq!(source.loads.load(Ordering::SeqCst), 1);
    }
}
