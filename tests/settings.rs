//! Settings as a seller writes them: each row a value, and what becomes of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use marketd::settings::{SecretFiles, Settings, load, load_for};
use secrecy::ExposeSecret as _;

/// The settings with these variables, or what is wrong with them.
fn with(variables: &[(&str, &str)]) -> Result<Settings, String> {
    let owned = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    load(None, owned).map(|loaded| loaded.settings).map_err(|error| error.to_string())
}

#[test]
fn the_defaults_are_those_promised() {
    let settings = with(&[]).unwrap();
    let path = settings.database.file().and_then(|path| path.to_str());
    assert_eq!(path, Some("/var/lib/marketd/marketd.db"));
    assert_eq!(settings.http.listen.to_string(), "127.0.0.1:8480");
    assert!(
        settings.http.token.is_none() && settings.queue.is_none() && settings.webhook.is_none()
    );
    assert!(settings.integration.role_arn.is_none() && settings.integration.external_id.is_none());
    let reconcile = &settings.reconcile;
    assert_eq!(reconcile.sweep_interval, Duration::from_secs(6 * 3_600));
    assert_eq!((reconcile.concurrency, reconcile.rate), (8, 10));
    let metering = &settings.metering;
    assert_eq!(metering.grace, Duration::from_secs(300));
    assert_eq!(metering.interval, Duration::from_secs(60));
    assert_eq!(metering.window, Duration::from_secs(24 * 3_600));
    assert_eq!((metering.rate, metering.zero_usage), (10, false));
    assert_eq!(settings.usage.max_age, Duration::from_secs(31 * 86_400));
    let days = |count: u64| Some(Duration::from_secs(count * 86_400));
    let retention = &settings.retention;
    assert_eq!((retention.notifications, retention.events), (days(400), days(90)));
    assert_eq!((retention.usage_events, retention.attempts), (days(400), days(400)));
    let queue = with(&[("MARKETD__QUEUE__URL", "https://queue.test/q")]).unwrap().queue.unwrap();
    assert_eq!((queue.pollers, queue.max_pollers), (2, 16));
    assert_eq!(queue.wait, Duration::from_secs(20));
}

#[test]
fn durations_are_read_with_their_unit() {
    let rows = [
        ("0s", Some(0)),
        ("250ms", Some(250)),
        ("30s", Some(30_000)),
        ("5m", Some(300_000)),
        ("6h", Some(21_600_000)),
        ("1d", Some(86_400_000)),
        ("31d", Some(2_678_400_000)),
        (" ", None),
        ("5", None),
        ("-5s", None),
        ("1.5h", None),
        ("5 weeks", None),
        ("99999999999999999999s", None),
        ("18446744073709551615d", None),
    ];
    for (text, milliseconds) in rows {
        let read =
            with(&[("MARKETD__CATALOG__SYNC_INTERVAL", text)]).map(|it| it.catalog.sync_interval);
        assert_eq!(read.ok(), milliseconds.map(Duration::from_millis), "{text:?}");
    }
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let settings = with(&[("MARKETD__METERING__GRACE", ""), ("MARKETD__QUEUE__URL", "")]).unwrap();
    assert_eq!(settings.metering.grace, Duration::from_secs(300));
    assert!(settings.queue.is_none());
}

#[test]
fn an_empty_secret_is_no_secret_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("marketd.toml");
    for key in ["http.token", "http.token_file", "integration.external_id", "webhook.secret_file"] {
        let variable = format!("MARKETD__{}", key.to_uppercase().replace('.', "__"));
        for value in ["", " "] {
            let fault = with(&[(&variable, value)]).unwrap_err();
            assert!(fault.contains(key) && fault.contains(&variable), "{fault}");
        }
        let (section, name) = key.split_once('.').unwrap();
        std::fs::write(&file, format!("[{section}]\n{name} = \"\"\n")).unwrap();
        let fault = load(Some(&file), []).unwrap_err().to_string();
        assert!(fault.contains(key) && fault.contains("marketd.toml"), "{fault}");
    }
}

