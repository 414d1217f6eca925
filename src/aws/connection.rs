//! The connection to the seller's account: clients built once, swapped when the role changes.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;

use super::RateLimit;

/// Entitlements, the catalog and agreements exist here only.
const MARKETPLACE_REGION: &str = "us-east-1";
/// Credentials are renewed this long before they expire, so that no call meets the moment.
const RENEW_EARLY: Duration = Duration::from_secs(5 * 60);
const SESSION: Duration = Duration::from_secs(3_600);

/// What the clients are built from, apart from the environment.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// Where usage is metered; a record keeps its region for life, since AWS deduplicates per region.
    pub metering_region: String,
    /// The queue, whose region its clients take.
    pub queue_url: Option<String>,
    /// Entitlement calls a second.
    pub reconcile_rate: u32,
    /// Metering calls a second.
    pub metering_rate: u32,
    /// A sandbox to speak to instead of AWS; none leaves that to the environment.
    pub sandbox_url: Option<String>,
}

/// A role in the seller's account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its ARN.
    pub arn: String,
    /// The external id that its trust policy asks for.
    pub external_id: Option<String>,
}

/// Clients that share one set of credentials, and the rates at which they may call.
pub struct AwsClients {
    /// The queue.
    pub sqs: aws_sdk_sqs::Client,
    pub(super) sts: aws_sdk_sts::Client,
    pub(super) entitlement: aws_sdk_marketplaceentitlement::Client,
    pub(super) metering: aws_sdk_marketplacemetering::Client,
    pub(super) catalog: aws_sdk_marketplacecatalog::Client,
    pub(super) agreement: aws_sdk_marketplaceagreement::Client,
    pub(super) rates: Arc<Rates>,
    /// The role whose credentials these clients use; none for the environment's own.
    pub role: Option<Role>,
}

pub(super) struct Rates {
    pub(super) entitlements: RateLimit,
    pub(super) metering: RateLimit,
    pub(super) catalog: RateLimit,
}

/// The connection; clones share it, and see a change of role at once.
#[derive(Clone)]
pub struct Connection {
    base: Arc<Base>,
    current: Arc<RwLock<Arc<AwsClients>>>,
}

struct Base {
    config: SdkConfig,
    options: ConnectionOptions,
    rates: Arc<Rates>,
}

impl Connection {
    /// Reads AWS's standard environment and connects by this role, or by the environment's own credentials.
    pub async fn open(options: ConnectionOptions, role: Option<Role>) -> Self {
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12());
        if let Some(url) = &options.sandbox_url {
            let credentials = Credentials::new("sandbox", "sandbox", None, None, "sandbox");
            loader = loader.endpoint_url(url).credentials_provider(credentials);
        }
        let config = loader
            .region(
                aws_config::meta::region::RegionProviderChain::default_provider()
                    .or_else(MARKETPLACE_REGION),
            )
            .retry_config(RetryConfig::standard().with_max_attempts(3))
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(Duration::from_secs(5))
                    // Above the longest long poll.
                    .operation_attempt_timeout(Duration::from_secs(30))
                    .build(),
            )
            .identity_cache(
                aws_config::identity::IdentityCache::lazy().buffer_time(RENEW_EARLY).build(),
            )
            .load()
            .await;
        let rates = Arc::new(Rates {
            entitlements: RateLimit::per_second(options.reconcile_rate),
            metering: RateLimit::per_second(options.metering_rate),
            // AWS's quota for ListEntities is 10 a second.
            catalog: RateLimit::per_second(5),
        });
        let base = Base { config, options, rates };
        let clients = Arc::new(base.clients(role).await);
        Self { base: Arc::new(base), current: Arc::new(RwLock::new(clients)) }
    }

    /// The clients as they are now; held for one piece of work, not longer.
    pub fn clients(&self) -> Arc<AwsClients> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Clients by another role, without using them for anything yet.
    pub async fn try_role(&self, role: Option<Role>) -> AwsClients {
        self.base.clients(role).await
    }

    /// Makes these the clients that everybody uses from now on.
    pub fn switch(&self, clients: AwsClients) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(clients);
    }
}

impl Base {
    async fn clients(&self, role: Option<Role>) -> AwsClients {
        let config = match &role {
            None => self.config.clone(),
            Some(role) => {
                let mut provider = AssumeRoleProvider::builder(&role.arn)
                    .session_name("marketd")
                    .session_length(SESSION)
                    .configure(&self.config);
                if let Some(id) = &role.external_id {
                    provider = provider.external_id(id);
                }
                let credentials = provider.build().await;
                // A cache of its own, so that credentials of one role never serve another.
                self.config
                    .to_builder()
                    .credentials_provider(aws_sdk_sts::config::SharedCredentialsProvider::new(
                        credentials,
                    ))
                    .identity_cache(
                        aws_config::identity::IdentityCache::lazy()
                            .buffer_time(RENEW_EARLY)
                            .build(),
                    )
                    .build()
            }
        };
        let of_region = |region: String| config.to_builder().region(Region::new(region)).build();
        let marketplace = of_region(MARKETPLACE_REGION.into());
        let metering = of_region(self.options.metering_region.clone());
        let queue = match self.options.queue_url.as_deref().and_then(region_of_queue) {
            Some(region) => of_region(region.to_owned()),
            None => config.clone(),
        };
        AwsClients {
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
            role,
        }
    }
}

/// The region in a queue's address, as AWS writes it: `https://sqs.REGION.amazonaws.com/…`.
fn region_of_queue(url: &str) -> Option<&str> {
    let host = url.split("://").nth(1)?.split('/').next()?;
    let (region, domain) = host.strip_prefix("sqs.")?.split_once('.')?;
    domain.starts_with("amazonaws.com").then_some(region)
}

#[cfg(test)]
mod tests {
    use super::region_of_queue;

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
