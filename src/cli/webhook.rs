//! `marketd webhook`: what is posted to the seller's application.

use anyhow::Context as _;
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use serde_json::json;

use super::client::Daemon;
use super::output::{Output, amount, print_json, say};

#[derive(Debug, Subcommand)]
pub(super) enum Webhook {
    /// Posts events again, under the ids that they have.
    ///
    /// A webhook that is new, or that the daemon has run without, is told what happens from then on; this tells it what
    /// happened before. With the end of the feed as the cursor, waiting events are skipped.
    Replay {
        /// The cursor after which events are posted again, as `event list --output json` shows it; 0 for all of them.
        #[arg(long, value_name = "CURSOR")]
        from: String,
    },
    /// Makes a secret for `webhook.secret_file`, and prints it.
    ///
    /// Nothing is changed: write it into the file that the settings name, give it to the application that checks the
    /// signatures, and start the daemon anew.
    ///
    /// Example: marketd webhook secret > /etc/marketd/webhook-secret
    Secret,
}

impl Webhook {
    pub(super) async fn execute(self, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Replay { from } => {
                let body = json!({"from": from});
                let daemon = Daemon::from_environment(output)?;
                let replayed = daemon.post("/v1/webhook/replay", body).await?;
                let events = amount(&replayed["events"]);
                output.done(&replayed, &[format!("events to post again: {events}")])
            }
            Self::Secret => print_secret(output),
        }
    }
}

/// Prints a secret of 256 random bits.
fn print_secret(output: Output) -> anyhow::Result<()> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).context("the system gives no random numbers")?;
    let secret = format!("whsec_{}", STANDARD.encode(bytes));
    match output {
        Output::Json => print_json(&json!({"secret": secret})),
        Output::Table => say(&secret),
    }
}
