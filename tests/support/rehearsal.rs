//! `marketd sandbox`, alone or with its daemon, as somebody starts it and a test suite drives it.

use std::collections::BTreeMap;
use std::process::Stdio;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// A sandbox process, and what it said that others need.
pub(crate) struct Rehearsal {
    child: Child,
    environment: BTreeMap<String, String>,
    folder: TempDir,
    http: Client,
}

impl Rehearsal {
    /// A sandbox with a daemon, and options besides.
    pub(crate) async fn start(options: &str) -> Self {
        Self::start_by(&format!("marketd sandbox --with-daemon {options}")).await
    }

    /// Starts it by a line for the shell, on free ports.
    pub(crate) async fn start_by(line: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports = if line.contains("--with-daemon") { "--daemon-listen 127.0.0.1:0" } else { "" };
        // `exec` after the variables, so that whoever stops the shell stops the program.
        let (variables, program) = line.split_at(line.find("marketd ").unwrap());
        let line = format!(
            "{variables} exec {program} --listen 127.0.0.1:0 {ports} --output json --exit-with-parent"
        );
        let mut child = shell(&line, &folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut printed = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut printed).await.unwrap();
        let environment = serde_json::from_str(&printed).unwrap();
        Self { child, environment, folder, http: Client::new() }
    }

    /// Moves the clock that both share to the middle of the next month: what is done from then on falls in one hour and one
    /// month, whenever the test is run.
    pub(crate) async fn go_on_in_mid_month(&self) {
        let clock = self.sandbox("clock", None).await;
        let now: Timestamp = clock["now"].as_str().unwrap().parse().unwrap();
        let month = now.to_zoned(TimeZone::UTC).date().first_of_month().saturating_add(1.month());
        let middle = month.saturating_add(9.days()).at(9, 5, 0, 0).in_tz("UTC").unwrap();
        self.sandbox("clock", json!({"set": middle.timestamp()})).await;
    }

    /// The exported lines as they are where the default ports are free.
    pub(crate) fn as_with_default_ports(&self) -> String {
        let lines = self.environment.iter().map(|(name, value)| format!("export {name}={value}"));
        let text = lines.collect::<Vec<_>>().join("\n");
        let sandbox = text.replace(&self.environment["AWS_ENDPOINT_URL"], "http://127.0.0.1:4580");
        match self.environment.get("MARKETD_URL") {
            Some(url) => sandbox.replace(url, "http://127.0.0.1:8480"),
            None => sandbox,
        }
    }

    /// Runs a line in the shell, as somebody who has pasted what the sandbox printed: whether it worked, and all that
    /// it printed.
    pub(crate) async fn bash(&self, line: &str) -> (bool, String) {
        let mut command = shell(&format!("({line}\n) 2>&1"), &self.folder);
        let output = command.envs(&self.environment).output().await.unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    }

    /// What the sandbox printed.
    pub(crate) fn environment(&self) -> &BTreeMap<String, String> {
        &self.environment
    }

    /// A file of this name, in a folder that goes with the test.
    pub(crate) fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Any call of the sandbox's control API.
    pub(crate) async fn try_sandbox(&self, path: &str, body: Option<Value>) -> (u16, Value) {
        self.call(&format!("{}/_sandbox/{path}", self.environment["AWS_ENDPOINT_URL"]), body).await
    }

    /// A call of the sandbox's control API that goes well: a GET without a body, else a POST.
    pub(crate) async fn sandbox(&self, path: &str, body: impl Into<Option<Value>>) -> Value {
        let (status, answer) = self.try_sandbox(path, body.into()).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// A call of the daemon's API that goes well: a GET without a body, else a POST.
    pub(crate) async fn api(&self, path: &str, body: impl Into<Option<Value>>) -> Value {
        let url = format!("{}{path}", self.environment["MARKETD_URL"]);
        let (status, answer) = self.call(&url, body.into()).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    async fn call(&self, url: &str, body: Option<Value>) -> (u16, Value) {
        let request = match body {
            None => self.http.get(url),
            Some(body) => self.http.post(url).json(&body),
        };
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// Stops it as a service manager does, and sees that it ends well.
    pub(crate) async fn stop(mut self) {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
        let status = self.child.wait().await.unwrap();
        assert!(status.success(), "the sandbox ended with {status}");
    }
}

fn shell(line: &str, folder: &TempDir) -> Command {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_marketd"));
    let programs = program.parent().unwrap().display().to_string();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("bash");
    command.args(["-c", line]).current_dir(folder.path()).env("PATH", format!("{programs}:{path}"));
    command
}
