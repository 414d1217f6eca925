//! The guide is true: its commands are run in order, and what it shows of their output is there.
//!
//! In a `console` block a line that begins with `$` is a command; the lines under it are found in its output, in this
//! order, and `…` stands for anything. Other blocks are not run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::Path;

use support::world::{World, guide_bash};

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

async fn check(page: &str, settings: &[(&'static str, &'static str)], commands: usize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let world = World::with_the_guides_listings(settings).await;
    let steps = steps(&std::fs::read_to_string(path).unwrap());
    assert!(steps.len() >= commands, "{page} lost its commands");
    for step in steps {
        let (worked, output) = guide_bash(&world, &step.command).await;
        assert!(worked, "{}\n{output}", step.command);
        let mut lines = output.lines();
        for shown in &step.shown {
            let found = lines.any(|line| fits(shown, line));
            assert!(found, "{}\nshows no {shown:?} (in this place) in\n{output}", step.command);
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn every_command_of_the_guide_does_what_it_shows() {
    check("docs/guide.md", &[], 30).await;
}

#[tokio::test]
async fn a_product_moves_to_licences_as_its_page_says() {
    check("docs/moving.md", &[("MARKETD__RECONCILE__SWEEP_INTERVAL", "500ms")], 10).await;
}
