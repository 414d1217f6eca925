//! `marketd usage`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::client::{Daemon, escape};
use super::output::{Column, Output, Progress};
use super::pages::{OverTime, Part, print_list};
use super::sentences::{consumed, reported};
use super::{Failure, key_value, object};
use crate::csv::{BadLine, UsageLine};

const EVENTS: &[Column] = &[
    Column::id("EVENT", "id"),
    Column::id("CUSTOMER", "customer_id"),
    Column::id("FEATURE", "feature_id"),
    Column::number("QUANTITY", "quantity"),
    Column::number("BILLED", "billed"),
    Column::time("TIME", "timestamp"),
    Column::id("RECORD", "metering_record.id"),
    Column::time("HOUR", "metering_record.hour"),
    Column::state("STATE", "metering_record.state"),
    Column::text("MOVED", "moved"),
];

/// The most events sent in one report.
const EVENTS_PER_REPORT: usize = 5_000;

#[derive(Debug, Subcommand)]
pub(super) enum Usage {
    /// Reports one usage event.
    Report {
        /// The id of the customer.
        #[arg(long)]
        customer: String,
        /// The id of the feature that was used.
        #[arg(long, conflicts_with_all = ["product", "dimension"], required_unless_present = "dimension")]
        feature: Option<String>,
        /// The id of the product whose dimension was used.
        #[arg(long, requires = "dimension")]
        product: Option<String>,
        /// The key of the dimension that was used.
        #[arg(long, requires = "product")]
        dimension: Option<String>,
        #[command(flatten)]
        event: EventArguments,
    },
    /// Checks whether a customer may use so much of a metered feature, and counts it if so, in one step.
    ///
    /// It exits with 0 if the usage is counted, by this call or an earlier one with the same id, and with 1 if it is
    /// denied; then nothing is counted.
    Consume {
        /// The id of the customer.
        #[arg(long)]
        customer: String,
        /// The id of the feature that is about to be used.
        #[arg(long)]
        feature: String,
        #[command(flatten)]
        event: EventArguments,
    },
    /// Reports the events of a file: one JSON event a line, or CSV.
    ///
    /// The first line of a CSV file names its columns: id, customer_id, feature_id or product_id and dimension,
    /// quantity, timestamp, license_arn, and tag:KEY for tags. An event's id is its idempotency key: the same file
    /// again changes nothing.
    Import {
        /// The file to import; one that ends in .csv is read as CSV.
        file: PathBuf,
    },
    /// Lists usage events, in the order in which they were reported, and where each is billed.
    List {
        /// Only usage of this customer.
        #[arg(long)]
        customer: Option<String>,
        /// Only usage of this feature.
        #[arg(long)]
        feature: Option<String>,
        /// Only usage that this metering record bills.
        #[arg(long)]
        record: Option<String>,
        #[command(flatten)]
        time: OverTime,
        #[command(flatten)]
        part: Part,
    },
    /// Shows a usage event, where it is billed, and why there.
    Show {
        /// The event's id.
        id: String,
    },
}

/// The arguments that say what was used, and when.
#[derive(Debug, Args)]
pub(super) struct EventArguments {
    /// The quantity that is used.
    #[arg(long, allow_negative_numbers = true)]
    quantity: String,
    /// The event's id: the same id again is the same event. Made up if left out.
    #[arg(long)]
    id: Option<String>,
    /// The time of the usage, as 2026-11-23T12:00:00Z; now if left out.
    #[arg(long)]
    timestamp: Option<String>,
    /// The licence under which it is used, where there are several.
    #[arg(long)]
    license_arn: Option<String>,
    /// A tag that splits the usage on the buyer's bill, as KEY=VALUE; up to five.
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = key_value)]
    tags: Vec<(String, String)>,
}

