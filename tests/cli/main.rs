//! The command line as a person or a script meets it: help, exit codes, what a refusal says.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod answers;
mod lists;
mod terminal;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;

use assert_cmd::Command;

/// Commands that need no running daemon.
const LOCAL: &[&[&str]] = &[
    &["run"],
    &["demo"],
    &["sandbox"],
    &["check-config"],
    &["doctor"],
    &["backup"],
    &["restore"],
    &["healthcheck"],
    &["apply"],
    &["export"],
];

/// Groups, each with verbs that speak to a running daemon.
const GROUPS: &[(&str, &[&str])] = &[
    (
        "integration",
        &["show", "trust-policy", "iam-policy", "queue-policy", "template", "connect", "remove"],
    ),
    ("listing", &["list", "show", "import", "sync"]),
    ("product", &["list", "show", "license", "confirm-endings"]),
    (
        "plan",
        &[
            "list",
            "show",
            "create",
            "entitle",
            "unentitle",
            "preview",
            "publish",
            "discard",
            "archive",
            "versions",
            "remove",
        ],
    ),
    ("feature", &["list", "show", "set"]),
    (
        "customer",
        &["list", "show", "provision", "subscriptions", "import-mapping", "access", "unlink"],
    ),
    ("subscription", &["list", "show", "set", "cancel"]),
    ("usage", &["report", "consume", "import", "list", "show"]),
    ("metering", &["list", "show", "resolve", "balance", "due", "report", "export"]),
    ("notification", &["list", "show", "replay"]),
    ("event", &["list"]),
    ("webhook", &["show", "deliveries", "test", "pause", "resume", "replay", "secret"]),
];

/// The program, with nothing of this machine's own settings.
fn marketd(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_marketd"));
    command.env_clear().args(arguments);
    command
}

/// Exit code, standard output and standard error.
fn run(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// An address where nothing listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Serves one HTTP answer; the handle gives the request's head.
fn answer_once(status: &str, kind: &str, body: &str) -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let head = read_head(&mut stream);
        stream.write_all(answer.as_bytes()).unwrap();
        head
    });
    (address, served)
}

/// Serves as many HTTP answers, each on a connection of its own; the handle gives the requests' first lines.
fn answer_each(bodies: Vec<String>) -> (String, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let served = thread::spawn(move || {
        let answer = |body: String| {
            let (mut stream, _) = listener.accept().unwrap();
            let head = read_head(&mut stream);
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).unwrap();
            head.lines().next().unwrap_or_default().to_owned()
        };
        bodies.into_iter().map(answer).collect()
    });
    (address, served)
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        head.extend(byte);
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn completions_and_the_manual_have_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, script, _) = run(&mut marketd(&["completions", shell]));
        assert_eq!(code, 0, "{shell}");
        assert!(script.contains("entitle") && script.contains("completions"), "{shell}");
    }
    let (code, _, complaint) = run(&mut marketd(&["completions", "tcsh"]));
    assert!(code == 2 && complaint.contains("possible values: bash"), "{complaint}");

    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    let (code, said, complaint) = run(&mut marketd(&["man", pages.to_str().unwrap()]));
    assert!(code == 0 && said.starts_with("wrote "), "{said}{complaint}");
    let page = |name: &str| std::fs::read_to_string(pages.join(name)).unwrap();
    assert!(page("marketd.1").contains("marketd\\-plan"), "{}", page("marketd.1"));
    let entitle = page("marketd-plan-entitle.1");
    assert!(
        entitle.contains("marketd plan entitle") && entitle.contains("\\-\\-limit"),
        "{entitle}"
    );
    let (code, _, complaint) = run(&mut marketd(&["man", "/dev/null/man1"]));
    assert!(code == 1 && complaint.contains("/dev/null/man1"), "{complaint}");
}

#[test]
fn a_wrong_time_is_named_with_the_forms_that_are_taken() {
    let rows: [&[&str]; 5] = [
        &["notification", "list", "--since", "last week"],
        &["activity", "list", "--until", "last week"],
        &["webhook", "replay", "--since", "last week"],
        &["subscription", "cancel", "s", "--at", "last week"],
        &["metering", "export", "f.csv", "--from", "last week"],
    ];
    for row in rows {
        let (code, _, complaint) = run(&mut marketd(row));
        assert_eq!(code, 2, "{row:?}: {complaint}");
        for word in ["\"last week\"", "2026-11-01T06:00:00Z", "2026-11-01 "] {
            assert!(complaint.contains(word), "{word} in {row:?}: {complaint}");
        }
    }
    let (_, _, complaint) = run(&mut marketd(rows[0]));
    assert!(complaint.contains("7d") && complaint.contains("yesterday"), "{complaint}");
}

