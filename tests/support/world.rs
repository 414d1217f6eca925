//! The daemon's binary and a sandbox, both on loopback, and an HTTP client between them and the test.
//!
//! The binary goes by the machine's clock, which may come to a full hour at any step of a test. Where that matters, the
//! daemon runs inside the test on a clock that begins in the middle of a month: [`World::in_mid_month`].

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use marketd::sandbox::market::{Action, ActionOutcome, Market, Product};
use marketd::sandbox::{Fault, Sandbox, SandboxOptions};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::database::on_server;
use super::inside::Inside;
use super::sql;

/// Long enough for a loaded machine; whoever waits this long has found a fault.
const PATIENCE: Duration = Duration::from_secs(150);

/// Fifty-five minutes before the next full hour, and weeks before the next month: no test takes as long.
const MID_MONTH: &str = "2026-11-10T09:05:00Z";

/// Nothing is worth waiting for that a test waits for.
const HASTE: &[(&str, &str)] = &[
    ("MARKETD__QUEUE__WAIT", "1s"),
    ("MARKETD__QUEUE__VISIBILITY_TIMEOUT", "3s"),
    ("MARKETD__RECONCILE__RATE", "1000"),
    ("MARKETD__RECONCILE__SECOND_LOOK", "1s"),
    ("MARKETD__METERING__RATE", "1000"),
    ("MARKETD__METERING__GRACE", "0s"),
    ("MARKETD__METERING__INTERVAL", "200ms"),
    ("MARKETD__LOG__FILTER", "warn"),
];

fn owned((key, value): &(&str, &str)) -> (String, String) {
    ((*key).to_owned(), (*value).to_owned())
}

/// Looks until the condition holds.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited {PATIENCE:?} in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Looks until nothing is left. A heap takes as long as the machine takes for it: the patience begins anew whenever less is
/// left than ever before.
pub(crate) async fn until_none_is_left(what: &str, mut left: impl AsyncFnMut() -> u64) {
    let mut least = u64::MAX;
    let mut deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let count = left().await;
        if count == 0 {
            return;
        }
        let now = tokio::time::Instant::now();
        if count < least {
            (least, deadline) = (count, now + PATIENCE);
        }
        assert!(now < deadline, "{count} {what} are left, as {PATIENCE:?} ago");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) struct World {
    sandbox: Sandbox,
    daemon: Option<Child>,
    /// The daemon, where it goes by the sandbox's clock.
    inside: Option<Inside>,
    folder: TempDir,
    url: String,
    http: Client,
    settings: Vec<(String, String)>,
    /// The version that daemons are started in, where it is not this one.
    older: Option<PathBuf>,
}

impl World {
    /// A sandbox with the demo products, and a daemon that knows nothing of them yet.
    pub(crate) async fn with_nothing_imported() -> Self {
        Self::with_settings(&[]).await
    }

    /// The same with some settings besides.
    pub(crate) async fn with_settings(settings: &[(&'static str, &'static str)]) -> Self {
        let settings = settings.iter().map(owned).collect();
        Self::in_folder_with(tempfile::tempdir().unwrap(), settings).await
    }

    /// A world whose daemon keeps its database in this folder, and has this environment besides.
    pub(crate) async fn in_folder(folder: TempDir, environment: Vec<(String, String)>) -> Self {
        let world = Self::in_folder_with(folder, environment).await;
        world.import_everything().await;
        world
    }

    async fn in_folder_with(folder: TempDir, settings: Vec<(String, String)>) -> Self {
        let mut world = Self::without_daemon(folder, settings).await;
        world.start_daemon().await;
        world
    }

    async fn without_daemon(folder: TempDir, settings: Vec<(String, String)>) -> Self {
        let seed = 7;
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let sandbox = Sandbox::start(SandboxOptions { listen, seed }).await.unwrap();
        sandbox.market().with(|market, now| drop(market.load_demo_catalog(now)));
        Self {
            sandbox,
            daemon: None,
            inside: None,
            folder,
            url: format!("http://127.0.0.1:{}", free_port()),
            http: Client::new(),
            settings,
            older: std::env::var_os("MARKETD_TEST_OLDER_BINARY").map(PathBuf::from),
        }
    }

