//! `marketd metering`.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};
use serde_json::json;

use super::Failure;
use super::balance::print_balance;
use super::client::{Daemon, escape};
use super::filters::ProductAndCustomer;
use super::metering_resolve::Resolve;
use super::output::{Column, Output, Progress, amount, print_json};
use super::pages::{OverTime, Part, print_list};
use super::times::point;

const RECORDS: &[Column] = &[
    Column::id("RECORD", "id"),
    Column::id("CUSTOMER", "customer_id"),
    Column::id("PRODUCT", "product_id"),
    Column::id("DIMENSION", "dimension"),
    Column::time("HOUR", "hour"),
    Column::number("QUANTITY", "quantity"),
    Column::state("STATE", "state"),
    Column::number("ATTEMPTS", "attempts"),
    Column::text("REASON", "reason"),
];

const DUE: &[Column] = &[
    Column::id("PRODUCT", "product_id"),
    Column::time("HOUR", "hour"),
    Column::sum("RECORDS", "records"),
    Column::sum("UNITS", "units"),
    Column::time("DEADLINE", "deadline"),
    Column::number("SECONDS LEFT", "seconds_left"),
    Column::text("WAITS FOR", "waits_for"),
];
const REPORT: &[Column] = &[
    Column::id("PRODUCT", "product_id"),
    Column::id("CUSTOMER", "customer_id"),
    Column::id("DIMENSION", "dimension"),
    Column::sum("RECORDS", "records"),
    Column::sum("USAGE", "usage"),
    Column::sum("CARRIED", "carried"),
    Column::sum("REPORTED", "reported"),
    Column::sum("ACCEPTED", "accepted"),
    Column::sum("PENDING", "pending"),
    Column::sum("PARKED", "parked"),
    Column::sum("WRITTEN OFF", "written_off"),
    Column::sum("UNCERTAIN", "uncertain"),
];

#[derive(Debug, Subcommand)]
pub(super) enum Metering {
    /// Lists metering records.
    List {
        /// Only records in this state.
        #[arg(long)]
        state: Option<String>,
        /// Only records that are in it for this reason.
        #[arg(long)]
        reason: Option<String>,
        /// Only records of this dimension.
        #[arg(long)]
        dimension: Option<String>,
        #[command(flatten)]
        of: ProductAndCustomer,
        #[command(flatten)]
        time: OverTime,
        #[command(flatten)]
        part: Part,
    },
    /// Shows a metering record and every attempt at sending it.
    Show {
        /// The record's id.
        id: String,
    },
    Resolve(Resolve),
    /// Lists hours that are over and not billed yet, with their units and the time for which AWS still accepts them.
    Due,
    /// Shows the balance of all reported units; exits with 1 if they do not add up.
    Balance,
    /// Sums a month by product, customer and dimension, for closing the books.
    Report {
        /// The month in UTC, as 2026-11.
        #[arg(long)]
        month: String,
        #[command(flatten)]
        of: ProductAndCustomer,
        /// Prints CSV for spreadsheets.
        #[arg(long)]
        csv: bool,
    },
    /// Writes every metering record to a file, or to standard output.
    Export {
        /// The file to write; standard output if left out.
        file: Option<PathBuf>,
        /// The format to write.
        #[arg(long, value_enum, default_value_t = ExportFormat::Csv)]
        format: ExportFormat,
        /// Only records in this state.
        #[arg(long)]
        state: Option<String>,
        #[command(flatten)]
        of: ProductAndCustomer,
        /// Only hours from this one on, as 2026-11-01 or 2026-11-01T06:00:00Z.
        #[arg(long, value_name = "TIME", value_parser = point)]
        from: Option<String>,
        /// Only hours before this one.
        #[arg(long, value_name = "TIME", value_parser = point)]
        before: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum ExportFormat {
    /// CSV: a line of column names, then a line for each record.
    Csv,
    /// NDJSON: a JSON object on each line.
    Ndjson,
}

impl ExportFormat {
    const fn word(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
        }
    }
}

impl Metering {
    pub(super) async fn execute(self, output: Output) -> Result<(), Failure> {
        let daemon = Daemon::from_environment(output)?;
        let path = |id: &str| format!("/v1/metering/records/{}", escape(id));
        match self {
            Self::List { state, reason, dimension, of, time, part } => {
                let which = [("state", state), ("reason", reason), ("dimension", dimension)];
                let query = time.with(of.after(which));
                let path = "/v1/metering/records";
                print_list(&daemon, output, path, &query, &part, RECORDS).await?;
            }
            Self::Show { id } => output.one(&daemon.get(&path(&id)).await?)?,
            Self::Resolve(resolve) => return resolve.execute(&daemon, output).await,
            Self::Due => output.list(&daemon.get("/v1/metering/due").await?, DUE)?,
            Self::Balance => {
                let balance = daemon.get("/v1/metering/balance").await?;
                match output {
                    Output::Json => print_json(&balance)?,
                    Output::Table => print_balance(&balance, None)?,
                }
                if balance["adds_up"] != true {
                    output.warn("THE UNITS DO NOT ADD UP");
                    return Err(Failure::Said);
                }
            }
            Self::Report { month, of, csv } => {
                let format = csv.then(|| "csv".to_owned());
                let query = of.after([("month", Some(month)), ("format", format)]);
                if csv {
                    let mut out = super::output::file_out();
                    let hidden = Progress::hidden();
                    daemon.download("/v1/metering/report", &query, &mut out, &hidden).await?;
                } else {
                    let report = daemon.query("/v1/metering/report", &query).await?;
                    output.list(&report, REPORT)?;
                }
            }
            Self::Export { file, format, state, of, from, before } => {
                let query = of.after([
                    ("state", state),
                    ("from", from),
                    ("before", before),
                    ("format", Some(format.word().to_owned())),
                ]);
                // On standard output the lines themselves show it.
                let progress = match &file {
                    Some(path) => Progress::bytes(format!("writing {}", path.display())),
                    None => Progress::hidden(),
                };
                let mut into: Box<dyn Write> = match &file {
                    Some(path) => Box::new(
                        File::create_new(path)
                            .with_context(|| format!("{} cannot be made", path.display()))?,
                    ),
                    None => super::output::file_out(),
                };
                let path = "/v1/metering/export";
                let written = daemon.download(path, &query, &mut into, &progress).await;
                progress.end();
                written?;
                if let Some(path) = file {
                    let (file, bytes) = (path.display().to_string(), progress.done());
                    let said = format!("wrote {file}: {} bytes", amount(&bytes.into()));
                    output.done(&json!({"file": file, "bytes": bytes}), &[said])?;
                }
            }
        }
        Ok(())
    }
}
