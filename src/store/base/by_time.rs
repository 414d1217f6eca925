//! Tables that are kept in the order of time: a moment has a place in them, which is found by halving. So they are listed by
//! time without an index of it, which every row would have to pay for.

use jiff::Timestamp;

use super::columns::millis;
use super::filter::Conditions;
use super::page::{Order, Page, Span};
use crate::store::engine::sql::{self, Connection, OptionalExtension};

/// A table whose rows are added in the order of time.
pub(crate) struct ByTime {
    /// The table.
    pub(crate) table: &'static str,
    /// The column of the rows' places, which is the table's key.
    pub(crate) place: &'static str,
    /// The column of the rows' time.
    pub(crate) at: &'static str,
}

impl ByTime {
    /// Returns the conditions of a page of what happened in a span of time, and of its order. `prefix` is the table's name
    /// in the statement, with its dot.
    pub(crate) fn page_in(
        &self,
        connection: &Connection,
        (order, span, page): (Order, Span, &Page),
        prefix: &str,
    ) -> sql::Result<Conditions> {
        let place = format!("{prefix}{}", self.place);
        let after = page.after.as_deref().and_then(|key| key.parse().ok());
        let mut values = vec![(":after", after.unwrap_or(order.beginning()).into())];
        let mut text = format!("{place} {} :after", order.follows());
        if let Some(since) = span.since {
            values.push((":from", self.place_of(connection, since)?.into()));
            text.push_str(&format!(" AND {place} >= :from"));
        }
        if let Some(until) = span.until {
            values.push((":before", self.place_of(connection, until)?.into()));
            text.push_str(&format!(" AND {place} < :before"));
        }
        Ok(Conditions::of(&text, values))
    }

    /// Returns the `ORDER BY` of its rows.
    pub(crate) fn order(&self, order: Order, prefix: &str) -> String {
        format!("{prefix}{} {}", self.place, order.direction())
    }

    /// Returns the first place whose row is not from before a moment.
    pub(super) fn place_of(&self, connection: &Connection, moment: Timestamp) -> sql::Result<i64> {
        let Self { table, place, at } = self;
        let end = |which: &str| {
            connection
                .prepare_cached(&format!("SELECT {which}({place}) FROM {table}"))?
                .query_row([], |row| row.get::<_, Option<i64>>(0))
        };
        let (Some(first), Some(last)) = (end("min")?, end("max")?) else { return Ok(0) };
        let mut next = connection.prepare_cached(&format!(
            "SELECT {place}, {at} FROM {table} WHERE {place} >= ?1 ORDER BY {place} LIMIT 1"
        ))?;
        let (mut low, mut high) = (first, last.saturating_add(1));
        while low < high {
            let middle = low.midpoint(high);
            let row: Option<(i64, i64)> =
                next.query_row([middle], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            match row {
                Some((found, time)) if time < millis(moment) => low = found.saturating_add(1),
                _ => high = middle,
            }
        }
        Ok(low)
    }
}
