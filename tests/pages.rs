//! Pages of the docs that are written from the program.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

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
