//! Settings as a seller writes them: each row a value, and what becomes of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use marketd::settings::{Settings, load};
use secrecy::ExposeSecret as _;

/// The settings with these variables, or what is wrong with them.
fn with(variables: &[(&str, &str)]) -> Result<Settings, String> {
    let owned = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    load(None, owned).map(|loaded| loaded.settings).map_err(|error| error.to_string())
}

#[test]
fn the_defaults_are_those_promised() {
    let settings = with(&[]).unwrap();
    assert_eq!(settings.database.path.to_str(), Some("/var/lib/marketd/marketd.db"));
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
    assert_eq!((metering.rate, metering.zero_usage), (5, false));
    let queue = with(&[("MARKETD__QUEUE__URL", "https://queue.test/q")]).unwrap().queue.unwrap();
    assert_eq!((queue.pollers, queue.wait), (2, Duration::from_secs(20)));
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
        (" ", None),
        ("5", None),
        ("-5s", None),
        ("1.5h", None),
        ("5 weeks", None),
        ("99999999999999999999s", None),
        ("18446744073709551615d", None),
    ];
    for (text, milliseconds) in rows {
        let read = with(&[("MARKETD__METERING__GRACE", text)]).map(|it| it.metering.grace);
        assert_eq!(read.ok(), milliseconds.map(Duration::from_millis), "{text:?}");
    }
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let settings = with(&[("MARKETD__METERING__GRACE", ""), ("MARKETD__HTTP__TOKEN", "")]).unwrap();
    assert_eq!(settings.metering.grace, Duration::from_secs(300));
    assert!(settings.http.token.is_none());
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
