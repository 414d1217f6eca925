//! Rates to AWS that all workers of a database share.

use std::convert::Infallible;

use tokio_util::sync::CancellationToken;

use super::Daemon;

impl Daemon {
    /// Keeps what every worker calls within the rates of the settings, by the number of workers that live, until told to
    /// stop.
    pub(super) fn share_rates(
        &self,
        shutdown: CancellationToken,
    ) -> impl Future<Output = Result<(), Infallible>> + use<> {
        let (aws, mut workers) = (self.aws.clone(), self.membership.workers());
        async move {
            while !shutdown.is_cancelled() {
                aws.share_rates_among(*workers.borrow_and_update());
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => {}
                    // Of a file there is one daemon, and never any news.
                    Ok(()) = workers.changed() => {}
                }
            }
            Ok(())
        }
    }
}
