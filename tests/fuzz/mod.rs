//! What must hold of everything that reads bytes from outside, whatever the bytes: a function for each reader, which
//! panics where it does not hold. The fuzzers call them, and `tests/fuzz_regressions.rs` does with every seed.

#![allow(unreachable_pub, reason = "one half of those who use it is another crate")]

pub mod catalogue;
pub mod entity;
pub mod mapping_csv;
pub mod register;
pub mod scalars;
pub mod sns;
pub mod usage;
pub mod usage_csv;
pub mod wire;

/// What a target does with an input.
pub type Check = fn(&[u8]);

/// Every target by its name, which is also that of the folders of its seeds and regressions.
pub const TARGETS: [(&str, Check); 9] = [
    ("catalogue", catalogue::check),
    ("entity", entity::check),
    ("mapping_csv", mapping_csv::check),
    ("register", register::check),
    ("scalars", scalars::check),
    ("sns", sns::check),
    ("usage", usage::check),
    ("usage_csv", usage_csv::check),
    ("wire", wire::check),
];

/// How many lines there are at most, however they end.
fn lines(data: &[u8]) -> usize {
    1 + data.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count()
}

/// The same file as some spreadsheets write it; nothing if it is written so already.
fn with_mark(data: &[u8]) -> Option<Vec<u8>> {
    const MARK: &[u8] = b"\xef\xbb\xbf";
    (!data.starts_with(MARK)).then(|| [MARK, data].concat())
}

/// Whether a text says something, without blanks around it.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.trim() == text
}
