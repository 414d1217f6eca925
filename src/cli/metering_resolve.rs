//! `marketd metering resolve`.

use clap::Args;
use serde_json::json;

use super::client::{Daemon, escape};
use super::output::Output;
use super::sentences::{resolved, resolved_all};
use super::times::moment;
use super::{Failure, object};

/// Resolves a parked record, or all that match.
///
/// The action is `retry` to send a record again as it is, `carry_forward` to bill its units with the open hour, or
/// `write_off` to give it up. A record that cannot bear it stays parked, and is shown; the command then exits with 1.
#[derive(Debug, Args)]
pub(super) struct Resolve {
    /// The record's id.
    #[arg(required_unless_present = "all", conflicts_with_all = ["all", "dry_run"])]
    id: Option<String>,
    /// Resolves all parked records that match.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    which: Which,
    /// The action to take.
    #[arg(long, value_parser = ["retry", "carry_forward", "write_off"])]
    action: String,
    /// The reason, for whoever reads the books later.
    #[arg(long, required_unless_present = "dry_run")]
    note: Option<String>,
    /// Shows how many records and units that would be, and changes nothing.
    #[arg(long)]
    dry_run: bool,
}

/// The records that are meant by all.
#[derive(Debug, Args)]
struct Which {
    /// Only records that are parked for this reason.
    #[arg(long, requires = "all")]
    reason: Option<String>,
    /// Only records of this product.
    #[arg(long, requires = "all")]
    product: Option<String>,
    /// Only records of this customer.
    #[arg(long, requires = "all")]
    customer: Option<String>,
    /// Only records of this dimension.
    #[arg(long, requires = "all")]
    dimension: Option<String>,
    /// Only hours from this time's on, as 2026-11-01T06:00:00Z, 2026-11-01, 7d or yesterday.
    #[arg(long, requires = "all", value_name = "TIME", value_parser = moment)]
    since: Option<String>,
    /// Only hours that begin before this time.
    #[arg(long, requires = "all", value_name = "TIME", value_parser = moment)]
    until: Option<String>,
}

impl Resolve {
    pub(super) async fn execute(self, daemon: &Daemon, output: Output) -> Result<(), Failure> {
        let text = |value: Option<String>| value.map(|text| json!(text));
        if let Some(id) = self.id {
            let path = format!("/v1/metering/records/{}/resolve", escape(&id));
            let body = object([("action", Some(json!(self.action))), ("note", text(self.note))]);
            let record = daemon.post(&path, body).await?;
            return Ok(output.done(&record, &resolved(&record))?);
        }
        let Which { reason, product, customer, dimension, since, until } = self.which;
        let filter = object([
            ("reason", text(reason)),
            ("product_id", text(product)),
            ("customer_id", text(customer)),
            ("dimension", text(dimension)),
            ("since", text(since)),
            ("until", text(until)),
        ]);
        let body = object([
            ("filter", Some(filter)),
            ("action", Some(json!(&self.action))),
            ("note", text(self.note)),
            ("dry_run", Some(json!(self.dry_run))),
        ]);
        let outcome = daemon.post("/v1/metering/resolve", body).await?;
        output.done(&outcome, &resolved_all(&outcome, &self.action, self.dry_run))?;
        let is_refused = outcome["matched"] != outcome["resolved"];
        if is_refused && !self.dry_run { Err(Failure::Said) } else { Ok(()) }
    }
}
