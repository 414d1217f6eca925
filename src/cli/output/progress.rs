//! How far long work is, on standard error and on a terminal only.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::inert::inert;

/// The interval at which a terminal shows that the work goes on.
const TICK: Duration = Duration::from_millis(100);

/// A bar, or a count where the end is not known; it is taken away when it is dropped.
#[derive(Clone)]
pub(in crate::cli) struct Progress(ProgressBar);

impl Progress {
    /// Begins to show work of which nobody knows how much it is.
    pub(in crate::cli) fn count(what: impl Into<Cow<'static, str>>) -> Self {
        Self::shown(ProgressBar::no_length(), "{spinner} {msg}: {human_pos}, {elapsed}", what)
    }

    /// Begins to show work on bytes that come to an end unknown.
    pub(in crate::cli) fn bytes(what: impl Into<Cow<'static, str>>) -> Self {
        Self::shown(ProgressBar::no_length(), "{spinner} {msg}: {bytes}, {elapsed}", what)
    }

    /// Begins to show work that is this much.
    pub(in crate::cli) fn of(total: u64, what: impl Into<Cow<'static, str>>) -> Self {
        let form = "{spinner} {msg} [{bar:30}] {percent}%, {eta} left";
        Self::shown(ProgressBar::new(total), form, what)
    }

    /// Shows nothing.
    pub(in crate::cli) fn hidden() -> Self {
        Self(ProgressBar::hidden())
    }

    fn shown(bar: ProgressBar, form: &str, what: impl Into<Cow<'static, str>>) -> Self {
        // What is no terminal, or one that cannot write over a line, would be filled with lines.
        if !(io::stderr().is_terminal() && anstyle_query::term_supports_color()) {
            return Self::hidden();
        }
        if let Ok(style) = ProgressStyle::with_template(form) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(inert(&what.into()));
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// Shows that so much is done.
    pub(in crate::cli) fn at(&self, done: u64) {
        self.0.set_position(done);
    }

    /// Shows that so much is done, of so much in all.
    pub(in crate::cli) fn at_of(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }

    /// Returns how much is done.
    pub(in crate::cli) fn done(&self) -> u64 {
        self.0.position()
    }

    /// Takes it away.
    pub(in crate::cli) fn end(&self) {
        self.0.finish_and_clear();
    }
}
