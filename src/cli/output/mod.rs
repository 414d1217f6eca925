//! The output of commands: sentences and tables for people, the API's own JSON for programs.

mod cells;
mod document;
mod inert;
mod progress;
mod screen;
mod table;

use std::io::{self, Write as _};

use clap::ValueEnum;
use serde_json::{Value, json};

pub(super) use cells::{Column, amount, shown};
pub(super) use inert::{file_out, hint, inert, inert_lines};
pub(super) use progress::Progress;
use screen::Screen;
pub(super) use table::Table;

/// The format in which answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// Sentences and aligned columns.
    Table,
    /// The API's JSON as it is: one document on standard output. Errors are JSON on standard error, one a line.
    Json,
}

impl Output {
    /// Prints a list.
    pub(super) fn list(self, answer: &Value, columns: &[Column]) -> anyhow::Result<()> {
        if self == Self::Json {
            return print_json(answer);
        }
        // It is whole and short: what does not fit goes on in the next line.
        let mut table = Table::new(columns).wrapping();
        table.rows(answer["items"].as_array().map(Vec::as_slice).unwrap_or_default())?;
        table.end()
    }

    /// Prints one thing in full.
    pub(super) fn one(self, answer: &Value) -> anyhow::Result<()> {
        if self == Self::Json {
            return print_json(answer);
        }
        let lines = document::lines(Screen::of_stdout(), answer);
        Ok(write!(io::stdout().lock(), "{lines}")?)
    }

    /// Prints what a command has done: the answer as JSON, or these sentences, a line each.
    pub(super) fn done(self, answer: &Value, sentences: &[String]) -> anyhow::Result<()> {
        if self == Self::Json {
            return print_json(answer);
        }
        let mut out = io::stdout().lock();
        for sentence in sentences {
            writeln!(out, "{}", inert(sentence))?;
        }
        Ok(())
    }

    /// Prints a warning beside a command's answer.
    pub(super) fn warn(self, line: &str) {
        let said = match self {
            Self::Table => writeln!(io::stderr(), "marketd: {}", inert_lines(line)),
            Self::Json => complain(&problem("warning", line)),
        };
        // Nobody is left to tell if standard error is closed.
        said.ok();
    }
}

/// Makes problem details as the API answers them, of this kind.
pub(super) fn problem(kind: &str, detail: &str) -> Value {
    json!({
        "type": format!("urn:marketd:problem:{kind}"),
        "title": kind.replace('-', " "),
        "detail": detail,
    })
}

/// Prints problem details on standard error, as one line.
pub(super) fn complain(problem: &Value) -> io::Result<()> {
    writeln!(io::stderr(), "{}", escaped(&problem.to_string()))
}

/// Prints JSON, indented.
pub(super) fn print_json(value: &Value) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
    writeln!(io::stdout().lock(), "{}", escaped(&text))?;
    Ok(())
}

/// Escapes what a terminal acts on and serde leaves as it is. It stands in a string, where this is the same character.
fn escaped(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for character in json.chars() {
        if inert::acts(character) && character != '\n' {
            safe.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            safe.push(character);
        }
    }
    safe
}

/// Prints a line.
pub(super) fn say(line: &str) -> anyhow::Result<()> {
    writeln!(io::stdout().lock(), "{}", inert_lines(line))?;
    Ok(())
}
