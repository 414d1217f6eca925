//! Commands that need no running daemon: the daemon itself, and what looks after it.

use std::io;
use std::path::Path;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Failure;
use super::output::{Column, Output, print_json, say};
use crate::aws::{Connection, ConnectionOptions, caller_account, probe_permissions};
use crate::clock::Clock;
use crate::daemon::{Daemon, DaemonError, OnceSummary, Purpose, Surroundings};
use crate::domain::AccountId;
use crate::domain::api_token::ApiToken;
use crate::domain::counted::counted;
use crate::domain::integration::{Identity, Role};
use crate::http::Tokens;
use crate::outgoing;
use crate::settings::{self, Listen, Loaded, SecretFiles, SettingsError};
use crate::store::{History, IntegrationRow, LockError, Place, Pruned, Store, StoreError};
use crate::telemetry;

const SETTINGS: &[Column] =
    &[Column::id("KEY", "key"), Column::text("VALUE", "value"), Column::id("ORIGIN", "origin")];
const CHECKS: &[Column] =
    &[Column::id("ACTION", "action"), Column::state("OK", "ok"), Column::text("DETAIL", "detail")];

/// Loads the settings, with those secrets that a command uses.
pub(super) fn load(config: Option<&Path>, secret_files: SecretFiles) -> anyhow::Result<Loaded> {
    Ok(settings::load_for(secret_files, config, environment())?)
}

/// Returns the environment's variables. Bytes that are no UTF-8 are replaced: whoever needs such a value refuses it, and
/// the others go on.
pub(super) fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |bytes: std::ffi::OsString| bytes.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}

/// Returns a token that is cancelled by SIGTERM, as service managers send it, and by Ctrl-C.
pub(super) fn shutdown_on_signal() -> anyhow::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?;
    let cancelled = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        cancelled.cancel();
    });
    Ok(token)
}

/// Reads the tokens anew on SIGHUP, as a service manager's reload sends it. What else has changed waits for a restart; a
/// file that has become wrong changes nothing.
fn reload_on_hangup(mut hangup: Signal, config: Option<&Path>, tokens: Tokens) {
    let config = config.map(Path::to_owned);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match load(config.as_deref(), SecretFiles::All) {
                Ok(loaded) => reload(&tokens, loaded.settings.http.tokens),
                Err(error) => {
                    tracing::error!("SIGHUP changes nothing, as settings are wrong: {error:#}");
                }
            }
        }
    });
}

/// Takes these tokens from now on, unless that would open the API to everybody or shut it to those who use it without.
fn reload(tokens: &Tokens, anew: Vec<ApiToken>) {
    if tokens.is_empty() != anew.is_empty() {
        let what = if anew.is_empty() { "the last token is gone" } else { "there was no token" };
        tracing::error!("SIGHUP changes nothing: {what}, and what that changes needs a restart");
        return;
    }
    let (before, now) = (tokens.len(), anew.len());
    tokens.replace(anew);
    tracing::info!(before, now, "tokens are read anew; other settings wait for a restart");
}

/// Runs the daemon: polls the queue, asks AWS what buyers hold, meters usage, serves the API.
///
/// It runs in the foreground until SIGTERM or Ctrl-C, then stops taking in, finishes what is in flight and
/// closes. With --reconcile-once it makes one pass instead: drains the queue, sweeps every product, sends what
/// metering is due, prints a summary, and exits with 1 if anything could not be done.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// Makes one pass and exits, for cron and systemd timers.
    #[arg(long)]
    reconcile_once: bool,
}

impl Run {
    pub(super) async fn execute(
        self,
        config: Option<&Path>,
        output: Output,
    ) -> Result<(), Failure> {
        let secrets = if self.reconcile_once { SecretFiles::Pass } else { SecretFiles::All };
        let Loaded { settings, notes, .. } = load(config, secrets)?;
        telemetry::start_log(&settings.log)?;
        for note in notes {
            tracing::warn!("{note}");
        }
        let metrics = telemetry::start_metrics()?;
        // Caught before anything starts, so that a stop during the start is one too.
        let shutdown = shutdown_on_signal()?;
        let hangup = signal(SignalKind::hangup()).context("SIGHUP cannot be caught")?;
        let purpose = if self.reconcile_once { Purpose::Pass } else { Purpose::Run };
        let surroundings =
            Surroundings { metrics: Some(metrics), purpose, ..Surroundings::default() };
        let daemon = tokio::select! {
            daemon = Daemon::build(settings, surroundings) => daemon.map_err(wrong_place)?,
            () = shutdown.cancelled() => return Ok(()),
        };
        if !self.reconcile_once {
            reload_on_hangup(hangup, config, daemon.tokens());
            let bound = daemon.bind().await.map_err(wrong_place)?;
            daemon.run(bound, shutdown).await?;
            return Ok(());
        }
        let summary = tokio::select! {
            summary = daemon.run_once() => summary?,
            () = shutdown.cancelled() => {
                return Err(anyhow::anyhow!("stopped before the pass was over; the next one goes on").into());
            }
        };
        print_summary(&summary, output)?;
        if summary.ok { Ok(()) } else { Err(Failure::Said) }
    }
}