#[test]
fn every_command_explains_itself() {
    let mut commands: Vec<Vec<&str>> = vec![vec![]];
    commands.extend(LOCAL.iter().map(|command| command.to_vec()));
    for (group, verbs) in GROUPS {
        commands.push(vec![group]);
        commands.extend(verbs.iter().map(|verb| vec![*group, *verb]));
    }
    for mut command in commands {
        command.push("--help");
        let (code, out, err) = run(&mut marketd(&command));
        assert_eq!(code, 0, "{command:?}: {err}");
        let first = out.lines().next().unwrap_or_default();
        assert!(
            !first.is_empty() && !first.starts_with("Usage: marketd"),
            "{command:?} says nothing: {out}"
        );
        assert!(out.contains("Usage: marketd"), "{command:?}: {out}");
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    let rows: &[&[&str]] = &[
        &[],
        &["no-such-command"],
        &["plan"],
        &["plan", "show"],
        &["--output", "xml", "check-config"],
        &["plan", "entitle", "pro", "seats", "--limit", "5", "--unlimited"],
        &["plan", "entitle", "pro", "seats", "--reset", "fortnight"],
        &["listing", "import", "prod-1", "--plan", "no-equals-sign"],
        &["customer", "list", "--limit", "0"],
        &["backup"],
        &["restore"],
        &["restore", "copy.db", "--replay", "soon"],
    ];
    for arguments in rows {
        let (code, out, err) = run(&mut marketd(arguments));
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
        assert!(!err.is_empty(), "{arguments:?} fails without a word");
    }
}

#[test]
fn wrong_settings_exit_with_2_and_tell_every_fault() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("marketd.toml");
    std::fs::write(&file, "[reconcile]\nrate = 0\n[metering]\ngraec = \"5m\"\n").unwrap();
    let path = file.to_str().unwrap();
    for command in ["check-config", "doctor", "run", "healthcheck"] {
        let (code, out, err) =
            run(marketd(&["--config", path, command]).env("MARKETD__HTTP__LISTEN", "0.0.0.0:0"));
        assert_eq!((code, out.as_str()), (2, ""), "{command}: {err}");
        for part in
            ["reconcile.rate", path, "metering.graec", "http.listen", "MARKETD__HTTP__LISTEN"]
        {
            assert!(err.contains(part), "{command}: {part:?} is missing from:\n{err}");
        }
    }
    let missing = folder.path().join("missing.toml");
    let (code, _, err) =
        run(&mut marketd(&["--config", missing.to_str().unwrap(), "check-config"]));
    assert_eq!(code, 2, "a named file must exist: {err}");
    assert!(err.contains("missing.toml"), "{err}");
}

#[test]
fn a_variable_that_was_meant_for_a_setting_is_refused_by_the_name_that_it_should_have() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("marketd.db");
    let rows = [
        ("MARKETD_DATABASE_PATH", "did you mean database.path (MARKETD__DATABASE__PATH)?"),
        ("marketd__log__filter", "did you mean log.filter (MARKETD__LOG__FILTER)?"),
        ("MARKETD__DATABASE_PATH", "did you mean database.path (MARKETD__DATABASE__PATH)?"),
        ("MARKETD_HTTP_PORT", "near it are http."),
    ];
    for (variable, meant) in rows {
        for command in ["check-config", "doctor", "run", "healthcheck"] {
            let (code, out, err) = run(marketd(&[command]).env(variable, &database));
            assert_eq!((code, out.as_str()), (2, ""), "{command} {variable}: {err}");
            assert!(err.contains("no such setting") && err.contains(meant), "{command}: {err}");
        }
    }
    // What Kubernetes tells of a service called marketd is no setting, and what the commands use is none.
    let mut command = marketd(&["check-config"]);
    let command = command.env("MARKETD_PORT_8480_TCP", "tcp://10.0.0.1:8480");
    let command = command.env("MARKETD_SERVICE_HOST", "10.0.0.1").env("MARKETD_TOKEN", "t");
    let (code, _, err) = run(command.env("MARKETD_URL", "http://localhost"));
    assert_eq!((code, err.as_str()), (0, ""));
    let (code, _, err) = run(marketd(&["check-config"]).env("MARKETD_VERSION", "1"));
    assert_eq!(code, 0);
    assert!(err.contains("MARKETD_VERSION sets nothing"), "{err}");
}

