//! CSV in and out: usage backfilled from a spreadsheet, the ledger handed to one.

use ::csv::{ByteRecord, ReaderBuilder, StringRecord, Trim, Writer};
use rust_decimal::Decimal;
use serde_json::{Map, Value};

use crate::domain::{AccountId, CustomerIdentifier, is_account};
use crate::store::{MappingLine, RecordRow, ReportRow};

/// The columns of a usage file; `tag:KEY` columns besides, one for each tag.
pub const USAGE_COLUMNS: [&str; 8] = [
    "id",
    "customer_id",
    "feature_id",
    "product_id",
    "dimension",
    "quantity",
    "timestamp",
    "license_arn",
];
const TAG: &str = "tag:";

/// The reason why a file is not usage.
#[derive(Debug, thiserror::Error)]
pub enum CsvError {
    /// The file is not CSV.
    #[error("the file is not CSV: {0}")]
    Malformed(#[from] ::csv::Error),
    /// The first line names a column that means nothing.
    #[error("the column {0:?} means nothing here: the first line names {columns}, and tag:KEY for tags", columns = USAGE_COLUMNS.join(", "))]
    UnknownColumn(String),
    /// The first line names a column twice: one of the two would be lost.
    #[error("the column {0:?} stands twice in the first line")]
    DoubledColumn(String),
    /// A line lacks an id.
    #[error("line {0} needs a customer identifier and an AWS account of 12 digits")]
    BadLine(u64),
    /// The first line lacks a column.
    #[error("the column {0:?} is missing from the first line")]
    MissingColumn(&'static str),
}

/// A row of a usage file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageLine {
    /// Its line, counted as people do.
    pub line: u64,
    /// The event as the API takes it, or what is wrong with the row.
    pub event: Result<Value, BadLine>,
}

/// A row that is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// The event's id, where that can be read.
    pub id: Option<String>,
    /// The fault.
    pub detail: String,
}

/// Reads usage events as the API takes them, one a row; an empty cell is a field left out. A bad row does not hold up
/// the others.
pub fn read_usage(bytes: &[u8]) -> Result<Vec<UsageLine>, CsvError> {
    let mut reader = ReaderBuilder::new().trim(Trim::All).flexible(true).from_reader(bytes);
    let columns = reader.headers()?.clone();
    for (place, column) in columns.iter().enumerate() {
        if columns.iter().take(place).any(|other| other == column) {
            return Err(CsvError::DoubledColumn(column.to_owned()));
        }
        if !USAGE_COLUMNS.contains(&column) && !column.starts_with(TAG) {
            return Err(CsvError::UnknownColumn(column.to_owned()));
        }
    }
    for needed in ["id", "customer_id", "quantity"] {
        if !columns.iter().any(|column| column == needed) {
            return Err(CsvError::MissingColumn(needed));
        }
    }
    let mut lines = Vec::new();
    let mut place = Place { bytes, at: 0, line: 1 };
    for row in reader.byte_records() {
        let row = row?;
        let line = place.line_of(row.position().map_or(0, ::csv::Position::byte));
        lines.push(UsageLine { line, event: usage_event(&columns, &row) });
    }
    Ok(lines)
}

fn usage_event(columns: &StringRecord, row: &ByteRecord) -> Result<Value, BadLine> {
    let cells =
        || columns.iter().zip(row).map(|(column, cell)| (column, std::str::from_utf8(cell)));
    let bad = |detail: String| {
        let id = cells().find_map(|(column, cell)| (column == "id").then_some(cell.ok()?));
        BadLine { id: id.filter(|id| !id.is_empty()).map(str::to_owned), detail }
    };
    if row.len() != columns.len() {
        let lines = row.as_slice().split(|byte| *byte == b'\n').count();
        let hint = if lines > 1 {
            format!("; it goes on over {lines} lines: look for a quote that is not closed")
        } else {
            String::new()
        };
        return Err(bad(format!(
            "the row has {} cells, and the first line names {} columns{hint}",
            row.len(),
            columns.len()
        )));
    }
    let mut event = Map::new();
    let mut tags = Map::new();
    for (column, cell) in cells() {
        let cell = cell.map_err(|error| bad(format!("{column} is not UTF-8: {error}")))?;
        if cell.is_empty() {
            continue;
        }
        match column.strip_prefix(TAG) {
            Some(key) => tags.insert(key.to_owned(), cell.into()),
            None => event.insert(column.to_owned(), cell.into()),
        };
    }
    if !tags.is_empty() {
        event.insert("tags".into(), tags.into());
    }
    Ok(event.into())
}

