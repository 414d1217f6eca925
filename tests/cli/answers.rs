//! What commands say of what they did, to people and to programs.

use serde_json::{Value, json};

use super::{answer_each, answer_once, marketd, nobody, run};

/// Runs a command against these answers; the requests' first lines come with what it printed.
fn said(arguments: &[&str], answers: &[Value]) -> (i32, String, String, Vec<String>) {
    let (address, served) = answer_each(answers.iter().map(Value::to_string).collect());
    let (code, out, err) = run(marketd(arguments).env("MARKETD_URL", format!("http://{address}")));
    (code, out, err, served.join().unwrap())
}

#[test]
fn a_command_says_what_it_changed_and_json_is_the_api_s_document() {
    let plan = json!({"id": "team", "name": "Team", "status": "published", "version": 1, "entitlements": []});
    let gains = json!([{"feature_id": "calls", "after": {"limit": 5}}]);
    let group = json!({
        "keeps": false, "subscriptions": 12, "customers": ["acme"], "gains": gains, "loses": [], "changes": [],
    });
    let preview = json!({"version": 1, "groups": [group]});
    let publish = ["plan", "publish", "team"];
    let (code, out, err, asked) = said(&publish, &[preview, plan.clone()]);
    assert_eq!(
        (code, out.as_str(), err.as_str()),
        (0, "published team, version 1: 12 subscriptions gain calls\n", "")
    );
    assert!(asked[0].starts_with("GET ") && asked[1].starts_with("POST "), "{asked:?}");

    let (code, out, _, asked) =
        said(&[&publish[..], &["--output", "json"]].concat(), std::slice::from_ref(&plan));
    assert_eq!((code, serde_json::from_str::<Value>(&out).unwrap()), (0, plan), "{asked:?}");
}

#[test]
fn others_words_forge_no_line_of_an_answer() {
    let evil = "acme\npublished gold\r\u{1b}[2J";
    let customer = json!({"id": "acme", "name": evil, "aws": {"account_id": evil}});
    let held = json!({"items": [{"id": evil, "customer_id": evil, "status": evil}]});
    let (code, out, _, _) = said(&["customer", "provision", "acme"], &[customer, held]);
    assert_eq!(code, 0);
    assert_eq!(out.lines().count(), 2, "{out}");
    assert!(!out.contains(['\r', '\u{1b}']), "{out:?}");
}

#[test]
fn what_was_denied_or_refused_is_said_and_exits_with_1() {
    let denied = json!({
        "feature_id": "calls", "has_access": false, "reason": "limit_exceeded", "limit": 1000,
        "remaining": 0, "accepted": false, "duplicate": false,
    });
    let consume =
        ["usage", "consume", "--customer", "acme", "--feature", "calls", "--quantity", "1"];
    let (code, out, _, _) = said(&consume, &[denied]);
    assert_eq!(
        (code, out.as_str()),
        (1, "denied, and not counted: limit_exceeded; 0 of 1,000 left\n")
    );
    let rejected = json!([{"id": "e1", "code": "unknown_customer", "detail": "there is no acme"}]);
    let receipt = json!({"accepted": 0, "duplicates": 0, "rejected": rejected});
    let report = ["usage", "report", "--customer", "acme", "--feature", "calls", "--quantity", "1"];
    let (code, out, _, _) = said(&report, &[receipt]);
    assert_eq!(code, 1);
    assert!(out.contains("e1: unknown_customer: there is no acme"), "{out}");
}

fn balance(accepted: &str, adds_up: bool) -> Value {
    let units = json!({
        "reported": "1234567", "accepted": accepted, "pending": "0", "parked": "0",
        "written_off": "0", "included": "0", "uncertain": "0",
    });
    let mut balance = units.clone();
    balance["adds_up"] = json!(adds_up);
    balance["products"] = json!({"a": units, "b": units});
    balance
}

#[test]
fn the_balance_is_a_table_with_its_total_and_one_that_does_not_add_up_fails() {
    let (code, out, err, _) = said(&["metering", "balance"], &[balance("1234567", true)]);
    assert_eq!((code, err.as_str()), (0, ""));
    let words: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0][..3], ["PRODUCT", "REPORTED", "BILLED"], "{out}");
    assert_eq!(words[1][..3], ["a", "1,234,567", "1,234,567"], "{out}");
    assert_eq!(words[3][..3], ["TOTAL", "2,469,134", "2,469,134"], "{out}");
    for output in ["table", "json"] {
        let command = ["metering", "balance", "--output", output];
        let (code, _, err, _) = said(&command, &[balance("1", false)]);
        assert_eq!(code, 1);
        assert!(err.contains("DO NOT ADD UP"), "{err}");
        assert_eq!(serde_json::from_str::<Value>(&err).is_ok(), output == "json", "{err}");
    }
}

#[test]
fn numbers_have_their_thousands_apart_and_ids_are_left_alone() {
    let record = json!({"id": "12345", "quantity": "12345.5", "state": "open", "attempts": 1});
    let (_, out, _, _) = said(&["metering", "list"], &[json!({"items": [record.clone()]})]);
    let row: Vec<&str> = out.lines().nth(1).unwrap().split_whitespace().collect();
    assert!(row[0] == "12345" && row.contains(&"12,345.5"), "{out}");
    let (_, out, _, _) = said(&["metering", "show", "12345"], &[record]);
    assert!(out.contains("id        12345\n") && out.contains("quantity  12,345.5\n"), "{out}");
}

