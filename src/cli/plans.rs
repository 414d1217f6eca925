//! `marketd plan`.

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Daemon, escape};
use super::object;
use super::output::{Column, Output};
use super::pages::{Part, print_list};
use super::sentences::{archived, created, discarded, drafted, previewed, published, removed};

const PLANS: &[Column] = &[
    Column::id("PLAN", "id"),
    Column::text("NAME", "name"),
    Column::id("PRODUCT", "product_id"),
    Column::id("SOURCE", "source"),
    Column::state("STATUS", "status"),
    Column::id("VERSION", "version"),
    Column::id("DRAFT", "draft.version"),
];
const VERSIONS: &[Column] = &[
    Column::id("VERSION", "version"),
    Column::state("STATE", "state"),
    Column::sum("SUBSCRIPTIONS", "subscriptions"),
    Column::time("PUBLISHED", "publication.at"),
    Column::id("BY", "publication.by"),
];

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
        part: Part,
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
    Entitle(Entitle),
}

/// Grants a feature, in the plan's draft; the terms replace those that it has.
///
/// A boolean feature takes none of the options. A numeric or metered one takes --limit or --unlimited; --reset and
/// --bill are for metered ones.
#[derive(Debug, Args)]
pub(super) struct Entitle {
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
}

impl Entitle {
    /// Returns the terms as the API takes them.
    fn terms(&self) -> Value {
        let flag = |set: bool| set.then_some(json!(true));
        let text = |value: &Option<String>| value.as_ref().map(|text| json!(text));
        object([
            ("limit", text(&self.limit)),
            ("unlimited", flag(self.unlimited)),
            ("soft", flag(self.soft)),
            ("per_unit", flag(self.per_unit)),
            ("reset", text(&self.reset)),
            ("anchor", text(&self.anchor)),
            ("bill", text(&self.bill)),
        ])
    }
}

impl Plan {
    pub(super) async fn execute(self, output: Output) -> anyhow::Result<()> {
        let daemon = Daemon::from_environment(output)?;
        let path = |id: &str| format!("/v1/plans/{}", escape(id));
        let granted =
            |plan: &str, feature: &str| format!("{}/entitlements/{}", path(plan), escape(feature));
        match self {
            Self::List { status, product, part } => {
                let query = [("status", status), ("product_id", product)];
                print_list(&daemon, output, "/v1/plans", &query, &part, PLANS).await
            }
            Self::Versions { id, number } => {
                let versions = daemon.get(&format!("{}/versions", path(&id))).await?;
                let Some(number) = number else { return output.list(&versions, VERSIONS) };
                let mut items = versions["items"].as_array().into_iter().flatten();
                match items.find(|version| version["version"] == number) {
                    Some(version) => output.one(version),
                    None => bail!("plan {id} has no version {number}"),
                }
            }
            Self::Show { id } => output.one(&daemon.get(&path(&id)).await?),
            Self::Create { id, name, product } => {
                let product = product.map(|id| json!(id));
                let body = object([("name", Some(json!(name))), ("product_id", product)]);
                let plan = daemon.put(&path(&id), body).await?;
                output.done(&plan, &created(&plan))
            }
            Self::Publish { id, to, reopen } => publish(&daemon, output, &id, to, reopen).await,
            Self::Remove { id } => {
                let plan = daemon.delete(&path(&id)).await?;
                output.done(&plan, &removed(&plan))
            }
            Self::Preview { id, to } => {
                let preview = daemon.query(&preview_path(&id), &[("to", to)]).await?;
                output.done(&preview, &previewed(&id, &preview))
            }
            Self::Discard { id } => {
                let plan = daemon.delete(&format!("{}/draft", path(&id))).await?;
                output.done(&plan, &discarded(&plan))
            }
            Self::Unentitle { plan, feature } => {
                let plan = daemon.delete(&granted(&plan, &feature)).await?;
                output.done(&plan, &drafted(&plan, &feature))
            }
            Self::Archive { id } => {
                let plan = daemon.post(&format!("{}/archive", path(&id)), json!({})).await?;
                output.done(&plan, &archived(&plan))
            }
            Self::Entitle(entitle) => {
                let path = granted(&entitle.plan, &entitle.feature);
                let plan = daemon.put(&path, entitle.terms()).await?;
                output.done(&plan, &drafted(&plan, &entitle.feature))
            }
        }
    }
}

fn preview_path(id: &str) -> String {
    format!("/v1/plans/{}/preview", escape(id))
}

/// Publishes a plan's draft. A person is told what that changes, which the preview knows.
async fn publish(
    daemon: &Daemon,
    output: Output,
    id: &str,
    to: Option<String>,
    reopen: bool,
) -> anyhow::Result<()> {
    let preview = match output {
        Output::Json => None,
        // What cannot be previewed is refused for a reason, and so is publishing it.
        Output::Table => daemon.query(&preview_path(id), &[("to", to.clone())]).await.ok(),
    };
    let to = to.map(|to| json!(to));
    let body = object([("to", to), ("reopen", reopen.then_some(json!(true)))]);
    let plan = daemon.post(&format!("/v1/plans/{}/publish", escape(id)), body).await?;
    output.done(&plan, &published(&plan, preview.as_ref()))
}
