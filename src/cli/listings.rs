//! `marketd listing` and `product`.

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::client::{Daemon, escape};
use super::output::{Column, Output, say};
use super::pages::{Part, print_list};
use super::sentences::{confirmed, imported, licensed, licensing, product_removed, synced};
use super::times::point;
use super::{key_value, object};

const LISTINGS: &[Column] = &[
    Column::id("ENTITY", "entity_id"),
    Column::text("TITLE", "title"),
    Column::id("VISIBILITY", "visibility"),
    Column::id("CODE", "product_code"),
    Column::id("IMPORTED", "imported"),
    Column::id("PRODUCT", "product_id"),
];
const PRODUCTS: &[Column] = &[
    Column::id("PRODUCT", "id"),
    Column::text("TITLE", "title"),
    Column::id("CODE", "product_code"),
    Column::id("ENTITY", "entity_id"),
    Column::id("USAGE PLAN", "usage_plan_id"),
];
const UNLICENSED: &[Column] = &[
    Column::id("CUSTOMER", "customer_id"),
    Column::id("SUBSCRIPTION", "subscription_id"),
    Column::id("CUSTOMER IDENTIFIER", "customer_identifier"),
    Column::state("MISSING", "missing"),
];

#[derive(Debug, Subcommand)]
pub(super) enum Listing {
    /// Lists the account's SaaS products, and marks those imported.
    List(Part),
    /// Shows a listing as the catalog describes it now, and what its document lacks.
    Show {
        /// The listing's entity id: prod-…
        entity_id: String,
    },
    /// Imports a listing: each entitled dimension becomes a plan.
    Import {
        /// The listing's entity id, as `listing list` shows it: prod-…
        entity_id: String,
        /// The product's id; the listing's if left out. A listing that is imported keeps the id that it has.
        #[arg(long)]
        product_id: Option<String>,
        /// The plan that a dimension maps to; plans are made as drafts.
        #[arg(long = "plan", value_name = "DIMENSION=PLAN", value_parser = key_value)]
        plans: Vec<(String, String)>,
        /// The plan of buyers who pay as they go.
        #[arg(long)]
        usage_plan: Option<String>,
        /// The feature whose usage a metered dimension bills; made if there is none.
        #[arg(long = "feature", value_name = "DIMENSION=FEATURE", value_parser = key_value)]
        features: Vec<(String, String)>,
    },
    /// Applies the changes in an imported product's listing.
    Sync {
        /// The product's id.
        product: String,
    },
}

impl Listing {
    pub(super) async fn execute(self, output: Output) -> anyhow::Result<()> {
        let daemon = Daemon::from_environment(output)?;
        match self {
            Self::List(part) => {
                print_list(&daemon, output, "/v1/listings", &[], &part, LISTINGS).await
            }
            Self::Show { entity_id } => {
                output.one(&daemon.get(&format!("/v1/listings/{}", escape(&entity_id))).await?)
            }
            Self::Import { entity_id, product_id, plans, usage_plan, features } => {
                let map = |pairs: Vec<(String, String)>| -> Map<String, Value> {
                    pairs.into_iter().map(|(dimension, to)| (dimension, json!(to))).collect()
                };
                let billed = features.clone();
                let body = object([
                    ("product_id", product_id.map(|id| json!(id))),
                    ("plans", Some(Value::Object(map(plans)))),
                    ("features", Some(Value::Object(map(features)))),
                    ("usage_plan", usage_plan.map(|id| json!(id))),
                ]);
                let path = format!("/v1/listings/{}/import", escape(&entity_id));
                let product = daemon.post(&path, body).await?;
                output.done(&product, &imported(&product, &billed))
            }
            Self::Sync { product } => {
                let path = format!("/v1/products/{}/sync", escape(&product));
                let changes = daemon.post(&path, json!({})).await?;
                output.done(&changes, &synced(&product, &changes))
            }
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Product {
    /// Lists the imported products.
    List(Part),
    /// Shows a product with its dimensions and plans.
    Show {
        /// The product's id.
        id: String,
    },
    /// Sets the hour from which a legacy product's buyers are metered by licence.
    ///
    /// Hours before it are metered by product code, and no hour in both forms: that would bill it twice. Set it to
    /// the hour in which the product is moved at AWS. A move that lies ahead can be taken back, one that has
    /// happened cannot.
    License {
        /// The product's id.
        id: String,
        /// The start of an hour that has not begun, as 2026-12-01T00:00:00Z.
        #[arg(long, value_name = "TIME", required_unless_present_any = ["cancel", "dry_run"], value_parser = point)]
        from: Option<String>,
        /// Shows the legacy buyers that have no licence yet, and changes nothing.
        #[arg(long, conflicts_with = "cancel")]
        dry_run: bool,
        /// Cancels a move that lies ahead.
        #[arg(long, conflicts_with = "from")]
        cancel: bool,
    },
    /// Deletes a product that was imported by mistake: nobody ever bought it, and no usage of it is in the books.
    ///
    /// Plans of it that were never published go with it, others stay as plans of your own.
    Remove {
        /// The product's id.
        id: String,
    },
    /// Confirms endings that were held back because AWS's answers would end so much at once.
    ///
    /// `product show` shows what is held back. AWS is asked once more before anything ends, so that what it lists again
    /// goes on.
    ConfirmEndings {
        /// The product's id.
        id: String,
    },
}

impl Product {
    pub(super) async fn execute(self, output: Output) -> anyhow::Result<()> {
        let daemon = Daemon::from_environment(output)?;
        match self {
            Self::List(part) => {
                print_list(&daemon, output, "/v1/products", &[], &part, PRODUCTS).await
            }
            Self::Show { id } => {
                output.one(&daemon.get(&format!("/v1/products/{}", escape(&id))).await?)
            }
            Self::ConfirmEndings { id } => {
                let path = format!("/v1/products/{}/confirm-endings", escape(&id));
                let product = daemon.post(&path, json!({})).await?;
                output.done(&product, &confirmed(&product))
            }
            Self::Remove { id } => {
                let path = format!("/v1/products/{}", escape(&id));
                let product = daemon.delete(&path).await?;
                output.done(&product, &product_removed(&product))
            }
            Self::License { id, dry_run: true, .. } => {
                let path = format!("/v1/products/{}/licensing", escape(&id));
                let view = daemon.get(&path).await?;
                if output == Output::Table {
                    for line in licensing(&view) {
                        say(&line)?;
                    }
                    if view["buyers"].as_array().is_none_or(Vec::is_empty) {
                        return Ok(());
                    }
                    return output.list(&json!({"items": view["buyers"]}), UNLICENSED);
                }
                output.one(&view)
            }
            Self::License { id, from, .. } => {
                let path = format!("/v1/products/{}/licensing", escape(&id));
                let product = daemon.put(&path, json!({"from": from})).await?;
                output.done(&product, &licensed(&product))
            }
        }
    }
}
