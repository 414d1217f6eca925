//! Escapes of others' text: nothing in it acts on the terminal that shows it.

use std::io::{self, IsTerminal as _, Write as _};

/// Reports whether a terminal acts on a character instead of showing it: controls, and marks of text direction.
pub(super) fn acts(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// Escapes foreign text for a line of output: nothing in it moves the cursor, sets a colour or hides what follows.
pub(in crate::cli) fn inert(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' | '\t' => shown.extend(character.escape_default()),
            it if acts(it) => shown.extend(it.escape_unicode()),
            it => shown.push(it),
        }
    }
    shown
}

/// Escapes foreign text of several lines.
pub(in crate::cli) fn inert_lines(text: &str) -> String {
    text.split('\n').map(inert).collect::<Vec<_>>().join("\n")
}

/// Prints a line on standard error that helps a person to go on.
pub(in crate::cli) fn hint(line: &str) {
    // Nobody is left to tell if standard error is closed.
    writeln!(io::stderr(), "{}", inert(line)).ok();
}

/// Returns standard output for a whole file: unchanged into a file or a pipe, escaped for a terminal.
pub(in crate::cli) fn file_out() -> Box<dyn io::Write> {
    let out = io::stdout();
    if out.is_terminal() { Box::new(Inert { out, held: false }) } else { Box::new(out) }
}

/// A writer that escapes what a terminal would act on.
struct Inert<W> {
    out: W,
    /// True if the byte before was the first half of a character that may be a control.
    held: bool,
}

impl<W: io::Write> io::Write for Inert<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut shown = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            let held = std::mem::replace(&mut self.held, false);
            match byte {
                0x80..=0x9f if held => shown.extend(format!("\\u{{{byte:x}}}").bytes()),
                0xc2 => self.held = true,
                byte => {
                    if held {
                        shown.push(0xc2);
                    }
                    let acts = byte.is_ascii_control() && !b"\n\t".contains(&byte);
                    if acts {
                        shown.extend(format!("\\u{{{byte:x}}}").bytes());
                    } else {
                        shown.push(byte);
                    }
                }
            }
        }
        self.out.write_all(&shown)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_on_a_terminal_shows_controls_by_their_numbers_wherever_it_is_cut() {
        let text = "a\u{1b}[31m\u{9b}2Jé\r\u{7f}\n";
        for cut in 0..text.len() {
            let mut inert = Inert { out: Vec::new(), held: false };
            let (one, two) = text.as_bytes().split_at(cut);
            inert.write_all(one).unwrap();
            inert.write_all(two).unwrap();
            let shown = String::from_utf8(inert.out).unwrap();
            assert_eq!(shown, "a\\u{1b}[31m\\u{9b}2Jé\\u{d}\\u{7f}\n", "{cut}");
        }
    }
}
