//! `marketd demo`: a seller's month on the sandbox.

use clap::Args;

/// Plays a whole seller's month in a minute, on the embedded sandbox in a temporary folder.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Leaves at the end instead of staying up.
    #[arg(long)]
    exit: bool,
}

impl Demo {
    pub(super) async fn execute(self) -> anyhow::Result<()> {
        anyhow::bail!("not yet: {}", self.exit)
    }
}