#[test]
fn what_would_be_refused_later_is_refused_now() {
    let long = format!("unix:/{}", "s".repeat(107));
    let rows: &[(&str, &[&str])] = &[
        ("LOG__FILTER", &["[", "marketd=loud", "marketd=debug,,=", " "]),
        (
            "QUEUE__URL",
            &[
                "nonsense",
                "marketd",
                "arn:aws:sqs:us-east-1:111122223333:marketd",
                "https://sqs.us-east-1.amazonaws.com",
                "https://user:pass@sqs.test/q",
                "https://sqs.test/q?x=1",
                "ftp://sqs.test/q",
            ],
        ),
        (
            "WEBHOOK__URL",
            &["nonsense", "hooks.test/x", "ftp://hooks.test", "https://me:it@hooks.test/"],
        ),
        (
            "REGISTRATION__REDIRECT_URL",
            &["/welcome", "javascript:alert(1)", "https://a:b@app.test/"],
        ),
        (
            "SNS__TOPICS",
            &["topic", "arn:aws:sns:nowhere:1:t", "arn:aws:sqs:us-east-1:111122223333:q"],
        ),
        (
            "INTEGRATION__ROLE_ARN",
            &["marketd", "arn:aws:iam::1:role/m", "arn:aws:iam::111122223333:user/m"],
        ),
        ("INTEGRATION__EXTERNAL_ID", &["x", "with blanks", "é-id"]),
        ("METERING__REGION", &["nowhere", "US-EAST-1", "us-east-1 eu-west-1"]),
        ("HTTP__LISTEN", &["unix:/run/", &long]),
        ("HTTP__TOKEN", &["two\nlines", "tokén"]),
        ("DATABASE__PATH", &["/var/lib/marketd/"]),
        // These leave the range of times when they are added to one.
        ("RECONCILE__SECOND_LOOK", &["9223372036854775807s", "3651d"]),
        ("ACCESS__STALE_AFTER", &["18446744073709551615ms"]),
    ];
    for (name, values) in rows {
        for value in *values {
            let variable = format!("MARKETD__{name}");
            let fault = with(&[(&variable, value)]).unwrap_err();
            let key = name.replace("__", ".").to_lowercase();
            assert!(fault.starts_with(&format!("{key} (from {variable})")), "{value:?}: {fault}");
            assert!(!fault.contains("me:it") && !fault.contains("tokén"), "{fault}");
        }
    }
}

#[test]
fn what_others_take_is_taken() {
    let rows: &[(&str, &[&str])] = &[
        ("LOG__FILTER", &["info", "marketd=debug,info", "off", "marketd[span{field=1}]=trace"]),
        (
            "QUEUE__URL",
            &[
                "https://sqs.us-east-1.amazonaws.com/111122223333/marketd",
                "https://sqs.cn-north-1.amazonaws.com.cn/111122223333/marketd.fifo",
                "https://vpce-1.sqs.us-east-1.vpce.amazonaws.com/111122223333/q",
                "http://127.0.0.1:4580/111122223333/marketd",
            ],
        ),
        ("SNS__TOPICS", &["arn:aws:sns:us-east-1:287250355862:a, arn:aws-cn:sns:cn-north-1:1:b"]),
        (
            "INTEGRATION__ROLE_ARN",
            &["arn:aws:iam::111122223333:role/m", "arn:aws-us-gov:iam::111122223333:role/path/m"],
        ),
        ("METERING__REGION", &["us-east-1", "ap-southeast-2", "us-gov-west-1"]),
    ];
    for (name, values) in rows {
        for value in *values {
            with(&[(&format!("MARKETD__{name}"), value)]).unwrap();
        }
    }
}

#[test]
fn a_list_in_a_file_is_its_items_with_commas_between() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("marketd.toml");
    let text = "[http]\ntrusted_proxies = [\"10.0.0.1\", \"::1\"]\n[sns]\ntopics = [\"arn:aws:sns:us-east-1:1:a\"]\n";
    std::fs::write(&file, text).unwrap();
    let settings = load(Some(&file), []).unwrap().settings;
    assert_eq!(settings.http.trusted_proxies.len(), 2);
    assert_eq!(settings.sns.topics, ["arn:aws:sns:us-east-1:1:a"]);
}

#[test]
fn a_command_reads_only_the_secrets_that_it_uses() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let good = secret.to_str().unwrap().to_owned();
    let missing = "/nowhere/secret".to_owned();
    let load = |files, token: &String, webhook: &String| {
        let variables = [
            ("MARKETD__HTTP__LISTEN", "0.0.0.0:0"),
            ("MARKETD__HTTP__TOKEN_FILE", token),
            ("MARKETD__WEBHOOK__URL", "https://hooks.test/"),
            ("MARKETD__WEBHOOK__SECRET_FILE", webhook),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        load_for(files, None, variables).map_err(|error| error.to_string())
    };
    for (files, reads_token, reads_webhook) in [
        (SecretFiles::All, true, true),
        (SecretFiles::Readable, true, true),
        (SecretFiles::Pass, false, true),
        (SecretFiles::None, false, false),
    ] {
        assert_eq!(load(files, &missing, &good).is_err(), reads_token, "{files:?}");
        assert_eq!(load(files, &good, &missing).is_err(), reads_webhook, "{files:?}");
        let settings = load(files, &good, &good).unwrap().settings;
        assert_eq!(settings.http.token.is_some(), reads_token, "{files:?}");
        assert_eq!(settings.webhook.is_some(), reads_webhook, "{files:?}");
    }
}

