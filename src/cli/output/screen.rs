//! What standard output is written to: a terminal of some width, with colours or without, or a file or pipe.

use std::io::{self, IsTerminal as _};

use terminal_size::{Width, terminal_size_of};

/// The properties of standard output that its layout depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Screen {
    /// The columns of the terminal; none of a file or a pipe, which gets everything in full.
    pub(super) width: Option<usize>,
    /// True if words are coloured by their meaning.
    pub(super) coloured: bool,
}

impl Screen {
    /// Returns the properties of standard output.
    pub(in crate::cli) fn of_stdout() -> Self {
        let out = io::stdout();
        let is_terminal = out.is_terminal();
        let width = terminal_size_of(&out).filter(|_| is_terminal);
        Self {
            width: width.map(|(Width(columns), _)| usize::from(columns)),
            coloured: is_coloured(is_terminal),
        }
    }
}

/// Reports whether a stream gets colours, by the conventions of NO_COLOR, CLICOLOR and TERM.
fn is_coloured(is_terminal: bool) -> bool {
    if anstyle_query::no_color() {
        return false;
    }
    let wanted = is_terminal
        && anstyle_query::term_supports_color()
        && anstyle_query::clicolor() != Some(false);
    wanted || anstyle_query::clicolor_force()
}
