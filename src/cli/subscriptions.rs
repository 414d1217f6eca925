//! `marketd subscription`.

use clap::Subcommand;
use serde_json::json;

use super::client::{Daemon, escape};
use super::filters::Bought;
use super::object;
use super::output::{Column, Output};
use super::pages::{Part, print_list};
use super::sentences::{canceled, sold};
use super::times::point;

pub(super) const SUBSCRIPTIONS: &[Column] = &[
    Column::id("SUBSCRIPTION", "id"),
    Column::id("CUSTOMER", "customer_id"),
    Column::id("PRODUCT", "product_id"),
    Column::id("PLAN", "plan_id"),
    Column::state("STATUS", "status"),
    Column::number("QUANTITY", "quantity"),
    Column::time("ENDS", "ends_at"),
];
#[derive(Debug, Subcommand)]
pub(super) enum Subscription {
    /// Lists subscriptions.
    List {
        /// Only subscriptions of this customer.
        #[arg(long)]
        customer: Option<String>,
        #[command(flatten)]
        bought: Bought,
        /// Only subscriptions that last, and end within this time from now, as 30d.
        #[arg(long, value_name = "TIME")]
        ending_within: Option<String>,
        #[command(flatten)]
        part: Part,
    },
    /// Shows a subscription.
    Show {
        /// The subscription's id.
        id: String,
    },
    /// Subscribes a customer to a plan that you sell yourself, or changes the subscription.
    Set {
        /// Your own id of the subscription.
        id: String,
        /// The customer's id.
        #[arg(long)]
        customer: String,
        /// The plan's id; one that AWS sells is bought there.
        #[arg(long)]
        plan: String,
        /// The units of the plan.
        #[arg(long)]
        quantity: Option<String>,
        /// Makes it a trial.
        #[arg(long)]
        trial: bool,
        /// The time at which it begins, as 2026-12-01T00:00:00Z; at once if left out.
        #[arg(long, value_name = "TIME", value_parser = point)]
        starts_at: Option<String>,
        /// The time at which it ends; it goes on until it is cancelled if left out.
        #[arg(long, value_name = "TIME", value_parser = point)]
        ends_at: Option<String>,
    },
    /// Ends a subscription that you sold yourself.
    Cancel {
        /// The subscription's id.
        id: String,
        /// The time at which it ends, as 2026-12-01T00:00:00Z; at once if left out.
        #[arg(long, value_name = "TIME", value_parser = point)]
        at: Option<String>,
    },
}

impl Subscription {
    pub(super) async fn execute(self, output: Output) -> anyhow::Result<()> {
        let daemon = Daemon::from_environment(output)?;
        let path = |id: &str| format!("/v1/subscriptions/{}", escape(id));
        match self {
            Self::List { customer, bought, ending_within, part } => {
                let query =
                    bought.after([("customer_id", customer), ("ending_within", ending_within)]);
                let path = "/v1/subscriptions";
                print_list(&daemon, output, path, &query, &part, SUBSCRIPTIONS).await
            }
            Self::Show { id } => output.one(&daemon.get(&path(&id)).await?),
            Self::Set { id, customer, plan, quantity, trial, starts_at, ends_at } => {
                let body = object([
                    ("customer_id", Some(json!(customer))),
                    ("plan_id", Some(json!(plan))),
                    ("quantity", quantity.map(|quantity| json!(quantity))),
                    ("trial", trial.then_some(json!(true))),
                    ("starts_at", starts_at.map(|at| json!(at))),
                    ("ends_at", ends_at.map(|at| json!(at))),
                ]);
                let subscription = daemon.put(&path(&id), body).await?;
                output.done(&subscription, &sold(&subscription))
            }
            Self::Cancel { id, at } => {
                let body = object([("at", at.map(|at| json!(at)))]);
                let subscription = daemon.post(&format!("{}/cancel", path(&id)), body).await?;
                output.done(&subscription, &canceled(&subscription))
            }
        }
    }
}
