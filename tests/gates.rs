//! The gates of `docs/gating.md` as they stand in `examples/gates/`, run against the binary: what they let through, what
//! they deny, and what they do while marketd is silent.
//!
//! A gate is skipped, with a plain message, where what it is written with is missing: FastAPI, uvicorn and httpx, or
//! Express.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "a skipped gate says so")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use reqwest::{Client, Method};
use serde_json::{Value, json};
use support::world::{World, eventually, free_port};
use tokio::process::{Child, Command};

/// The time that a gate waits for marketd here: a loaded machine is no silence.
const TIMEOUT_MS: &str = "2000";
/// Longer than a gate waits, with both tries.
const PROMPT: Duration = Duration::from_secs(20);

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/gates")
}

/// A daemon with the plan `own`, which two jobs and three searches are left on, and its customer `acme`.
async fn seller() -> World {
    let world = World::with_nothing_imported().await;
    let features = [
        ("dashboard", "boolean", json!({})),
        ("jobs", "metered", json!({"limit": 2})),
        ("searches", "metered", json!({"limit": 3})),
        ("words", "metered", json!({"limit": 5, "soft": true})),
    ];
    world.put("/v1/plans/own", json!({"name": "Own"})).await;
    for (feature, kind, terms) in features {
        world.put(&format!("/v1/features/{feature}"), json!({"name": feature, "type": kind})).await;
        world.put(&format!("/v1/plans/own/entitlements/{feature}"), terms).await;
    }
    world.post("/v1/plans/own/publish", json!({})).await;
    for customer in ["acme", "visitor"] {
        world.put(&format!("/v1/customers/{customer}"), json!({})).await;
    }
    let sold = json!({"customer_id": "acme", "plan_id": "own"});
    world.put("/v1/subscriptions/acme-own", sold).await;
    world
}

/// An application behind a gate.
struct Application {
    _process: Child,
    url: String,
    http: Client,
}

impl Application {
    async fn start(mut command: Command, port: u16, world: &World) -> Self {
        let process = command
            .current_dir(examples())
            .env("MARKETD_URL", world.url())
            .env("MARKETD_TIMEOUT_MS", TIMEOUT_MS)
            .env("PORT", port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let url = format!("http://127.0.0.1:{port}");
        // An application closes idle connections when it likes.
        let http = Client::builder().pool_max_idle_per_host(0).build().unwrap();
        let application = Self { _process: process, url, http };
        eventually("the application", async || {
            application.http.get(&application.url).send().await.ok().map(drop)
        })
        .await;
        application
    }

    /// What a customer's request is answered with, which never takes long.
    async fn ask(&self, method: Method, path: &str, customer: &str, body: &'static str) -> u16 {
        let began = Instant::now();
        let request = self.http.request(method, format!("{}{path}", self.url));
        let answer = request.header("x-customer", customer).body(body).send().await.unwrap();
        assert!(began.elapsed() < PROMPT, "{path} took {:?}", began.elapsed());
        answer.status().as_u16()
    }

    async fn get(&self, path: &str, customer: &str) -> u16 {
        self.ask(Method::GET, path, customer, "").await
    }

    async fn post(&self, path: &str, customer: &str) -> u16 {
        self.ask(Method::POST, path, customer, "").await
    }
}

/// Stops a daemon's process where it stands: whoever asks it then is not answered.
async fn hang(daemon: &Child) {
    signal(daemon, "-STOP").await;
    let threads = format!("/proc/{}/task", daemon.id().unwrap());
    let is_stopped = |thread: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap().contains(") T ")
    };
    // The signal is sent before it is felt.
    eventually("every thread's stop", async || {
        std::fs::read_dir(&threads).unwrap().all(is_stopped).then_some(())
    })
    .await;
}

async fn signal(daemon: &Child, name: &str) {
    let id = daemon.id().unwrap().to_string();
    assert!(Command::new("kill").args([name, &id]).status().await.unwrap().success());
}

async fn used(world: &World, feature: &str) -> Value {
    world.get(&format!("/v1/customers/acme/entitlements/{feature}")).await["usage"].clone()
}

/// Waits until so much was used.
async fn comes_to(world: &World, feature: &str, expected: u64) {
    eventually(feature, async || (used(world, feature).await == expected).then_some(())).await;
}

