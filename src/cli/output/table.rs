//! Tables: columns as wide as what they hold, or as the terminal allows.

use std::io::{self, Write as _};

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, ColumnConstraint, Row, Table as Drawn, Width};
use rust_decimal::Decimal;
use serde_json::Value;
use unicode_width::UnicodeWidthStr as _;

use super::cells::{Column, Kind, cell, decimal, to_the_minute};
use super::inert::hint;
use super::screen::Screen;

/// The blanks between two columns.
const GAP: usize = 2;
/// The width below which nothing is cut while there is something wider to cut.
const MOSTLY: usize = 12;
/// The width below which nothing is cut: less would say nothing.
const LEAST: usize = 4;

/// What becomes of text that is longer than its column may be on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overlong {
    /// It is cut, with an ellipsis.
    Cut,
    /// It goes on in the next line.
    Wrap,
}

/// A table that is printed part by part; its columns are as wide as what has come so far.
pub(in crate::cli) struct Table<'a> {
    columns: &'a [Column<'a>],
    screen: Screen,
    overlong: Overlong,
    /// The columns' widths; none while nothing is printed.
    widths: Option<Vec<usize>>,
    /// True if the seconds of times did not fit.
    is_to_the_minute: bool,
    /// True if ids did not fit.
    is_cut: bool,
    sums: Vec<Decimal>,
    rows: usize,
}

impl<'a> Table<'a> {
    pub(in crate::cli) fn new(columns: &'a [Column<'a>]) -> Self {
        Self::on(Screen::of_stdout(), columns)
    }

    pub(super) fn on(screen: Screen, columns: &'a [Column<'a>]) -> Self {
        let sums = vec![Decimal::ZERO; columns.len()];
        Self {
            columns,
            screen,
            overlong: Overlong::Cut,
            widths: None,
            is_to_the_minute: false,
            is_cut: false,
            sums,
            rows: 0,
        }
    }

    /// Has overlong text go on in the next line.
    #[must_use]
    pub(super) fn wrapping(mut self) -> Self {
        self.overlong = Overlong::Wrap;
        self
    }

    /// Prints rows.
    pub(in crate::cli) fn rows(&mut self, rows: &[Value]) -> anyhow::Result<()> {
        Ok(write!(io::stdout().lock(), "{}", self.drawn(rows))?)
    }

    /// Prints the totals, or that there is nothing.
    pub(in crate::cli) fn end(mut self) -> anyhow::Result<()> {
        write!(io::stdout().lock(), "{}", self.drawn_end())?;
        if self.is_cut {
            hint("ids are cut to fit the terminal: a pipe, or --output json, has them in full");
        }
        Ok(())
    }

    /// Returns the lines of rows, below the headings if they are the first.
    pub(super) fn drawn(&mut self, rows: &[Value]) -> String {
        if rows.is_empty() {
            return String::new();
        }
        let mut lines = Vec::with_capacity(rows.len() + 1);
        if self.widths.is_none() {
            lines.push(self.columns.iter().map(|it| it.heading.to_owned()).collect());
        }
        let headings = lines.len();
        for row in rows {
            for (column, sum) in self.columns.iter().zip(&mut self.sums) {
                *sum += decimal(column.of(row)).unwrap_or_default();
            }
            lines.push(self.columns.iter().map(|it| it.text_of(row)).collect());
        }
        self.rows += rows.len();
        self.lines(lines, headings)
    }

    /// Returns the line of the totals, if a column has one and there is more than one row.
    fn drawn_end(&mut self) -> String {
        if self.rows == 0 {
            return "(none)\n".to_owned();
        }
        if self.rows == 1 || self.columns.iter().all(|it| it.kind != Kind::Sum) {
            return String::new();
        }
        let mut line: Vec<String> = Vec::with_capacity(self.columns.len());
        for (column, sum) in self.columns.iter().zip(&self.sums) {
            line.push(match column.kind {
                kind @ Kind::Sum => kind.text(&sum.normalize().to_string().into()),
                _ => String::new(),
            });
        }
        if let Some(first) = line.first_mut() {
            "TOTAL".clone_into(first);
        }
        self.lines(vec![line], 0)
    }

    /// Lays out lines, of which the first few are headings.
    fn lines(&mut self, mut lines: Vec<Vec<String>>, headings: usize) -> String {
        if let Some(most) = self.screen.width {
            let room = most.saturating_sub(GAP * self.columns.len().saturating_sub(1));
            let mut widths = self.widths_of(&lines);
            self.is_to_the_minute |= widths.iter().sum::<usize>() > room;
            if self.is_to_the_minute {
                self.shorten_times(&mut lines[headings..]);
                widths = self.widths_of(&lines);
            }
            self.is_cut |= fit(self.columns, &mut widths, room, self.overlong);
            self.widths = Some(widths);
        } else {
            self.widths = Some(self.widths_of(&lines));
        }
        let widths = self.widths.as_deref().unwrap_or_default();
        let mut drawn = canvas(self.screen);
        if self.overlong == Overlong::Cut {
            // Nothing is cut at a blank, since no text has this one.
            drawn.set_delimiter('\0');
        }
        for (number, line) in lines.iter().enumerate() {
            let cells = self.columns.iter().zip(line).map(|(column, text)| match column.kind {
                kind if number >= headings => cell(kind, text),
                kind @ (Kind::Number | Kind::Sum) => cell(kind, text),
                _ => Cell::new(text),
            });
            let mut row = Row::from(cells.collect::<Vec<_>>());
            if self.overlong == Overlong::Cut {
                row.max_height(1);
            }
            drawn.add_row(row);
        }
        text(drawn, widths)
    }

    /// Returns how wide the columns are with these lines.
    fn widths_of(&self, lines: &[Vec<String>]) -> Vec<usize> {
        let mut widths = self.widths.clone().unwrap_or_else(|| vec![0; self.columns.len()]);
        for line in lines {
            for (text, width) in line.iter().zip(widths.iter_mut()) {
                *width = text.width().max(*width);
            }
        }
        widths
    }

    fn shorten_times(&self, lines: &mut [Vec<String>]) {
        for line in lines {
            for (column, text) in self.columns.iter().zip(line) {
                if column.kind == Kind::Time {
                    *text = to_the_minute(text);
                }
            }
        }
    }
}

