//! `marketd status`: how the daemon stands, and what needs a person.

use std::io::{self, Write as _};

use serde_json::Value;

use super::client::Daemon;
use super::output::{Output, amount, inert};
use crate::domain::counted::plural;

/// Shows how the daemon stands, and what needs a person.
///
/// Counts, deadlines and, money first, each problem with what it means and what to do. Exits with 0 whatever it finds.
#[derive(Debug, clap::Args)]
pub(super) struct Status {}

impl Status {
    pub(super) async fn execute(self, output: Output) -> anyhow::Result<()> {
        let status = Daemon::from_environment(output)?.get("/v1/status").await?;
        if output == Output::Json {
            return output.one(&status);
        }
        let mut out = io::stdout().lock();
        for line in lines(&status) {
            writeln!(out, "{}", inert(&line))?;
        }
        Ok(())
    }
}

/// Returns the lines that tell a person how the daemon stands.
fn lines(status: &Value) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    };
    let counts = &status["counts"];
    let subscriptions: Vec<String> = counts["subscriptions"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(status, count)| format!("{} {status}", amount(count)))
        .collect();
    let usage = &status["usage"];
    let part = |name: &str| amount(&usage[name]);
    let mut lines = vec![
        format!(
            "marketd {}, up {}, {}",
            text(&status["version"]),
            duration(status["uptime_seconds"].as_i64().unwrap_or(0)),
            text(&status["engine"]),
        ),
        format!(
            "customers      {}, {} of them unclaimed",
            amount(&counts["customers"]),
            amount(&counts["unclaimed"]["count"])
        ),
        format!(
            "subscriptions  {}",
            if subscriptions.is_empty() { "none".to_owned() } else { subscriptions.join(", ") }
        ),
        format!(
            "usage          {} units reported = {} accepted + {} pending + {} parked + {} written off",
            part("reported"),
            part("accepted"),
            part("pending"),
            part("parked"),
            part("written_off"),
        ),
        format!("next deadline  {}", text(&status["next_deadline"])),
        format!("last message   {}", text(&status["last_message_at"])),
        format!("queue          {}", queue(&status["queue"])),
        format!(
            "sweep          last {}, next {}",
            text(&status["sweep"]["last_at"]),
            text(&status["sweep"]["next_at"])
        ),
    ];
    let backlog = &status["webhook_backlog"];
    if backlog.is_number() {
        let events = plural(backlog.as_u64().unwrap_or(0), "event");
        lines.push(format!("webhook        {} {events} to post", amount(backlog)));
    }
    let problems = status["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
    lines.push(String::new());
    lines.push(match problems.len() {
        0 => "nothing needs a person".to_owned(),
        1 => "1 thing needs a person:".to_owned(),
        many => format!("{many} things need a person:"),
    });
    for problem in problems {
        lines.push(String::new());
        lines.push(format!("{}: {}", text(&problem["risk"]), text(&problem["summary"])));
        lines.push(format!("  means  {}", text(&problem["means"])));
        lines.push(format!("  do     {}", text(&problem["remedy"])));
        lines.push(format!("  see    {}", text(&problem["link"])));
    }
    lines
}

/// Returns the queue's backlog in words.
fn queue(queue: &Value) -> String {
    if queue.is_null() {
        return "none is set".to_owned();
    }
    let depth = match queue["reason"].as_str() {
        Some(reason) => format!("depth not known: {reason}"),
        None if queue["depth"].is_null() => "depth not known yet".to_owned(),
        None => format!(
            "{} waiting, {} in flight",
            amount(&queue["depth"]),
            amount(&queue["in_flight"])
        ),
    };
    match queue["age_seconds"].as_i64() {
        Some(0) => format!("{depth}; the last receive found none that had waited"),
        Some(age) => {
            format!("{depth}; the oldest that was last received had waited {}", duration(age))
        }
        None => depth,
    }
}

/// Returns a duration in its two largest units.
fn duration(seconds: i64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut left = seconds.max(0);
    let mut parts = Vec::new();
    for (length, unit) in units {
        if left >= length {
            parts.push(format!("{} {unit}", left / length));
        }
        left %= length;
    }
    parts.truncate(2);
    if parts.is_empty() { "0 s".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_in_two_units() {
        let rows =
            [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3_725, "1 h 2 min"), (180_000, "2 d 2 h")];
        for (seconds, said) in rows {
            assert_eq!(duration(seconds), said);
        }
    }
}
