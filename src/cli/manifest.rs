//! `marketd apply` and `export`: the catalogue as a file in the seller's version control.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::Value;

use super::client::{Daemon, Refused};
use super::output::{Output, print_json, say};
use crate::domain::manifest::Catalogue;

/// Applies a catalogue file: products' mappings, features, plans and their entitlements, whole or not at all.
///
/// `marketd export` writes such a file. What it does not name stays as it is, within things too: a plan without
/// `entitlements` keeps what it grants, a product without `plans` its mapping, a feature without `dimensions` what
/// it is billed to. A table that is there is all that there is: what it leaves out is taken away, and a dry run shows
/// that as lines with a minus. Who comes to have less, more or other features is shown in lines with an exclamation mark.
/// A draft of a plan is kept as the changes that it makes; if it changes what the file changes, the file is refused. The
/// tables `held` are written for the reader and never applied. A listing that the file names and that is not imported yet is imported. Where a plan
/// is published in the file, what it grants there is published.
#[derive(Debug, Args)]
pub(super) struct Apply {
    /// The catalogue file, in TOML; - reads standard input.
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    file: PathBuf,
    /// Shows what would change, and changes nothing.
    #[arg(long)]
    dry_run: bool,
    /// The subscribers that changes to published plans apply to: `all` brings everybody to the new version, those who
    /// were held to an older one included; `new` holds present subscribers to what they have. If left out, a change
    /// applies to everybody, and those who were held to an older version keep the rest of it.
    #[arg(long, value_parser = ["all", "new"])]
    to: Option<String>,
}

