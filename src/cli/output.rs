//! What commands print: tables for people, the API's own JSON for programs.

use std::io::{self, Write as _};

use clap::ValueEnum;
use serde_json::Value;

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// Aligned columns.
    Table,
    /// The API's JSON as it is.
    Json,
}

/// A column: its heading and where its value is, as dotted keys.
pub(super) type Column = (&'static str, &'static str);

impl Output {
    /// Prints a list.
    pub(super) fn list(self, answer: &Value, columns: &[Column]) -> anyhow::Result<()> {
        if self == Self::Json {
            return print_json(answer);
        }
        let rows = answer["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut table =
            vec![columns.iter().map(|(heading, _)| (*heading).to_owned()).collect::<Vec<_>>()];
        for row in rows {
            table.push(columns.iter().map(|(_, path)| cell(row, path)).collect());
        }
        let widths: Vec<usize> = (0..columns.len())
            .map(|at| table.iter().filter_map(|row| row.get(at)).map(|it| it.chars().count()).max())
            .map(Option::unwrap_or_default)
            .collect();
        let mut out = io::stdout().lock();
        for row in &table {
            let mut line = String::new();
            for (text, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{text:<width$}  "));
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        if rows.is_empty() {
            writeln!(out, "(none)")?;
        }
        Ok(())
    }

    /// Prints one thing, a key a line.
    pub(super) fn one(self, answer: &Value) -> anyhow::Result<()> {
        if self == Self::Json {
            return print_json(answer);
        }
        let mut lines = Vec::new();
        flatten("", answer, &mut lines);
        let width = lines.iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0);
        let mut out = io::stdout().lock();
        for (key, value) in lines {
            writeln!(out, "{key:<width$}  {value}")?;
        }
        Ok(())
    }
}

/// Prints JSON, indented.
pub(super) fn print_json(value: &Value) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}

/// Prints a line.
pub(super) fn say(line: &str) -> anyhow::Result<()> {
    writeln!(io::stdout().lock(), "{line}")?;
    Ok(())
}

fn cell(row: &Value, path: &str) -> String {
    let found = path.split('.').fold(row, |value, key| &value[key]);
    shown(found)
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn flatten(prefix: &str, value: &Value, lines: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (key, value) in members {
                let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&key, value, lines);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (place, item) in items.iter().enumerate() {
                flatten(&format!("{prefix}[{place}]"), item, lines);
            }
        }
        other => lines.push((prefix.to_owned(), shown(other))),
    }
}
