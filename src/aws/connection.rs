//! The connection to the seller's account: clients built once, swapped when the role changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::{Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio::time::Instant;

use super::call_states::{CallState, CallStates};
use super::chain::{Chain, MARKETPLACE_REGION, loader};
use super::credentials::{Cached, CredentialCache};
use super::refusals::Refusals;
use super::{AwsError, AwsErrorKind, RateLimit, Turn};
use crate::clock::Clock;
use crate::domain::AccountId;
use crate::domain::integration::Identity;

/// The time after which a denied operation is tried again: a permission may have been granted meanwhile.
const DENIED_FOR: Duration = Duration::from_secs(15 * 60);

/// The options that clients are built from, apart from the environment.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// The region in which usage is metered; a record keeps its own for life, since AWS deduplicates per region.
    pub metering_region: String,
    /// The queue, whose region its clients take.
    pub queue_url: Option<String>,
    /// Entitlement calls a second; agreements are asked about more slowly, as AWS has it.
    pub reconcile_rate: u32,
    /// Metering calls a second.
    pub metering_rate: u32,
    /// `ResolveCustomer` calls a second for buyers at the door, and as many for those whom the API brings.
    pub registration_rate: u32,
    /// The time.
    pub clock: Clock,
    /// A sandbox to speak to instead of AWS; none leaves that to the environment.
    pub sandbox_url: Option<String>,
}

#[cfg(test)]
impl ConnectionOptions {
    /// Returns the options of a connection of which nobody answers.
    pub(crate) fn to_nobody() -> Self {
        Self {
            metering_region: MARKETPLACE_REGION.into(),
            queue_url: None,
            reconcile_rate: 10,
            metering_rate: 10,
            registration_rate: 10,
            clock: Clock::system(),
            sandbox_url: Some("http://127.0.0.1:9".into()),
        }
    }
}

/// Clients that share one set of credentials, and the rates at which they may call.
pub struct AwsClients {
    /// The identity that they call as.
    identity: Identity,
    /// The queue.
    pub sqs: aws_sdk_sqs::Client,
    pub(super) sts: aws_sdk_sts::Client,
    pub(super) entitlement: aws_sdk_marketplaceentitlement::Client,
    pub(super) metering: aws_sdk_marketplacemetering::Client,
    pub(super) catalog: aws_sdk_marketplacecatalog::Client,
    pub(super) agreement: aws_sdk_marketplaceagreement::Client,
    pub(super) rates: Arc<Rates>,
    pub(super) calls: Arc<CallStates>,
    pub(super) credentials: Arc<CredentialCache>,
    pub(super) refusals: Refusals,
    /// Held by whoever asks AWS whether it knows us.
    pub(super) asking: tokio::sync::Mutex<()>,
    /// The operations that this identity was denied, and when.
    denied: Mutex<BTreeMap<&'static str, Instant>>,
    /// The account that these clients act in.
    pub(super) caller: Mutex<ActsIn>,
}

/// The account that an identity acts in, as far as AWS was asked.
#[derive(Clone, Debug, Default)]
pub(super) enum ActsIn {
    #[default]
    Unasked,
    /// AWS could not be asked; whoever looks at the whole connection asks again.
    Untold,
    Known(AccountId),
}

impl AwsClients {
    /// Returns whose credentials they call with.
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Reports whether AWS has told this identity of late that it may not use an operation.
    pub fn is_refused(&self, operation: &str) -> bool {
        self.denied().get(operation).is_some_and(|at| at.elapsed() < DENIED_FOR)
    }

    /// Notes a call that did what it should.
    pub(super) fn succeeded(&self, operation: &'static str) {
        self.denied().remove(operation);
        self.calls.succeeded(operation);
    }

