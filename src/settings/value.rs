//! The kinds of values that settings have, and what each allows.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use secrecy::SecretString;

use crate::domain::reconciliation::MaxEndings;

/// A value that a setting can have, read from its text.
pub(super) trait SettingValue: Sized {
    /// The values that are allowed, to end the sentence "… is not".
    const ALLOWED: &'static str;

    fn parse(text: &str) -> Option<Self>;
}

impl SettingValue for String {
    const ALLOWED: &'static str = "a text that is not empty";

    fn parse(text: &str) -> Option<Self> {
        (!text.trim().is_empty()).then(|| text.to_owned())
    }
}

/// Addresses, with commas between.
pub(super) struct Addresses(pub(super) Vec<IpAddr>);

impl SettingValue for Addresses {
    const ALLOWED: &'static str = "IP addresses, with commas between";

    fn parse(text: &str) -> Option<Self> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        Some(Self(parts.map(|part| part.parse().ok()).collect::<Option<_>>()?))
    }
}

impl SettingValue for PathBuf {
    const ALLOWED: &'static str = "the path of a file";

    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty() && !text.ends_with('/')).then(|| Self::from(text))
    }
}

impl SettingValue for SecretString {
    const ALLOWED: &'static str = "one line of letters, digits and signs that is not empty";

    fn parse(text: &str) -> Option<Self> {
        let trimmed = text.trim();
        // What else there is cannot be sent in a header.
        let sendable = trimmed.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        (!trimmed.is_empty() && sendable).then(|| Self::from(trimmed))
    }
}

impl SettingValue for Url {
    const ALLOWED: &'static str =
        "an address such as https://app.example.com/welcome, without a user name or password";

    fn parse(text: &str) -> Option<Self> {
        let url = Self::parse(text.trim()).ok()?;
        let anonymous = url.username().is_empty() && url.password().is_none();
        let web = ["https", "http"].contains(&url.scheme()) && url.has_host();
        (web && anonymous).then_some(url)
    }
}

impl SettingValue for bool {
    const ALLOWED: &'static str = "true or false";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// A whole number from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count(pub(super) u32);

impl SettingValue for Count {
    const ALLOWED: &'static str = "a whole number from 1 to 1000000";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|count| (1..=1_000_000).contains(count)).map(Self)
    }
}

/// The most connections that there may be: enough that each kind has its share.
pub(super) struct Connections(pub(super) usize);

impl SettingValue for Connections {
    const ALLOWED: &'static str = "a whole number from 128 to 100000";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|count| (128..=100_000).contains(count)).map(Self)
    }
}

/// The connections that a database server may be read on at once.
pub(super) struct Pool(pub(super) usize);

impl SettingValue for Pool {
    const ALLOWED: &'static str = "a whole number from 1 to 100";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|count| (1..=100).contains(count)).map(Self)
    }
}

/// The mode of a socket, which lets in its owner, or its group too.
pub(super) struct SocketMode(pub(super) u32);

impl SettingValue for SocketMode {
    const ALLOWED: &'static str = "0600, or 0660 for the group too";

    fn parse(text: &str) -> Option<Self> {
        let modes = [("0600", 0o600), ("0660", 0o660)];
        modes.into_iter().find(|(word, _)| *word == text).map(|(_, mode)| Self(mode))
    }
}

/// The folder of a proxy's: a path without a slash at its end.
pub(super) struct PathPrefix(pub(super) String);

impl SettingValue for PathPrefix {
    const ALLOWED: &'static str =
        "a path such as /marketd, of letters, digits, `-`, `_` and `.`, without a slash at its end";

    fn parse(text: &str) -> Option<Self> {
        let is_segment = |segment: &str| {
            !matches!(segment, "" | "." | "..")
                && segment.chars().all(|it| it.is_ascii_alphanumeric() || "-_.".contains(it))
        };
        let is_path = text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_segment));
        is_path.then(|| Self(text.to_owned()))
    }
}

impl SettingValue for Duration {
    const ALLOWED: &'static str = "a duration such as 250ms, 30s, 5m, 6h or 1d, of 3650d at most";

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text.find(|character: char| !character.is_ascii_digit())?;
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().ok()?;
        let seconds = |each: u64| number.checked_mul(each).map(Self::from_secs);
        let read = match unit.trim() {
            "ms" => Some(Self::from_millis(number)),
            "s" => seconds(1),
            "m" => seconds(60),
            "h" => seconds(3_600),
            "d" => seconds(86_400),
            _ => None,
        };
        // Longer ones leave the range of times when they are added to one.
        read.filter(|duration| *duration <= LONGEST)
    }
}

/// The time for which something is kept; for ever if none.
#[derive(Clone, Copy)]
pub(super) struct Kept(pub(super) Option<Duration>);

impl SettingValue for Kept {
    const ALLOWED: &'static str = "a duration such as 36h or 400d, of 3650d at most, or 0 for ever";

    fn parse(text: &str) -> Option<Self> {
        if text.trim() == "0" {
            return Some(Self(None));
        }
        let kept = Duration::parse(text)?;
        Some(Self(Some(kept).filter(|kept| !kept.is_zero())))
    }
}

impl SettingValue for MaxEndings {
    const ALLOWED: &'static str = "a share such as 10%, or a whole number such as 50";

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        match text.strip_suffix('%') {
            Some(percent) => {
                percent.trim_end().parse().ok().filter(|it| *it <= 100).map(Self::Percent)
            }
            None => text.parse().ok().map(Self::Count),
        }
    }
}

const LONGEST: Duration = Duration::from_secs(3_650 * 86_400);
/// The most bytes that the system takes as the path of a socket.
const SOCKET_PATH_MAX: usize = 107;

/// Writes a duration as settings do.
pub(super) fn shown(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    // 24h, not 1d: so AWS writes its window.
    let least = |unit: &str| if unit == "d" { 2 } else { 1 };
    let whole = |(unit, each): &(&str, u128)| {
        milliseconds.is_multiple_of(*each) && milliseconds / each >= least(unit)
    };
    match units.into_iter().find(|unit| milliseconds > 0 && whole(unit)) {
        Some((unit, each)) => format!("{}{unit}", milliseconds / each),
        None if milliseconds.is_multiple_of(1_000) => format!("{}s", milliseconds / 1_000),
        None => format!("{milliseconds}ms"),
    }
}

/// The address on which the API listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An address and port.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl Listen {
    /// Reports whether only this machine's users can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl SettingValue for Listen {
    const ALLOWED: &'static str =
        "IP:PORT such as 127.0.0.1:8480, or unix:/path/to/socket of at most 107 bytes";

    fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("unix:") {
            Some(path) => {
                let fits = path.len() <= SOCKET_PATH_MAX && !path.ends_with('/');
                (path.starts_with('/') && fits).then(|| Self::Unix(path.into()))
            }
            None => text.parse().ok().map(Self::Tcp),
        }
    }
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl SettingValue for LogFormat {
    const ALLOWED: &'static str = "auto, text or json";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}