#[test]
fn what_run_would_stumble_over_check_config_finds_and_neither_is_worth_another_start() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("marketd.db");
    let rows = [
        ("MARKETD__LOG__FILTER", "["),
        ("MARKETD__QUEUE__URL", "marketd"),
        ("MARKETD__SNS__TOPICS", "marketd"),
        ("MARKETD__REGISTRATION__REDIRECT_URL", "/welcome"),
        ("MARKETD__HTTP__TOKEN", ""),
    ];
    for (variable, value) in rows {
        for command in ["check-config", "run"] {
            let mut command = marketd(&[command]);
            let (code, _, err) =
                run(command.env("MARKETD__DATABASE__PATH", &database).env(variable, value));
            assert_eq!(code, 2, "{variable}={value}: {err}");
            assert!(err.contains(variable), "{err}");
        }
    }
    let (code, _, err) = run(marketd(&["run"])
        .env("MARKETD__DATABASE__PATH", &database)
        .env("MARKETD__HTTP__LISTEN", "unix:/nowhere/at/all/marketd.sock"));
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("http.listen"), "{err}");
}

#[test]
fn a_database_that_cannot_be_there_is_a_wrong_setting() {
    let folder = tempfile::tempdir().unwrap();
    let (file, backup) = (folder.path().join("file"), folder.path().join("backup.db"));
    std::fs::write(&file, "").unwrap();
    marketd::store::Store::open(&backup).unwrap().close();
    let backup = backup.to_str().unwrap();
    // In a file, in a file's folder to be made, and where no folder can be.
    for database in [file.join("marketd.db"), file.join("deep/marketd.db"), "/proc/x/m.db".into()] {
        for arguments in [&["run"] as &[&str], &["run", "--reconcile-once"], &["restore", backup]] {
            let (code, out, err) =
                run(marketd(arguments).env("MARKETD__DATABASE__PATH", &database));
            assert_eq!((code, out.as_str()), (2, ""), "{arguments:?} {database:?}: {err}");
            let place = database.parent().unwrap().to_str().unwrap();
            assert!(err.contains("database.path: ") && err.contains(place), "{err}");
        }
    }
}

#[test]
fn what_is_asked_for_as_json_is_one_document() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("marketd.db");
    marketd::store::Store::open(&database).unwrap().close();
    let copy = folder.path().join("copy.db");
    let json = |arguments: &[&str]| -> (i32, serde_json::Value) {
        let (code, out, err) = run(marketd(&["--output", "json"])
            .args(arguments)
            .env("AWS_ENDPOINT_URL", format!("http://{}", nobody()))
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("MARKETD__DATABASE__PATH", &database));
        (code, serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}")))
    };
    let (code, doctor) = json(&["doctor"]);
    assert_eq!(code, 1);
    let actions = doctor["checks"].as_array().unwrap().iter().map(|it| it["action"].clone());
    assert!(actions.collect::<Vec<_>>().contains(&"sts:GetCallerIdentity".into()), "{doctor}");
    let keys = doctor["settings"].as_array().unwrap().iter().map(|it| it["key"].clone());
    assert!(keys.collect::<Vec<_>>().contains(&"database.path".into()), "{doctor}");
    let copy = copy.to_str().unwrap();
    let (code, made) = json(&["backup", copy]);
    assert_eq!((code, &made["backup"]), (0, &copy.into()), "{made}");
}

#[test]
fn a_token_file_that_is_not_theirs_stops_no_other_command() {
    let folder = tempfile::tempdir().unwrap();
    let (database, copy) = (folder.path().join("marketd.db"), folder.path().join("copy.db"));
    marketd::store::Store::open(&database).unwrap().close();
    let (address, served) = answer_once("200 OK", "text/plain", "ok");
    let copy = copy.to_str().unwrap();
    for arguments in [&["backup", copy] as &[&str], &["healthcheck"]] {
        let (code, _, err) = run(marketd(arguments)
            .env("MARKETD__DATABASE__PATH", &database)
            .env("MARKETD__HTTP__LISTEN", &address)
            .env("MARKETD__HTTP__TOKEN_FILE", "/nowhere/token"));
        assert_eq!(code, 0, "{arguments:?}: {err}");
    }
    served.join().unwrap();
    for arguments in [&["run", "--reconcile-once"] as &[&str], &["doctor"]] {
        let (code, _, err) = run(marketd(arguments)
            .env("AWS_ENDPOINT_URL", format!("http://{}", nobody()))
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("MARKETD__DATABASE__PATH", &database)
            .env("MARKETD__HTTP__TOKEN_FILE", "/nowhere/token"));
        assert!(code != 2 && !err.contains("token_file"), "{arguments:?}: {code} {err}");
    }
}