    /// Notes how a call went, and has its operation slow down where AWS asks for it.
    pub(super) fn noted<T, E>(
        &self,
        turn: Option<Turn<'_>>,
        operation: &'static str,
        outcome: Result<T, SdkError<E, HttpResponse>>,
    ) -> Result<T, AwsError>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        match outcome {
            Ok(answer) => {
                if let Some(turn) = turn {
                    turn.answered();
                }
                self.succeeded(operation);
                Ok(answer)
            }
            Err(error) => {
                let error = AwsError::of(operation, error);
                self.calls.failed(&error);
                match (error.kind, turn) {
                    (AwsErrorKind::Throttled, Some(turn)) => turn.throttled(),
                    (AwsErrorKind::AccessDenied, _) => {
                        self.denied().insert(operation, Instant::now());
                    }
                    _ => {}
                }
                Err(error)
            }
        }
    }

    /// Forgets what was learnt with other credentials: these may be another account's, and may do other things.
    pub(super) fn forget(&self) {
        self.denied().clear();
        *self.caller.lock().unwrap_or_else(PoisonError::into_inner) = ActsIn::Unasked;
    }

    fn denied(&self) -> MutexGuard<'_, BTreeMap<&'static str, Instant>> {
        self.denied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One rate for each operation, whoever calls it: AWS counts by account and operation.
pub(super) struct Rates {
    pub(super) entitlements: RateLimit,
    pub(super) metering: RateLimit,
    pub(super) registrations: RateLimit,
    pub(super) door: RateLimit,
    pub(super) entities: RateLimit,
    pub(super) entity: RateLimit,
    pub(super) agreements: RateLimit,
    pub(super) agreement_licenses: RateLimit,
}

impl Rates {
    /// Takes the rates of the settings; without them about half of what AWS allows, since others may share the account.
    fn of(options: &ConnectionOptions) -> Self {
        Self {
            entitlements: RateLimit::per_second(options.reconcile_rate).documented(20),
            metering: RateLimit::per_second(options.metering_rate).documented(10),
            // AWS names no quota for ResolveCustomer; whoever knocks at the door must not use up those of others.
            registrations: RateLimit::per_second(options.registration_rate),
            door: RateLimit::per_second(options.registration_rate),
            entities: RateLimit::per_second(5),
            entity: RateLimit::per_second(10),
            // In the proportions of AWS's quotas: 20, 5 and 10 a second.
            agreements: RateLimit::per_second(options.reconcile_rate / 3),
            agreement_licenses: RateLimit::per_second(options.reconcile_rate / 2),
        }
    }
}

/// The connection; clones share it, and see a change of role at once.
#[derive(Clone)]
pub struct Connection {
    base: Arc<Base>,
    current: Arc<RwLock<Arc<AwsClients>>>,
    /// Held by whoever changes the identity.
    changing: Arc<tokio::sync::Mutex<()>>,
    switches: Arc<watch::Sender<()>>,
    retries: Arc<watch::Sender<()>>,
}

struct Base {
    config: SdkConfig,
    options: ConnectionOptions,
    rates: Arc<Rates>,
    calls: Arc<CallStates>,
}

impl Connection {
    /// Reads AWS's standard environment and connects as this identity.
    pub async fn open(options: ConnectionOptions, identity: Identity) -> Self {
        // Each identity's credentials are kept with its clients, and the SDK keeps none besides.
        let config = loader(options.sandbox_url.as_deref())
            .no_credentials()
            .identity_cache(aws_config::identity::IdentityCache::no_cache())
            .load()
            .await;
        let rates = Arc::new(Rates::of(&options));
        let calls = Arc::new(CallStates::new(options.clock.clone()));
        let base = Base { config, options, rates, calls };
        let clients = Arc::new(base.clients(identity));
        let current = Arc::new(RwLock::new(clients));
        Self {
            base: Arc::new(base),
            current,
            changing: Arc::default(),
            switches: Arc::default(),
            retries: Arc::default(),
        }
    }

    /// Returns the clients as they are now. Hold them for one piece of work, not longer.
    pub fn clients(&self) -> Arc<AwsClients> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the sandbox that every call goes to instead of AWS, if one was named.
    pub fn sandbox_url(&self) -> Option<&str> {
        self.base.options.sandbox_url.as_deref()
    }

    /// Returns the outcomes of the calls of each operation.
    pub fn calls(&self) -> BTreeMap<&'static str, CallState> {
        self.base.calls.states()
    }

    /// Clients of another identity, without using them for anything yet.
    pub fn try_identity(&self, identity: Identity) -> AwsClients {
        self.base.clients(identity)
    }

    /// Makes these the clients that everybody uses, once it is kept whose they are.
    ///
    /// Changes happen one after the other, and whole, even if whoever asked for one waits no more: what is used is what was
    /// kept last.
    pub async fn change<E: Send + 'static>(
        &self,
        clients: AwsClients,
        kept: impl Future<Output = Result<(), E>> + Send + 'static,
    ) -> Result<(), E> {
        let connection = self.clone();
        let changing = tokio::spawn(async move {
            let _one = connection.changing.lock().await;
            kept.await?;
            let mut current = connection.current.write().unwrap_or_else(PoisonError::into_inner);
            *current = Arc::new(clients);
            drop(current);
            connection.switches.send_replace(());
            connection.retry();
            Ok(())
        });
        match changing.await.map_err(JoinError::try_into_panic) {
            Ok(changed) => changed,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            // The runtime ends, and whoever waits with it.
            Err(Err(_cancelled)) => std::future::pending().await,
        }
    }

    /// Has so many workers share the rates of what every worker calls; the rest is called by one of them alone.
    pub fn share_rates_among(&self, workers: u32) {
        self.base.rates.registrations.share_among(workers);
        self.base.rates.door.share_among(workers);
    }

    /// Tells when AWS may take again what it refused because of who we are; for those who wait to try again.
    pub fn retries(&self) -> watch::Receiver<()> {
        self.retries.subscribe()
    }

    /// Has those who wait try again.
    pub fn retry(&self) {
        self.retries.send_replace(());
    }

    /// Tells when other clients are to be used; for those who hold a call open for long.
    pub fn switches(&self) -> watch::Receiver<()> {
        self.switches.subscribe()
    }
}

