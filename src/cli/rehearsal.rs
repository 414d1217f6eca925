//! A sandbox and a daemon in one process and on one clock: moving the clock closes hours and bills.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::ExposeSecret as _;
use tempfile::TempDir;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::daemon::{Daemon, DaemonError, Surroundings};
use crate::sandbox::{Resetting, Sandbox};
use crate::settings::{self, Listen, Settings, Sources};
use crate::store::Store;
use crate::telemetry;

/// The daemon's settings, unless somebody says otherwise: nothing is worth waiting for that a test waits for.
const DEFAULTS: &[(&str, &str)] = &[
    ("queue.wait", "1s"),
    ("reconcile.rate", "1000"),
    ("reconcile.second_look", "1s"),
    ("metering.rate", "1000"),
    ("metering.interval", "200ms"),
    ("log.filter", "warn"),
];

/// The options of the daemon beside a sandbox.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// The settings file. The one of this machine's own daemon is not read: what it names is real.
    pub(super) config: Option<PathBuf>,
    /// The variables that change settings.
    pub(super) environment: Vec<(String, String)>,
    /// The address of its API; else the settings' own.
    pub(super) listen: Option<String>,
    /// The path of its database, which must not exist yet; else one in a temporary folder.
    pub(super) database: Option<PathBuf>,
}

/// A sandbox with a daemon beside it.
pub(super) struct Rehearsal {
    sandbox: Sandbox,
    host: Arc<Host>,
    failures: mpsc::UnboundedReceiver<DaemonError>,
    _folder: Option<TempDir>,
}

/// The starter and stopper of the daemon.
struct Host {
    clock: Clock,
    sandbox_url: String,
    metrics: PrometheusHandle,
    failed: mpsc::UnboundedSender<DaemonError>,
    settings: Settings,
    running: Mutex<Option<Running>>,
}

struct Running {
    store: Store,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Rehearsal {
    /// Starts a daemon beside a sandbox that serves already.
    pub(super) async fn start(sandbox: Sandbox, beside: Beside) -> anyhow::Result<Self> {
        let (database, folder) = match beside.database {
            Some(path) if path.exists() => bail!(
                "{} exists already: the sandbox begins with nothing, and so must its daemon; name a new file",
                path.display()
            ),
            Some(path) => (path, None),
            None => {
                let folder = tempfile::Builder::new().prefix("marketd-").tempdir()?;
                (folder.path().join("marketd.db"), Some(folder))
            }
        };
        let mut fixed = vec![
            ("database.path", database.display().to_string()),
            ("queue.url", sandbox.queue_url()),
        ];
        fixed.extend(beside.listen.map(|listen| ("http.listen", listen)));
        let sources = Sources {
            defaults: DEFAULTS.iter().map(|(key, value)| (*key, (*value).to_owned())).collect(),
            file: beside.config,
            default_file: false,
            environment: beside.environment,
            fixed,
            ..Sources::default()
        };
        let settings = settings::load_from(sources)?.settings;
        telemetry::start_log(&settings.log)?;
        let (failed, failures) = mpsc::unbounded_channel();
        let mut host = Host {
            clock: sandbox.clock().shared(),
            sandbox_url: sandbox.url(),
            metrics: telemetry::start_metrics()?,
            failed,
            settings,
            running: Mutex::default(),
        };
        let (running, listen) = Box::pin(host.start()).await?;
        // A port that was free is the one to come back to.
        host.settings.http.listen = listen;
        *host.running.get_mut() = Some(running);
        let host = Arc::new(host);
        let companion = Arc::clone(&host);
        sandbox.accompany(move |resetting| {
            let host = Arc::clone(&companion);
            Box::pin(async move {
                Box::pin(host.begin_anew(resetting)).await.map_err(|error| format!("{error:#}"))
            })
        });
        Ok(Self { sandbox, host, failures, _folder: folder })
    }

    /// Returns the sandbox.
    pub(super) const fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Returns the URL of the daemon's API, as `MARKETD_URL` takes it.
    pub(super) fn url(&self) -> String {
        match &self.host.settings.http.listen {
            Listen::Tcp(address) => format!("http://{address}"),
            listen @ Listen::Unix(_) => listen.to_string(),
        }
    }

    /// Returns the environment that a client of either of them needs.
    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        let mut environment = self.sandbox.environment();
        environment.push(("MARKETD_URL", self.url()));
        if let Some(token) = &self.host.settings.http.token {
            environment.push(("MARKETD_TOKEN", token.expose_secret().to_owned()));
        }
        environment
    }

    /// Returns the daemon's database, as long as nothing is reset.
    pub(super) async fn store(&self) -> anyhow::Result<Store> {
        let running = self.host.running.lock().await;
        Ok(running.as_ref().context("the daemon does not run")?.store.clone())
    }

    /// Waits until the daemon has ended by itself.
    pub(super) async fn failed(&mut self) -> anyhow::Error {
        match self.failures.recv().await {
            Some(error) => error.into(),
            None => anyhow::anyhow!("the daemon stopped by itself"),
        }
    }

    /// Stops the daemon and the sandbox.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        let running = self.host.running.lock().await.take();
        if let Some(running) = running {
            running.stop().await?;
        }
        self.sandbox.stop().await;
        match self.failures.try_recv() {
            Ok(error) => Err(error.into()),
            Err(_) => Ok(()),
        }
    }
}

impl Host {
    async fn start(&self) -> anyhow::Result<(Running, Listen)> {
        let surroundings = Surroundings {
            clock: Some(self.clock.clone()),
            metrics: Some(self.metrics.clone()),
            sandbox_url: Some(self.sandbox_url.clone()),
            ..Surroundings::default()
        };
        let daemon = Daemon::build(self.settings.clone(), surroundings).await?;
        let bound = daemon.bind().await?;
        let listen = bound.listens_on()?;
        let (store, shutdown) = (daemon.store().clone(), CancellationToken::new());
        let (failed, stopping) = (self.failed.clone(), shutdown.clone());
        let task = tokio::spawn(async move {
            if let Err(error) = daemon.run(bound, stopping).await {
                // Whoever would hear of it has stopped listening.
                failed.send(error).ok();
            }
        });
        Ok((Running { store, shutdown, task }, listen))
    }

    /// Stops the daemon, has the sandbox reset, and starts a daemon that knows nothing.
    async fn begin_anew(&self, resetting: Resetting) -> anyhow::Result<()> {
        let mut slot = self.running.lock().await;
        if let Some(running) = slot.take() {
            running.stop().await.context("the daemon did not stop")?;
        }
        if let Some(path) = self.settings.database.file() {
            remove_database(path)?;
        }
        resetting.now();
        let (running, _) = self.start().await.context("the daemon did not start again")?;
        *slot = Some(running);
        Ok(())
    }
}

impl Running {
    async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        Ok(self.task.await?)
    }
}

/// Removes a database that nobody has open, with the files that SQLite keeps beside it.
fn remove_database(path: &Path) -> anyhow::Result<()> {
    for ending in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        match std::fs::remove_file(&name) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).context(format!("{} cannot be removed", name.display()));
            }
            _ => {}
        }
    }
    Ok(())
}
