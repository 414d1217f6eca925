//! Lists: to their end, a part of them, and how to go on.

use super::{answer_each, marketd, run};

fn page_of(ids: std::ops::Range<usize>, next: Option<&str>) -> String {
    let items: Vec<_> = ids.map(|id| serde_json::json!({"id": format!("p{id:04}")})).collect();
    serde_json::json!({"items": items, "next_cursor": next}).to_string()
}

#[test]
fn a_list_is_printed_to_its_end() {
    for (output, limit, rows) in
        [("table", None, 700), ("json", None, 700), ("table", Some("600"), 600)]
    {
        let last = if limit.is_some() { 500..600 } else { 500..700 };
        let (address, served) =
            answer_each(vec![page_of(0..500, Some("next")), page_of(last, limit)]);
        let mut arguments = vec!["plan", "list", "--output", output];
        arguments.extend(limit.iter().flat_map(|limit| ["--limit", limit]));
        let (code, out, err) =
            run(marketd(&arguments).env("MARKETD_URL", format!("http://{address}")));
        assert_eq!(code, 0, "{err}");
        assert_eq!(out.matches("p0").count(), rows, "{output} {limit:?}");
        let asked = served.join().unwrap();
        assert!(asked[0].contains("limit=500") && !asked[0].contains("cursor"), "{asked:?}");
        assert!(asked[1].contains("cursor=next"), "{asked:?}");
        assert_eq!(asked[1].contains("limit=100"), limit.is_some(), "{asked:?}");
    }
}

#[test]
fn events_are_printed_to_their_end_and_waited_for_once() {
    let events = |count: usize, next: &str| {
        let items: Vec<_> = (0..count).map(|_| serde_json::json!({"type": "x.y"})).collect();
        serde_json::json!({"items": items, "next_cursor": next}).to_string()
    };
    // The end is where the cursor stays: a page may be short before that.
    let pages = vec![events(500, "500"), events(3, "503"), events(0, "503")];
    let (address, served) = answer_each(pages);
    let (code, out, err) = run(marketd(&["event", "list", "--wait", "1s", "--output", "json"])
        .env("MARKETD_URL", format!("http://{address}")));
    assert_eq!(code, 0, "{err}");
    let printed: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(printed["items"].as_array().unwrap().len(), 503);
    assert_eq!(printed["next_cursor"], "503");
    let asked = served.join().unwrap();
    assert!(asked[0].contains("after=0") && asked[0].contains("wait=1s"), "{asked:?}");
    assert!(asked[1].contains("after=500") && !asked[1].contains("wait"), "{asked:?}");
    assert!(asked[2].contains("after=503"), "{asked:?}");
}

#[test]
fn whoever_has_read_enough_is_not_complained_to() {
    for output in ["json", "table"] {
        let (address, served) = answer_each(vec![page_of(0..9000, None)]);
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_marketd"))
            .args(["plan", "list", "--output", output])
            .env_clear()
            .env("MARKETD_URL", format!("http://{address}"))
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // What reads a line and goes, as `head -1` does; more is printed than a pipe holds.
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        let complaint = String::from_utf8(ended.stderr).unwrap();
        assert_eq!((ended.status.code(), complaint.as_str()), (Some(0), ""), "{output}");
        served.join().unwrap();
    }
}

#[test]
fn a_part_of_a_list_says_how_to_go_on() {
    let list = |more: &[&str], body: &str| {
        let (address, served) = answer_each(vec![body.to_owned()]);
        let (code, out, err) = run(marketd(&[&["plan", "list"], more].concat())
            .env("MARKETD_URL", format!("http://{address}")));
        assert_eq!(code, 0, "{err}");
        (out, err, served.join().unwrap().remove(0))
    };
    let (first, last) = (page_of(0..2, Some("c2")), page_of(2..4, None));
    let (out, err, _) = list(&["--limit", "2"], &first);
    assert_eq!(err, "more: --cursor c2\n");
    assert!(!out.contains("c2"), "standard output has the rows alone: {out}");
    let (_, err, asked) = list(&["--cursor", "c2", "--limit", "2"], &last);
    assert_eq!(err, "", "this was the end");
    assert!(asked.contains("cursor=c2") && asked.contains("limit=2"), "{asked}");

    let json = |more: &[&str], body: &str| -> serde_json::Value {
        let (out, err, _) = list(&[more, &["--output", "json"]].concat(), body);
        assert_eq!(err, "", "JSON says it in its document");
        serde_json::from_str(&out).unwrap()
    };
    assert_eq!(json(&["--limit", "2"], &first)["next_cursor"], "c2");
    assert_eq!(json(&["--cursor", "c2"], &last).get("next_cursor"), None);
    assert_eq!(json(&[], &last).get("next_cursor"), None);
}

#[test]
fn an_empty_list_says_so_and_a_part_of_events_too_says_how_to_go_on() {
    let events = |after: &str, more: &[&str], body: &str| {
        let (address, served) = answer_each(vec![body.to_owned()]);
        let (code, out, err) = run(marketd(&[&["event", "list", "--after", after], more].concat())
            .env("MARKETD_URL", format!("http://{address}")));
        assert_eq!(code, 0, "{err}");
        served.join().unwrap();
        (out, err)
    };
    let none = r#"{"items":[],"next_cursor":"7"}"#;
    assert_eq!(events("7", &[], none), ("(none)\n".to_owned(), String::new()));
    let one = r#"{"items":[{"id":"evt_1"}],"next_cursor":"8"}"#;
    let (out, err) = events("7", &["--limit", "1"], one);
    assert!(out.contains("evt_1") && err == "more: --after 8\n", "{out}{err}");
}
