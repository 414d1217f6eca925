//! `marketd apply` and `export`: the catalogue as a file in the seller's version control.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

use super::client::Daemon;
use super::output::{Output, print_json, say};
use crate::domain::catalogue::Catalogue;

/// Makes products' mappings, features, plans and what they grant what a file says, whole or not at all.
///
/// `marketd export` writes such a file. What it does not name stays as it is. A listing that it names and that is
/// not imported yet is imported. Where a plan is published in the file, what it grants there is published.
#[derive(Debug, Args)]
pub(super) struct Apply {
    /// The file, in TOML; - reads standard input.
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    file: PathBuf,
    /// Shows what would change, and changes nothing.
    #[arg(long)]
    dry_run: bool,
    /// Whom changes to published plans are for: everybody on them, or those who come from now on.
    #[arg(long, value_parser = ["all", "new"], default_value = "all")]
    to: String,
}

impl Apply {
    pub(super) async fn execute(self, output: Output) -> anyhow::Result<()> {
        let text = if self.file.as_os_str() == "-" {
            std::io::read_to_string(std::io::stdin()).context("standard input cannot be read")?
        } else {
            std::fs::read_to_string(&self.file)
                .with_context(|| format!("{} cannot be read", self.file.display()))?
        };
        let file: Value = toml::from_str(&text)
            .with_context(|| format!("{} is not TOML as it should be", self.file.display()))?;
        let daemon = Daemon::from_environment()?;
        let path = format!("/v1/catalogue?dry_run={}&to={}", self.dry_run, self.to);
        let answer = daemon.post(&path, file).await?;
        if output == Output::Json {
            return print_json(&answer);
        }
        let changes = answer["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
        for change in changes {
            say(&line(change))?;
        }
        for (kind, ids) in answer["unmanaged"].as_object().into_iter().flatten() {
            let ids: Vec<&str> =
                ids.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            if !ids.is_empty() {
                say(&format!("# {kind} that the file does not name: {}", ids.join(", ")))?;
            }
        }
        let count = changes.len();
        match (count, self.dry_run) {
            (0, _) => say("nothing to change"),
            (_, true) => say(&format!("{count} changes would be made; this was a dry run")),
            (_, false) => say(&format!("{count} changes made")),
        }
    }
}

/// `+` for what comes, `-` for what goes, `~` for what changes.
fn line(change: &Value) -> String {
    let path = change["path"].as_str().unwrap_or_default();
    match (change.get("before"), change.get("after")) {
        (None, Some(after)) => format!("+ {path} = {after}"),
        (Some(before), None) => format!("- {path} = {before}"),
        (before, after) => {
            let text = |value: Option<&Value>| value.map(Value::to_string).unwrap_or_default();
            format!("~ {path}: {} -> {}", text(before), text(after))
        }
    }
}

/// Writes the catalogue as a file that `marketd apply` takes.
#[derive(Debug, Args)]
pub(super) struct Export {}

impl Export {
    pub(super) async fn execute(self, output: Output) -> anyhow::Result<()> {
        let answer = Daemon::from_environment()?.get("/v1/catalogue").await?;
        if output == Output::Json {
            return print_json(&answer);
        }
        let catalogue: Catalogue = serde_json::from_value(answer)?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "# What marketd sells, as `marketd apply -f FILE` takes it.\n")?;
        Ok(write!(out, "{}", toml::to_string(&catalogue)?)?)
    }
}
