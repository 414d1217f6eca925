//! Tables on a terminal, which `script` of util-linux makes, beside those in a pipe.

use std::process::{Command, Stdio};

use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr as _;

use super::{answer_each, marketd, run};

/// Runs a command against an answer, on a terminal that is so wide.
fn on_terminal(
    columns: usize,
    variables: &[(&str, &str)],
    arguments: &str,
    answer: &Value,
) -> String {
    let (address, served) = answer_each(vec![answer.to_string()]);
    let url = format!("http://{address}");
    let text = typed(columns, &[variables, &[("MARKETD_URL", &url)]].concat(), arguments);
    served.join().unwrap();
    text
}

/// Runs a command on a terminal, and returns all that it was sent.
fn typed(columns: usize, variables: &[(&str, &str)], arguments: &str) -> String {
    let program = env!("CARGO_BIN_EXE_marketd");
    let line = format!("stty cols {columns} rows 24; {program} {arguments}");
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap().replace("\r\n", "\n");
    assert!(output.status.success(), "{text}");
    text
}

fn in_pipe(variables: &[(&str, &str)], arguments: &[&str], answer: &Value) -> String {
    let (address, served) = answer_each(vec![answer.to_string()]);
    let mut command = marketd(arguments);
    command.env("MARKETD_URL", format!("http://{address}")).envs(variables.iter().copied());
    let (code, out, err) = run(&mut command);
    assert_eq!((code, err.as_str()), (0, ""));
    served.join().unwrap();
    out
}

const PLAIN: &[(&str, &str)] = &[("TERM", "xterm"), ("NO_COLOR", "1")];

fn customers() -> Value {
    json!({"items": [
        {"id": "acme", "name": "Acme", "claimed": true, "aws": {"account_id": "123456789012"}},
        {"id": "東京", "name": "株式会社東京マーケットプレイス販売管理本部第一営業部", "claimed": false},
        {"id": "fun", "name": "🎉👩‍👩‍👧‍👦 families and parties of every kind, everywhere", "claimed": true},
        {"id": "e\u{301}te\u{301}", "name": "cafe\u{301} ".repeat(12), "claimed": true},
    ]})
}

#[test]
fn a_table_is_as_wide_as_the_terminal_and_a_pipe_loses_nothing() {
    let customers = customers();
    for columns in [70, 80, 100] {
        let shown = on_terminal(columns, PLAIN, "customer list", &customers);
        for line in shown.lines() {
            assert!(line.width() <= columns, "{columns}: {} in {line:?}", line.width());
        }
        assert!(shown.contains('…'), "{shown}");
        assert!(shown.contains("123456789012"), "prose is cut before ids: {shown}");
    }
    let piped = in_pipe(&[], &["customer", "list"], &customers);
    assert!(!piped.contains('…'), "{piped}");
    for customer in customers["items"].as_array().unwrap() {
        let name = customer["name"].as_str().unwrap().trim_end();
        assert!(piped.contains(name), "{piped}");
    }
    // The column after the names begins at the same place in each line, however wide the letters are.
    let places = piped.lines().skip(1).map(|line| {
        let at = line.find(" yes ").or_else(|| line.find(" no ")).unwrap();
        line[..at].width()
    });
    let places: Vec<usize> = places.collect();
    assert!(places.iter().all(|place| *place == places[0]), "{places:?}\n{piped}");
}

#[test]
fn ids_that_do_not_fit_are_cut_aloud() {
    let long = "subscription-".repeat(8);
    let list = json!({"items": [{"id": long, "customer_id": long, "status": "active"}]});
    let shown = on_terminal(60, PLAIN, "subscription list", &list);
    assert!(shown.contains("--output json"), "{shown}");
    assert!(shown.lines().take(2).all(|line| line.width() <= 60), "{shown}");
    assert!(in_pipe(&[], &["subscription", "list"], &list).contains(&long));
}

#[test]
fn times_are_short_only_where_they_do_not_fit() {
    let list = json!({"items": [{
        "at": "2026-11-29T06:07:08.123Z", "actor": "somebody", "door": "api",
        "operation": "provisionCustomer", "path": "/v1/customers/somebody-else",
    }]});
    let narrow = on_terminal(70, PLAIN, "activity list", &list);
    assert!(narrow.contains("2026-11-29 06:07  "), "{narrow}");
    let wide = on_terminal(120, PLAIN, "activity list", &list);
    assert!(wide.contains("2026-11-29T06:07:08.123Z"), "{wide}");
}

