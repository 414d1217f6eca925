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
        let mut table = Table::new(columns);
        table.rows(answer["items"].as_array().map(Vec::as_slice).unwrap_or_default())?;
        table.end()
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

/// A table that is printed part by part; its columns are as wide as what has come so far.
pub(super) struct Table<'a> {
    columns: &'a [Column],
    /// None while nothing is printed.
    widths: Option<Vec<usize>>,
    empty: bool,
}

impl<'a> Table<'a> {
    pub(super) const fn new(columns: &'a [Column]) -> Self {
        Self { columns, widths: None, empty: true }
    }

    pub(super) fn rows(&mut self, rows: &[Value]) -> anyhow::Result<()> {
        let mut lines: Vec<Vec<String>> = Vec::with_capacity(rows.len() + 1);
        if self.widths.is_none() {
            lines.push(self.columns.iter().map(|(heading, _)| (*heading).to_owned()).collect());
        }
        for row in rows {
            lines.push(self.columns.iter().map(|(_, path)| cell(row, path)).collect());
        }
        self.empty &= rows.is_empty();
        let widths = self.widths.get_or_insert_with(|| vec![0; self.columns.len()]);
        for line in &lines {
            for (text, width) in line.iter().zip(widths.iter_mut()) {
                *width = text.chars().count().max(*width);
            }
        }
        let mut out = io::stdout().lock();
        for line in &lines {
            let mut text = String::new();
            for (cell, width) in line.iter().zip(&*widths) {
                text.push_str(&format!("{cell:<width$}  "));
            }
            writeln!(out, "{}", text.trim_end())?;
        }
        Ok(())
    }

    pub(super) fn end(self) -> anyhow::Result<()> {
        if self.empty {
            say("(none)")?;
        }
        Ok(())
    }
}

/// Prints JSON, indented.
pub(super) fn print_json(value: &Value) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    // As an error of the output's own, by which a reader who has had enough is told.
    serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

/// Prints a line.
pub(super) fn say(line: &str) -> anyhow::Result<()> {
    writeln!(io::stdout().lock(), "{line}")?;
    Ok(())
}

/// Tells of something beside a command's answer.
pub(super) fn warn(line: &str) {
    // Nobody is left to tell if standard error is closed.
    writeln!(io::stderr(), "marketd: {line}").ok();
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
