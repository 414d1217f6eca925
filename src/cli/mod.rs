//! The command line: one file for each group of commands; most speak to a running daemon over its HTTP API.

mod backup;
mod balance;
mod client;
#[cfg(feature = "sandbox")]
mod demo;
mod examples;
mod failure;
mod features;
mod filters;
mod integration;
mod listings;
mod local;
mod manifest;
mod manual;
mod metering;
mod metering_resolve;
mod moving;
mod output;
mod pages;
mod people;
mod plans;
#[cfg(feature = "sandbox")]
mod rehearsal;
#[cfg(feature = "sandbox")]
mod sandbox;
mod sentences;
mod status;
mod subscriptions;
mod times;
mod tokens;
mod usage;
mod webhook;
mod workers;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use failure::Failure;
use output::Output;

/// Keeps a software seller's customers, plans and bills in step with AWS Marketplace.
///
/// `marketd demo` shows all of it on a local stand-in for AWS, without an AWS account. `marketd run` is the
/// daemon. The other commands speak to a running daemon at MARKETD_URL (default http://127.0.0.1:8480) with
/// the token in MARKETD_TOKEN.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
struct Arguments {
    /// The settings file; if left out, /etc/marketd/marketd.toml is read if it exists.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The format in which answers are printed.
    #[arg(long, global = true, value_enum, default_value = "table")]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(local::Run),
    #[cfg(feature = "sandbox")]
    Demo(demo::Demo),
    #[cfg(feature = "sandbox")]
    Sandbox(sandbox::Sandbox),
    /// Checks the settings and prints each with its origin.
    CheckConfig,
    /// Checks the settings, then tries every AWS call that the daemon needs.
    Doctor,
    Backup(backup::Backup),
    Restore(backup::Restore),
    /// Exits with 0 if the daemon answers; for containers without a shell.
    Healthcheck,
    /// The connection to the seller's AWS account.
    #[command(subcommand)]
    Integration(integration::Integration),
    /// Listings in AWS's catalog.
    #[command(subcommand)]
    Listing(listings::Listing),
    /// Imported listings.
    #[command(subcommand)]
    Product(listings::Product),
    /// Plans that customers subscribe to.
    #[command(subcommand)]
    Plan(plans::Plan),
    /// Features that the application gates.
    #[command(subcommand)]
    Feature(features::Feature),
    Apply(manifest::Apply),
    Export(manifest::Export),
    /// Customers.
    #[command(subcommand)]
    Customer(people::Customer),
    /// Customers' subscriptions to plans.
    #[command(subcommand)]
    Subscription(subscriptions::Subscription),
    /// Reported usage.
    #[command(subcommand)]
    Usage(usage::Usage),
    /// The metering ledger: usage that was billed to AWS.
    #[command(subcommand)]
    Metering(metering::Metering),
    /// Notifications from AWS, as they came.
    #[command(subcommand)]
    Notification(people::Notification),
    /// Events for the application.
    #[command(subcommand)]
    Event(people::Event),
    /// The webhook that events are posted to.
    #[command(subcommand)]
    Webhook(webhook::Webhook),
    /// Tokens of the API.
    #[command(subcommand)]
    Token(tokens::Token),
    /// Who changed what.
    #[command(subcommand)]
    Activity(tokens::Activity),
    Move(moving::Move),
    /// Daemons on the database.
    #[command(subcommand)]
    Worker(workers::Worker),
    Status(status::Status),
    Completions(manual::Completions),
    Man(manual::Man),
}

/// The time that threads are waited for once all is done.
const LEFT_BEHIND: std::time::Duration = std::time::Duration::from_millis(500);

/// Returns the definition of the command line, which help, completions and the manual are made of.
fn command_line() -> clap::Command {
    examples::with_examples(Arguments::command())
}

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    let parsed = command_line().try_get_matches().and_then(|it| Arguments::from_arg_matches(&it));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => return failure::tell_usage(&error),
    };
    let output = arguments.output;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let error = anyhow::Error::new(error).context("no runtime could be started");
            return Failure::Other(error).tell(output);
        }
    };
    let done = runtime.block_on(execute(arguments));
    // What hangs in a thread, as a read of a disk that does not answer, holds up no end.
    runtime.shutdown_timeout(LEFT_BEHIND);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(output),
    }
}

async fn execute(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { config, output, command } = arguments;
    let config = config.as_deref();
    match command {
        // The whole daemon is in this one.
        Command::Run(run) => return Box::pin(run.execute(config, output)).await,
        #[cfg(feature = "sandbox")]
        Command::Demo(demo) => Box::pin(demo.execute()).await?,
        #[cfg(feature = "sandbox")]
        Command::Sandbox(sandbox) => Box::pin(sandbox.execute(config, output)).await?,
        Command::CheckConfig => local::check_config(config, output)?,
        Command::Doctor => return local::doctor(config, output).await,
        Command::Backup(backup) => backup.execute(config, output).await?,
        Command::Restore(restore) => restore.execute(config, output)?,
        Command::Move(moving) => moving.execute(config, output).await?,
        Command::Healthcheck => local::healthcheck(config).await?,
        Command::Integration(command) => command.execute(output).await?,
        Command::Listing(command) => command.execute(output).await?,
        Command::Product(command) => command.execute(output).await?,
        Command::Plan(command) => command.execute(output).await?,
        Command::Feature(command) => command.execute(output).await?,
        Command::Apply(apply) => apply.execute(output).await?,
        Command::Export(export) => export.execute(output).await?,
        Command::Customer(command) => command.execute(output).await?,
        Command::Subscription(command) => command.execute(output).await?,
        Command::Usage(command) => return command.execute(output).await,
        Command::Metering(command) => return command.execute(output).await,
        Command::Notification(command) => command.execute(output).await?,
        Command::Event(command) => command.execute(output).await?,
        Command::Webhook(command) => command.execute(output).await?,
        Command::Token(command) => command.execute(output)?,
        Command::Activity(command) => command.execute(output).await?,
        Command::Worker(command) => command.execute(output).await?,
        Command::Status(command) => command.execute(output).await?,
        Command::Completions(completions) => completions.execute(command_line())?,
        Command::Man(man) => man.execute(command_line(), output)?,
    }
    Ok(())
}

/// Parses `KEY=VALUE` from the command line.
fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err("write it as KEY=VALUE".into()),
    }
}

/// Makes a JSON object of the values that were given.
fn object(
    members: impl IntoIterator<Item = (&'static str, Option<serde_json::Value>)>,
) -> serde_json::Value {
    members
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}
