//! Printing of paged lists until their end.

use std::io::IsTerminal as _;

use serde_json::{Value, json};

use super::client::Daemon;
use super::output::{Column, Output, Progress, Table, hint, print_json};
use super::times::moment;

/// The most items that the API answers at once.
const PAGE_MOST: usize = 500;

/// The most rows of a list that are printed.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Limit {
    /// The most rows to print; all of them if left out.
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

impl Limit {
    fn rows(&self) -> usize {
        self.limit.map_or(usize::MAX, |limit| limit as usize)
    }
}

/// The part of a list that is printed.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Part {
    #[command(flatten)]
    limit: Limit,
    /// The place to go on at, as the end of an earlier part names it.
    #[arg(long)]
    cursor: Option<String>,
}

impl Part {
    /// Reports whether a page was asked for, rather than the whole list.
    const fn is_page(&self) -> bool {
        self.limit.limit.is_some() || self.cursor.is_some()
    }
}

/// The part of what happened over time that is listed, and its order.
#[derive(Debug, clap::Args)]
pub(super) struct OverTime {
    /// The order by time.
    #[arg(long, value_parser = ["newest", "oldest"], default_value = "newest")]
    order: String,
    /// Only what is from this time on, as 2026-11-01T06:00:00Z, 2026-11-01, 7d or yesterday.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<String>,
    /// Only what is from before this time.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<String>,
}

impl OverTime {
    /// Returns the API's parameters beside others.
    pub(super) fn with(
        self,
        others: impl IntoIterator<Item = (&'static str, Option<String>)>,
    ) -> Vec<(&'static str, Option<String>)> {
        let own = [("order", Some(self.order)), ("since", self.since), ("until", self.until)];
        own.into_iter().chain(others).collect()
    }
}

/// Prints a list of the API's. A table comes page by page, so that it begins at once however long it is. If there is
/// more, JSON has the cursor of it, and a table is followed by it on standard error.
pub(super) async fn print_list(
    daemon: &Daemon,
    output: Output,
    path: &str,
    query: &[(&'static str, Option<String>)],
    part: &Part,
    columns: &'static [Column<'static>],
) -> anyhow::Result<()> {
    let mut printed = Printed::new(output, columns);
    let mut left = part.limit.rows();
    let mut cursor = part.cursor.clone();
    loop {
        let mut query = query.to_vec();
        query.push(("limit", Some(left.min(PAGE_MOST).to_string())));
        query.push(("cursor", cursor));
        let page = daemon.query(path, &query).await?;
        left = left.saturating_sub(printed.page(&page)?);
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() || left == 0 {
            return printed.end(cursor.filter(|_| part.is_page()), "--cursor");
        }
    }
}

/// Prints the events after a cursor that is given with the time to wait, of those that a filter lets through. As JSON the cursor of their end is printed with them: the next call goes on there.
pub(super) async fn print_events(
    daemon: &Daemon,
    output: Output,
    (after, wait): (String, String),
    which: [(&'static str, Option<String>); 2],
    limit: &Limit,
    columns: &'static [Column<'static>],
) -> anyhow::Result<()> {
    let mut printed = Printed::new(output, columns);
    let mut left = limit.rows();
    let (mut cursor, mut wait) = (after, Some(wait));
    loop {
        let asked = left.min(PAGE_MOST);
        let mut query = vec![
            ("after", Some(cursor.clone())),
            ("limit", Some(asked.to_string())),
            // Only the first event is waited for.
            ("wait", wait.take()),
        ];
        query.extend(which.clone());
        let page = daemon.query("/v1/events", &query).await?;
        left = left.saturating_sub(printed.page(&page)?);
        let before = std::mem::take(&mut cursor);
        page["next_cursor"].as_str().unwrap_or(&before).clone_into(&mut cursor);
        // A page may be short of what was asked for, or empty, although there is more: the cursor says so.
        if cursor == before || left == 0 {
            let is_whole = output == Output::Table && left > 0;
            return printed.end(Some(cursor).filter(|_| !is_whole), "--after");
        }
    }
}

/// The part of a list that is printed so far.
struct Printed {
    part: Rows,
    /// How many rows there are so far; none where the rows themselves show it.
    progress: Option<Progress>,
    rows: usize,
}

/// The rows, or the items for JSON, which is one document and printed at the end.
enum Rows {
    Table(Table<'static>),
    Items(Vec<Value>),
}

impl Printed {
    fn new(output: Output, columns: &'static [Column<'static>]) -> Self {
        let part = match output {
            Output::Table => Rows::Table(Table::new(columns)),
            Output::Json => Rows::Items(Vec::new()),
        };
        let is_seen = output == Output::Table && std::io::stdout().is_terminal();
        Self { part, progress: (!is_seen).then(|| Progress::count("rows")), rows: 0 }
    }

    /// Prints a page, and returns the number of its rows.
    fn page(&mut self, page: &Value) -> anyhow::Result<usize> {
        let items = page["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        self.rows += items.len();
        if let Some(progress) = &self.progress {
            progress.at(self.rows as u64);
        }
        match &mut self.part {
            Rows::Table(table) => table.rows(items)?,
            Rows::Items(all) => all.extend_from_slice(items),
        }
        Ok(items.len())
    }

    /// Prints the end, with the option and its value by which another call goes on.
    fn end(self, cursor: Option<String>, option: &str) -> anyhow::Result<()> {
        if let Some(progress) = self.progress {
            progress.end();
        }
        match self.part {
            Rows::Table(table) => {
                table.end()?;
                if let Some(cursor) = cursor {
                    hint(&format!("more: {option} {cursor}"));
                }
                Ok(())
            }
            Rows::Items(items) => {
                let mut list = json!({"items": items});
                if let Some(cursor) = cursor {
                    list["next_cursor"] = json!(cursor);
                }
                print_json(&list)
            }
        }
    }
}
