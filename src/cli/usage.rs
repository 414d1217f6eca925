//! `marketd usage` and `metering`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{Daemon, escape};
use super::output::{Column, Output, say};
use super::{Failure, Limit, object};

const RECORDS: &[Column] = &[
    ("RECORD", "id"),
    ("CUSTOMER", "customer_id"),
    ("PRODUCT", "product_id"),
    ("DIMENSION", "dimension"),
    ("HOUR", "hour"),
    ("QUANTITY", "quantity"),
    ("STATE", "state"),
    ("ATTEMPTS", "attempts"),
    ("REASON", "reason"),
];

/// Events sent in one report.
const EVENTS_PER_REPORT: usize = 5_000;

#[derive(Debug, Subcommand)]
pub(super) enum Usage {
    /// Reports one usage event.
    Report {
        /// Who used something.
        #[arg(long)]
        customer: String,
        /// The feature that was used.
        #[arg(long, conflicts_with_all = ["product", "dimension"], required_unless_present = "dimension")]
        feature: Option<String>,
        /// The product whose dimension was used.
        #[arg(long, requires = "dimension")]
        product: Option<String>,
        /// The dimension that was used.
        #[arg(long, requires = "product")]
        dimension: Option<String>,
        /// How much.
        #[arg(long, allow_negative_numbers = true)]
        quantity: String,
        /// The event's id: the same id again is the same event. Made up if left out.
        #[arg(long)]
        id: Option<String>,
        /// When, as 2026-11-23T12:00:00Z; now if left out.
        #[arg(long)]
        timestamp: Option<String>,
        /// Under which licence, where there are several.
        #[arg(long)]
        license_arn: Option<String>,
    },
    /// Reports the events of a file, one JSON event a line.
    Import {
        /// The file.
        file: PathBuf,
    },
}

impl Usage {
    pub(super) async fn execute(self, output: Output) -> Result<(), Failure> {
        let daemon = Daemon::from_environment()?;
        let lines = match self {
            Self::Report {
                customer,
                feature,
                product,
                dimension,
                quantity,
                id,
                timestamp,
                license_arn,
            } => {
                let id = id.unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
                let text = |value: Option<String>| value.map(|text| json!(text));
                let event = object([
                    ("id", Some(json!(id))),
                    ("customer_id", Some(json!(customer))),
                    ("feature_id", text(feature)),
                    ("product_id", text(product)),
                    ("dimension", text(dimension)),
                    ("quantity", Some(json!(quantity))),
                    ("timestamp", text(timestamp)),
                    ("license_arn", text(license_arn)),
                ]);
                vec![event.to_string()]
            }
            Self::Import { file } => {
                let text = std::fs::read_to_string(&file)
                    .with_context(|| format!("{} cannot be read", file.display()))?;
                text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
            }
        };
        let mut total = json!({"accepted": 0, "duplicates": 0, "rejected": []});
        for part in lines.chunks(EVENTS_PER_REPORT) {
            let receipt = daemon.post_lines("/v1/usage", part.join("\n")).await?;
            add(&mut total, &receipt);
        }
        output.one(&total)?;
        let refused = total["rejected"].as_array().is_some_and(|rejected| !rejected.is_empty());
        if refused { Err(Failure::Said) } else { Ok(()) }
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

#[derive(Debug, Subcommand)]
pub(super) enum Metering {
    /// Lists metering records.
    List {
        /// In this state.
        #[arg(long)]
        state: Option<String>,
        /// Of this product.
        #[arg(long)]
        product: Option<String>,
        /// Of this customer.
        #[arg(long)]
        customer: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Shows a record and every attempt at it.
    Show {
        /// The record.
        id: String,
    },
    /// Decides on a parked record.
    Resolve {
        /// The record.
        id: String,
        /// What to do.
        #[arg(long, value_parser = ["retry", "carry_forward", "write_off"])]
        action: String,
        /// Why, for whoever reads the books later.
        #[arg(long)]
        note: String,
    },
    /// Shows where every reported unit is; exits with 1 if they do not add up.
    Balance,
}

impl Metering {
    pub(super) async fn execute(self, output: Output) -> Result<(), Failure> {
        let daemon = Daemon::from_environment()?;
        let path = |id: &str| format!("/v1/metering/records/{}", escape(id));
        match self {
            Self::List { state, product, customer, limit } => {
                let query = [("state", state), ("product_id", product), ("customer_id", customer)];
                let found = daemon.list("/v1/metering/records", &query, limit.rows()).await?;
                output.list(&found, RECORDS)?;
            }
            Self::Show { id } => output.one(&daemon.get(&path(&id)).await?)?,
            Self::Resolve { id, action, note } => {
                let body = json!({"action": action, "note": note});
                output.one(&daemon.post(&format!("{}/resolve", path(&id)), body).await?)?;
            }
            Self::Balance => {
                let balance = daemon.get("/v1/metering/balance").await?;
                output.one(&balance)?;
                if balance["adds_up"] != true {
                    say("THE UNITS DO NOT ADD UP")?;
                    return Err(Failure::Said);
                }
            }
        }
        Ok(())
    }
}