#[test]
fn secrets_may_lie_where_the_service_manager_puts_them() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("http-token"), "s3cret\n").unwrap();
    for path in ["$CREDENTIALS_DIRECTORY/http-token", "${CREDENTIALS_DIRECTORY}/http-token"] {
        let named = ("MARKETD__HTTP__TOKEN_FILE", path);
        let settings = with(&[named, ("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap())]);
        assert_eq!(settings.unwrap().http.token.unwrap().expose_secret(), "s3cret");
        let unset = with(&[named]).unwrap_err();
        assert!(unset.contains("CREDENTIALS_DIRECTORY is not set"), "{unset}");
        let variables = [(named.0.to_owned(), named.1.to_owned())];
        let checked = load_for(SecretFiles::Readable, None, variables).unwrap();
        assert!(
            checked.notes[0].contains("http.token_file was not checked"),
            "{:?}",
            checked.notes
        );
    }
}

#[test]
fn a_signing_secret_is_as_standard_webhooks_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    let webhook = |secret: &str| {
        std::fs::write(&file, secret).unwrap();
        with(&[
            ("MARKETD__WEBHOOK__URL", "https://hooks.test/"),
            ("MARKETD__WEBHOOK__SECRET_FILE", file.to_str().unwrap()),
        ])
    };
    let of = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
    let refused = [
        "whsec_".to_owned(),
        "whsec_!!!".to_owned(),
        "whsec_c2hvcnQ=".to_owned(),
        "a text of twenty-four bytes and more".to_owned(),
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned(),
        of(23),
        of(65),
    ];
    for secret in refused {
        let fault = webhook(&secret).unwrap_err();
        assert!(fault.contains("24 to 64 bytes"), "{secret}: {fault}");
        assert!(fault.contains("marketd webhook secret") && fault.contains("openssl"), "{fault}");
        let said = secret.trim_start_matches("whsec_");
        assert!(said.is_empty() || !fault.contains(said), "{fault}");
    }
    for bytes in [24, 32, 64] {
        let key = webhook(&format!("{}\n", of(bytes))).unwrap().webhook.unwrap().key;
        assert_eq!(key.bytes(), vec![7; bytes]);
    }
}

#[test]
fn what_is_refused_names_key_origin_and_reason() {
    let rows: &[(&str, &str, &str)] = &[
        ("MARKETD__RECONCILE__RATE", "-1", "a whole number"),
        ("MARKETD__RECONCILE__RATE", "1.5", "a whole number"),
        ("MARKETD__METERING__RATE", "0", "a whole number"),
        ("MARKETD__METERING__ZERO_USAGE", "maybe", "true or false"),
        ("MARKETD__HTTP__LISTEN", "localhost", "IP:PORT"),
        ("MARKETD__HTTP__LISTEN", "unix:relative", "unix:/path"),
        ("MARKETD__HTTP__LISTEN", "0.0.0.0:8480", "token"),
        ("MARKETD__HTTP__LISTEN", "[::]:8480", "token"),
        ("MARKETD__HTTP__TOKEN_FILE", "/nowhere/token", "cannot be read"),
        ("MARKETD__LOG__FORMAT", "xml", "text or json"),
        ("MARKETD__WEBHOOK__URL", "https://hooks.test", "webhook.secret_file"),
        ("MARKETD__QUEUE__WAIT", "21s", "20s"),
        ("MARKETD__NO__SUCH", "1", "no such setting"),
    ];
    for (variable, value, reason) in rows {
        let fault = with(&[(variable, value)]).unwrap_err();
        let key = variable.trim_start_matches("MARKETD__").replace("__", ".").to_lowercase();
        for part in [key.as_str(), variable, reason] {
            assert!(fault.contains(part), "{variable}={value}: {part:?} is missing from: {fault}");
        }
    }
}

/// Variables, and the parts of the fault that they come to; none where they are fine.
type Row<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);

