//! The parts of the daemon that the API uses, put together.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Daemon, signed};
use crate::access::AccessChecks;
use crate::domain::ledger::AgeLimits;
use crate::http::{
    ApiParts, ApiState, Arrivals, RecentFindings, RegistrationRedirect, Seller, Sessions,
};
use crate::intake::QueueGauge;
use crate::intake::sns::SnsEndpoint;
use crate::settings::{HttpSettings, SellerSettings};
use crate::webhook::Receiver;

impl Daemon {
    /// Makes the API's state of these parts.
    pub(super) fn api_state(
        &self,
        access: AccessChecks,
        sns: SnsEndpoint,
        webhook: Option<Arc<Receiver>>,
        queue: Option<QueueGauge>,
        stopping: CancellationToken,
    ) -> ApiState {
        let SellerSettings { name, support_url, .. } = self.settings.seller.clone();
        let sign_up = self.settings.registration.as_ref().map(|it| it.redirect_url.clone());
        let HttpSettings { trusted_proxies, connections, path_prefix, .. } =
            self.settings.http.clone();
        ApiState::new(ApiParts {
            store: self.store.clone(),
            membership: self.membership.clone(),
            aws: self.aws.clone(),
            access,
            sns,
            webhook,
            queue,
            clock: self.clock.clone(),
            started_at: self.clock.now(),
            sweep_interval: signed(self.settings.reconcile.sweep_interval),
            health: self.health.clone(),
            registration_redirect: self.settings.registration.clone().map(|settings| {
                RegistrationRedirect {
                    redirect_url: settings.redirect_url,
                    lifetime: signed(settings.reference_lifetime),
                }
            }),
            arrivals: Arrivals::new(trusted_proxies, connections),
            tokens: self.tokens.clone(),
            path_prefix: path_prefix.into(),
            settings: self
                .settings
                .shown
                .iter()
                .map(|(key, value, origin)| (key.clone(), value.clone(), origin.to_string()))
                .collect(),
            settings_file: self.settings.file.as_ref().map(|path| path.display().to_string()),
            sessions: Sessions::default(),
            queue_url: self.settings.queue.as_ref().map(|queue| queue.url.to_string()),
            metering_timing: self.closing().timing(),
            usage_ages: AgeLimits::new(
                signed(self.settings.metering.window),
                signed(self.settings.metering.interval),
                signed(self.settings.usage.max_age),
            ),
            metrics: self.metrics.clone(),
            recent_findings: RecentFindings::default(),
            seller: Seller { name, support_url, sign_up },
            stopping,
        })
    }
}
