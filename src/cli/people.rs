//! `marketd customer`, `subscription`, `notification` and `event`.

use clap::Subcommand;
use serde_json::json;

use super::client::{Daemon, escape};
use super::output::{Column, Output};
use super::{Limit, object};

const CUSTOMERS: &[Column] = &[
    ("CUSTOMER", "id"),
    ("NAME", "name"),
    ("CLAIMED", "claimed"),
    ("AWS ACCOUNT", "aws.account_id"),
    ("CUSTOMER IDENTIFIER", "aws.customer_identifier"),
];
const SUBSCRIPTIONS: &[Column] = &[
    ("SUBSCRIPTION", "id"),
    ("CUSTOMER", "customer_id"),
    ("PRODUCT", "product_id"),
    ("PLAN", "plan_id"),
    ("STATUS", "status"),
    ("QUANTITY", "quantity"),
    ("ENDS", "ends_at"),
];
const NOTIFICATIONS: &[Column] = &[
    ("NOTIFICATION", "id"),
    ("KIND", "kind"),
    ("AT", "at"),
    ("STATE", "state"),
    ("COPIES", "copies"),
    ("REASON", "reason"),
];
const EVENTS: &[Column] =
    &[("AT", "at"), ("TYPE", "type"), ("CUSTOMER", "customer_id"), ("EVENT", "id")];

#[derive(Debug, Subcommand)]
pub(super) enum Customer {
    /// Lists the customers.
    List(Limit),
    /// Shows a customer.
    Show {
        /// The customer.
        id: String,
    },
    /// Makes or changes a customer; AWS ids claim what was bought under them.
    Provision {
        /// Your own id of it.
        id: String,
        /// Its name.
        #[arg(long)]
        name: Option<String>,
        /// Its mail address.
        #[arg(long)]
        email: Option<String>,
        /// The buyer's AWS account.
        #[arg(long, value_name = "12 DIGITS")]
        aws_account_id: Option<String>,
        /// The buyer's legacy CustomerIdentifier.
        #[arg(long)]
        aws_customer_identifier: Option<String>,
        /// A licence of the buyer's.
        #[arg(long)]
        aws_license_arn: Option<String>,
        /// How long to wait for its subscriptions.
        #[arg(long, default_value = "5s")]
        wait: String,
    },
    /// Lists a customer's subscriptions.
    Subscriptions {
        /// The customer.
        id: String,
        #[command(flatten)]
        limit: Limit,
    },
}

impl Customer {
    pub(super) async fn execute(self, output: Output) -> anyhow::Result<()> {
        let daemon = Daemon::from_environment()?;
        let path = |id: &str| format!("/v1/customers/{}", escape(id));
        match self {
            Self::List(limit) => {
                output.list(&daemon.list("/v1/customers", &[], limit.rows()).await?, CUSTOMERS)
            }
            Self::Show { id } => output.one(&daemon.get(&path(&id)).await?),
            Self::Provision {
                id,
                name,
                email,
                aws_account_id,
                aws_customer_identifier,
                aws_license_arn,
                wait,
            } => {
                let aws = object([
                    ("account_id", aws_account_id.map(|id| json!(id))),
                    ("customer_identifier", aws_customer_identifier.map(|id| json!(id))),
                    ("license_arn", aws_license_arn.map(|arn| json!(arn))),
                ]);
                let body = object([
                    ("name", name.map(|name| json!(name))),
                    ("email", email.map(|email| json!(email))),
                    ("aws", Some(aws)),
                ]);
                let path = format!("{}?wait={}", path(&id), escape(&wait));
                output.one(&daemon.put(&path, body).await?)
            }
            Self::Subscriptions { id, limit } => {
                let path = format!("{}/subscriptions", path(&id));
                output.list(&daemon.list(&path, &[], limit.rows()).await?, SUBSCRIPTIONS)
            }
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Subscription {
    /// Lists subscriptions.
    List {
        /// Of this customer.
        #[arg(long)]
        customer: Option<String>,
        /// Of this product.
        #[arg(long)]
        product: Option<String>,
        /// In this status.
        #[arg(long)]
        status: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Shows a subscription.
    Show {
        /// The subscription.
        id: String,
    },
}

impl Subscription {
    pub(super) async fn execute(self, output: Output) -> anyhow::Result<()> {
        let daemon = Daemon::from_environment()?;
        match self {
            Self::List { customer, product, status, limit } => {
                let query =
                    [("customer_id", customer), ("product_id", product), ("status", status)];
                let found = daemon.list("/v1/subscriptions", &query, limit.rows()).await?;
                output.list(&found, SUBSCRIPTIONS)
            }
            Self::Show { id } => {
                output.one(&daemon.get(&format!("/v1/subscriptions/{}", escape(&id))).await?)
            }
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Notification {
    /// Lists notifications.
    List {
        /// In this state.
        #[arg(long, value_parser = ["applied", "pending", "quarantined"])]
        state: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Shows a notification as it came.
    Show {
        /// The notification.
        id: String,
    },
    /// Reads a kept notification once more.
    Replay {
        /// The notification.
        id: String,
    },
}

impl Notification {
    pub(super) async fn execute(self, output: Output) -> anyhow::Result<()> {
        let daemon = Daemon::from_environment()?;
        let path = |id: &str| format!("/v1/notifications/{}", escape(id));
        match self {
            Self::List { state, limit } => {
                let found =
                    daemon.list("/v1/notifications", &[("state", state)], limit.rows()).await?;
                output.list(&found, NOTIFICATIONS)
            }
            Self::Show { id } => output.one(&daemon.get(&path(&id)).await?),
            Self::Replay { id } => {
                output.one(&daemon.post(&format!("{}/replay", path(&id)), json!({})).await?)
            }
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Event {
    /// Lists events after a cursor.
    List {
        /// Where the last answer ended.
        #[arg(long, default_value = "0")]
        after: String,
        /// How long to wait for one if there is none.
        #[arg(long, default_value = "0s")]
        wait: String,
        #[command(flatten)]
        limit: Limit,
    },
}

impl Event {
    pub(super) async fn execute(self, output: Output) -> anyhow::Result<()> {
        let daemon = Daemon::from_environment()?;
        let Self::List { after, wait, limit } = self;
        let path = format!(
            "/v1/events?after={}&wait={}&limit={}",
            escape(&after),
            escape(&wait),
            limit.rows().min(500)
        );
        output.list(&daemon.get(&path).await?, EVENTS)
    }
}