/// Turns what no other start will get either into a wrong setting, over which nobody shall start the daemon anew: an
/// address that is not to be had, a database that cannot be there.
fn wrong_place(error: DaemonError) -> Failure {
    match error {
        DaemonError::Listen { listen, source } if will_not_do(&source) => {
            wrong(format!("http.listen: nobody can listen on {listen}: {source}"))
        }
        DaemonError::Lock(LockError::File { path, source })
        | DaemonError::Store(
            StoreError::CreateFolder { folder: path, source } | StoreError::Mode { path, source },
        ) => wrong_database(&path, source),
        error => error.into(),
    }
}

/// Reports whether the system refuses this for what it is, rather than for the moment.
fn will_not_do(source: &io::Error) -> bool {
    use std::io::ErrorKind::{
        AlreadyExists, InvalidFilename, InvalidInput, IsADirectory, NotADirectory, NotFound,
        PermissionDenied, ReadOnlyFilesystem,
    };
    matches!(
        source.kind(),
        AlreadyExists
            | InvalidFilename
            | InvalidInput
            | IsADirectory
            | NotADirectory
            | NotFound
            | PermissionDenied
            | ReadOnlyFilesystem
    )
}

fn wrong(fault: String) -> Failure {
    Failure::Settings(SettingsError(vec![fault]))
}

/// Describes a file or folder of the database's that could not be made or opened.
pub(super) fn wrong_database(path: &Path, source: io::Error) -> Failure {
    if will_not_do(&source) {
        return wrong(format!(
            "database.path: {} cannot be made or opened: {source}",
            path.display()
        ));
    }
    anyhow::Error::new(source).context(format!("could not use {}", path.display())).into()
}

fn print_summary(summary: &OnceSummary, output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        return print_json(&json!(summary));
    }
    let OnceSummary { notifications, sweep, reconcile, metering, errors, .. } = summary;
    let some = |count: usize, noun| counted(count as u64, noun);
    say(&format!(
        "notifications  {} new, {} repeated, {} quarantined",
        notifications.new, notifications.duplicates, notifications.quarantined
    ))?;
    say(&format!(
        "sweep          {}, {}, {}, {}",
        some(sweep.products, "product"),
        some(sweep.buyers, "buyer"),
        some(sweep.agreements, "agreement"),
        some(sweep.changes, "change")
    ))?;
    say(&format!(
        "reconcile      {}, {}, {} failing",
        some(reconcile.buyers, "buyer"),
        some(reconcile.changes, "change"),
        reconcile.failing
    ))?;
    say(&format!(
        "metering       {} closed, {} billed, {} parked, {} waiting",
        some(metering.frozen, "hour"),
        metering.accepted,
        metering.parked,
        metering.waiting
    ))?;
    for error in errors {
        say(&format!("error          {error}"))?;
    }
    say(if summary.ok { "everything was done" } else { "not everything could be done" })
}

pub(super) fn check_config(config: Option<&Path>, output: Output) -> anyhow::Result<()> {
    let loaded = load(config, SecretFiles::Readable)?;
    for note in &loaded.notes {
        output.warn(note);
    }
    print_settings(&loaded, output)
}

fn print_settings(loaded: &Loaded, output: Output) -> anyhow::Result<()> {
    output.list(&json!({"items": shown(loaded)}), SETTINGS)
}

fn shown(loaded: &Loaded) -> Vec<serde_json::Value> {
    let keys = loaded.settings.shown.iter();
    keys.map(
        |(key, value, origin)| json!({"key": key, "value": value, "origin": origin.to_string()}),
    )
    .collect()
}

pub(super) async fn doctor(config: Option<&Path>, output: Output) -> Result<(), Failure> {
    let loaded = load(config, SecretFiles::Database)?;
    for note in &loaded.notes {
        output.warn(note);
    }
    let shown = shown(&loaded);
    if output == Output::Table {
        // Before AWS is asked, which may take its time.
        print_settings(&loaded, output)?;
    }
    let settings = loaded.settings;
    let queue_url = settings.queue.as_ref().map(|queue| queue.url.to_string());
    if !outgoing::has_authorities() {
        output.warn(outgoing::NO_AUTHORITIES);
    }
    let mut items = Vec::new();
    let held = read_database(&settings.database, &mut items).await?;
    if let Some(store) = &held {
        items.extend(pruned_items(store).await?);
    }
    let identity = identity(&settings, held.as_ref(), &mut items).await;
    let options = ConnectionOptions {
        metering_region: settings.metering.region.to_string(),
        queue_url: queue_url.clone(),
        reconcile_rate: settings.reconcile.rate,
        metering_rate: settings.metering.rate,
        registration_rate: settings.seller.rate,
        clock: Clock::system(),
        sandbox_url: None,
    };
    let clients = Connection::open(options, identity).await.clients();
    match caller_account(&clients).await {
        Ok(account) => {
            let trouble = match &held {
                Some(store) => store.account_trouble(AccountId::new(&account)).await?,
                None => None,
            };
            let ok = trouble.is_none();
            let detail = trouble.unwrap_or_else(|| format!("account {account}"));
            items.push(json!({"action": "sts:GetCallerIdentity", "ok": ok, "detail": detail}));
        }
        Err(error) => items.push(
            json!({"action": "sts:GetCallerIdentity", "ok": false, "detail": error.to_string()}),
        ),
    }
    let checks = probe_permissions(&clients, queue_url.as_deref()).await;
    items.extend(checks.iter().map(|check| json!(check)));
    let all = items.iter().all(|item| item["ok"] == true);
    if output == Output::Json {
        print_json(&json!({"settings": shown, "checks": items}))?;
    } else {
        say("")?;
        output.list(&json!({"items": items}), CHECKS)?;
    }
    if all { Ok(()) } else { Err(Failure::Said) }
}

