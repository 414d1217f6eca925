//! Cells of tables: values as people read them.

use comfy_table::{Cell, CellAlignment, Color};
use rust_decimal::Decimal;
use serde_json::Value;

use super::inert::inert;
use crate::domain::ledger::shown_state;

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Column<'a> {
    pub(super) heading: &'a str,
    /// Where its value is in a row: a key, or dotted keys.
    pub(super) path: &'a str,
    pub(super) kind: Kind,
}

/// What a column holds, which decides how it is aligned, coloured and cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What another command may be given, which is cut last.
    Id,
    /// A moment, which is shown to the minute where the seconds do not fit.
    Time,
    /// Prose, which is cut first.
    Text,
    /// A number.
    Number,
    /// A number whose sum over the rows means something.
    Sum,
    /// A word for a state, coloured by what it means.
    State,
}

impl<'a> Column<'a> {
    /// Makes a column of ids and other words that are cut only where nothing else helps.
    pub(in crate::cli) const fn id(heading: &'a str, path: &'a str) -> Self {
        Self { heading, path, kind: Kind::Id }
    }

    /// Makes a column of times.
    pub(in crate::cli) const fn time(heading: &'a str, path: &'a str) -> Self {
        Self { heading, path, kind: Kind::Time }
    }

    /// Makes a column of prose.
    pub(in crate::cli) const fn text(heading: &'a str, path: &'a str) -> Self {
        Self { heading, path, kind: Kind::Text }
    }

    /// Makes a column of numbers.
    pub(in crate::cli) const fn number(heading: &'a str, path: &'a str) -> Self {
        Self { heading, path, kind: Kind::Number }
    }

    /// Makes a column of numbers with their sum below them.
    pub(in crate::cli) const fn sum(heading: &'a str, path: &'a str) -> Self {
        Self { heading, path, kind: Kind::Sum }
    }

    /// Makes a column of states.
    pub(in crate::cli) const fn state(heading: &'a str, path: &'a str) -> Self {
        Self { heading, path, kind: Kind::State }
    }

    /// Returns the value that a row has for it.
    pub(super) fn of(self, row: &Value) -> &Value {
        let nested = || self.path.split('.').fold(row, |value, key| &value[key]);
        row.get(self.path).unwrap_or_else(nested)
    }

    /// Returns the text that a row has for it.
    pub(super) fn text_of(self, row: &Value) -> String {
        match self.kind {
            Kind::State => state_of(row, self.of(row)),
            kind => kind.text(self.of(row)),
        }
    }
}

impl Kind {
    /// Returns the kind of what stands under this key in a document.
    pub(super) fn of_key(key: &str, value: &Value) -> Self {
        let last = key.rsplit('.').next().unwrap_or(key);
        match last {
            "has_access" | "ok" | "state" | "status" => Self::State,
            "accepted" | "included" | "limit" | "parked" | "pending" | "quantity" | "remaining"
            | "reported" | "uncertain" | "units" | "usage" | "written_off" => Self::Number,
            _ if last == "at" || last == "hour" || last.ends_with("_at") => Self::Time,
            _ if value.is_number() => Self::Number,
            _ => Self::Text,
        }
    }

    /// Returns a value's text.
    pub(super) fn text(self, value: &Value) -> String {
        match self {
            Self::Number | Self::Sum => amount(value),
            Self::Id | Self::Time | Self::Text | Self::State => shown(value),
        }
    }
}

/// Returns the text of a state, by the row or document that has it: a metering record that went on to a later hour is not one
/// that was given up.
pub(super) fn state_of(row: &Value, value: &Value) -> String {
    match value.as_str() {
        Some(state) => inert(shown_state(state, row["reason"].as_str())),
        None => shown(value),
    }
}

/// Makes a cell of a column's text.
pub(super) fn cell(kind: Kind, text: &str) -> Cell {
    let cell = Cell::new(text);
    match kind {
        Kind::Number | Kind::Sum => cell.set_alignment(CellAlignment::Right),
        Kind::State => match meaning(text) {
            Some(colour) => cell.fg(colour),
            None => cell,
        },
        Kind::Id | Kind::Time | Kind::Text => cell,
    }
}

/// Returns the colour for what a word of state means: well, in between, amiss, or over.
fn meaning(word: &str) -> Option<Color> {
    Some(match word {
        "accepted" | "active" | "applied" | "connected" | "delivered" | "published" | "yes" => {
            Color::DarkGreen
        }
        "draft" | "ending" | "open" | "pending" | "ready" | "sending" | "trialing" => {
            Color::DarkYellow
        }
        "failed" | "failing" | "given_up" | "no" | "parked" | "quarantined" | "refused" => {
            Color::DarkRed
        }
        "archived" | "canceled" | "carried_forward" | "discarded" | "expired" | "written_off" => {
            Color::DarkGrey
        }
        _ => return None,
    })
}

/// Returns a value as a line of text.
pub(in crate::cli) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => inert(text),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::Array(items) if items.is_empty() => "-".into(),
        Value::Object(members) if members.is_empty() => "-".into(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(","),
        other => inert(&other.to_string()),
    }
}

/// Returns a number with its thousands apart; what is no number stays as it is.
pub(in crate::cli) fn amount(value: &Value) -> String {
    grouped(&shown(value))
}

/// Separates the thousands of a number: 1234567.5 is 1,234,567.5.
fn grouped(text: &str) -> String {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return text.to_owned();
    }
    let mut grouped = sign.to_owned();
    for (place, digit) in whole.char_indices() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if !fraction.is_empty() {
        grouped.push('.');
        grouped.push_str(fraction);
    }
    grouped
}

/// Returns a time to the minute: 2026-11-29 06:00 for 2026-11-29T06:00:12.345Z.
pub(super) fn to_the_minute(time: &str) -> String {
    match (time.get(..10), time.get(10..11), time.get(11..16)) {
        (Some(date), Some("T"), Some(minute)) => format!("{date} {minute}"),
        _ => time.to_owned(),
    }
}

/// Returns the number that a value is, as the API writes them: a JSON number or a decimal string.
pub(super) fn decimal(value: &Value) -> Option<Decimal> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart_and_other_text_is_left_alone() {
        for (text, expected) in [
            ("0", "0"),
            ("999", "999"),
            ("1000", "1,000"),
            ("-1234567.25", "-1,234,567.25"),
            ("12345.6789", "12,345.6789"),
            ("", ""),
            ("-", "-"),
            ("1e21", "1e21"),
            ("1.2.3", "1.2.3"),
            ("2026-11-29", "2026-11-29"),
            ("١٢٣٤", "١٢٣٤"),
        ] {
            assert_eq!(grouped(text), expected);
        }
    }
}
