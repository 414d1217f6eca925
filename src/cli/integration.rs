//! `marketd integration`.

use anyhow::{anyhow, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::Daemon;
use super::object;
use super::output::{Column, Output, Progress, print_json, say};
use super::sentences;

const PERMISSIONS: &[Column] = &[
    Column::id("PERMISSION", "action"),
    Column::state("OK", "ok"),
    Column::text("DETAIL", "detail"),
];

#[derive(Debug, Subcommand)]
pub(super) enum Integration {
    /// Shows the connection, the last message and calls, and the problems.
    #[command(visible_alias = "status")]
    Show,
    /// Prints the role's trust policy, with the external id that marketd made.
    ///
    /// It trusts the role or the user that marketd runs as, which AWS is asked for. Where AWS tells none, as for an
    /// account's root, every user and role of the account that may assume roles is trusted.
    TrustPolicy {
        #[command(flatten)]
        account: Account,
    },
    /// Prints the IAM policy with the least permissions that the role needs.
    IamPolicy,
    /// Prints the queue's policy, which lets the products' topics and EventBridge write to it.
    QueuePolicy {
        #[command(flatten)]
        products: Products,
        /// The ARN of the EventBridge rule that writes to the queue; any rule of the queue's account if left out.
        #[arg(long = "rule-arn", value_name = "ARN")]
        rule: Option<String>,
    },
    /// Prints one template with everything to deploy: role, queue, topics, events and alarms.
    ///
    /// Deploy it in us-east-1. A seller who has not imported a listing yet names its product code, or deploys the
    /// template again after the import: it then subscribes to the product's topics. Products that AWS tells of by
    /// EventBridge alone need none.
    Template {
        /// The tool that deploys the template.
        #[arg(long, value_parser = ["cloudformation", "terraform"], default_value = "cloudformation")]
        format: String,
        #[command(flatten)]
        account: Account,
        #[command(flatten)]
        products: Products,
    },
    /// Connects to the seller's account with a role, and names missing permissions.
    ///
    /// It exits with 1 if a permission is missing: the role is taken all the same, and does what it may.
    Connect {
        /// The role's ARN.
        #[arg(long)]
        role_arn: String,
        /// The external id, if it is not the one that marketd made.
        #[arg(long)]
        external_id: Option<String>,
    },
    /// Stops every call to AWS, polling too; the history stays, and connecting again takes it up.
    Remove {
        /// Confirms the removal.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct Account {
    /// The ARN of the role or the user that marketd runs as, to trust nobody else; AWS is asked for it if left out.
    #[arg(long, value_name = "ARN")]
    principal_arn: Option<String>,
    /// The account that marketd runs in, to trust whoever it lets assume roles.
    #[arg(long, value_name = "12 DIGITS")]
    account_id: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Products {
    /// The code of a product whose topics write to the queue; those of imported products if none is named.
    #[arg(long = "product-code", value_name = "CODE")]
    product_codes: Vec<String>,
}

/// The warning about a trust policy without a principal.
const TRUSTS_ACCOUNT: &str = "this trusts every user and role of the account that may assume roles and knows the external id: name the one that marketd runs as (--principal-arn)";

/// The warning about a queue's policy without a rule.
const TAKES_ANY_RULE: &str = "this lets every EventBridge rule of the queue's account write to it: name the one for AWS Marketplace's events (--rule-arn)";

impl Products {
    fn text(&self) -> Option<String> {
        (!self.product_codes.is_empty()).then(|| self.product_codes.join(","))
    }
}

impl Integration {
    pub(super) async fn execute(self, output: Output) -> anyhow::Result<()> {
        let daemon = Daemon::from_environment(output)?;
        match self {
            Self::Show => show(output, daemon.get("/v1/integration").await?),
            Self::TrustPolicy { account } => {
                let query =
                    [("account_id", account.account_id), ("principal_arn", account.principal_arn)];
                let policy = daemon.query("/v1/integration/trust-policy", &query).await?;
                if policy.pointer("/Statement/0/Condition/ArnLike").is_none() {
                    output.warn(TRUSTS_ACCOUNT);
                }
                print_json(&policy)
            }
            Self::QueuePolicy { products, rule } => {
                if rule.is_none() {
                    output.warn(TAKES_ANY_RULE);
                }
                let query = [("product_codes", products.text()), ("rule_arn", rule)];
                print_json(&daemon.query("/v1/integration/queue-policy", &query).await?)
            }
            Self::Template { format, account, products } => {
                let query = [
                    ("format", Some(format)),
                    ("account_id", account.account_id),
                    ("principal_arn", account.principal_arn),
                    ("product_codes", products.text()),
                ];
                let mut out = super::output::file_out();
                let path = "/v1/integration/template";
                daemon.download(path, &query, &mut out, &Progress::hidden()).await
            }
            Self::IamPolicy => print_json(&daemon.get("/v1/integration/iam-policy").await?),
            Self::Connect { role_arn, external_id } => {
                let body = object([
                    ("role_arn", Some(json!(role_arn))),
                    ("external_id", external_id.map(|id| json!(id))),
                ]);
                let connected = daemon.put("/v1/integration", body).await?;
                let trouble = foreign(&connected).or_else(|| missing(&connected));
                if output == Output::Json {
                    print_json(&connected)?;
                } else {
                    for line in sentences::connected(&connected) {
                        say(&line)?;
                    }
                    output.list(&json!({"items": connected["checks"]}), PERMISSIONS)?;
                }
                trouble.map_or(Ok(()), Err)
            }
            Self::Remove { yes } => {
                if !yes {
                    bail!(
                        "this stops every call to AWS, and usage is not billed meanwhile: say --yes if you mean it"
                    );
                }
                daemon.delete("/v1/integration?confirm=true").await?;
                if output == Output::Json {
                    return print_json(&daemon.get("/v1/integration").await?);
                }
                say(
                    "AWS is not called any more; the history is kept, and `marketd integration connect` takes it up again",
                )
            }
        }
    }
}

/// Returns an error if the role is another account's than what was imported.
fn foreign(connected: &Value) -> Option<anyhow::Error> {
    let credentials = &connected["parts"]["credentials"];
    let detail = credentials["detail"].as_str().filter(|_| credentials["ok"] == false)?;
    Some(anyhow!("{detail}; until then AWS is asked nothing about its buyers and billed nothing"))
}

/// Returns an error that names the calls the role may not make, to be told last: whoever runs this in a script reads no
/// table.
fn missing(connected: &Value) -> Option<anyhow::Error> {
    let checks = connected["checks"].as_array().into_iter().flatten();
    let lines: Vec<String> = checks
        .filter(|check| check["ok"] == false)
        .map(|check| {
            let text = |key: &str| check[key].as_str().unwrap_or_default().to_owned();
            format!("\n  {}: {}", text("action"), text("detail"))
        })
        .collect();
    (!lines.is_empty()).then(|| {
        anyhow!(
            "the role lacks permissions (`marketd integration iam-policy` prints all of them):{}",
            lines.concat()
        )
    })
}

/// Prints the connection: its settings, its checks, the state of calls and parts, and the problems.
fn show(output: Output, mut view: Value) -> anyhow::Result<()> {
    if output == Output::Json {
        return print_json(&view);
    }
    let mut take = |key: &str| view[key].take();
    let (checks, calls, parts, problems) =
        (take("checks"), take("calls"), take("parts"), take("problems"));
    if let Some(members) = view.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    output.one(&view)?;
    if checks.as_array().is_some_and(|checks| !checks.is_empty()) {
        say("")?;
        output.list(&json!({"items": checks}), PERMISSIONS)?;
    }
    let columns: &[Column] = &[
        Column::id("CALL", "name"),
        Column::time("LAST OK", "last_ok_at"),
        Column::time("LAST ERROR", "last_error_at"),
        Column::text("DETAIL", "last_error"),
    ];
    section(output, &calls, columns)?;
    section(
        output,
        &parts,
        &[
            Column::id("PART", "name"),
            Column::state("OK", "ok"),
            Column::time("SINCE", "since"),
            Column::text("DETAIL", "detail"),
        ],
    )?;
    let problems = problems.as_array().map(Vec::as_slice).unwrap_or_default();
    if !problems.is_empty() {
        say("\nwhat is wrong:")?;
    }
    for problem in problems {
        say(&format!("- {}", problem.as_str().unwrap_or_default()))?;
    }
    Ok(())
}

/// Prints a table of named things.
fn section(output: Output, things: &Value, columns: &[Column]) -> anyhow::Result<()> {
    let Some(things) = things.as_object().filter(|things| !things.is_empty()) else {
        return Ok(());
    };
    let rows = things.iter().map(|(name, thing)| {
        let mut row = thing.clone();
        row["name"] = json!(name);
        row
    });
    say("")?;
    output.list(&json!({"items": rows.collect::<Vec<_>>()}), columns)
}