/// Returns the lines of pairs: a key and its value, however long that is.
pub(super) fn pairs(screen: Screen, pairs: &[(String, Kind, String)]) -> String {
    let mut drawn = canvas(screen);
    let mut widths = [0; 2];
    for (key, kind, value) in pairs {
        widths = [key.width().max(widths[0]), value.width().max(widths[1])];
        drawn.add_row([Cell::new(key), cell(*kind, value).set_alignment(CellAlignment::Left)]);
    }
    text(drawn, &widths)
}

/// Makes a table without lines, which is coloured where the screen is.
fn canvas(screen: Screen) -> Drawn {
    let mut drawn = Drawn::new();
    drawn.load_style(NOTHING);
    drawn.set_truncation_indicator("…");
    if screen.coloured {
        drawn.enforce_styling().style_text_only();
    } else {
        drawn.force_no_tty();
    }
    drawn
}

/// Returns the lines of a table whose columns are as wide as this.
fn text(mut drawn: Drawn, widths: &[usize]) -> String {
    let last = widths.len().saturating_sub(1);
    for (place, width) in widths.iter().enumerate() {
        let gap = if place == last { 0 } else { GAP };
        let Some(column) = drawn.column_mut(place) else { continue };
        column.set_padding((0, u16::try_from(gap).unwrap_or_default()));
        let width = u16::try_from(width + gap).unwrap_or(u16::MAX);
        column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width)));
    }
    let mut text = String::new();
    for line in drawn.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Narrows columns until they have room: prose first, then ids, that of the row itself last. Reports whether that one was
/// narrowed.
fn fit(columns: &[Column], widths: &mut [usize], room: usize, overlong: Overlong) -> bool {
    // What a number, a state or a time says is lost if it is cut.
    let is_of = |place: usize, kind: Kind| columns[place].kind == kind;
    let prose = |place| is_of(place, Kind::Text);
    // An id that goes on in the next line cannot be copied: the terminal rather breaks the whole line.
    let is_id = |place| overlong == Overlong::Cut && is_of(place, Kind::Id);
    let others = |place| place > 0 && is_id(place);
    let own = |place| place == 0 && is_id(place);
    let rounds: [(&dyn Fn(usize) -> bool, usize); 6] = [
        (&prose, MOSTLY),
        (&others, MOSTLY),
        (&own, MOSTLY),
        (&prose, LEAST),
        (&others, LEAST),
        (&own, LEAST),
    ];
    let own_width = widths.first().copied();
    for (is_meant, least) in rounds {
        while widths.iter().sum::<usize>() > room {
            let shrinkable = widths.iter_mut().enumerate();
            let shrinkable =
                shrinkable.filter(|(place, width)| is_meant(*place) && **width > least);
            let Some((_, widest)) = shrinkable.max_by_key(|(_, width)| **width) else { break };
            *widest -= 1;
        }
    }
    widths.first().copied() != own_width
}
