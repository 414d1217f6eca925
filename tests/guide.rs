//! The guide and the README are true: their commands are run in order, and what they show of the output is there.
//!
//! In a `console` block a line that begins with `$` is a command, which goes on after a backslash; the lines under it are
//! found in its output, in this order, and `…` stands for anything. Other blocks are not run. The sandbox that a page
//! starts listens on free ports, and its environment is that of the commands that follow.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::Path;
use std::time::Duration;

use support::rehearsal::Rehearsal;

/// How long what a command shows may be on its way.
const PATIENCE: Duration = Duration::from_secs(30);

struct Step {
    command: String,
    shown: Vec<String>,
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match line {
            "```console" => inside = true,
            "```" => inside = false,
            _ if !inside => {}
            _ if steps.last().is_some_and(|step| step.command.ends_with('\\')) => {
                let command = &mut steps.last_mut().unwrap().command;
                command.pop();
                command.push_str(line.trim_start());
            }
            _ => match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => {
                    steps.push(Step { command: command.to_owned(), shown: Vec::new() });
                }
                (None, Some(step)) => step.shown.push(line.to_owned()),
                (None, None) => panic!("{line:?} is the output of nothing"),
            },
        }
    }
    steps
}

/// Blanks are as wide as a table's longest cell: any number of them is one.
fn plain(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn fits(shown: &str, line: &str) -> bool {
    let (shown, line) = (plain(shown), plain(line));
    let mut rest = line.as_str();
    let mut parts = shown.split('…');
    let Some(found) = parts.next().and_then(|first| rest.strip_prefix(first)) else { return false };
    rest = found;
    let mut open = false;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        open = part.is_empty();
    }
    open || rest.is_empty()
}

#[test]
fn an_ellipsis_stands_for_anything() {
    for (shown, line, expected) in [
        ("a  b", "a b", true),
        ("a", "ab", false),
        ("a …", "a b c", true),
        ("a … c", "a b c", true),
        ("a … c", "a b d", false),
        ("{\"a\":1,…", "{\"a\":1,\"b\":2}", true),
    ] {
        assert_eq!(fits(shown, line), expected, "{shown:?} {line:?}");
    }
}

/// What of the shown lines a command's output lacks, in this order.
fn missing<'a>(shown: &'a [String], output: &str) -> Option<&'a String> {
    let mut lines = output.lines();
    shown.iter().find(|shown| !lines.any(|line| fits(shown, line)))
}

/// Whether a command only looks, so that it may look again for what takes a moment.
fn only_looks(command: &str) -> bool {
    let verbs = [" list", " show", " balance", " access ", " subscriptions "];
    let marketd =
        command.starts_with("marketd ") && verbs.iter().any(|verb| command.contains(verb));
    marketd || (command.starts_with("curl ") && !command.contains("--json"))
}

async fn check(page: &str, commands: usize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let steps = steps(&std::fs::read_to_string(path).unwrap());
    assert!(steps.len() >= commands, "{page} lost its commands");
    let mut steps = steps.iter();
    let begin = steps.next().unwrap();
    let rehearsal = Rehearsal::start_by(&begin.command).await;
    rehearsal.go_on_in_mid_month().await;
    let printed = rehearsal.as_with_default_ports();
    assert_eq!(missing(&begin.shown, &printed), None, "{}\n{printed}", begin.command);
    for step in steps {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let (worked, output) = rehearsal.bash(&step.command).await;
            assert!(worked, "{}\n{output}", step.command);
            let Some(line) = missing(&step.shown, &output) else { break };
            let again = only_looks(&step.command) && tokio::time::Instant::now() < deadline;
            assert!(again, "{}\nshows no {line:?} (in this place) in\n{output}", step.command);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    rehearsal.stop().await;
}

#[tokio::test]
async fn every_command_of_the_guide_does_what_it_shows() {
    check("docs/guide.md", 35).await;
}

#[tokio::test]
async fn every_command_of_the_readme_does_what_it_shows() {
    check("README.md", 25).await;
}

#[tokio::test]
async fn an_application_is_gated_as_its_page_says() {
    check("docs/gating.md", 18).await;
}

#[tokio::test]
async fn a_product_moves_to_licences_as_its_page_says() {
    check("docs/moving.md", 12).await;
}