#[test]
fn a_webhook_s_password_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let (code, out, err) = run(marketd(&["check-config"])
        .env("MARKETD__WEBHOOK__URL", "https://hooks.test/marketd?token=hunter2")
        .env("MARKETD__WEBHOOK__SECRET_FILE", &secret));
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("https://hooks.test/marketd?********") && !out.contains("hunter2"),
        "{out}"
    );
}

#[test]
fn nothing_of_others_acts_on_the_terminal() {
    let evil = "a\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}31m\u{202e}gnp\u{2066}\r\u{7f}b\nc";
    let thing = serde_json::json!({"id": evil, "name": evil, "raw": {evil: [evil]}, evil: 1});
    let list = serde_json::json!({"items": [thing, {"id": [evil]}, {"id": {"a": evil}}]});
    let refusal = serde_json::json!({
        "detail": evil, "checks": [{"ok": false, "action": evil, "detail": evil}],
    });
    let rows: [(&str, &serde_json::Value, &[&str]); 6] = [
        ("200 OK", &list, &["plan", "list"]),
        ("200 OK", &thing, &["plan", "show", "x"]),
        ("200 OK", &thing, &["notification", "show", "x"]),
        ("200 OK", &list, &["plan", "list", "--output", "json"]),
        ("200 OK", &thing, &["plan", "show", "x", "--output", "json"]),
        ("409 Conflict", &refusal, &["plan", "show", "x"]),
    ];
    for (status, body, arguments) in rows {
        let (address, served) = answer_once(status, "application/json", &body.to_string());
        let (_, out, err) = run(marketd(arguments).env("MARKETD_URL", format!("http://{address}")));
        served.join().unwrap();
        let shown = out.clone() + &err;
        let acts =
            |it: char| (it.is_control() && it != '\n') || "\u{202e}\u{2066}\u{9b}".contains(it);
        assert!(!shown.contains(acts), "{arguments:?}: {shown:?}");
        assert!(shown.contains("1b") && shown.contains("gnp"), "{arguments:?}: {shown}");
        if arguments.contains(&"json") {
            let read: serde_json::Value = serde_json::from_str(&out).unwrap();
            assert_eq!(&read, body, "JSON says the same");
        }
    }
}

#[test]
fn what_needs_no_tls_needs_no_authorities() {
    for arguments in [&["healthcheck"] as &[&str], &["product", "list"]] {
        let (address, served) = answer_once("200 OK", "application/json", r#"{"items":[]}"#);
        let (code, _, err) = run(marketd(arguments)
            .env("SSL_CERT_FILE", "/nowhere")
            .env("SSL_CERT_DIR", "/nowhere")
            .env("MARKETD__HTTP__LISTEN", &address)
            .env("MARKETD_URL", format!("http://{address}")));
        assert_eq!((code, err.as_str()), (0, ""), "{arguments:?}");
        served.join().unwrap();
    }
    let (code, _, err) = run(marketd(&["product", "list"])
        .env("SSL_CERT_FILE", "/nowhere")
        .env("SSL_CERT_DIR", "/nowhere")
        .env("MARKETD_URL", "https://marketd.example.com"));
    assert!(code == 1 && err.contains("CA certificates"), "{code} {err}");
}

#[test]
fn a_proxy_hears_nothing_of_what_stays_on_this_machine() {
    // Whoever asked the proxy would get an answer.
    let (proxy, _served) = answer_once("200 OK", "application/json", r#"{"items":[]}"#);
    let proxy = format!("http://{proxy}");
    let through = |arguments: &[&str], url: &str| {
        let mut command = marketd(arguments);
        for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
            command.env(name, &proxy);
        }
        run(command
            .env("MARKETD__HTTP__LISTEN", nobody())
            .env("MARKETD_TOKEN", "s3cret")
            .env("MARKETD_URL", url))
    };
    for url in [format!("http://{}", nobody()), format!("http://localhost:{}/", free_port())] {
        let (code, _, err) = through(&["product", "list"], &url);
        assert!(code == 1 && err.contains("no marketd answers"), "{url}: {code} {err}");
        assert!(!err.contains("unencrypted"), "{url}: {err}");
    }
    let (code, _, err) = through(&["healthcheck"], "http://nobody");
    assert!(code == 1 && err.contains("no marketd answers"), "{code} {err}");
    // Beyond this machine proxies are asked, as everybody expects, and a token in the clear is worth a word.
    let (code, _, err) = through(&["product", "list"], "http://marketd.example.com");
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("marketd.example.com unencrypted"), "{err}");
}

