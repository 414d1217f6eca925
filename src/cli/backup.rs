//! `marketd backup` and `marketd restore`: copies of the database.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use jiff::SignedDuration;
use serde_json::json;

use super::Failure;
use super::local::{load, wrong_database};
use super::output::{Output, Progress, amount, print_json, say};
use crate::clock::Clock;
use crate::settings::{SecretFiles, duration};
use crate::store::{
    Copied, LockError, Place, REPLAY_TIME, RestoreError, Restored, back_up, restore,
};

/// Copies the database into FILE while the daemon goes on running.
///
/// FILE appears once it is complete: one file, for its owner alone. `marketd restore` puts it back.
#[derive(Debug, Args)]
pub(super) struct Backup {
    /// The file for the copy; it must not exist yet.
    file: PathBuf,
}

impl Backup {
    pub(super) async fn execute(self, config: Option<&Path>, output: Output) -> anyhow::Result<()> {
        let place = load(config, SecretFiles::None)?.settings.database;
        let path =
            file_of(&place, "`pg_dump --format=custom --file=FILE` makes a copy")?.to_owned();
        if !path.exists() {
            bail!("there is no database at {}", path.display());
        }
        let progress = Progress::of(1, format!("copying {}", path.display()));
        let shown = progress.clone();
        let report = move |copied: Copied| shown.at_of(copied.pages, copied.of);
        let pages = back_up(&path, &self.file, Clock::system().now(), report).await;
        progress.end();
        let pages = pages?;
        if output == Output::Json {
            return print_json(&json!({"database": path, "backup": self.file, "pages": pages}));
        }
        say(&format!(
            "copied {} to {} ({} pages)",
            path.display(),
            self.file.display(),
            amount(&pages.into())
        ))
    }
}

/// Replaces the database by a backup; the database is kept under another name.
///
/// Stop the daemon first: beside a running one it is refused. AWS may have been told of usage that the backup does not
/// know. So the hours from the backup's last commit until now are marked as unknown: usage from before this moment is
/// billed to its own hour only, where AWS takes each hour once, and never moved to a later one. What AWS has already is
/// settled; what contradicts it is parked for a person.
///
/// After it start the daemon, and have your application report again what it reported since the backup, with the same
/// ids and timestamps: their hours stay open for that as long as --replay says. Do not report again what has no
/// timestamp of its own: it would count as used now.
#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The backup: any complete copy of a database of marketd.
    file: PathBuf,
    /// The time for which the unknown hours stay open for usage that is reported again, as 1h; 0s closes them at once.
    #[arg(long, value_name = "DURATION", value_parser = replay_time)]
    replay: Option<SignedDuration>,
}

/// Returns the file; a database on a server is copied by the server's own tools.
fn file_of<'a>(place: &'a Place, instead: &str) -> anyhow::Result<&'a Path> {
    place.file().with_context(|| format!("the database is on a server ({place}): there {instead}"))
}

fn replay_time(text: &str) -> Result<SignedDuration, String> {
    let time = duration(text).ok_or("write it as 90s, 15m or 6h")?;
    SignedDuration::try_from(time).map_err(|error| error.to_string())
}

fn failed(error: RestoreError) -> Failure {
    match error {
        RestoreError::Lock(LockError::File { path, source }) => wrong_database(&path, source),
        error => error.into(),
    }
}

impl Restore {
    pub(super) fn execute(self, config: Option<&Path>, output: Output) -> Result<(), Failure> {
        let place = load(config, SecretFiles::None)?.settings.database;
        let database =
            file_of(&place, "`pg_restore` puts a copy back, while no marketd runs on it")?;
        let database = database.to_owned();
        let replay = self.replay.unwrap_or(REPLAY_TIME);
        let progress = Progress::of(1, format!("putting {} back", self.file.display()));
        let mut report = |copied: Copied| progress.at_of(copied.pages, copied.of);
        let now = Clock::system().now();
        let restored = restore(&self.file, &database, replay, now, &mut report);
        progress.end();
        let Restored { last_commit, stretch, frozen, parked, kept } = restored.map_err(failed)?;
        if output == Output::Json {
            return Ok(print_json(&json!({
                "database": database,
                "backup": self.file,
                "last_commit": last_commit,
                "kept": kept,
                "unknown_stretch": stretch,
                "sent_again": frozen,
                "parked": parked,
            }))?);
        }
        let commit = last_commit.map_or("nothing".to_owned(), |at| format!("all until {at}"));
        say(&format!(
            "put {} back as {}: it knows {commit}",
            self.file.display(),
            database.display()
        ))?;
        if let Some(kept) = kept {
            say(&format!("the database that was there is kept as {}", kept.display()))?;
        }
        say(&format!(
            "metering records: {} to send again, {} parked",
            amount(&frozen.into()),
            amount(&parked.into())
        ))?;
        say("")?;
        say(&format!(
            "AWS may know more than this backup of the hours from {} to {}. Usage of these hours is billed to its own hour \
             only; what AWS has billed already is settled, what contradicts it is parked.",
            stretch.from, stretch.until
        ))?;
        if let Some(until) = stretch.replay_until {
            say(&format!(
                "Start the daemon, and report again what was reported since the backup, with its ids and timestamps, by {until}."
            ))?;
        }
        if parked > 0 {
            say(
                "Look at what is parked before you decide on it: it may have been decided on since the backup.",
            )?;
        }
        Ok(())
    }
}
