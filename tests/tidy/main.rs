//! The house rules that a program can check.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod imports;

use std::fs;
use std::path::{Path, PathBuf};

/// The lines of a file, its tests included. A file about one thing fits in this; one that does not wants splitting.
const LINES_MOST: usize = 700;
/// The lines of a file of the program, before its tests.
const CODE_LINES_MOST: usize = 455;

fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn files_stay_about_one_thing() {
    let all = sources("src").into_iter().chain(sources("tests"));
    // What the tests read is as long as it is, and some of it is no text.
    for path in all.filter(|path| path.extension().is_some_and(|it| it == "rs" || it == "sql")) {
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().count();
        assert!(lines <= LINES_MOST, "{} has {lines} lines", path.display());
        let code = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        let is_program = path.starts_with(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
        let is_tests = path.iter().any(|part| part == "tests");
        assert!(
            !is_program || is_tests || code <= CODE_LINES_MOST,
            "{} has {code} lines before its tests",
            path.display()
        );
    }
}

#[test]
fn every_migration_is_run() {
    let list = fs::read_to_string("src/store/engine/connection.rs").unwrap();
    for path in sources("src/store/engine/migrations") {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(list.contains(name), "{name} is not in the list of migrations");
    }
}

#[test]
fn every_setting_is_in_the_default_file() {
    let defaults = fs::read_to_string("config/default.toml").unwrap();
    let loaded = marketd::settings::load(None, []).unwrap();
    for (key, ..) in loaded.settings.shown {
        let (section, name) = key.split_once('.').unwrap();
        let part = defaults.split(&format!("[{section}]")).nth(1).unwrap();
        let part = part.split("\n[").next().unwrap();
        let told = part
            .lines()
            .any(|line| line.trim_start_matches("# ").split(" = ").next() == Some(name));
        assert!(told, "{key} is missing from config/default.toml");
    }
}

#[test]
fn every_metric_has_a_help_text() {
    let families = fs::read_to_string("src/metric_families.rs").unwrap();
    let mut found = 0;
    for path in sources("src").into_iter().filter(|path| !path.ends_with("metric_families.rs")) {
        let text = fs::read_to_string(&path).unwrap();
        for call in ["counter!(", "gauge!(", "histogram!("] {
            for rest in text.split(call).skip(1) {
                let name = rest.trim_start().strip_prefix('"').and_then(|it| it.split('"').next());
                let Some(name) = name else { continue };
                assert!(families.contains(&format!("\"{name}\"")), "{name} in {}", path.display());
                found += 1;
            }
        }
    }
    assert!(found > 10, "{found} metrics");
}

#[test]
fn only_the_engine_knows_sqlite() {
    for path in sources("src")
        .into_iter()
        .filter(|path| !path.to_str().unwrap().contains("src/store/engine/"))
    {
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("rusqlite"), "{} speaks of rusqlite", path.display());
    }
}

#[test]
fn the_domain_is_pure() {
    for path in sources("src/domain") {
        let text = fs::read_to_string(&path).unwrap();
        for impure in ["tokio::", "async fn", "std::fs", "Timestamp::now", "reqwest"] {
            assert!(!text.contains(impure), "{} uses {impure}", path.display());
        }
    }
}

/// What is kept in version control at the top: nothing that a test or a crash left there.
#[test]
fn the_top_holds_what_it_should() {
    let listed = std::process::Command::new("git")
        .args(["ls-files"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    // A copy without its history has nothing to say here.
    let Ok(listed) = listed else { return };
    let known = [
        "Cargo.toml",
        // Where the templates of the console are; it is looked for here alone.
        "askama.toml",
        "Cargo.lock",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "docs",
        "config",
        "systemd",
        "src",
        "tests",
        "benches",
        "examples",
        ".ci",
        ".clippy.toml",
        ".deny.toml",
        ".gitignore",
        ".rustfmt.toml",
    ];
    for file in String::from_utf8(listed.stdout).unwrap().lines() {
        let top = file.split('/').next().unwrap();
        assert!(known.contains(&top), "{file} is not one of the project's files");
    }
}