impl Apply {
    pub(super) async fn execute(self, output: Output) -> anyhow::Result<()> {
        let text = if self.file.as_os_str() == "-" {
            std::io::read_to_string(std::io::stdin()).context("standard input cannot be read")?
        } else {
            std::fs::read_to_string(&self.file)
                .with_context(|| format!("{} cannot be read", self.file.display()))?
        };
        let shown = self.file.display();
        let file: Value = toml::from_str(&text)
            .with_context(|| format!("{shown} is not TOML as it should be"))?;
        if let Err((place, fault)) = check(&file) {
            let line = line_of(&text, &place).unwrap_or(1);
            bail!("{shown}, line {line}: {}: {fault}", place.join("."));
        }
        let daemon = Daemon::from_environment(output)?;
        let to = self.to.map(|to| format!("&to={to}")).unwrap_or_default();
        let path = format!("/v1/catalogue?dry_run={}{to}", self.dry_run);
        let answer = daemon.post(&path, file).await;
        let answer = answer.map_err(|error| {
            let refused = error.downcast_ref::<Refused>();
            match refused.and_then(|refused| line_of(&text, &refused.at())) {
                Some(line) => error.context(format!("{shown}, line {line}")),
                None => error,
            }
        })?;
        if output == Output::Json {
            return print_json(&answer);
        }
        let changes = answer["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
        for change in changes {
            say(&line(change))?;
        }
        for group in answer["regranted"].as_array().into_iter().flatten() {
            for line in regranted(group) {
                say(&line)?;
            }
        }
        for (kind, ids) in answer["unmanaged"].as_object().into_iter().flatten() {
            let ids: Vec<&str> =
                ids.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            if !ids.is_empty() {
                say(&format!("# {kind} that the file does not name: {}", ids.join(", ")))?;
            }
        }
        let made = match changes.len() {
            0 => return say("nothing to change"),
            1 => "1 change".to_owned(),
            count => format!("{count} changes"),
        };
        let removals = match answer["removals"].as_u64() {
            None | Some(0) => String::new(),
            Some(count) => format!(", of which {count} take something away"),
        };
        if self.dry_run {
            say(&format!("{made} would be made{removals}; this was a dry run"))
        } else {
            say(&format!("{made} made{removals}"))
        }
    }
}

/// Checks that the file has the form of a catalogue; if not, returns the keys that lead to what is wrong, and what that
/// is.
fn check(file: &Value) -> Result<(), (Vec<String>, serde_json::Error)> {
    use serde_path_to_error::Segment;
    serde_path_to_error::deserialize::<_, Catalogue>(file).map(drop).map_err(|error| {
        let keys = error.path().iter().filter_map(|segment| match segment {
            Segment::Map { key } => Some(key.clone()),
            _ => None,
        });
        (keys.collect(), error.into_inner())
    })
}

/// Finds the line of the file on which the last of these keys stands that are there.
fn line_of(text: &str, keys: &[String]) -> Option<usize> {
    let document = toml::de::DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    let mut found = None;
    for key in keys {
        let Some((name, value)) = table.iter().find(|(name, _)| name.get_ref() == key) else {
            break;
        };
        found = Some(name.span().start);
        match value.get_ref() {
            toml::de::DeValue::Table(inner) => table = inner,
            _ => break,
        }
    }
    Some(text.get(..found?)?.matches('\n').count() + 1)
}

/// Renders a change: `+` for an addition, `-` for a removal, `~` for another value.
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

/// Renders the customers whose features change: a line for what they lose, gain, and have otherwise.
fn regranted(group: &Value) -> Vec<String> {
    let plan = |id: &str, version: &str| {
        let Some(id) = group[id].as_str() else { return "no plan".to_owned() };
        match group[version].as_i64() {
            Some(version) => format!("{id} (version {version})"),
            None => format!("{id} (not published)"),
        }
    };
    let (from, to) = (plan("plan_id", "version"), plan("to_plan_id", "to_version"));
    let count = group["subscriptions"].as_u64().unwrap_or_default();
    let customers = group["customers"].as_array().into_iter().flatten();
    let mut names: Vec<&str> = customers.filter_map(Value::as_str).take(NAMED + 1).collect();
    let more = if names.len() > NAMED { ", …" } else { "" };
    names.truncate(NAMED);
    let subscriptions = if count == 1 { "subscription comes" } else { "subscriptions come" };
    let mut lines =
        vec![format!("! {count} {subscriptions} from {from} to {to}: {}{more}", names.join(", "))];
    for (kind, word) in [("loses", "less"), ("gains", "more"), ("changes", "otherwise")] {
        let features = group[kind].as_array().into_iter().flatten();
        let features: Vec<&str> = features.filter_map(|it| it["feature_id"].as_str()).collect();
        if !features.is_empty() {
            lines.push(format!("!   {word} of {}", features.join(", ")));
        }
    }
    lines
}

/// The number of customers of a group that are named on the terminal.
const NAMED: usize = 10;

/// Writes the catalogue as a file that `marketd apply` takes.
#[derive(Debug, Args)]
pub(super) struct Export {}

impl Export {
    pub(super) async fn execute(self, output: Output) -> anyhow::Result<()> {
        let answer = Daemon::from_environment(output)?.get("/v1/catalogue").await?;
        if output == Output::Json {
            return print_json(&answer);
        }
        let catalogue: Catalogue = serde_json::from_value(answer)?;
        let mut out = super::output::file_out();
        writeln!(out, "# What marketd sells, as `marketd apply -f FILE` takes it.\n")?;
        Ok(write!(out, "{}", toml::to_string(&catalogue)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_the_file_is_found_however_it_is_written() {
        let text = "[plans.a]\nname = \"A\"\nentitlements = { x = {} }\n\n[plans.b.entitlements]\n\"y.z\" = {}\n";
        let line = |keys: &[&str]| {
            line_of(text, &keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(line(&["plans", "a"]), Some(1));
        assert_eq!(line(&["plans", "a", "entitlements", "x"]), Some(3));
        assert_eq!(line(&["plans", "b", "entitlements", "y.z"]), Some(6));
        assert_eq!(line(&["plans", "a", "draft", "x"]), Some(1), "as far as it is there");
        assert_eq!(line(&["features"]), None);
    }
}
