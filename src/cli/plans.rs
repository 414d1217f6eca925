//! `marketd plan` and `feature`.

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::client::{Daemon, escape};
use super::output::{Column, Output};
use super::{Limit, key_value, object};

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

#[derive(Debug, Subcommand)]
pub(super) enum Plan {
    /// Lists the plans.
    List(Limit),
    /// Shows a plan and what it grants.
    Show {
        /// The plan.
        id: String,
    },
    /// Makes a plan that AWS does not sell, or renames one.
    Create {
        /// Its id.
        id: String,
        /// Its name.
        #[arg(long)]
        name: String,
        /// The product that it belongs to.
        #[arg(long)]
        product: Option<String>,
    },
    /// Gives customers what the plan's draft grants.
    ///
    /// Changes to a published plan are kept as a draft until they are published. `plan preview` shows who would
    /// gain and who would lose by it.
    Publish {
        /// The plan.
        id: String,
        /// Everybody on the plan, or only those who come to it from now on; the others then keep what they have.
        #[arg(long, value_parser = ["all", "new"], default_value = "all")]
        to: String,
    },
    /// Shows what publishing the draft would change, and for whom.
    Preview {
        /// The plan.
        id: String,
    },
    /// Drops what was changed and not published.
    Discard {
        /// The plan.
        id: String,
    },
    /// Keeps the plan for those who have it; nobody can be subscribed to it anew.
    ///
    /// `plan publish` opens it again. Whoever buys its dimension on AWS gets it all the same: AWS has sold it, so
    /// take the dimension out of the listing.
    Archive {
        /// The plan.
        id: String,
    },
    /// Takes a feature out of the plan's draft.
    Unentitle {
        /// The plan.
        plan: String,
        /// The feature.
        feature: String,
    },
    /// Grants a feature, in the plan's draft.
    Entitle {
        /// The plan.
        plan: String,
        /// The feature.
        feature: String,
        /// The limit.
        #[arg(long, conflicts_with = "unlimited")]
        limit: Option<String>,
        /// No limit at all.
        #[arg(long)]
        unlimited: bool,
        /// The limit warns instead of denying.
        #[arg(long)]
        soft: bool,
        /// The limit counts once for each unit bought.
        #[arg(long)]
        per_unit: bool,
        /// When usage is counted from zero again.
        #[arg(long, value_parser = ["hour", "day", "week", "month", "year"])]
        reset: Option<String>,
        /// What the periods start from.
        #[arg(long, value_parser = ["calendar", "subscription"])]
        anchor: Option<String>,
        /// Which usage is billed to the feature's dimension.
        #[arg(long, value_parser = ["all", "overage", "none"])]
        bill: Option<String>,
    },
}

impl Plan {
    pub(super) async fn execute(self, output: Output) -> anyhow::Result<()> {
        let daemon = Daemon::from_environment()?;
        let path = |id: &str| format!("/v1/plans/{}", escape(id));
        let plan = match self {
            Self::List(limit) => {
                let plans = daemon.list("/v1/plans", &[], limit.rows()).await?;
                return output.list(&plans, PLANS);
            }
            Self::Show { id } => daemon.get(&path(&id)).await?,
            Self::Create { id, name, product } => {
                let product = product.map(|id| json!(id));
                let body = object([("name", Some(json!(name))), ("product_id", product)]);
                daemon.put(&path(&id), body).await?
            }
            Self::Publish { id, to } => {
                daemon.post(&format!("{}/publish", path(&id)), json!({"to": to})).await?
            }
            Self::Preview { id } => daemon.get(&format!("{}/preview", path(&id))).await?,
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
        /// The feature.
        id: String,
    },
    /// Makes or changes a feature.
    Set {
        /// Its id.
        id: String,
        /// Its name.
        #[arg(long)]
        name: String,
        /// What kind it is.
        #[arg(long = "type", value_parser = ["boolean", "numeric", "metered"])]
        kind: String,
        /// What one of it is.
        #[arg(long)]
        unit: Option<String>,
        /// The metered dimension that its usage is billed to.
        #[arg(long = "dimension", value_name = "PRODUCT=DIMENSION", value_parser = key_value)]
        dimensions: Vec<(String, String)>,
        /// What is answered to buyers on AWS while AWS could not be asked for long (access.stale_after).
        #[arg(long, value_parser = ["allow", "deny"], default_value = "allow")]
        when_stale: String,
    },
}

impl Feature {
    pub(super) async fn execute(self, output: Output) -> anyhow::Result<()> {
        let daemon = Daemon::from_environment()?;
        match self {
            Self::List(limit) => {
                output.list(&daemon.list("/v1/features", &[], limit.rows()).await?, FEATURES)
            }
            Self::Show { id } => {
                output.one(&daemon.get(&format!("/v1/features/{}", escape(&id))).await?)
            }
            Self::Set { id, name, kind, unit, dimensions, when_stale } => {
                let dimensions: Map<String, Value> =
                    dimensions.into_iter().map(|(product, key)| (product, json!(key))).collect();
                let body = object([
                    ("name", Some(json!(name))),
                    ("type", Some(json!(kind))),
                    ("unit", unit.map(|unit| json!(unit))),
                    ("dimensions", Some(Value::Object(dimensions))),
                    ("when_stale", Some(json!(when_stale))),
                ]);
                output.one(&daemon.put(&format!("/v1/features/{}", escape(&id)), body).await?)
            }
        }
    }
}
