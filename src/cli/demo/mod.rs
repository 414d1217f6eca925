//! `marketd demo`: a seller's month on the sandbox, told as it happens.

mod seller;
mod stage;
mod story;

use anyhow::Context as _;
use clap::Args;

use super::local::shutdown_on_signal;
use super::output::say;
use stage::Stage;

/// Plays a whole seller's month in under a minute, on the built-in sandbox in a temporary folder.
///
/// A listing is imported; buyers of every kind subscribe, upgrade, renew, fail to pay and cancel; usage is billed
/// by the hour; calls are throttled, connections cut and notifications repeated on the way. It ends with a ledger
/// that adds up to AWS's, and then stays up so that you can look around in a browser, with the other commands and with curl.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Exits at the end instead of staying up.
    #[arg(long)]
    exit: bool,
    /// The address on which the daemon's API listens; a free port if left out.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: String,
}

impl Demo {
    pub(super) async fn execute(self) -> anyhow::Result<()> {
        let shutdown = shutdown_on_signal()?;
        let mut stage = Stage::build(&self.listen).await.context("the demo could not be set up")?;
        let told = tokio::select! {
            told = story::tell(&mut stage) => told,
            () = shutdown.cancelled() => return stage.strike().await,
        };
        if told.is_ok() && !self.exit {
            say("")?;
            say(&format!(
                "marketd stays up at {0} (Ctrl-C ends it). Look around in a browser, or:",
                stage.url()
            ))?;
            say(&format!("  export MARKETD_URL={}", stage.url()))?;
            say("  marketd subscription list")?;
            say("  marketd metering list --state accepted")?;
            say("  marketd notification list --limit 20")?;
            say(&format!("  curl {}/v1/metering/balance", stage.url()))?;
            say(&format!(
                "Act as buyers, as AWS and as time at {}/sandbox, or with curl at {}/_sandbox/",
                stage.url(),
                stage.sandbox_url()
            ))?;
            shutdown.cancelled().await;
        }
        stage.strike().await?;
        told
    }
}
