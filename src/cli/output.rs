//! The output of commands: tables for people, the API's own JSON for programs.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use serde_json::Value;

/// The format in which answers are printed.
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

    /// Prints one item, a key on each line.
    pub(super) fn one(self, answer: &Value) -> anyhow::Result<()> {
        if self == Self::Json {
            return print_json(answer);
        }
        let mut lines = Vec::new();
        flatten("", answer, &mut lines);
        let width = lines.iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0);
        let mut out = io::stdout().lock();
        for (key, value) in lines {
            writeln!(out, "{key:<width$}  {value}", key = inert(&key))?;
        }
        Ok(())
    }
}

/// A table that is printed part by part; its columns are as wide as what has come so far.
pub(super) struct Table<'a> {
    columns: &'a [Column],
    /// The columns' widths; none while nothing is printed.
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
    let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
    // serde leaves some of them as they are; such a character stands in a string, where this is the same one.
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if acts(character) && character != '\n' {
            safe.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            safe.push(character);
        }
    }
    writeln!(io::stdout().lock(), "{safe}")?;
    Ok(())
}

/// Prints a line.
pub(super) fn say(line: &str) -> anyhow::Result<()> {
    writeln!(io::stdout().lock(), "{}", inert_lines(line))?;
    Ok(())
}

/// Reports whether a terminal acts on a character instead of showing it: controls, and marks of text direction.
fn acts(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// Escapes foreign text for a line of output: nothing in it moves the cursor, sets a colour or hides what follows.
pub(super) fn inert(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' | '\t' => shown.extend(character.escape_default()),
            it if acts(it) => shown.extend(it.escape_unicode()),
            it => shown.push(it),
        }
    }
    shown
}

/// Escapes foreign text of several lines.
pub(super) fn inert_lines(text: &str) -> String {
    text.split('\n').map(inert).collect::<Vec<_>>().join("\n")
}

/// Returns standard output for a whole file: unchanged into a file or a pipe, escaped for a terminal.
pub(super) fn file_out() -> Box<dyn io::Write> {
    let out = io::stdout();
    if out.is_terminal() { Box::new(Inert { out, held: false }) } else { Box::new(out) }
}

/// A writer that escapes what a terminal would act on.
struct Inert<W> {
    out: W,
    /// True if the byte before was the first half of a character that may be a control.
    held: bool,
}

impl<W: io::Write> io::Write for Inert<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut shown = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            let held = std::mem::replace(&mut self.held, false);
            match byte {
                0x80..=0x9f if held => shown.extend(format!("\\u{{{byte:x}}}").bytes()),
                0xc2 => self.held = true,
                byte => {
                    if held {
                        shown.push(0xc2);
                    }
                    let acts = byte.is_ascii_control() && !b"\n\t".contains(&byte);
                    if acts {
                        shown.extend(format!("\\u{{{byte:x}}}").bytes());
                    } else {
                        shown.push(byte);
                    }
                }
            }
        }
        self.out.write_all(&shown)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Prints a warning beside a command's answer.
pub(super) fn warn(line: &str) {
    // Nobody is left to tell if standard error is closed.
    writeln!(io::stderr(), "marketd: {}", inert_lines(line)).ok();
}

fn cell(row: &Value, path: &str) -> String {
    let found = path.split('.').fold(row, |value, key| &value[key]);
    shown(found)
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => inert(text),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(","),
        other => inert(&other.to_string()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_on_a_terminal_shows_controls_by_their_numbers_wherever_it_is_cut() {
        let text = "a\u{1b}[31m\u{9b}2Jé\r\u{7f}\n";
        for cut in 0..text.len() {
            let mut inert = Inert { out: Vec::new(), held: false };
            let (one, two) = text.as_bytes().split_at(cut);
            inert.write_all(one).unwrap();
            inert.write_all(two).unwrap();
            let shown = String::from_utf8(inert.out).unwrap();
            assert_eq!(shown, "a\\u{1b}[31m\\u{9b}2Jé\\u{d}\\u{7f}\n", "{cut}");
        }
    }
}