impl EventArguments {
    /// Makes an event of them, with these members besides.
    fn event(self, besides: impl IntoIterator<Item = (&'static str, Option<String>)>) -> Value {
        let Self { quantity, id, timestamp, license_arn, tags } = self;
        let id = id.unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
        let texts = [
            ("id", Some(id)),
            ("quantity", Some(quantity)),
            ("timestamp", timestamp),
            ("license_arn", license_arn),
        ];
        let texts = texts.into_iter().chain(besides);
        let tags = ("tags", (!tags.is_empty()).then(|| tags_object(tags)));
        object(texts.map(|(key, text)| (key, text.map(|text| json!(text)))).chain([tags]))
    }
}

impl Usage {
    pub(super) async fn execute(self, output: Output) -> Result<(), Failure> {
        let daemon = Daemon::from_environment(output)?;
        let mut total = json!({"accepted": 0, "duplicates": 0, "rejected": []});
        let (mut one, mut done) = (None, 0);
        let lines = match self {
            Self::Report { customer, feature, product, dimension, event } => {
                let event = event.event([
                    ("customer_id", Some(customer)),
                    ("feature_id", feature),
                    ("product_id", product),
                    ("dimension", dimension),
                ]);
                one = event["id"].as_str().map(str::to_owned);
                vec![Line { number: 1, text: event.to_string().into_bytes() }]
            }
            Self::Consume { customer, feature, event } => {
                let path = format!(
                    "/v1/customers/{}/entitlements/{}/consume",
                    escape(&customer),
                    escape(&feature)
                );
                let answer = daemon.post(&path, event.event([])).await?;
                output.done(&answer, &consumed(&answer, &customer))?;
                return if answer["accepted"] == true { Ok(()) } else { Err(Failure::Said) };
            }
            Self::Import { file } => lines_of(&file, &mut total)?,
            Self::List { customer, feature, record, time, part } => {
                let which =
                    [("customer_id", customer), ("feature_id", feature), ("record_id", record)];
                let query = time.with(which);
                print_list(&daemon, output, "/v1/usage", &query, &part, EVENTS).await?;
                return Ok(());
            }
            Self::Show { id } => {
                let event = daemon.get(&format!("/v1/usage/{}", escape(&id))).await?;
                return Ok(output.one(&event)?);
            }
        };
        let progress = Progress::of(lines.len() as u64, "events");
        for part in lines.chunks(EVENTS_PER_REPORT) {
            let texts: Vec<&[u8]> = part.iter().map(|line| line.text.as_slice()).collect();
            let mut receipt =
                daemon.post_file("/v1/usage", "application/x-ndjson", texts.join(&b'\n')).await?;
            name_lines(&mut receipt, part);
            add(&mut total, &receipt);
            done += part.len() as u64;
            progress.at(done);
        }
        progress.end();
        output.done(&total, &reported(&total, one.as_deref()))?;
        let refused = total["rejected"].as_array().is_some_and(|rejected| !rejected.is_empty());
        if refused { Err(Failure::Said) } else { Ok(()) }
    }
}

fn tags_object(tags: Vec<(String, String)>) -> Value {
    tags.into_iter().map(|(key, value)| (key, json!(value))).collect::<Map<_, _>>().into()
}

/// An event as a line of a file.
struct Line {
    number: u64,
    text: Vec<u8>,
}

/// Reads a file's events, one JSON object each. Rejects lines that are no event by the file's own form into the total.
fn lines_of(file: &Path, total: &mut Value) -> anyhow::Result<Vec<Line>> {
    let bytes =
        std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
    if file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv")) {
        let found = crate::csv::read_usage(&bytes)
            .with_context(|| format!("{} is not a file of usage", file.display()))?;
        let mut lines = Vec::with_capacity(found.len());
        for UsageLine { line: number, event } in found {
            match event {
                Ok(event) => lines.push(Line { number, text: event.to_string().into_bytes() }),
                Err(BadLine { id, detail }) => {
                    let id = id.unwrap_or_else(|| format!("line {number}"));
                    let rejection = json!({"id": id, "code": "invalid_event", "detail": detail});
                    add(total, &json!({"rejected": [rejection]}));
                }
            }
        }
        return Ok(lines);
    }
    let lines = (1..).zip(bytes.split(|byte| *byte == b'\n'));
    let full = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
    Ok(full.map(|(number, text)| Line { number, text: text.to_vec() }).collect())
}

/// Renumbers rejected lines: the daemon counts the lines of the part that it was sent, people those of the file.
fn name_lines(receipt: &mut Value, part: &[Line]) {
    for rejection in receipt["rejected"].as_array_mut().into_iter().flatten() {
        let place = rejection["id"].as_str().and_then(|id| id.strip_prefix("line ")?.parse().ok());
        let place = place.and_then(|line: usize| part.get(line.checked_sub(1)?));
        if let Some(line) = place {
            rejection["id"] = json!(format!("line {}", line.number));
        }
    }
}

fn add(total: &mut Value, receipt: &Value) {
    for key in ["accepted", "duplicates"] {
        let sum = total[key].as_u64().unwrap_or(0) + receipt[key].as_u64().unwrap_or(0);
        total[key] = json!(sum);
    }
    if let (Some(all), Some(more)) =
        (total["rejected"].as_array_mut(), receipt["rejected"].as_array())
    {
        all.extend(more.iter().cloned());
    }
}