    /// Has daemons started in this version from now on.
    pub(crate) fn update(&mut self) {
        self.older = None;
    }

    /// A sandbox with the demo products, and a daemon on its clock that knows nothing of them yet. The clock runs from the
    /// middle of a month, so that whatever the test does falls in one hour, whenever it is run.
    pub(crate) async fn in_mid_month_with_nothing_imported() -> Self {
        Self::in_mid_month_with(Vec::new()).await
    }

    /// The same with some settings besides.
    pub(crate) async fn in_mid_month_with(settings: Vec<(String, String)>) -> Self {
        let mut world = Self::without_daemon(tempfile::tempdir().unwrap(), settings).await;
        world.sandbox.clock().set(MID_MONTH.parse().unwrap());
        world.inside = Some(Inside::start(&world.sandbox, world.variables()).await);
        world.is_ready().await;
        world
    }

    /// The same, with all of them imported.
    pub(crate) async fn in_mid_month() -> Self {
        let world = Self::in_mid_month_with_nothing_imported().await;
        world.import_everything().await;
        world
    }

    /// A sandbox with the demo products, and a daemon that has imported all of them.
    pub(crate) async fn with_demo_catalog() -> Self {
        Self::with_imported_catalog(&[]).await
    }

    /// The same with some settings besides.
    pub(crate) async fn with_imported_catalog(settings: &[(&'static str, &'static str)]) -> Self {
        let world = Self::with_settings(settings).await;
        world.import_everything().await;
        world
    }

    pub(crate) async fn import_everything(&self) {
        for listing in self.get("/v1/listings").await["items"].as_array().unwrap() {
            let entity = listing["entity_id"].as_str().unwrap();
            let plans: serde_json::Map<String, Value> = listing["dimensions"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|dimension| dimension["types"].to_string().contains("Entitled"))
                .map(|dimension| {
                    (dimension["key"].as_str().unwrap().to_owned(), dimension["key"].clone())
                })
                .collect();
            self.post(&format!("/v1/listings/{entity}/import"), json!({"plans": plans})).await;
        }
    }

    /// What the daemon finds in its environment.
    fn variables(&self) -> Vec<(String, String)> {
        let database = self.database();
        let mut variables = self.sandbox.environment();
        variables.extend([
            match on_server(&database) {
                Some((url, schema)) => ("MARKETD__DATABASE__URL", format!("{url}?schema={schema}")),
                None => ("MARKETD__DATABASE__PATH", database.display().to_string()),
            },
            ("MARKETD__HTTP__LISTEN", self.url.trim_start_matches("http://").to_owned()),
        ]);
        let mut variables: Vec<(String, String)> =
            variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        variables.extend(HASTE.iter().map(owned));
        variables.extend(self.settings.iter().cloned());
        variables
    }

    fn command(&self) -> Command {
        let mut command = match &self.older {
            Some(older) => program(older),
            None => marketd(),
        };
        command.envs(self.variables()).kill_on_drop(true);
        command
    }