#[test]
fn states_have_colours_on_a_terminal_unless_somebody_objects() {
    let list =
        json!({"items": [{"id": "a", "status": "published"}, {"id": "b", "status": "draft"}]});
    let coloured = on_terminal(80, &[("TERM", "xterm")], "plan list", &list);
    assert!(coloured.contains("\u{1b}[38;5;2mpublished\u{1b}"), "{coloured:?}");
    assert!(coloured.contains("draft"), "{coloured:?}");
    let objections: [&[(&str, &str)]; 4] = [
        &[("TERM", "xterm"), ("NO_COLOR", "1")],
        &[("TERM", "dumb")],
        &[("TERM", "xterm"), ("CLICOLOR", "0")],
        &[],
    ];
    for variables in objections {
        let plain = on_terminal(80, variables, "plan list", &list);
        assert!(
            plain.contains("published") && !plain.contains('\u{1b}'),
            "{variables:?}: {plain:?}"
        );
    }
    let plans = ["plan", "list"];
    assert!(!in_pipe(&[("TERM", "xterm")], &plans, &list).contains('\u{1b}'));
    assert!(in_pipe(&[("CLICOLOR_FORCE", "1")], &plans, &list).contains("\u{1b}[38;5;2m"));
}

#[test]
fn a_terminal_is_not_acted_on_by_what_others_wrote() {
    let evil = "a\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}31m\u{202e}gnp\u{2066}\r\u{7f}b\nc";
    let thing = json!({"id": evil, "name": evil, "status": evil, "raw": {evil: [evil]}});
    for (command, answer) in
        [("plan list", json!({"items": [thing]})), ("plan show x", thing.clone())]
    {
        let shown = on_terminal(200, PLAIN, command, &answer);
        let acts = |it: char| it.is_control() && it != '\n' || "\u{202e}\u{2066}".contains(it);
        assert!(!shown.contains(acts), "{command}: {shown:?}");
        assert!(shown.contains("gnp"), "{command}: {shown}");
    }
}

#[test]
fn how_far_a_long_copy_is_shows_on_a_terminal_alone() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("large.db");
    let connection = rusqlite::Connection::open(&database).unwrap();
    connection
        .execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (zeroblob(50000000))")
        .unwrap();
    drop(connection);
    let database = database.to_str().unwrap();
    let back_up = |variables: &[(&str, &str)], name: &str| {
        let copy = folder.path().join(name);
        let variables = [variables, &[("MARKETD__DATABASE__PATH", database)]].concat();
        typed(80, &variables, &format!("backup {}", copy.display()))
    };
    let shown = back_up(&[("TERM", "xterm")], "one.db");
    assert!(shown.contains("copying ") && shown.contains('%'), "{shown:?}");
    let last = shown.rsplit('\r').next().unwrap();
    assert!(last.contains("copied ") && !last.contains('%'), "it is taken away: {shown:?}");
    let plain = back_up(&[("TERM", "dumb")], "two.db");
    assert!(plain.starts_with("copied "), "{plain:?}");
    let copy = folder.path().join("three.db");
    let (code, _, err) = run(marketd(&["backup", copy.to_str().unwrap()])
        .env("TERM", "xterm")
        .env("MARKETD__DATABASE__PATH", database));
    assert_eq!((code, err.as_str()), (0, ""));
}

#[test]
fn a_short_list_goes_on_in_the_next_line() {
    let part = |detail: &str| json!({"ok": false, "detail": detail});
    let long = "the role may not do this, and whoever reads it wants to know all of why that is so";
    let view = json!({"state": "connected", "parts": {"a_queue_with_a_long_name": part(long)}});
    let shown = on_terminal(60, PLAIN, "integration show", &view);
    assert!(shown.lines().all(|line| line.width() <= 60), "{shown}");
    let words: Vec<&str> = shown.split_whitespace().collect();
    assert!(words.contains(&"a_queue_with_a_long_name"), "ids stay whole: {shown}");
    for word in long.split(' ') {
        assert!(words.contains(&word), "{word} is missing: {shown}");
    }
}
