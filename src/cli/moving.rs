//! `marketd move`: the database, from a file to a server or back.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use secrecy::SecretString;
use serde_json::json;

use super::Failure;
use super::local::load;
use super::output::{Output, Progress, amount, print_json, say};
use crate::clock::Clock;
use crate::settings::SecretFiles;
use crate::store::{Address, MovedTable, Password, Place, ServerPlace, move_database};

/// Copies the database to the other engine: from its file to a PostgreSQL server, or back.
///
/// Stop every daemon on it first; beside a running one it is refused. All rows are copied in one transaction, read back and
/// compared, so that a move that is interrupted leaves nothing behind. The database that is copied stays as it was: set
/// `database.url` or `database.path` to the new place, start the daemon, and keep the old one until you are content.
#[derive(Debug, Args)]
pub(super) struct Move {
    /// The new place: postgres://USER@HOST:5432/NAME of an empty database, or the path of a new file.
    #[arg(long, value_name = "PLACE")]
    to: String,
    /// The file that holds the new server's password; else PGPASSWORD has it.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Says what would be copied, after seeing that the new place can take it.
    #[arg(long)]
    dry_run: bool,
}

impl Move {
    pub(super) async fn execute(
        self,
        config: Option<&Path>,
        output: Output,
    ) -> Result<(), Failure> {
        let from = load(config, SecretFiles::Database)?.settings.database;
        let to = self.place()?;
        let progress = Progress::of(1, format!("copying {from}"));
        let shown = progress.clone();
        let (source, target, is_dry) = (from.clone(), to.clone(), self.dry_run);
        let moved = tokio::task::spawn_blocking(move || {
            let mut report = |done, all| shown.at_of(done, all);
            move_database(&source, &target, is_dry, Clock::system().now(), &mut report)
        })
        .await
        .context("the move was cut off")?;
        progress.end();
        let tables = moved.map_err(anyhow::Error::new)?;
        Ok(self.say(&from, &to, &tables, output)?)
    }

    fn place(&self) -> anyhow::Result<Place> {
        if !self.to.starts_with("postgres://") && !self.to.starts_with("postgresql://") {
            return Ok(Place::from(Path::new(&self.to)));
        }
        let address: Address = self.to.parse().map_err(|error| anyhow::anyhow!("--to {error}"))?;
        let password = match &self.password_file {
            Some(path) => Some(Password::File(path.clone())),
            None => std::env::var("PGPASSWORD")
                .ok()
                .filter(|it| !it.is_empty())
                .map(|it| Password::Given(SecretString::from(it.trim()))),
        };
        let address = match password {
            Some(password) => address.with_password(password),
            None => address,
        };
        Ok(Place::Server(ServerPlace::new(address, 1)))
    }

    fn say(
        &self,
        from: &Place,
        to: &Place,
        tables: &[MovedTable],
        output: Output,
    ) -> anyhow::Result<()> {
        let rows: u64 = tables.iter().map(|it| it.rows).sum();
        if output == Output::Json {
            let tables: serde_json::Map<String, serde_json::Value> =
                tables.iter().map(|it| (it.name.to_owned(), json!(it.rows))).collect();
            return print_json(&json!({
                "from": from.to_string(), "to": to.to_string(), "dry_run": self.dry_run, "rows": rows, "tables": tables,
            }));
        }
        let of = |name: &str| {
            let found = tables.iter().find(|it| it.name == name);
            amount(&found.map_or(0, |it| it.rows).into())
        };
        let held = format!(
            "{} rows, with {} customers, {} subscriptions, {} usage events and {} metering records",
            amount(&rows.into()),
            of("customers"),
            of("subscriptions"),
            of("usage_events"),
            of("metering_records")
        );
        if self.dry_run {
            return say(&format!("would copy {from} to {to}: {held}; nothing was changed"));
        }
        say(&format!("copied {from} to {to}: {held}; read back, they are the same"))?;
        let set = if to.file().is_some() {
            format!("database.path = \"{to}\", without database.url")
        } else {
            format!("database.url = \"{}\"", self.to)
        };
        say(&format!("{from} is as it was. Set {set}, and start the daemon."))
    }
}