async fn is_as_the_page_says(application: Application, mut world: World) {
    assert_eq!(application.get("/dashboard", "acme").await, 200);
    assert_eq!(application.get("/dashboard", "visitor").await, 403, "nothing bought");
    assert_eq!(application.get("/dashboard", "no/body").await, 403, "nobody we know");
    assert_eq!(application.post("/searches", "visitor").await, 403);
    // A refusal is a mistake of the application's, and opens nothing.
    assert_eq!(application.post("/searches", "nobody").await, 500);
    for expected in [200, 200, 429, 429] {
        assert_eq!(application.post("/jobs", "acme").await, expected);
    }
    assert_eq!(used(&world, "jobs").await, 2);
    assert_eq!(application.post("/searches", "acme").await, 200);
    let translated =
        async |text| application.ask(Method::POST, "/translations", "acme", text).await;
    assert_eq!(translated("one two three four").await, 200);
    comes_to(&world, "words", 4).await;

    // It hangs: connections are taken, and nothing is answered.
    let daemon = world.take_daemon();
    hang(&daemon).await;
    assert_eq!(application.get("/dashboard", "visitor").await, 200, "it fails open");
    assert_eq!(application.post("/jobs", "acme").await, 503, "it fails closed");
    assert_eq!(application.post("/searches", "acme").await, 200, "served, to be reported");
    assert_eq!(translated("five six").await, 200);
    signal(&daemon, "-CONT").await;
    world.give_daemon(daemon);
    // What was asked twice and reported once more is one search.
    comes_to(&world, "searches", 2).await;
    comes_to(&world, "words", 6).await;

    // It is gone.
    world.stop_daemon().await;
    assert_eq!(application.post("/jobs", "acme").await, 503);
    for _ in 0..3 {
        assert_eq!(application.post("/searches", "acme").await, 200);
    }
    world.start_daemon().await;
    comes_to(&world, "searches", 5).await;
    assert_eq!(application.post("/searches", "acme").await, 429, "what was served open counts");
    assert_eq!(used(&world, "words").await, 6);
    assert_eq!(used(&world, "searches").await, 5);
    world.stop().await;
}

/// The first of these programs that can import what a gate needs.
async fn that_has(
    programs: &[&str],
    import: &[&str],
    variables: &[(&str, &str)],
) -> Option<String> {
    for program in programs {
        let mut command = Command::new(program);
        command.args(import).envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if command.status().await.is_ok_and(|status| status.success()) {
            return Some((*program).to_owned());
        }
    }
    None
}

#[tokio::test]
async fn the_gate_in_python_does_what_the_page_says() {
    let needed = ["-c", "import fastapi, httpx, uvicorn"];
    // A distribution's packages belong to its own interpreter.
    let Some(python) = that_has(&["python3", "/usr/bin/python3"], &needed, &[]).await else {
        println!("skipped: FastAPI, uvicorn and httpx are not installed");
        return;
    };
    let world = seller().await;
    let port = free_port();
    let mut command = Command::new(python);
    command.args(["-B", "-m", "uvicorn", "fastapi_app:app", "--port", &port.to_string()]);
    command.args(["--log-level", "error"]);
    let application = Application::start(command, port, &world).await;
    is_as_the_page_says(application, world).await;
}

#[tokio::test]
async fn the_gate_in_node_does_what_the_page_says() {
    // Where Debian keeps node-express.
    let modules = [("NODE_PATH", "/usr/share/nodejs")];
    let needed = ["-e", "require('express')"];
    let Some(node) = that_has(&["node", "nodejs"], &needed, &modules).await else {
        println!("skipped: Node or Express is not installed");
        return;
    };
    let world = seller().await;
    let port = free_port();
    let mut command = Command::new(node);
    command.arg("express_app.js").envs(modules);
    let application = Application::start(command, port, &world).await;
    is_as_the_page_says(application, world).await;
}

#[test]
fn the_page_shows_the_gates_as_they_are() {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let page = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/gating.md"));
    for (language, file) in [("python", "fastapi_app.py"), ("js", "express_app.js")] {
        let source = read(&examples().join(file));
        let fence = format!("```{language}\n");
        let shown: Vec<&str> =
            page.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
        assert!(shown.len() >= 3, "the page lost its {language}");
        for part in shown {
            assert!(source.contains(part), "{file} has no\n{part}");
        }
    }
}
