//! Logs and metrics: how they are set up, and what must not be seen in them.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::metric_families;
use crate::settings::{LogFormat, LogSettings};

/// The reason why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log is set up already.
    #[error("the log cannot be set up twice")]
    Twice(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The metrics cannot be set up.
    #[error("the metrics cannot be set up")]
    Metrics(#[from] BuildError),
}

/// Sends log lines to standard error.
pub fn start_log(settings: &LogSettings) -> Result<(), TelemetryError> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter_of(settings.filter.as_str()))
        .with_writer(|| Masking(std::io::stderr()))
        // A line that cannot be written, as on a full disk, would be complained of where it could not be written.
        .log_internal_errors(false);
    let terminal = std::io::stderr().is_terminal();
    let json = match settings.format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    if json {
        builder.json().flatten_event(true).with_current_span(false).try_init()
    } else {
        builder.with_ansi(terminal).with_target(false).try_init()
    }
    .map_err(TelemetryError::Twice)
}

/// The target of a warning that the SDK gives at every load without credentials, and we load every few seconds. The
/// board says it once, and what to do.
const REPEATED: &str = "aws_config::meta::credentials::chain";

/// Returns the filter that a setting means: without what others repeat, unless it asks for them or for everything.
fn filter_of(setting: &str) -> EnvFilter {
    let filter = EnvFilter::new(setting);
    let is_all =
        |part: &str| ["debug", "trace"].iter().any(|all| part.trim().eq_ignore_ascii_case(all));
    let asks_for_all = setting.split(',').any(is_all);
    if asks_for_all || setting.contains("aws_config") {
        return filter;
    }
    match format!("{REPEATED}=error").parse() {
        Ok(quieter) => filter.add_directive(quieter),
        Err(_) => filter,
    }
}

/// Starts counting; the handle renders what `/metrics` answers.
pub fn start_metrics() -> Result<PrometheusHandle, TelemetryError> {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    // A second daemon in one process, as tests have it, goes on with the first one's counters.
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::debug!("the metrics are set up already");
    }
    metric_families::describe();
    Ok(handle)
}

/// A writer that masks account ids in whatever is written, so that no line of ours or of a library's shows one.
struct Masking<W>(W);

impl<W: Write> Write for Masking<W> {
    /// Writes a line with its ids masked. The log hands over a line at a time, so no id is cut in two.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let masked = Masked(&String::from_utf8_lossy(line)).to_string();
        self.0.write_all(masked.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// An AWS account id or ARN as logs may show it: the account's last four digits.
#[derive(Clone, Copy, Debug)]
pub struct Masked<'a>(pub &'a str);

impl fmt::Display for Masked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = String::new();
        for character in self.0.chars().chain(std::iter::once('\0')) {
            if character.is_ascii_digit() {
                digits.push(character);
                continue;
            }
            if digits.len() == 12 {
                write!(f, "********{}", digits.get(8..).unwrap_or_default())?;
            } else {
                f.write_str(&digits)?;
            }
            digits.clear();
            if character != '\0' {
                write!(f, "{character}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Masked, REPEATED, filter_of};

    #[test]
    fn what_the_sdk_repeats_is_left_out_unless_it_is_asked_for() {
        let rows = [
            ("info", true),
            ("warn,marketd=info", true),
            ("error", true),
            ("debug", false),
            ("info,marketd=debug", true),
            ("info,aws_config=warn", false),
        ];
        for (setting, left_out) in rows {
            let filter = filter_of(setting).to_string();
            assert_eq!(filter.contains(REPEATED), left_out, "{setting}: {filter}");
        }
    }

    #[test]
    fn account_ids_are_masked_wherever_they_stand() {
        let rows = [
            ("123456789012", "********9012"),
            ("arn:aws:iam::123456789012:role/marketd", "arn:aws:iam::********9012:role/marketd"),
            ("l-1234567890123", "l-1234567890123"),
            ("", ""),
        ];
        for (text, masked) in rows {
            assert_eq!(Masked(text).to_string(), masked);
        }
    }
}
