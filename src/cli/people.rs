//! `marketd customer`, `notification` and `event`.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::json;

use super::client::{Daemon, escape};
use super::filters::Bought;
use super::object;
use super::output::{Column, Output};
use super::pages::{Limit, OverTime, Part, print_events, print_list};
use super::sentences::{erased, mapped, provisioned, unlinked};
use super::subscriptions::SUBSCRIPTIONS;

const CUSTOMERS: &[Column] = &[
    Column::id("CUSTOMER", "id"),
    Column::text("NAME", "name"),
    Column::id("CLAIMED", "claimed"),
    Column::id("AWS ACCOUNT", "aws.account_id"),
    Column::id("CUSTOMER IDENTIFIER", "aws.customer_identifier"),
];
const ACCESS: &[Column] = &[
    Column::id("FEATURE", "feature_id"),
    Column::id("TYPE", "type"),
    Column::state("ACCESS", "has_access"),
    Column::text("REASON", "reason"),
    Column::number("LIMIT", "limit"),
    Column::id("UNLIMITED", "unlimited"),
    Column::number("USAGE", "usage"),
    Column::number("REMAINING", "remaining"),
    Column::time("RESETS", "resets_at"),
    Column::id("PLAN", "plan_id"),
];
const NOTIFICATIONS: &[Column] = &[
    Column::id("NOTIFICATION", "id"),
    Column::text("KIND", "kind"),
    Column::time("AT", "at"),
    Column::state("STATE", "state"),
    Column::number("COPIES", "copies"),
    Column::text("REASON", "reason"),
];
const EVENTS: &[Column] = &[
    Column::time("AT", "at"),
    Column::id("TYPE", "type"),
    Column::id("CUSTOMER", "customer_id"),
    Column::id("EVENT", "id"),
];

