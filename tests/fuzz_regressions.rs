//! Every seed of the fuzzers and everything that they once found, again: what must hold of the readers holds.

mod fuzz;

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

/// Files of the tests' own that are inputs too.
const FIXTURES: [(&str, &str); 2] = [("wire", "notifications"), ("sns", "sns")];

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files
}

#[test]
fn what_must_hold_holds_for_every_seed_and_regression() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut failed = Vec::new();
    for (target, check) in fuzz::TARGETS {
        let seeds = files(&tests.join("fuzz/seeds").join(target));
        let fixtures = FIXTURES.iter().filter(|(name, _)| *name == target);
        let fixtures = fixtures.flat_map(|(_, folder)| files(&tests.join("fixtures").join(folder)));
        let inputs: Vec<PathBuf> = seeds
            .into_iter()
            .chain(fixtures)
            .chain(files(&tests.join("fuzz/regressions").join(target)))
            .collect();
        assert!(!inputs.is_empty(), "{target} has no seed");
        for path in inputs {
            let input = fs::read(&path).expect("a file");
            if catch_unwind(|| check(&input)).is_err() {
                failed.push(format!("{target}: {}", path.display()));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// A folder that no target reads would say nothing.
#[test]
fn every_folder_belongs_to_a_target() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    for kind in ["seeds", "regressions"] {
        for folder in files(&fuzz.join(kind)) {
            let name = folder.file_name().and_then(|name| name.to_str()).expect("a name");
            let known = fuzz::TARGETS.iter().any(|(target, _)| *target == name);
            assert!(known, "{} is no target's", folder.display());
        }
    }
}
