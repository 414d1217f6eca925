//! Notes: the reasons that people give for what they decide.

use super::Problem;

/// The most bytes of a note.
const LONGEST: usize = 4 * 1_024;

/// Checks a note, and returns it without the white space around it.
pub(super) fn checked_note(note: &str) -> Result<String, Problem> {
    let note = note.trim();
    if note.len() > LONGEST {
        return Err(Problem::field_is("note", format!("is at most {LONGEST} bytes")));
    }
    if note.is_empty() {
        return Err(Problem::field_is("note", "says why, for whoever reads the books later"));
    }
    Ok(note.to_owned())
}
