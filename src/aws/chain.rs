//! AWS's standard environment, and an identity's credentials from the ground up: the environment's own, and a role on top.

use std::time::Duration;

use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use futures::future::BoxFuture;

use super::credentials::{LoadError, Origin, Outcome, Source};
use super::described::REMOVED;
use crate::domain::integration::{Identity, Role};
use crate::outgoing;

/// Entitlements, the catalog and agreements exist here only.
pub(super) const MARKETPLACE_REGION: &str = "us-east-1";
const SESSION: Duration = Duration::from_secs(3_600);

/// Returns a loader of AWS's standard environment, which each load reads anew.
pub(super) fn loader(sandbox_url: Option<&str>) -> ConfigLoader {
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12());
    if let Some(url) = sandbox_url {
        let credentials = Credentials::new("sandbox", "sandbox", None, None, "sandbox");
        loader = loader.endpoint_url(url).credentials_provider(credentials);
    }
    if let Some(http) = outgoing::sdk_client() {
        loader = loader.http_client(http);
    }
    loader
        .region(
            // The instance is not asked for its region, since nobody should wait for it where there is none: the
            // queue's address and the settings name the regions that matter.
            RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
                .or_else(ProfileFileRegionProvider::new())
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
}

/// Loads an identity's credentials: the environment's own, and those of a role on top of them.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) identity: Identity,
    /// A sandbox to speak to instead of AWS.
    pub(super) sandbox_url: Option<String>,
    pub(super) config: SdkConfig,
}

impl Source for Chain {
    fn load(&self) -> BoxFuture<'_, Outcome> {
        Box::pin(async {
            match &self.identity {
                Identity::Environment => self.own().await,
                Identity::Role(role) => self.assume(role).await,
                Identity::Removed => {
                    Err(LoadError::of(&CredentialsError::provider_error(REMOVED), None))
                }
            }
        })
    }
}

impl Chain {
    async fn own(&self) -> Outcome {
        let mut loader = loader(self.sandbox_url.as_deref());
        if let Some(http) = self.config.http_client() {
            loader = loader.http_client(http);
        }
        let provider = loader.load().await.credentials_provider();
        let provider = provider.ok_or_else(|| {
            LoadError::of(&CredentialsError::not_loaded("there is no credential provider"), None)
        })?;
        let credentials = provider.provide_credentials().await;
        let credentials = credentials.map_err(|error| LoadError::of(&error, None))?;
        let origin = Origin::of(&credentials);
        Ok((credentials, origin))
    }

    async fn assume(&self, role: &Role) -> Outcome {
        let (own, origin) = self.own().await?;
        let mut provider = AssumeRoleProvider::builder(&role.arn)
            .session_name("marketd")
            .session_length(SESSION)
            .configure(&self.config);
        if let Some(id) = &role.external_id {
            provider = provider.external_id(id);
        }
        let session = provider.build_from_provider(own).await.provide_credentials().await;
        let session = session.map_err(|error| LoadError::of(&error, Some(origin)))?;
        Ok((session, Origin::role(&role.arn)))
    }
}
