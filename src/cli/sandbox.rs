//! `marketd sandbox`: the local AWS Marketplace, alone or with a daemon beside it.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Map, Value};

use super::local::shutdown_on_signal;
use super::output::{Output, say};
use super::rehearsal::{Beside, Rehearsal};
use crate::sandbox::SandboxOptions;

/// The interval at which the parent process is looked for.
const PARENT_LOOK: Duration = Duration::from_millis(200);

/// Runs a local AWS Marketplace: SQS, STS, entitlements, metering, catalog and agreements on one port.
///
/// It prints the environment that any AWS SDK needs to talk to it, once it listens. Buyers act through its control
/// API:
///
///   curl --json '{}' $AWS_ENDPOINT_URL/_sandbox/demo
///   curl --json '{"product":"CODE"}' $AWS_ENDPOINT_URL/_sandbox/buyers/123456789012/subscribe
///
/// With --with-daemon a marketd runs in the same process and on the same clock, so that moving the clock closes hours
/// and bills them; MARKETD_URL is printed too, where API and console are. A test suite starts the pair once, and begins each test with
///
///   curl --json '{}' $AWS_ENDPOINT_URL/_sandbox/reset
///
/// which resets the market, its options, the queue, faults, holds, clock, roles, sessions and calls, and starts the
/// daemon anew with an empty database; what a list under "keep" names stays as it is. The daemon takes its settings
/// from --config and MARKETD__ variables; /etc/marketd/marketd.toml is not read, since what it names is real.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Sandbox {
    /// The address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4580")]
    listen: SocketAddr,
    /// The seed of its ids: the same seed, the same ids.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs a marketd beside it, on the same clock.
    #[arg(long)]
    with_daemon: bool,
    /// The address on which the daemon's API listens; http.listen if left out, and port 0 takes a free one.
    #[arg(long, value_name = "ADDR", requires = "with_daemon")]
    daemon_listen: Option<String>,
    /// The file of the daemon's database, which must be new, and which a reset empties; one in a temporary folder if
    /// left out.
    #[arg(long, value_name = "FILE", requires = "with_daemon")]
    database: Option<PathBuf>,
    /// Exits when the process that started it does, however that ends.
    #[arg(long)]
    exit_with_parent: bool,
}

impl Sandbox {
    pub(super) async fn execute(self, config: Option<&Path>, output: Output) -> anyhow::Result<()> {
        // Known from the beginning, so that a parent that ends during the start is noticed.
        let parent = std::os::unix::process::parent_id();
        let shutdown = shutdown_on_signal()?;
        let options = SandboxOptions { listen: self.listen, seed: self.seed };
        let sandbox = crate::sandbox::Sandbox::start(options)
            .await
            .with_context(|| format!("the sandbox could not listen on {}", self.listen))?;
        if !self.listen.ip().is_loopback() {
            let word = "the sandbox listens beyond this machine: whoever reaches it moves its clock and its money";
            // Standard output is for the shell, and nobody is left to tell if standard error is closed.
            writeln!(std::io::stderr(), "marketd: {word}").ok();
        }
        let orphaned = async {
            if self.exit_with_parent {
                until_orphaned(parent).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        if !self.with_daemon {
            print(&sandbox.environment(), output)?;
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = orphaned => {}
            }
            sandbox.stop().await;
            return Ok(());
        }
        let beside = Beside {
            config: config.map(Path::to_owned),
            environment: super::local::environment().collect(),
            listen: self.daemon_listen,
            database: self.database,
        };
        let mut rehearsal = Box::pin(Rehearsal::start(sandbox, beside)).await?;
        print(&rehearsal.environment(), output)?;
        if output == Output::Table {
            // Standard output is for the shell.
            writeln!(std::io::stderr(), "marketd: the console is at {}/", rehearsal.url()).ok();
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = orphaned => {}
            error = rehearsal.failed() => return Err(error),
        }
        rehearsal.stop().await
    }
}

/// Prints variables for a shell to read, or as one JSON object on a line of its own.
fn print(environment: &[(&'static str, String)], output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        let members =
            environment.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into()));
        return say(&Value::Object(members.collect::<Map<_, _>>()).to_string());
    }
    for (name, value) in environment {
        say(&format!("export {name}={}", quoted(value)))?;
    }
    Ok(())
}

/// Quotes a word so that a shell reads it back.
fn quoted(value: &str) -> String {
    let plain =
        |character: char| character.is_ascii_alphanumeric() || "-_./:@%+=,".contains(character);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', "'\\''"))
}

/// Waits until another process has become the parent, as happens when the one that started this ends.
async fn until_orphaned(parent: u32) {
    while std::os::unix::process::parent_id() == parent {
        tokio::time::sleep(PARENT_LOOK).await;
    }
}
