//! `marketd listing`, `product`, `plan` and `feature`.

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::client::{Daemon, escape};
use super::output::{Column, Output};
use super::{Limit, key_value, object};

const LISTINGS: &[Column] = &[
    ("ENTITY", "entity_id"),
    ("TITLE", "title"),
    ("VISIBILITY", "visibility"),
    ("CODE", "product_code"),
    ("IMPORTED", "imported"),
    ("PRODUCT", "product_id"),
];
const PRODUCTS: &[Column] = &[
    ("PRODUCT", "id"),
    ("TITLE", "title"),
    ("CODE", "product_code"),
    ("ENTITY", "entity_id"),
    ("USAGE PLAN", "usage_plan_id"),
];
const PLANS: &[Column] = &[
    ("PLAN", "id"),
    ("NAME", "name"),
    ("PRODUCT", "product_id"),
    ("SOURCE", "source"),
    ("STATUS", "status"),
];
const FEATURES: &[Column] =
    &[("FEATURE", "id"), ("NAME", "name"), ("TYPE", "type"), ("UNIT", "unit")];

#[derive(Debug, Subcommand)]
pub(super) enum Listing {
    /// Lists the account's SaaS products, those imported marked.
    List,
    /// Imports a listing: each entitled dimension becomes a plan.
    Import {
        /// The listing, as `listing list` names it: prod-…
        entity_id: String,
        /// Our id for it; the listing's if left out.
        #[arg(long)]
        product_id: Option<String>,
        /// Which plan a dimension means; plans are made as drafts.
        #[arg(long = "plan", value_name = "DIMENSION=PLAN", value_parser = key_value)]
        plans: Vec<(String, String)>,
        /// The plan of those who pay as they go.
        #[arg(long)]
        usage_plan: Option<String>,
    },
    /// Takes over what changed in an imported product's listing.
    Sync {
        /// The product.
        product: String,
    },
}

impl Listing {
    pub(super) async fn execute(self, output: Output) -> anyhow::Result<()> {
        let daemon = Daemon::from_environment()?;
        match self {
            Self::List => output.list(&daemon.get("/v1/listings").await?, LISTINGS),
            Self::Import { entity_id, product_id, plans, usage_plan } => {
                let plans: Map<String, Value> =
                    plans.into_iter().map(|(dimension, plan)| (dimension, json!(plan))).collect();
                let body = object([
                    ("product_id", product_id.map(|id| json!(id))),
                    ("plans", Some(Value::Object(plans))),
                    ("usage_plan", usage_plan.map(|id| json!(id))),
                ]);
                let path = format!("/v1/listings/{}/import", escape(&entity_id));
                output.one(&daemon.post(&path, body).await?)
            }
            Self::Sync { product } => {
                let path = format!("/v1/products/{}/sync", escape(&product));
                output.one(&daemon.post(&path, json!({})).await?)
            }
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Product {
    /// Lists the imported products.
    List(Limit),
    /// Shows a product with its dimensions and plans.
    Show {
        /// The product.
        id: String,
    },
    /// Sets from which hour on a legacy product's buyers are metered by licence.
    ///
    /// Hours before it are metered by product code, and no hour in both forms: that would bill it twice. Set it to
    /// the hour in which the product is moved at AWS. A move that lies ahead can be taken back, one that has
    /// happened cannot.
    License {
        /// The product.
        id: String,
        /// The start of an hour that has not begun, as 2026-12-01T00:00:00Z.
        #[arg(long, required_unless_present = "cancel")]
        from: Option<String>,
        /// Takes back a move that lies ahead.
        #[arg(long, conflicts_with = "from")]
        cancel: bool,
    },
}

impl Product {
    pub(super) async fn execute(self, output: Output) -> anyhow::Result<()> {
        let daemon = Daemon::from_environment()?;
        match self {
            Self::List(limit) => {
                output.list(&daemon.list("/v1/products", &[], limit.rows()).await?, PRODUCTS)
            }
            Self::Show { id } => {
                output.one(&daemon.get(&format!("/v1/products/{}", escape(&id))).await?)
            }
            Self::License { id, from, cancel: _ } => {
                let path = format!("/v1/products/{}/licensing", escape(&id));
                output.one(&daemon.put(&path, json!({"from": from})).await?)
            }
        }
    }
}

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
    /// Lets customers use what the plan grants.
    Publish {
        /// The plan.
        id: String,
    },
    /// Keeps the plan for those who have it.
    Archive {
        /// The plan.
        id: String,
    },
    /// Grants a feature.
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
            Self::Publish { id } => {
                daemon.post(&format!("{}/publish", path(&id)), json!({})).await?
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
            Self::Set { id, name, kind, unit, dimensions } => {
                let dimensions: Map<String, Value> =
                    dimensions.into_iter().map(|(product, key)| (product, json!(key))).collect();
                let body = object([
                    ("name", Some(json!(name))),
                    ("type", Some(json!(kind))),
                    ("unit", unit.map(|unit| json!(unit))),
                    ("dimensions", Some(Value::Object(dimensions))),
                ]);
                output.one(&daemon.put(&format!("/v1/features/{}", escape(&id)), body).await?)
            }
        }
    }
}