impl Base {
    fn clients(&self, identity: Identity) -> AwsClients {
        let sandbox_url = self.options.sandbox_url.clone();
        let chain = Chain { identity: identity.clone(), sandbox_url, config: self.config.clone() };
        // The machine's time: that of a sandbox may be moved, and STS's sessions do not follow it.
        let credentials = Arc::new(CredentialCache::new(Box::new(chain), Clock::system()));
        let provider = SharedCredentialsProvider::new(Cached(Arc::clone(&credentials)));
        let config = self.config.to_builder().credentials_provider(provider).build();
        let of_region = |region: String| config.to_builder().region(Region::new(region)).build();
        let marketplace = of_region(MARKETPLACE_REGION.into());
        let metering = of_region(self.options.metering_region.clone());
        let queue = match self.options.queue_url.as_deref().and_then(region_of_queue) {
            Some(region) => of_region(region.to_owned()),
            None => config.clone(),
        };
        AwsClients {
            identity,
            sqs: aws_sdk_sqs::Client::new(&queue),
            sts: aws_sdk_sts::Client::new(&config),
            entitlement: aws_sdk_marketplaceentitlement::Client::new(&marketplace),
            // No retries beneath the ledger: it counts every attempt, and what AWS said to each.
            metering: aws_sdk_marketplacemetering::Client::from_conf(
                aws_sdk_marketplacemetering::config::Builder::from(&metering)
                    .retry_config(RetryConfig::disabled())
                    .build(),
            ),
            catalog: aws_sdk_marketplacecatalog::Client::new(&marketplace),
            agreement: aws_sdk_marketplaceagreement::Client::new(&marketplace),
            rates: Arc::clone(&self.rates),
            calls: Arc::clone(&self.calls),
            credentials,
            refusals: Refusals::default(),
            asking: tokio::sync::Mutex::default(),
            denied: Mutex::default(),
            caller: Mutex::default(),
        }
    }
}

