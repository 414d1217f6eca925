//! Pages of the docs that are written from the program.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/shapes.rs"]
mod shapes;

use std::path::Path;

use marketd::domain::event::EventType;

/// Compares a page with what the program says, or writes it anew where `MARKETD_WRITE_PAGES` is set.
fn assert_page(name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    if std::env::var_os("MARKETD_WRITE_PAGES").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "docs/{name} is out of date: MARKETD_WRITE_PAGES=1 cargo test --test pages writes it"
    );
}

#[test]
fn troubleshooting_says_what_the_program_says() {
    assert_page("troubleshooting.md", &marketd::diagnosis::troubleshooting());
}

#[test]
fn events_say_what_the_program_says() {
    let page = marketd::events::page();
    assert_page("events.md", &page);
    let silent: Vec<&str> = page.lines().filter(|line| line.ends_with("|  |")).collect();
    assert!(silent.is_empty(), "fields without a meaning: {silent:?}");
}

#[test]
fn every_type_of_event_has_an_example_of_its_shape() {
    for kind in EventType::ALL {
        let example = marketd::events::example(kind);
        assert!(example.is_object(), "{kind:?} has no example");
        let faults = shapes::faults(kind.as_str(), &example);
        assert!(faults.is_empty(), "{kind:?}: {faults:?}");
    }
}

/// A command that a page names and the program does not know sends its reader in circles.
#[test]
fn every_command_that_is_advised_exists() {
    let page = marketd::diagnosis::troubleshooting() + &marketd::events::page();
    let commands: Vec<&str> =
        page.split('`').filter_map(|words| words.strip_prefix("marketd ")).collect();
    assert!(commands.len() > 5, "{commands:?}");
    for command in commands {
        let words: Vec<&str> =
            command.split(' ').take_while(|word| !word.starts_with('-')).collect();
        let help = std::process::Command::new(env!("CARGO_BIN_EXE_marketd"))
            .args(&words)
            .arg("--help")
            .output()
            .unwrap();
        let complaint = String::from_utf8_lossy(&help.stderr);
        assert!(help.status.success(), "marketd {command}: {complaint}");
    }
}