#[test]
fn check_config_shows_values_with_their_origin_and_no_secret() {
    let (code, out, err) = run(marketd(&["--output", "json", "check-config"])
        .env("MARKETD__HTTP__TOKEN", "s3cret")
        .env("MARKETD__RECONCILE__RATE", "7"));
    assert_eq!(code, 0, "{err}");
    assert!(!out.contains("s3cret"), "{out}");
    let shown: serde_json::Value = serde_json::from_str(&out).unwrap();
    let rate = shown["items"].as_array().unwrap().iter().find(|it| it["key"] == "reconcile.rate");
    let rate = rate.unwrap();
    assert_eq!(
        (&rate["value"], &rate["origin"]),
        (&"7".into(), &"MARKETD__RECONCILE__RATE".into())
    );
}

#[test]
fn without_a_daemon_commands_say_what_to_start() {
    let address = nobody();
    let url = format!("http://{address}");
    let rows: &[&[&str]] =
        &[&["product", "list"], &["metering", "balance"], &["integration", "show"]];
    for arguments in rows {
        let (code, out, err) = run(marketd(arguments).env("MARKETD_URL", &url));
        assert_eq!((code, out.as_str()), (1, ""), "{arguments:?}: {err}");
        assert!(err.contains("marketd run") && err.contains("MARKETD_URL"), "{arguments:?}: {err}");
    }
    let (code, _, err) = run(marketd(&["healthcheck"]).env("MARKETD__HTTP__LISTEN", &address));
    assert_eq!(code, 1);
    assert!(err.contains(&address), "{err}");
}

#[test]
fn a_problem_is_told_by_its_detail() {
    let problem =
        r#"{"type":"x","title":"Not Found","status":404,"detail":"no plan \"gold\": list them"}"#;
    let (address, served) = answer_once("404 Not Found", "application/problem+json", problem);
    let (code, out, err) = run(marketd(&["plan", "show", "gold/1"])
        .env("MARKETD_URL", format!("http://{address}"))
        .env("MARKETD_TOKEN", "s3cret"));
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("no plan \"gold\": list them"), "{err}");
    assert_eq!(err.trim().lines().count(), 1, "{err}");
    let head = served.join().unwrap();
    assert!(head.starts_with("GET /v1/plans/gold%2F1 "), "{head}");
    assert!(head.contains("Bearer s3cret"), "{head}");
}

#[test]
fn a_refused_token_names_the_variable_to_set() {
    let (address, served) = answer_once("401 Unauthorized", "application/problem+json", "{}");
    let (code, _, err) =
        run(marketd(&["plan", "show", "pro"]).env("MARKETD_URL", format!("http://{address}")));
    assert_eq!(code, 1);
    assert!(err.contains("MARKETD_TOKEN"), "{err}");
    served.join().unwrap();
}

#[test]
fn json_output_is_the_answer_as_it_is() {
    let (address, served) =
        answer_once("200 OK", "application/json", r#"{"id":"pro","extra":[1]}"#);
    let (code, out, err) = run(marketd(&["plan", "show", "pro", "--output", "json"])
        .env("MARKETD_URL", format!("http://{address}")));
    assert_eq!(code, 0, "{err}");
    let answer: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(answer, serde_json::json!({"id": "pro", "extra": [1]}));
    served.join().unwrap();
}

#[test]
fn a_backup_is_a_database_and_never_overwrites() {
    let folder = tempfile::tempdir().unwrap();
    let (database, copy) = (folder.path().join("marketd.db"), folder.path().join("copy.db"));
    let back_up = |to: &Path| {
        run(marketd(&["backup", to.to_str().unwrap()]).env("MARKETD__DATABASE__PATH", &database))
    };
    let (code, _, err) = back_up(&copy);
    assert_eq!(code, 1, "there is nothing to copy yet");
    assert!(err.contains("marketd.db") && !copy.exists(), "{err}");

    marketd::store::Store::open(&database).unwrap().close();
    let (code, _, err) = back_up(&copy);
    assert_eq!(code, 0, "{err}");
    marketd::store::Store::open(&copy).unwrap().close();

    let before = std::fs::read(&copy).unwrap();
    let (code, _, err) = back_up(&copy);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("exists already"), "{err}");
    assert_eq!(std::fs::read(&copy).unwrap(), before);
}

/// Other programs' variables are none of ours, whatever bytes they hold.
#[test]
fn a_variable_that_is_no_text_ends_nothing() {
    use std::os::unix::ffi::OsStringExt;
    let bytes = std::ffi::OsString::from_vec(vec![b'a', 0xff]);
    let mut command = marketd(&["check-config"]);
    command.env("SOMEBODY_ELSES", &bytes);
    let (code, _, stderr) = run(&mut command);
    assert_eq!(code, 0, "{stderr}");
}