/// Reads AWS's mapping of legacy buyers to accounts. Its columns are known by their names, however they are written.
pub fn read_mapping(bytes: &[u8]) -> Result<Vec<MappingLine>, CsvError> {
    let mut reader = ReaderBuilder::new().trim(Trim::All).from_reader(bytes);
    let plain = |column: &str| -> String {
        column.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
    };
    let columns: Vec<String> = reader.headers()?.iter().map(plain).collect();
    let place = |names: &[&str]| columns.iter().position(|column| names.contains(&column.as_str()));
    let identifier = place(&["customeridentifier", "customerid"])
        .ok_or(CsvError::MissingColumn("customer_identifier"))?;
    let account = place(&["customerawsaccountid", "awsaccountid", "accountid"])
        .ok_or(CsvError::MissingColumn("account_id"))?;
    let mut lines = Vec::new();
    let mut place = Place { bytes, at: 0, line: 1 };
    for row in reader.records() {
        let row = row?;
        let line = place.line_of(row.position().map_or(0, ::csv::Position::byte));
        let cell = |at: usize| row.get(at).unwrap_or_default();
        let read = mapping_line(line, cell(identifier), cell(account));
        lines.push(read.ok_or(CsvError::BadLine(line))?);
    }
    Ok(lines)
}

/// Reads a line of the mapping: a legacy buyer's name, and an account's 12 digits.
pub fn mapping_line(line: u64, identifier: &str, account: &str) -> Option<MappingLine> {
    (is_account(account) && !identifier.is_empty()).then(|| MappingLine {
        line,
        customer_identifier: CustomerIdentifier::new(identifier),
        account_id: AccountId::new(account),
    })
}

/// A counter of lines as people count them. The reader's own number takes blank lines before a row for a part of it,
/// and is the same for all rows where lines end in a mere carriage return.
struct Place<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u64,
}

impl Place<'_> {
    /// Returns the line of the row that the reader found from this byte on; rows are asked for in their order.
    fn line_of(&mut self, byte: u64) -> u64 {
        let start = usize::try_from(byte).unwrap_or(usize::MAX);
        while let Some(byte) = self.bytes.get(self.at) {
            let is_end = matches!(byte, b'\r' | b'\n');
            if self.at >= start && !is_end {
                break;
            }
            self.at += 1;
            let goes_on = *byte == b'\r' && self.bytes.get(self.at) == Some(&b'\n');
            if is_end && !goes_on {
                self.line += 1;
            }
        }
        self.line
    }
}

/// The columns of metering records; a dot leads into an object.
const RECORD_COLUMNS: [&str; 24] = [
    "id",
    "product_id",
    "customer_id",
    "license_arn",
    "sent_as.product_code",
    "sent_as.customer_identifier",
    "sent_as.account_id",
    "dimension",
    "hour",
    "quantity",
    "carried_in",
    "remainder",
    "carried_out",
    "state",
    "reason",
    "metering_record_id",
    "region",
    "frozen_at",
    "attempts",
    "last_error",
    "deadline",
    "allocations",
    "note",
    "uncertain",
];

/// Writes metering records as CSV, with the line of column names or without.
pub fn write_records(rows: &[RecordRow], with_columns: bool) -> Result<Vec<u8>, ::csv::Error> {
    write(&RECORD_COLUMNS, rows, with_columns)
}

/// The columns of a month's report. Files of several months and accounts are put together in a spreadsheet, so each row says
/// whose it is. Files are read by the places of their columns too: a new one comes at the end.
const REPORT_COLUMNS: [&str; 20] = [
    "product_id",
    "customer_id",
    "dimension",
    "records",
    "reported",
    "accepted",
    "pending",
    "parked",
    "written_off",
    "carried_in",
    "carried_out",
    "uncertain",
    "month",
    "product_code",
    "account_id",
    "remainder",
    "usage",
    "carried",
    "customer_identifier",
    "customer_name",
];

/// A row of a month's report, with its month.
#[derive(serde::Serialize)]
struct OfMonth<'a> {
    #[serde(flatten)]
    row: &'a ReportRow,
    month: &'a str,
}

/// Writes a month's report as CSV.
pub fn write_report(rows: &[ReportRow], month: &str) -> Result<Vec<u8>, ::csv::Error> {
    let rows: Vec<OfMonth<'_>> = rows.iter().map(|row| OfMonth { row, month }).collect();
    write(&REPORT_COLUMNS, &rows, true)
}

