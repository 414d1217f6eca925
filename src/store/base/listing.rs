//! Lists by conditions of which an index serves some. Of the rest, a page looks at so many rows at most: it answers in
//! bounded time however rare what is looked for may be, and says where the next page goes on.

use super::filter::Conditions;
use super::page::Listed;
use crate::store::engine::sql::{self, Connection, Row};

/// The most rows that a page looks at.
const LOOKED_MOST: u32 = 20_000;

/// A list to be read.
pub(crate) struct Listing<'a> {
    /// The columns, in the order of a `SELECT`.
    pub(crate) columns: &'a str,
    /// The tables.
    pub(crate) from: &'a str,
    /// The conditions that an index serves: they say where the page begins too.
    pub(crate) which: Conditions,
    /// The conditions that each row is looked at for.
    pub(crate) fitting: Conditions,
    /// The order, which an index has.
    pub(crate) order: String,
}

impl Listing<'_> {
    /// Returns the statement.
    pub(crate) fn statement(&self) -> String {
        format!(
            "SELECT {}, ({}) AS fits FROM {} WHERE {} ORDER BY {} LIMIT {}",
            self.columns,
            self.fitting.text(),
            self.from,
            self.which.text(),
            self.order,
            LOOKED_MOST + 1
        )
    }

    /// Reads a page of so many rows.
    pub(crate) fn page<T>(
        &self,
        connection: &Connection,
        limit: u32,
        read: impl Fn(&Row<'_>) -> sql::Result<T>,
        key: impl Fn(&T) -> String,
    ) -> sql::Result<Listed<T>> {
        let mut values = self.which.values();
        values.extend(self.fitting.values());
        let mut select = connection.prepare_cached(&self.statement())?;
        let mut rows = select.query(&*values)?;
        let mut listed = Listed { rows: Vec::new(), looked_until: None };
        let mut looked = 0;
        while let Some(row) = rows.next()? {
            looked += 1;
            let fits = row.get::<_, Option<bool>>("fits")?.unwrap_or(false);
            if looked == LOOKED_MOST {
                let last = read(&row)?;
                listed.looked_until = Some(key(&last));
                listed.rows.extend(fits.then_some(last));
                // Nothing follows the last row of the table.
                if rows.next()?.is_none() {
                    listed.looked_until = None;
                }
                break;
            }
            if fits {
                listed.rows.push(read(&row)?);
                if listed.rows.len() >= usize::try_from(limit).unwrap_or(usize::MAX) {
                    break;
                }
            }
        }
        Ok(listed)
    }
}