#[derive(Debug, Subcommand)]
pub(super) enum Customer {
    /// Lists the customers.
    List {
        /// Only customers of whom this is an id or its beginning, yours or AWS's, or a part of the name or mail address.
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        #[command(flatten)]
        bought: Bought,
        /// Only customers of this AWS account.
        #[arg(long, value_name = "12 DIGITS")]
        aws_account_id: Option<String>,
        /// Only customers of this legacy CustomerIdentifier.
        #[arg(long)]
        aws_customer_identifier: Option<String>,
        /// Only customers of this licence.
        #[arg(long)]
        aws_license_arn: Option<String>,
        /// Only customers that you have provisioned (true), or that only AWS has told of (false).
        #[arg(long, value_name = "true|false")]
        claimed: Option<bool>,
        #[command(flatten)]
        part: Part,
    },
    /// Shows a customer.
    Show {
        /// The customer's id.
        id: String,
    },
    Provision(Provision),
    /// Separates a customer from the AWS buyer that was claimed for it by mistake.
    ///
    /// The buyer's subscriptions, and what is billed to them, go to a customer that nobody has claimed; name, mail,
    /// metadata and direct subscriptions stay. Both can be claimed and provisioned anew.
    Unlink {
        /// The customer's id.
        id: String,
    },
    /// Erases who a customer is: name, mail, metadata, your id, and the bodies of messages that name it.
    ///
    /// What billing needs stays under an opaque id, which is printed: subscriptions, metering records, usage and AWS's ids.
    /// This cannot be undone. While a subscription lives it is refused.
    Erase {
        /// The customer's id.
        id: String,
        /// Erases it although subscriptions live; they stay as they are.
        #[arg(long)]
        force: bool,
    },
    /// Lists a customer's subscriptions.
    Subscriptions {
        /// The customer's id.
        id: String,
        #[command(flatten)]
        part: Part,
    },
    /// Imports AWS's mapping of legacy buyers to accounts, for a product that moves to licences.
    ///
    /// The file's first line names the columns: CustomerIdentifier and CustomerAWSAccountId. Two customers that it
    /// shows to be the same become one; a line that contradicts what is known, or another line, is refused and shown. A
    /// line about somebody who is no customer yet is kept, and counts once they turn up.
    ImportMapping {
        /// The mapping file, as CSV.
        file: std::path::PathBuf,
        /// Shows what would change, and changes nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Checks whether a customer may use a feature, and how much of it; without a feature, of each.
    ///
    /// This is the check that the application makes. It exits with 0 whatever the answer is.
    Access {
        /// The customer's id.
        id: String,
        /// The feature's id.
        feature: Option<String>,
        /// The quantity about to be used; 1 of a metered feature if left out.
        #[arg(long, requires = "feature")]
        requested: Option<String>,
        /// Only entitlements under this licence.
        #[arg(long, requires = "feature")]
        license_arn: Option<String>,
    },
}

/// Creates or changes a customer; AWS ids claim what was bought under them.
#[derive(Debug, Args)]
pub(super) struct Provision {
    /// Your own id of the customer.
    id: String,
    /// The customer's name.
    #[arg(long)]
    name: Option<String>,
    /// The customer's mail address.
    #[arg(long)]
    email: Option<String>,
    /// The buyer's AWS account.
    #[arg(long, value_name = "12 DIGITS")]
    aws_account_id: Option<String>,
    /// The buyer's legacy CustomerIdentifier.
    #[arg(long)]
    aws_customer_identifier: Option<String>,
    /// The ARN of a licence of the buyer's.
    #[arg(long)]
    aws_license_arn: Option<String>,
    /// The time to wait for the customer's subscriptions, as 500ms or 5s; at most 1m.
    #[arg(long, default_value = "5s")]
    wait: String,
}

impl Provision {
    async fn execute(self, daemon: &Daemon, output: Output) -> anyhow::Result<()> {
        let text = |value: Option<String>| value.map(|text| json!(text));
        let aws = object([
            ("account_id", text(self.aws_account_id)),
            ("customer_identifier", text(self.aws_customer_identifier)),
            ("license_arn", text(self.aws_license_arn)),
        ]);
        let body =
            object([("name", text(self.name)), ("email", text(self.email)), ("aws", Some(aws))]);
        let path = format!("/v1/customers/{}", escape(&self.id));
        let customer = daemon.put(&format!("{path}?wait={}", escape(&self.wait)), body).await?;
        if output == Output::Json {
            return output.one(&customer);
        }
        let held = daemon.get(&format!("{path}/subscriptions")).await?;
        output.done(&customer, &provisioned(&customer, &held))
    }
}

impl Customer {
    pub(super) async fn execute(self, output: Output) -> anyhow::Result<()> {
        let daemon = Daemon::from_environment(output)?;
        let path = |id: &str| format!("/v1/customers/{}", escape(id));
        match self {
            Self::List {
                search,
                bought,
                aws_account_id,
                aws_customer_identifier,
                aws_license_arn,
                claimed,
                part,
            } => {
                let query = bought.after([
                    ("q", search),
                    ("account_id", aws_account_id),
                    ("customer_identifier", aws_customer_identifier),
                    ("license_arn", aws_license_arn),
                    ("claimed", claimed.map(|claimed| claimed.to_string())),
                ]);
                print_list(&daemon, output, "/v1/customers", &query, &part, CUSTOMERS).await
            }
            Self::Show { id } => output.one(&daemon.get(&path(&id)).await?),
            Self::Provision(provision) => provision.execute(&daemon, output).await,
            Self::Unlink { id } => {
                let answer = daemon.post(&format!("{}/unlink", path(&id)), json!({})).await?;
                output.done(&answer, &unlinked(&answer))
            }
            Self::Erase { id, force } => {
                let left = daemon.delete(&format!("{}?force={force}", path(&id))).await?;
                output.done(&left, &erased(&id, &left))
            }
            Self::Subscriptions { id, part } => {
                let path = format!("{}/subscriptions", path(&id));
                print_list(&daemon, output, &path, &[], &part, SUBSCRIPTIONS).await
            }
            Self::ImportMapping { file, dry_run } => {
                let text = std::fs::read_to_string(&file)
                    .with_context(|| format!("{} cannot be read", file.display()))?;
                let path = format!("/v1/customer-mapping?dry_run={dry_run}");
                let outcome = daemon.post_file(&path, "text/csv", text).await?;
                output.done(&outcome, &mapped(&outcome, dry_run))
            }
            Self::Access { id, feature: None, .. } => {
                let path = format!("{}/entitlements", path(&id));
                print_list(&daemon, output, &path, &[], &Part::default(), ACCESS).await
            }
            Self::Access { id, feature: Some(feature), requested, license_arn } => {
                let path = format!("{}/entitlements/{}", path(&id), escape(&feature));
                let query = [("requested", requested), ("license_arn", license_arn)];
                output.one(&daemon.query(&path, &query).await?)
            }
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Notification {
    /// Lists notifications.
    List {
        /// Only notifications in this state.
        #[arg(long, value_parser = ["applied", "pending", "quarantined", "discarded"])]
        state: Option<String>,
        /// Only notifications of this action or detail-type, as subscribe-success.
        #[arg(long)]
        kind: Option<String>,
        /// Only notifications about the product with this code.
        #[arg(long)]
        product_code: Option<String>,
        #[command(flatten)]
        time: OverTime,
        #[command(flatten)]
        part: Part,
    },
    /// Shows a notification as it came.
    Show {
        /// The notification's id.
        id: String,
    },
    /// Processes a kept notification again; exits with 1 if it still cannot be read.
    Replay {
        /// The notification's id.
        id: String,
    },
    /// Takes a notification out of quarantine without applying it; it is kept, and can still be replayed.
    Discard {
        /// The notification's id.
        id: String,
        /// The reason, for whoever reads it later.
        #[arg(long, value_name = "TEXT")]
        note: String,
    },
}

impl Notification {
    pub(super) async fn execute(self, output: Output) -> anyhow::Result<()> {
        let daemon = Daemon::from_environment(output)?;
        let path = |id: &str| format!("/v1/notifications/{}", escape(id));
        match self {
            Self::List { state, kind, product_code, time, part } => {
                let query =
                    time.with([("state", state), ("kind", kind), ("product_code", product_code)]);
                let path = "/v1/notifications";
                print_list(&daemon, output, path, &query, &part, NOTIFICATIONS).await
            }
            Self::Show { id } => output.one(&daemon.get(&path(&id)).await?),
            Self::Replay { id } => {
                let replayed = daemon.post(&format!("{}/replay", path(&id)), json!({})).await?;
                let state = replayed["state"].as_str().unwrap_or_default();
                output.done(&replayed, &[format!("notification {id} is {state}")])?;
                if ["quarantined", "discarded"].contains(&state) {
                    let reason = replayed["reason"].as_str().unwrap_or("no reason is known");
                    anyhow::bail!("notification {id} is still {state}: {reason}");
                }
                Ok(())
            }
            Self::Discard { id, note } => {
                let path = format!("{}/discard", path(&id));
                let discarded = daemon.post(&path, json!({"note": note})).await?;
                output.done(&discarded, &[format!("notification {id} is discarded")])
            }
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Event {
    /// Lists events after a cursor.
    List {
        /// The cursor at which the last answer ended.
        #[arg(long, default_value = "0")]
        after: String,
        /// The time to wait for an event if there is none.
        #[arg(long, default_value = "0s")]
        wait: String,
        /// Only events of this type, as subscription.canceled; subscription.* for all types of a subject.
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
        /// Only events about this customer.
        #[arg(long)]
        customer: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
}

impl Event {
    pub(super) async fn execute(self, output: Output) -> anyhow::Result<()> {
        let daemon = Daemon::from_environment(output)?;
        let Self::List { after, wait, kind, customer, limit } = self;
        let which = [("type", kind), ("customer_id", customer)];
        print_events(&daemon, output, (after, wait), which, &limit, EVENTS).await
    }
}
