//! `marketd feature`.

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::client::{Daemon, escape};
use super::output::{Column, Output};
use super::pages::{Part, print_list};
use super::sentences::feature_set;
use super::{key_value, object};

const FEATURES: &[Column] = &[
    Column::id("FEATURE", "id"),
    Column::text("NAME", "name"),
    Column::id("TYPE", "type"),
    Column::id("UNIT", "unit"),
];
#[derive(Debug, Subcommand)]
pub(super) enum Feature {
    /// Lists the features.
    List(Part),
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
        let daemon = Daemon::from_environment(output)?;
        match self {
            Self::List(part) => {
                print_list(&daemon, output, "/v1/features", &[], &part, FEATURES).await
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
                let feature = daemon.put(&format!("/v1/features/{}", escape(&id)), body).await?;
                output.done(&feature, &feature_set(&feature))
            }
        }
    }
}
