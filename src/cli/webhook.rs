//! `marketd webhook`: what is posted to the seller's application.

use anyhow::{Context as _, bail};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use serde_json::{Value, json};

use super::client::Daemon;
use super::object;
use super::output::{Column, Output, amount, print_json, say};
use super::pages::{OverTime, Part, print_list};
use super::times::moment;

const DELIVERIES: &[Column] = &[
    Column::time("AT", "at"),
    Column::id("TYPE", "type"),
    Column::id("CUSTOMER", "customer_id"),
    Column::state("STATE", "state"),
    Column::number("ATTEMPTS", "attempts"),
    Column::time("LAST", "last_attempt_at"),
    Column::number("STATUS", "last_status"),
    Column::text("ERROR", "last_error"),
    Column::id("CURSOR", "cursor"),
];

#[derive(Debug, Subcommand)]
pub(super) enum Webhook {
    /// Shows how the webhook stands: what waits, since when, and what the application last answered.
    Show,
    /// Lists what became of posting each event.
    Deliveries {
        /// Only those in this state.
        #[arg(long, value_parser = ["delivered", "failing", "given_up"])]
        state: Option<String>,
        #[command(flatten)]
        time: OverTime,
        #[command(flatten)]
        part: Part,
    },
    /// Posts a signed event of type `webhook.test` and shows what the application answered.
    ///
    /// Exits with 1 if the application has not taken it. Works while the webhook is paused too.
    Test,
    /// Has the webhook post nothing until it is resumed; events wait.
    Pause,
    /// Has the webhook post again, what waited first.
    Resume,
    /// Posts events again, under the ids that they have.
    ///
    /// A webhook that is new, or that the daemon has run without, is told what happens from then on; this tells it what
    /// happened before. With the end of the feed as the cursor, waiting events are skipped.
    Replay {
        /// The cursor after which events are posted again, as `event list --output json` shows it; 0 for all of them.
        #[arg(long, alias = "from", value_name = "CURSOR", required_unless_present = "since")]
        after: Option<String>,
        /// The time from which on events are posted again, as 2026-11-01T06:00:00Z, 2026-11-01, 7d or yesterday.
        #[arg(long, value_name = "TIME", conflicts_with = "after", value_parser = moment)]
        since: Option<String>,
    },
    /// Makes a secret for `webhook.secret_file`, and prints it.
    ///
    /// Nothing is changed: write it into the file that the settings name, give it to the application that checks the
    /// signatures, and start the daemon anew.
    Secret,
}

impl Webhook {
    pub(super) async fn execute(self, output: Output) -> anyhow::Result<()> {
        let daemon = || Daemon::from_environment(output);
        let post =
            async |verb: &str, body| daemon()?.post(&format!("/v1/webhook/{verb}"), body).await;
        match self {
            Self::Show => output.one(&daemon()?.get("/v1/webhook").await?),
            Self::Deliveries { state, time, part } => {
                let query = time.with([("state", state)]);
                print_list(&daemon()?, output, "/v1/webhook/deliveries", &query, &part, DELIVERIES)
                    .await
            }
            Self::Test => {
                let answer = post("test", json!({})).await?;
                output.done(&answer, &[tried(&answer)])?;
                if answer["delivered"] == true {
                    return Ok(());
                }
                bail!("the application has not taken the event");
            }
            Self::Pause => {
                let paused = post("pause", json!({})).await?;
                output.done(&paused, &[format!("paused: {}", waiting(&paused))])
            }
            Self::Resume => {
                let resumed = post("resume", json!({})).await?;
                output.done(&resumed, &[format!("resumed: {}", waiting(&resumed))])
            }
            Self::Replay { after, since } => {
                let body = object([
                    ("after", after.map(|it| json!(it))),
                    ("since", since.map(|it| json!(it))),
                ]);
                let replayed = post("replay", body).await?;
                let events = amount(&replayed["events"]);
                output.done(&replayed, &[format!("events to post again: {events}")])
            }
            Self::Secret => print_secret(output),
        }
    }
}

/// Returns how the application took an event that was posted to try it.
fn tried(answer: &Value) -> String {
    match (answer["delivered"] == true, answer["error"].as_str()) {
        (true, _) => format!("the application took the event: it answered {}", answer["status"]),
        (false, Some(error)) => error.to_owned(),
        (false, None) => format!("the application answered {}", answer["status"]),
    }
}

/// Returns how many events wait.
fn waiting(webhook: &Value) -> String {
    let lanes = webhook["lanes"].as_array().into_iter().flatten();
    let waiting: u64 = lanes.filter_map(|lane| lane["waiting"].as_u64()).sum();
    format!("events that wait: {}", amount(&waiting.into()))
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
