//! `marketd worker`: the daemons on the database.

use clap::Subcommand;

use super::client::Daemon;
use super::output::{Column, Output};
use super::pages::{Part, print_list};

const WORKERS: &[Column] = &[
    Column::id("NAME", "name"),
    Column::id("VERSION", "version"),
    Column::time("SINCE", "since"),
    Column::time("LAST SEEN", "last_seen_at"),
    Column::text("LEASES", "leases"),
    Column::text("ANSWERS", "is_answering"),
];

#[derive(Debug, Subcommand)]
pub(super) enum Worker {
    /// Lists the daemons on the database, and the work that each alone does.
    ///
    /// On a file there is one. On a server there may be any number; the one with the lease `background` sweeps, looks at
    /// buyers, closes hours, sends and posts, and where it dies another does within 15 seconds.
    List,
}

impl Worker {
    pub(super) async fn execute(self, output: Output) -> anyhow::Result<()> {
        let daemon = Daemon::from_environment(output)?;
        let Self::List = self;
        print_list(&daemon, output, "/v1/workers", &[], &Part::default(), WORKERS).await
    }
}