/// Returns the identity whose credentials a daemon with these settings would use.
async fn identity(
    settings: &settings::Settings,
    held: Option<&Store>,
    items: &mut Vec<serde_json::Value>,
) -> Identity {
    if let Some(arn) = &settings.integration.role_arn {
        let external_id = settings.integration.external_id.as_ref().map(ToString::to_string);
        return Identity::Role(Role { arn: arn.to_string(), external_id });
    }
    let row = match held {
        Some(store) => store.integration().await,
        None => Ok(None),
    };
    match row {
        Ok(row) => row.map_or(Identity::Environment, IntegrationRow::into_identity),
        Err(error) => {
            items.push(database_item(false, &error.in_full()));
            Identity::Environment
        }
    }
}

/// Opens the database, if there is one yet and it can be read. Nothing in it is changed: a daemon of an older release
/// may run on it.
async fn read_database(
    place: &Place,
    items: &mut Vec<serde_json::Value>,
) -> anyhow::Result<Option<Store>> {
    let opened = match place.file().map_or(Ok(true), Path::try_exists) {
        Ok(false) => {
            items.push(database_item(true, &format!("none yet at {place}")));
            return Ok(None);
        }
        Ok(true) => open_to_read(place).await,
        Err(error) => Err(error.into()),
    };
    match opened {
        Ok((store, detail)) => {
            items.push(database_item(true, &detail));
            Ok(Some(store))
        }
        Err(error) => {
            let detail = format!(
                "{error:#}: the checks below use the environment's credentials, which may not be the daemon's"
            );
            items.push(database_item(false, &detail));
            Ok(None)
        }
    }
}

/// Opens a database and describes it.
async fn open_to_read(place: &Place) -> anyhow::Result<(Store, String)> {
    let opening = place.clone();
    let store = tokio::task::spawn_blocking(move || Store::open_to_read(opening)).await??;
    store.server_facts().await?;
    let asked = std::time::Instant::now();
    let Some(facts) = store.server_facts().await? else {
        return Ok((store, format!("{place} can be read")));
    };
    let round_trip = asked.elapsed();
    let ahead = facts.at.duration_since(Clock::system().now());
    let tls = if facts.has_tls { "TLS" } else { "no TLS: what is sent can be read on its way" };
    let detail = format!(
        "{place} can be read: PostgreSQL {}, schema version {}, {tls}, its clock {} ms from ours, an answer in {:.1?}",
        facts.server_version,
        facts.schema_version,
        ahead.as_millis(),
        round_trip
    );
    Ok((store, detail))
}

/// Lists what was pruned of each kind of history.
async fn pruned_items(store: &Store) -> Result<Vec<serde_json::Value>, StoreError> {
    let mut items = Vec::new();
    for history in History::ALL {
        if let Some(Pruned { rows, until, at, .. }) = store.pruned(history).await? {
            let detail = format!("{rows} pruned, from up to {until}; the last of them at {at}");
            let action = format!("retention.{}", history.as_str());
            items.push(json!({"action": action, "ok": true, "detail": detail}));
        }
    }
    Ok(items)
}

fn database_item(ok: bool, detail: &str) -> serde_json::Value {
    json!({"action": "database", "ok": ok, "detail": detail})
}

pub(super) async fn healthcheck(config: Option<&Path>) -> anyhow::Result<()> {
    let listen = load(config, SecretFiles::None)?.settings.http.listen;
    let mut builder = outgoing::local_client().timeout(std::time::Duration::from_secs(5));
    let url = match &listen {
        Listen::Tcp(address) => format!("http://{address}/healthz"),
        Listen::Unix(path) => {
            builder = builder.unix_socket(path.clone());
            "http://localhost/healthz".to_owned()
        }
    };
    let answer = builder.build()?.get(url).send().await;
    match answer {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => bail!("marketd at {listen} answered {}", answer.status()),
        Err(_) => bail!("no marketd answers at {listen}"),
    }
}