#[test]
fn a_thing_is_shown_with_a_table_for_each_list_in_it() {
    let plan = json!({
        "id": "team", "version": 2,
        "entitlements": [
            {"feature_id": "calls", "limit": 5000},
            {"feature_id": "sso", "limit": null, "note": "with a certificate"},
        ],
    });
    let (_, out, _, _) = said(&["plan", "show", "team"], &[plan]);
    let expected = "\
id       team
version  2

entitlements:
FEATURE ID  LIMIT  NOTE
calls       5,000  -
sso             -  with a certificate
";
    assert_eq!(out, expected);
}

#[test]
fn a_file_that_was_written_is_said_with_its_size() {
    let folder = tempfile::tempdir().unwrap();
    for output in ["table", "json"] {
        let file = folder.path().join(format!("{output}.csv"));
        let (address, served) = answer_once("200 OK", "text/csv", &"x".repeat(1500));
        let export = ["metering", "export", file.to_str().unwrap(), "--output", output];
        let (code, out, err) =
            run(marketd(&export).env("MARKETD_URL", format!("http://{address}")));
        assert_eq!((code, err.as_str()), (0, ""));
        served.join().unwrap();
        assert_eq!(std::fs::read(&file).unwrap().len(), 1500);
        if output == "json" {
            assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["bytes"], 1500);
        } else {
            assert_eq!(out, format!("wrote {}: 1,500 bytes\n", file.display()));
        }
    }
}

#[test]
fn an_error_is_a_problem_on_one_line_of_standard_error_if_json_is_asked_for() {
    let problem = |arguments: &[&str], url: &str, variables: &[(&str, &str)]| -> (i32, Value) {
        let mut command = marketd(arguments);
        command.env("MARKETD_URL", url).envs(variables.iter().copied());
        let (code, out, err) = run(&mut command);
        assert_eq!((out.as_str(), err.lines().count()), ("", 1), "{arguments:?}: {out}{err}");
        let problem: Value = serde_json::from_str(&err).unwrap();
        for member in ["type", "title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|it| !it.is_empty()), "{problem}");
        }
        (code, problem)
    };
    let answered = json!({
        "type": "urn:marketd:problem:forbidden", "title": "forbidden", "status": 403,
        "detail": "a \u{1b} role", "roles": ["admin"],
    });
    let (address, served) =
        answer_once("403 Forbidden", "application/problem+json", &answered.to_string());
    let url = format!("http://{address}");
    let show = ["plan", "show", "x", "--output", "json"];
    assert_eq!(problem(&show, &url, &[]), (1, answered), "the API's own problem, whole");
    served.join().unwrap();

    let (address, served) = answer_once("502 Bad Gateway", "text/html", "<p>no upstream</p>");
    let (code, page) = problem(&show, &format!("http://{address}"), &[]);
    assert_eq!((code, &page["status"]), (1, &json!(502)), "{page}");
    assert_eq!(page["detail"], "<p>no upstream</p>");
    served.join().unwrap();

    let nobody = format!("http://{}", nobody());
    let (code, silent) = problem(&show, &nobody, &[]);
    assert_eq!((code, &silent["type"]), (1, &json!("urn:marketd:problem:no-answer")));
    let (code, usage) = problem(&["plan", "--output=json", "shwo"], &nobody, &[]);
    assert_eq!((code, &usage["type"]), (2, &json!("urn:marketd:problem:wrong-usage")));
    let (code, settings) = problem(
        &["check-config", "--output", "json"],
        &nobody,
        &[("MARKETD__RECONCILE__RATE", "none"), ("MARKETD__HTTP__LISTEN", "?")],
    );
    assert_eq!((code, &settings["type"]), (2, &json!("urn:marketd:problem:wrong-settings")));
    assert_eq!(settings["faults"].as_array().unwrap().len(), 2, "{settings}");
}

#[test]
fn events_are_listed_by_type_and_customer_until_the_cursor_stays() {
    let event =
        json!({"id": "evt_1", "type": "plan.updated", "at": "2026-11-10T09:00:00Z", "data": {}});
    let pages = [
        json!({"items": [event], "next_cursor": "40"}),
        // Nothing that fits was found in what was looked at, and there is more.
        json!({"items": [], "next_cursor": "90"}),
        json!({"items": [], "next_cursor": "90"}),
    ];
    let list = ["event", "list", "--type", "plan.*", "--customer", "acme", "--output", "json"];
    let (code, out, err, asked) = said(&list, &pages);
    assert_eq!(code, 0, "{err}");
    let out: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((out["items"].as_array().unwrap().len(), &out["next_cursor"]), (1, &json!("90")));
    assert!(asked.iter().all(|it| it.contains("type=plan.%2A&customer_id=acme")), "{asked:?}");
    assert!(asked[2].contains("after=90"), "{asked:?}");
}
