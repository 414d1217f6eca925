//! The reason why a command failed, how it is told, and the exit code that it comes to.

use std::io::Write as _;
use std::process::ExitCode;

use clap::error::ErrorKind;
use serde_json::{Value, json};

use super::client::Refused;
use super::output::{Output, complain, inert_lines, problem};
use crate::settings::SettingsError;

/// The reason why a command failed.
pub(super) enum Failure {
    /// The settings are wrong: exit code 2, as for wrong usage.
    Settings(SettingsError),
    /// Anything else: exit code 1.
    Other(anyhow::Error),
    /// The failure has been printed already: exit code 1.
    Said,
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        match error.downcast::<SettingsError>() {
            Ok(settings) => Self::Settings(settings),
            Err(other) => Self::Other(other),
        }
    }
}

impl Failure {
    /// Tells it on standard error, and returns the exit code.
    pub(super) fn tell(self, output: Output) -> ExitCode {
        let code = ExitCode::from(if matches!(self, Self::Settings(_)) { 2 } else { 1 });
        let (message, problem) = match self {
            Self::Said => return code,
            // Whoever read the output has had enough, as `head` has.
            Self::Other(error) if is_closed_pipe(&error) => return ExitCode::SUCCESS,
            Self::Other(error) => (format!("{error:#}"), problem_of(&error)),
            Self::Settings(error) => {
                let mut problem = problem("wrong-settings", &error.to_string());
                problem["faults"] = json!(error.0);
                (format!("the settings are wrong:\n{error}"), problem)
            }
        };
        let told = match output {
            Output::Json => complain(&problem),
            Output::Table => writeln!(std::io::stderr(), "marketd: {}", inert_lines(&message)),
        };
        // Nobody is left to tell if standard error is closed.
        told.ok();
        code
    }
}

/// Prints what is wrong with the usage, or the help that was asked for, and returns the exit code.
pub(super) fn tell_usage(error: &clap::Error) -> ExitCode {
    let is_help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    // clap did not get as far as the option, so it is looked for here.
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let is_json = words.iter().any(|word| word == "--output=json")
        || words.windows(2).any(|pair| pair[0] == "--output" && pair[1] == "json");
    let told = if is_json && !is_help {
        let said = error.render().to_string();
        let detail = said.trim();
        complain(&problem("wrong-usage", detail.strip_prefix("error: ").unwrap_or(detail)))
    } else {
        error.print()
    };
    // Nobody is left to tell if the stream is closed.
    told.ok();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Returns an error as problem details: those that the API answered, or some of the same form.
fn problem_of(error: &anyhow::Error) -> Value {
    let Some(refused) = error.downcast_ref::<Refused>() else {
        return problem("command-failed", &format!("{error:#}"));
    };
    let mut problem = refused.problem.clone();
    let context = error.to_string();
    if context != refused.to_string() {
        problem["context"] = json!(context);
    }
    problem
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