    /// Runs a command against the daemon: its exit code, what it printed, and what it complained of.
    pub(crate) async fn cli(&self, arguments: &[&str]) -> (i32, String, String) {
        let output =
            self.command().env("MARKETD_URL", &self.url).args(arguments).output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    /// What a command that goes well answers, as JSON.
    pub(crate) async fn cli_json(&self, arguments: &[&str]) -> Value {
        let (code, out, complaint) = self.cli(&[&["--output", "json"], arguments].concat()).await;
        assert_eq!(code, 0, "{arguments:?}: {complaint}");
        serde_json::from_str(&out).unwrap()
    }

    /// A daemon that is not waited for.
    pub(crate) fn spawn_daemon(&self) -> Child {
        self.command().arg("run").stdin(Stdio::null()).spawn().unwrap()
    }

    /// One more daemon on the same database, at an address of its own; it is not waited for.
    pub(crate) fn spawn_worker(&self, url: &str) -> Child {
        let mut command = self.command();
        command.env("MARKETD__HTTP__LISTEN", url.trim_start_matches("http://"));
        command.arg("run").stdin(Stdio::null()).spawn().unwrap()
    }

    /// Settings for whatever is started from now on.
    pub(crate) fn set(&mut self, settings: &[(&'static str, &'static str)]) {
        self.settings.extend(settings.iter().map(owned));
    }

    /// Has whatever is started from now on use another database on the server.
    pub(crate) fn use_database(&mut self, url: &str) {
        self.settings.push(("MARKETD__DATABASE__URL".to_owned(), url.to_owned()));
    }

    /// Takes settings out of whatever is started from now on.
    pub(crate) fn unset(&mut self, settings: &[(&'static str, &'static str)]) {
        self.settings.retain(|(name, _)| settings.iter().all(|(unset, _)| name != unset));
    }

    /// Hands the daemon over, for whoever kills it.
    pub(crate) fn take_daemon(&mut self) -> Child {
        self.daemon.take().expect("the daemon runs")
    }

    pub(crate) fn give_daemon(&mut self, daemon: Child) {
        self.daemon = Some(daemon);
    }

    pub(crate) async fn start_daemon(&mut self) {
        self.daemon = Some(self.spawn_daemon());
        self.is_ready().await;
    }

    /// Starts it so that its files can be kept from growing: what is written beyond that fails, and kills nobody.
    pub(crate) async fn start_daemon_that_may_run_out_of_room(&mut self) {
        let mut shell = Command::new("bash");
        shell.args(["-c", "trap '' XFSZ; exec \"$0\" run", env!("CARGO_BIN_EXE_marketd")]);
        for (name, value) in self.command().as_std().get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        // Its log lies on the same disk, and is as large already as a file may become.
        let path = self.file("daemon.log");
        std::fs::write(&path, "\n".repeat(8_192)).unwrap();
        let log = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        shell.stdin(Stdio::null()).stderr(log).kill_on_drop(true);
        self.daemon = Some(shell.spawn().unwrap());
        self.is_ready().await;
    }

    /// Sets how large the daemon's files may become.
    pub(crate) async fn limit_files(&self, bytes: Option<u64>) {
        let id = self.daemon.as_ref().and_then(Child::id).expect("the daemon runs").to_string();
        let most = bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
        let limit = format!("--fsize={most}:unlimited");
        let set = Command::new("prlimit").args(["--pid", &id, &limit]).status().await.unwrap();
        assert!(set.success());
    }

    pub(crate) async fn is_ready(&self) {
        eventually("the daemon", async || {
            let answer = self.http.get(format!("{}/readyz", self.url)).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
    }

    /// Starts it with its log in a file.
    pub(crate) async fn start_daemon_logging_to(&mut self, path: &std::path::Path) {
        self.daemon = Some(self.spawn_daemon_logging_to(path));
        self.is_ready().await;
    }

    /// The same, not waited for.
    pub(crate) fn spawn_daemon_logging_to(&self, path: &std::path::Path) -> Child {
        let log = std::fs::File::create(path).unwrap();
        let mut command = self.command();
        command.arg("run").stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        command.spawn().unwrap()
    }

    /// Asks the daemon to stop, as a service manager does, and sees that it ends well.
    pub(crate) async fn stop_daemon(&mut self) {
        if let Some(inside) = self.inside.take() {
            return inside.stop().await;
        }
        let mut daemon = self.take_daemon();
        let id = daemon.id().expect("the daemon runs").to_string();
        let killed = Command::new("kill").args(["-TERM", &id]).status().await.unwrap();
        assert!(killed.success());
        let status =
            tokio::time::timeout(PATIENCE, daemon.wait()).await.expect("it stops").unwrap();
        assert!(status.success(), "the daemon ended with {status}");
    }

    pub(crate) async fn stop(mut self) {
        self.stop_daemon().await;
        self.check_events();
        self.sandbox.stop().await;
    }

    /// Checks that every event that the daemon wrote is as its description says.
    fn check_events(&self) {
        // But those that a test has put there by itself, which are of no time and say nothing.
        let written = "SELECT type, data FROM events WHERE data <> '{}' OR at_ms > 0";
        for row in sql::rows(&self.database(), written) {
            let [Some(kind), Some(data)] = &row[..] else {
                panic!("an event without data: {row:?}")
            };
            let data: Value = serde_json::from_str(data).unwrap();
            let faults = super::shapes::faults(kind, &data);
            assert!(faults.is_empty(), "{kind}: {faults:?}: {data}");
        }
    }

    pub(crate) async fn run_once(&self) -> (i32, Value) {
        let output = self
            .command()
            .args(["run", "--reconcile-once", "--output", "json"])
            .output()
            .await
            .unwrap();
        let summary = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        (output.status.code().unwrap_or(-1), summary)
    }

    /// A file of this name, in a folder that goes with the test.
    pub(crate) fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// The path of the database, also where a schema on a server stands for it.
    pub(crate) fn database(&self) -> std::path::PathBuf {
        self.file("marketd.db")
    }

    /// Where the daemon answers.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    pub(crate) fn market<R>(&self, act: impl FnOnce(&mut Market, Timestamp) -> R) -> R {
        self.sandbox.market().with(act)
    }

    /// Returns the demo product with this title.
    pub(crate) fn product(&self, title: &str) -> Product {
        self.market(|market, _| {
            market
                .products()
                .find(|product| product.title == title)
                .expect("a demo product")
                .clone()
        })
    }

    /// Has a buyer do something that AWS takes.
    pub(crate) fn act(&self, account: &str, action: Action) -> ActionOutcome {
        self.market(|market, now| market.act(now, account, action)).expect("AWS takes it")
    }

    pub(crate) fn inject(&self, body: &str) {
        self.sandbox.inject(body);
    }

    pub(crate) fn arm(&self, fault: Fault) {
        self.sandbox.arm(fault);
    }

    pub(crate) fn queue_is_empty(&self) -> bool {
        self.queued() == 0
    }

    /// The messages that the queue still has.
    pub(crate) fn queued(&self) -> u64 {
        self.sandbox.queued()
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.expect(Method::GET, path, None).await
    }

    /// A whole list, page by page.
    pub(crate) async fn list(&self, path: &str) -> Vec<Value> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("{path}{separator}limit=500{cursor}")).await;
            items.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return items,
            }
        }
    }

    pub(crate) async fn get_text(&self, path: &str) -> String {
        self.http.get(format!("{}{path}", self.url)).send().await.unwrap().text().await.unwrap()
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Value {
        self.expect(Method::PUT, path, Some(body)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        self.expect(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn try_put(&self, path: &str, body: Value) -> (u16, Value) {
        self.call(Method::PUT, path, Some(body)).await
    }

    async fn expect(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let (status, answer) = self.call(method, path, body).await;
        assert!(status < 300, "{path}: {status} {answer}");
        answer
    }

    /// Any call, whatever its outcome.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap())
    }
}

/// The binary, without the variables that are the tests' own.
pub(crate) fn marketd() -> Command {
    program(Path::new(env!("CARGO_BIN_EXE_marketd")))
}

/// A program without the variables that are for tests.
fn program(path: &Path) -> Command {
    let mut command = Command::new(path);
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let of_tests = |it: &String| it.starts_with("MARKETD_") && !it.starts_with("MARKETD__");
    for name in names.filter(of_tests) {
        command.env_remove(name);
    }
    command
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}
