//! `marketd plan` and `feature`.

use anyhow::bail;
use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::client::{Daemon, escape};
use super::output::{Column, Output};
use super::pages::{Limit, print_list};
use super::{key_value, object};

const PLANS: &[Column] = &[
    ("PLAN", "id"),
    ("NAME", "name"),
    ("PRODUCT", "product_id"),
    ("SOURCE", "source"),
    ("STATUS", "status"),
    ("VERSION", "version"),
    ("DRAFT", "draft.version"),
];
const FEATURES: &[Column] =
    &[("FEATURE", "id"), ("NAME", "name"), ("TYPE", "type"), ("UNIT", "unit")];
const VERSIONS: &[Column] =
    &[("VERSION", "version"), ("STATE", "state"), ("SUBSCRIPTIONS", "subscriptions")];

#[derive(Debug, Subcommand)]
pub(super) enum Plan {
    /// Lists the plans.
    List {
        /// Only plans in this status.
        #[arg(long, value_parser = ["draft", "published", "archived"])]
        status: Option<String>,
        /// Only plans of this product.
        #[arg(long)]
        product: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Shows a plan and what it grants.
    ///
    /// `version` is the published one, whose entitlements are shown; `draft.version` is what is not published yet.
    Show {
        /// The plan's id.
        id: String,
    },
    /// Lists a plan's versions and how many subscriptions have each; with a number, shows what that one grants.
    Versions {
        /// The plan's id.
        id: String,
        /// The version's number.
        number: Option<i64>,
    },
    /// Creates a plan that AWS does not sell, or renames one.
    Create {
        /// The plan's id.
        id: String,
        /// The plan's name.
        #[arg(long)]
        name: String,
        /// The product that it belongs to.
        #[arg(long)]
        product: Option<String>,
    },
    /// Publishes the plan's draft, so that customers get what it grants.
    ///
    /// Changes to a published plan are kept as a draft until they are published. `plan preview` shows which customers
    /// would gain and which would lose by it.
    ///
    /// An archived plan is not published by accident: --reopen sells it again, and --to all gives its subscribers
    /// the new version and keeps it archived.
    Publish {
        /// The plan's id.
        id: String,
        /// The subscribers who get the new version: everybody on the plan, those included who are held to an older
        /// version, or only those who subscribe from now on; the others then keep what they have. If left out, everybody
        /// gets it but those who are held.
        #[arg(long, value_parser = ["all", "new"])]
        to: Option<String>,
        /// Sells an archived plan again.
        #[arg(long)]
        reopen: bool,
    },
    /// Previews what publishing the draft would change, and for which customers.
    Preview {
        /// The plan's id.
        id: String,
        /// The subscribers who would get the new version, as for `plan publish`.
        #[arg(long, value_parser = ["all", "new"])]
        to: Option<String>,
    },
    /// Discards the plan's draft: changes that were not published.
    Discard {
        /// The plan's id.
        id: String,
    },
    /// Archives the plan: its subscribers keep it, and nobody can be subscribed to it anew.
    ///
    /// `plan publish --reopen` opens it again. Whoever buys its dimension on AWS gets it all the same: AWS has sold it, so
    /// take the dimension out of the listing.
    Archive {
        /// The plan's id.
        id: String,
    },
    /// Deletes a plan that was never published, that no dimension maps to and nobody was subscribed to.
    Remove {
        /// The plan's id.
        id: String,
    },
    /// Removes a feature from the plan's draft.
    Unentitle {
        /// The plan's id.
        plan: String,
        /// The feature's id.
        feature: String,
    },
    /// Grants a feature, in the plan's draft; the terms replace those that it has.
    ///
    /// A boolean feature takes none of the options. A numeric or metered one takes --limit or --unlimited; --reset and
    /// --bill are for metered ones.
    Entitle {
        /// The plan's id.
        plan: String,
        /// The feature's id.
        feature: String,
        /// The limit.
        #[arg(long, conflicts_with = "unlimited")]
        limit: Option<String>,
        /// Grants the feature without a limit.
        #[arg(long)]
        unlimited: bool,
        /// Has the limit warn instead of deny.
        #[arg(long)]
        soft: bool,
        /// Multiplies the limit by the units bought.
        #[arg(long)]
        per_unit: bool,
        /// The period after which usage is counted from zero again.
        #[arg(long, value_parser = ["hour", "day", "week", "month", "year"])]
        reset: Option<String>,
        /// The start of the periods.
        #[arg(long, value_parser = ["calendar", "subscription"])]
        anchor: Option<String>,
        /// The usage that is billed to the feature's dimension.
        #[arg(long, value_parser = ["all", "overage", "none"])]
        bill: Option<String>,
    },
}

impl Plan {
    pub(super) async fn execute(self, output: Output) -> anyhow::Result<()> {
        let daemon = Daemon::from_environment()?;
        let path = |id: &str| format!("/v1/plans/{}", escape(id));
        let plan = match self {
            Self::List { status, product, limit } => {
                let query = [("status", status), ("product_id", product)];
                return print_list(&daemon, output, "/v1/plans", &query, &limit, PLANS).await;
            }
            Self::Versions { id, number } => {
                let versions = daemon.get(&format!("{}/versions", path(&id))).await?;
                let Some(number) = number else { return output.list(&versions, VERSIONS) };
                let mut items = versions["items"].as_array().into_iter().flatten();
                match items.find(|version| version["version"] == number) {
                    Some(version) => version.clone(),
                    None => bail!("plan {id} has no version {number}"),
                }
            }
            Self::Show { id } => daemon.get(&path(&id)).await?,
            Self::Create { id, name, product } => {
                let product = product.map(|id| json!(id));
                let body = object([("name", Some(json!(name))), ("product_id", product)]);
                daemon.put(&path(&id), body).await?
            }
            Self::Publish { id, to, reopen } => {
                let to = to.map(|to| json!(to));
                let body = object([("to", to), ("reopen", reopen.then_some(json!(true)))]);
                daemon.post(&format!("{}/publish", path(&id)), body).await?
            }
            Self::Remove { id } => daemon.delete(&path(&id)).await?,
            Self::Preview { id, to } => {
                let query = to.map(|to| format!("?to={to}")).unwrap_or_default();
                daemon.get(&format!("{}/preview{query}", path(&id))).await?
            }
            Self::Discard { id } => daemon.delete(&format!("{}/draft", path(&id))).await?,
            Self::Unentitle { plan, feature } => {
                let path = format!("{}/entitlements/{}", path(&plan), escape(&feature));
                daemon.delete(&path).await?
            }
            Self::Archive { id } => {
                daemon.post(&format!("{}/archive", path(&id)), json!({})).await?
            }
            Self::Entitle {
                plan,
                feature,
                limit,
                unlimited,
                soft,
                per_unit,
                reset,
                anchor,
                bill,
            } => {
                let flag = |set: bool| set.then_some(json!(true));
                let body = object([
                    ("limit", limit.map(|limit| json!(limit))),
                    ("unlimited", flag(unlimited)),
                    ("soft", flag(soft)),
                    ("per_unit", flag(per_unit)),
                    ("reset", reset.map(|reset| json!(reset))),
                    ("anchor", anchor.map(|anchor| json!(anchor))),
                    ("bill", bill.map(|bill| json!(bill))),
                ]);
                daemon
                    .put(&format!("{}/entitlements/{}", path(&plan), escape(&feature)), body)
                    .await?
            }
        };
        output.one(&plan)
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Feature {
    /// Lists the features.
    List(Limit),
    /// Shows a feature.
    Show {
        /// The feature's id.
        id: String,
    },
    /// Creates or changes a feature; options that are left out keep what is there.
    Set {
        /// The feature's id.
        id: String,
        /// The feature's name.
        #[arg(long)]
        name: String,
        /// The feature's type.
        #[arg(long = "type", value_parser = ["boolean", "numeric", "metered"])]
        kind: String,
        /// The name of one unit; none if empty.
        #[arg(long)]
        unit: Option<String>,
        /// The metered dimension that the feature's usage is billed to. Those given are all that it has.
        #[arg(long = "dimension", value_name = "PRODUCT=DIMENSION", value_parser = key_value)]
        dimensions: Vec<(String, String)>,
        /// Bills the feature's usage to no dimension.
        #[arg(long, conflicts_with = "dimensions")]
        no_dimension: bool,
        /// The answer about buyers on AWS when AWS has not been reached for long (access.stale_after); allow for a new
        /// feature.
        #[arg(long, value_parser = ["allow", "deny"])]
        when_stale: Option<String>,
    },
}

impl Feature {
    pub(super) async fn execute(self, output: Output) -> anyhow::Result<()> {
        let daemon = Daemon::from_environment()?;
        match self {
            Self::List(limit) => {
                print_list(&daemon, output, "/v1/features", &[], &limit, FEATURES).await
            }
            Self::Show { id } => {
                output.one(&daemon.get(&format!("/v1/features/{}", escape(&id))).await?)
            }
            Self::Set { id, name, kind, unit, dimensions, no_dimension, when_stale } => {
                let given = no_dimension || !dimensions.is_empty();
                let dimensions: Map<String, Value> =
                    dimensions.into_iter().map(|(product, key)| (product, json!(key))).collect();
                let body = object([
                    ("name", Some(json!(name))),
                    ("type", Some(json!(kind))),
                    ("unit", unit.map(|unit| json!(unit))),
                    ("dimensions", given.then_some(Value::Object(dimensions))),
                    ("when_stale", when_stale.map(|word| json!(word))),
                ]);
                output.one(&daemon.put(&format!("/v1/features/{}", escape(&id)), body).await?)
            }
        }
    }
}