/// Writes rows as CSV; the columns are the API's own fields.
fn write<T: serde::Serialize>(
    columns: &[&str],
    rows: &[T],
    with_columns: bool,
) -> Result<Vec<u8>, ::csv::Error> {
    let mut writer = Writer::from_writer(Vec::new());
    if with_columns {
        writer.write_record(columns)?;
    }
    for row in rows {
        let row = serde_json::to_value(row).unwrap_or_default();
        let found = |path: &str| path.split('.').fold(&row, |value, key| &value[key]);
        writer.write_record(columns.iter().map(|column| cell(found(column))))?;
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => inert(text),
        other => other.to_string(),
    }
}

/// Makes a cell inert: spreadsheets run one that begins like a formula, and ids and notes come from outside. A number is
/// none, whatever its sign.
fn inert(text: &str) -> String {
    let is_number = text.parse::<Decimal>().is_ok();
    if !is_number && text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        format!("'{text}")
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_by_the_names_in_the_first_line() {
        let file = "quantity,id,customer_id,feature_id,tag:team,timestamp\n\
                    0.5, e-1 ,acme,exports,blue,2026-11-10T12:00:00Z\n\
                    3,e-2,\"a, b\",exports,,\n";
        let lines = read_usage(file.as_bytes()).unwrap();
        assert_eq!(lines.iter().map(|it| it.line).collect::<Vec<_>>(), [2, 3]);
        let events: Vec<Value> = lines.into_iter().map(|it| it.event.unwrap()).collect();
        assert_eq!(events[0]["quantity"], "0.5");
        assert_eq!(events[0]["id"], "e-1");
        assert_eq!(events[0]["tags"]["team"], "blue");
        assert_eq!(events[1]["customer_id"], "a, b");
        assert!(events[1].get("tags").is_none() && events[1].get("timestamp").is_none());
    }

    #[test]
    fn a_wrong_file_says_what_is_wrong() {
        for (file, expected) in [
            ("id,customer_id,amount\n", "\"amount\" means nothing"),
            ("id,quantity\n", "\"customer_id\" is missing"),
            ("id,customer_id,id,quantity\n", "\"id\" stands twice"),
        ] {
            let error = read_usage(file.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_bad_row_is_said_and_the_others_are_read() {
        let file = b"id,customer_id,quantity\ne-1,acme,1\ne-2,acme\n\n,acme\ne-4,\xff,1\ne-5,acme,2\ne-6,\"acme\n,3\n";
        let lines = read_usage(file).unwrap();
        let told: Vec<String> = lines
            .into_iter()
            .map(|it| match it.event {
                Ok(event) => format!("{} {}", it.line, event["id"].as_str().unwrap()),
                Err(bad) => format!("{} {}: {}", it.line, bad.id.unwrap_or_default(), bad.detail),
            })
            .collect();
        let expected = [
            "2 e-1",
            "3 e-2: the row has 2 cells",
            "5 : the row has 2 cells",
            "6 e-4: customer_id is not UTF-8",
            "7 e-5",
            "8 e-6: the row has 2 cells, and the first line names 3 columns; it goes on over 2 lines",
        ];
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.starts_with(expected), "{told} is not {expected}");
        }
    }

    #[test]
    fn a_row_of_the_mapping_knows_its_line() {
        let rows =
            ["customer_id,account_id", "X1,111122223333", "", "\"X\r2\",111122223333", "X3,1"];
        for (end, bad) in [("\n", 6), ("\r\n", 6), ("\r", 6)] {
            let error = read_mapping(rows.join(end).as_bytes()).unwrap_err().to_string();
            assert!(error.contains(&format!("line {bad} ")), "{end:?}: {error}");
            let lines = read_mapping(rows[..4].join(end).as_bytes()).unwrap();
            assert_eq!(lines.iter().map(|it| it.line).collect::<Vec<_>>(), [2, 4], "{end:?}");
        }
    }

    #[test]
    fn cells_never_run_as_formulas() {
        assert_eq!(inert("=1+1"), "'=1+1");
        assert_eq!(inert("-2+3+cmd|' /C calc'!A0"), "'-2+3+cmd|' /C calc'!A0");
        assert_eq!(inert("acme"), "acme");
        assert_eq!(inert("-0.5"), "-0.5");
    }
}