#[test]
fn times_of_metering_that_cannot_be_right_together_are_refused_with_the_reason() {
    let (grace, window) = ("MARKETD__METERING__GRACE", "MARKETD__METERING__WINDOW");
    let (interval, age) = ("MARKETD__METERING__INTERVAL", "MARKETD__USAGE__MAX_AGE");
    let kept = "MARKETD__RETENTION__USAGE_EVENTS";
    let rows: &[Row<'_>] = &[
        (&[(window, "0s")], &["metering.window", "2h to 24h"]),
        (&[(window, "1h")], &["metering.window", "no time to send", "2h to 24h"]),
        (&[(window, "119m")], &["metering.window"]),
        (&[(window, "2h"), (grace, "0s")], &[]),
        (&[(window, "2h")], &["metering.grace", "metering.window (2h)", "up to 0s"]),
        (&[(window, "6h"), (grace, "4h")], &[]),
        (&[(window, "6h"), (grace, "241m")], &["metering.grace", "up to 4h"]),
        (&[(window, "24h")], &[]),
        (&[(window, "1d")], &[]),
        (&[(window, "86401s")], &["metering.window", "longer than AWS takes", "24h"]),
        (&[(window, "6d")], &["metering.window", "2h to 24h"]),
        (&[(grace, "0s")], &[]),
        (&[(grace, "6h")], &[]),
        (&[(grace, "22h")], &[]),
        (&[(grace, "23h")], &["metering.grace", "metering.window (24h)", "up to 22h"]),
        (&[(grace, "400d")], &["metering.grace", "up to 22h"]),
        (&[(interval, "0s")], &[]),
        (&[(interval, "30m")], &[]),
        (&[(interval, "31m")], &["metering.interval", "up to 30m"]),
        (&[(interval, "1h"), (window, "1h")], &["metering.interval", "metering.window"]),
        (&[(age, "1h")], &[]),
        (&[(age, "400d")], &[]),
        (&[(age, "0s")], &["usage.max_age", "1h and more"]),
        (&[(kept, "0")], &[]),
        (&[(kept, "0s")], &[]),
        (&[(kept, "31d")], &[]),
        (&[(kept, "30d")], &["retention.usage_events", "usage.max_age (31d)", "31d and more"]),
        (&[(age, "401d")], &["retention.usage_events", "usage.max_age (401d)", "0 for ever"]),
        (&[(age, "401d"), (kept, "0")], &[]),
        (&[(age, "2h"), (kept, "24h")], &[]),
        (&[(age, "2h"), (kept, "23h")], &["retention.usage_events", "24h and more"]),
        (&[(kept, "5")], &["retention.usage_events", "or 0 for ever"]),
    ];
    for (variables, parts) in rows {
        let fault = with(variables).err().unwrap_or_default();
        assert_eq!(fault.is_empty(), parts.is_empty(), "{variables:?}: {fault}");
        for part in *parts {
            assert!(fault.contains(part), "{variables:?}: {part:?} is missing from: {fault}");
        }
    }
}

#[test]
fn a_listener_beyond_this_machine_is_fine_with_a_token() {
    let rows = [
        ("127.0.0.1:0", false),
        ("[::1]:0", false),
        ("unix:/run/m.sock", false),
        ("0.0.0.0:0", true),
    ];
    for (listen, needs_token) in rows {
        let variable = ("MARKETD__HTTP__LISTEN", listen);
        assert_eq!(with(&[variable]).is_err(), needs_token, "{listen}");
        let settings = with(&[variable, ("MARKETD__HTTP__TOKEN", "s3cret")]).unwrap();
        assert_eq!(settings.http.listen.to_string(), listen);
    }
}

#[test]
fn a_token_file_is_read_without_its_last_line_break() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let variables = [("MARKETD__HTTP__TOKEN_FILE", file.to_str().unwrap())];
    std::fs::write(&file, "s3cret\n").unwrap();
    let token = with(&variables).unwrap().http.token.unwrap();
    assert_eq!(token.expose_secret(), "s3cret");
    std::fs::write(&file, "\n").unwrap();
    assert!(with(&variables).unwrap_err().contains("which is empty"));
}

#[test]
fn a_database_on_a_server_is_named_by_its_url_and_its_password_is_never_shown() {
    const URL: &str = "MARKETD__DATABASE__URL";
    let address = "postgres://me@db.example.com:5433/marketd?sslmode=verify-full";
    let settings = with(&[(URL, address), ("PGPASSWORD", "hunter2")]).unwrap();
    assert!(settings.database.file().is_none());
    assert_eq!(settings.database.to_string(), "postgres://me@db.example.com:5433/marketd");
    let shown = format!("{settings:?}");
    assert!(shown.contains("db.example.com") && !shown.contains("hunter2"), "{shown}");
    let path = ("MARKETD__DATABASE__PATH", "/tmp/marketd.db");
    for (variables, words) in [
        (vec![(URL, address), path], "database.path (from MARKETD__DATABASE__PATH) a file"),
        (vec![(URL, "postgres://me:hunter2@db/x")], "database.password_file"),
        (vec![(URL, "mysql://me@db/x")], "postgres://user@host:5432/name"),
        (vec![(URL, address), ("MARKETD__DATABASE__POOL", "0")], "database.pool"),
        (vec![("MARKETD__DATABASE__PASSWORD_FILE", "/dev/null")], "database.password_file"),
        (vec![(URL, address), ("PGPASSFILE", "/nowhere/pgpass")], "/nowhere/pgpass"),
    ] {
        let fault = with(&variables).unwrap_err();
        assert!(fault.contains(words) && !fault.contains("hunter2"), "{fault}");
    }
}