/// Finds the region in a queue's address, as AWS writes it: `https://sqs.REGION.amazonaws.com/…`.
fn region_of_queue(url: &str) -> Option<&str> {
    let host = url.split("://").nth(1)?.split('/').next()?;
    let (region, domain) = host.strip_prefix("sqs.")?.split_once('.')?;
    domain.starts_with("amazonaws.com").then_some(region)
}

#[cfg(test)]
mod tests {
    use super::super::caller_account;
    use super::*;
    use crate::domain::integration::Role;

    async fn connection() -> Connection {
        Connection::open(ConnectionOptions::to_nobody(), Identity::Environment).await
    }

    fn role(name: &str) -> Identity {
        let arn = format!("arn:aws:iam::111122223333:role/{name}");
        Identity::Role(Role { arn, external_id: None })
    }

    fn is_of(connection: &Connection, name: &str) -> bool {
        format!("{:?}", connection.clients().credentials).contains(&format!("role/{name}\""))
    }

    #[tokio::test]
    async fn what_is_used_is_what_was_kept_last() {
        let connection = connection().await;
        let (slow, kept) =
            (connection.try_identity(role("slow")), Arc::new(Mutex::new(Vec::new())));
        let keep = |name: &'static str, pause| {
            let kept = Arc::clone(&kept);
            async move {
                kept.lock().unwrap().push(name);
                tokio::time::sleep(Duration::from_millis(pause)).await;
                Ok::<_, ()>(())
            }
        };
        let fast = connection.try_identity(role("fast"));
        let both = tokio::join!(
            connection.change(slow, keep("slow", 50)),
            connection.change(fast, keep("fast", 0)),
        );
        assert_eq!(both, (Ok(()), Ok(())));
        let last = *kept.lock().unwrap().last().unwrap();
        assert!(is_of(&connection, last), "{last} was kept last: {kept:?}");
    }

    #[tokio::test]
    async fn whoever_has_nothing_to_sign_with_backs_off_as_whoever_is_refused() {
        // STS does not answer.
        let clients = connection().await.try_identity(role("unreachable"));
        let error = caller_account(&clients).await.unwrap_err();
        assert_eq!(error.kind, AwsErrorKind::Unsent, "{error}");
        assert!(clients.standing().refused.is_some() && clients.standing().next.is_some());
    }

    #[tokio::test]
    async fn a_change_is_whole_though_nobody_waits_for_it_and_none_where_it_is_not_kept() {
        let connection = connection().await;
        let mut switches = connection.switches();
        let refused = connection.change(connection.try_identity(role("lost")), async { Err(()) });
        assert_eq!(refused.await, Err(()));
        assert!(!is_of(&connection, "lost") && !switches.has_changed().unwrap());
        let (keep, kept) = tokio::sync::oneshot::channel::<()>();
        let clients = connection.try_identity(role("found"));
        let change = connection.change(clients, async move { kept.await.map_err(drop) });
        // Whoever asked for it hangs up while it is kept.
        tokio::time::timeout(Duration::from_millis(50), change).await.unwrap_err();
        assert!(!is_of(&connection, "found"));
        keep.send(()).unwrap();
        switches.changed().await.unwrap();
        assert!(is_of(&connection, "found"));
    }

    #[test]
    fn a_queue_names_its_region_only_on_aws() {
        let rows = [
            ("https://sqs.eu-west-1.amazonaws.com/123456789012/marketd", Some("eu-west-1")),
            ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/marketd", Some("cn-north-1")),
            ("http://127.0.0.1:4566/123456789012/marketd", None),
            ("marketd", None),
        ];
        for (url, region) in rows {
            assert_eq!(region_of_queue(url), region, "{url}");
        }
    }
}
