//! `marketd integration`.

use anyhow::bail;
use clap::Subcommand;
use serde_json::json;

use super::client::Daemon;
use super::object;
use super::output::{Output, print_json, say};

#[derive(Debug, Subcommand)]
pub(super) enum Integration {
    /// Shows the connection and how its parts stand.
    Show,
    /// Prints the trust policy of the role, with the external id that marketd made.
    TrustPolicy,
    /// Prints the least permissions that the role needs.
    IamPolicy,
    /// Connects to the seller's account by a role, and says which permission is missing.
    Connect {
        /// The role's ARN.
        #[arg(long)]
        role_arn: String,
        /// The external id, if it is not the one that marketd made.
        #[arg(long)]
        external_id: Option<String>,
    },
    /// Stops using the role; the history stays, and connecting again takes it up.
    Remove {
        /// Says that you mean it.
        #[arg(long)]
        yes: bool,
    },
}

impl Integration {
    pub(super) async fn execute(self, output: Output) -> anyhow::Result<()> {
        let daemon = Daemon::from_environment()?;
        match self {
            Self::Show => output.one(&daemon.get("/v1/integration").await?),
            Self::TrustPolicy => print_json(&daemon.get("/v1/integration/trust-policy").await?),
            Self::IamPolicy => print_json(&daemon.get("/v1/integration/iam-policy").await?),
            Self::Connect { role_arn, external_id } => {
                let body = object([
                    ("role_arn", Some(json!(role_arn))),
                    ("external_id", external_id.map(|id| json!(id))),
                ]);
                output.one(&daemon.put("/v1/integration", body).await?)
            }
            Self::Remove { yes } => {
                if !yes {
                    bail!("this stops every call by the role: say --yes if you mean it");
                }
                daemon.delete("/v1/integration?confirm=true").await?;
                say("the role is not used any more; the history is kept")
            }
        }
    }
}
