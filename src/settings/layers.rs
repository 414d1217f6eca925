//! The layers below the settings: which value wins, where it came from, what was never asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use config::{Config, File, FileFormat, Value, ValueKind};
use secrecy::SecretString;

use super::value::SettingValue;
use super::{DEFAULT_FILE, Sources};

const DEFAULTS: &str = include_str!("../../config/default.toml");
const PREFIX: &str = "MARKETD__";

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// This file.
    File(PathBuf),
    /// This environment variable.
    Environment(String),
    /// The command that was given.
    Command,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Command => f.write_str("the command line"),
        }
    }
}

/// The values by their dotted keys, the winning one of each.
pub(super) struct Layers {
    values: BTreeMap<String, (String, Origin)>,
    asked: BTreeSet<&'static str>,
    faults: Vec<String>,
}

impl Layers {
    pub(super) fn read(sources: Sources) -> Result<Self, String> {
        let mut values = BTreeMap::new();
        let defaults = File::from_str(DEFAULTS, FileFormat::Toml);
        add(&mut values, source(defaults, "the built-in defaults")?, &Origin::Default);
        for (key, value) in sources.defaults {
            values.insert(key.to_owned(), (value, Origin::Default));
        }
        let default_file = || Some(Path::new(DEFAULT_FILE).to_owned()).filter(|it| it.is_file());
        let file = sources.file.or_else(|| default_file().filter(|_| sources.default_file));
        if let Some(path) = &file {
            let layer = source(
                File::from(path.as_path()).format(FileFormat::Toml),
                &path.display().to_string(),
            )?;
            add(&mut values, layer, &Origin::File(path.to_owned()));
        }
        for (name, value) in sources.environment {
            // An empty variable is as good as none: compose files leave them behind.
            if let Some(key) = name.strip_prefix(PREFIX).filter(|_| !value.is_empty()) {
                let key = key.to_ascii_lowercase().replace("__", ".");
                values.insert(key, (value, Origin::Environment(name)));
            }
        }
        for (key, value) in sources.fixed {
            values.insert(key.to_owned(), (value, Origin::Command));
        }
        Ok(Self { values, asked: BTreeSet::new(), faults: Vec::new() })
    }

    /// A value that the defaults always have.
    pub(super) fn required<T: SettingValue>(&mut self, key: &'static str) -> Option<T> {
        let value = self.optional(key);
        if value.is_none() && !self.values.contains_key(key) {
            self.faults.push(format!("{key} has no value: it must be {}", T::ALLOWED));
        }
        value
    }

    /// A value that may be left out.
    pub(super) fn optional<T: SettingValue>(&mut self, key: &'static str) -> Option<T> {
        self.asked.insert(key);
        let (text, origin) = self.values.get(key)?;
        let value = T::parse(text);
        if value.is_none() {
            let found = if is_secret(key) { "the value" } else { text.as_str() };
            self.faults.push(format!("{key} (from {origin}): {found:?} is not {}", T::ALLOWED));
        }
        value
    }

    /// A secret kept in a file that the key names.
    pub(super) fn secret_file(&mut self, key: &'static str) -> Option<SecretString> {
        let path: PathBuf = self.optional(key)?;
        match std::fs::read_to_string(&path) {
            Ok(text) if !text.trim().is_empty() => Some(SecretString::from(text.trim())),
            Ok(_) => {
                self.fault(key, &format!("names {}, which is empty", path.display()));
                None
            }
            Err(error) => {
                self.fault(
                    key,
                    &format!("names {}, which cannot be read: {error}", path.display()),
                );
                None
            }
        }
    }

    /// Notes what is wrong with a key.
    pub(super) fn fault(&mut self, key: &str, what: &str) {
        let origin =
            self.values.get(key).map_or("nowhere".into(), |(_, origin)| origin.to_string());
        self.faults.push(format!("{key} (from {origin}): {what}"));
    }

    /// Every key that nobody asked for is a mistake, mostly of spelling.
    pub(super) fn refuse_unknown(&mut self) {
        let unknown: Vec<String> = self
            .values
            .iter()
            .filter(|(key, _)| !self.asked.contains(key.as_str()))
            .map(|(key, (_, origin))| {
                let nearest = self
                    .asked
                    .iter()
                    .filter(|known| {
                        known.rsplit('.').next() == key.rsplit('.').next()
                            || known.split('.').next() == key.split('.').next()
                    })
                    .copied()
                    .collect::<Vec<_>>();
                let hint = if nearest.is_empty() {
                    "`marketd check-config` lists every setting".to_owned()
                } else {
                    format!("near it are {}", nearest.join(", "))
                };
                format!("{key} (from {origin}): no such setting; {hint}")
            })
            .collect();
        self.faults.extend(unknown);
    }

    /// Every key that was asked for, with its value and origin.
    pub(super) fn shown(&self) -> Vec<(String, String, Origin)> {
        self.asked
            .iter()
            .map(|key| match self.values.get(*key) {
                Some((value, origin)) => {
                    let shown = if is_secret(key) { "********" } else { value.as_str() };
                    ((*key).to_owned(), shown.to_owned(), origin.clone())
                }
                None => ((*key).to_owned(), String::new(), Origin::Default),
            })
            .collect()
    }

    pub(super) fn into_faults(self) -> Vec<String> {
        self.faults
    }
}

fn is_secret(key: &str) -> bool {
    matches!(key, "http.token" | "integration.external_id")
}

fn source<S: config::Source + Send + Sync + 'static>(
    layer: S,
    name: &str,
) -> Result<Value, String> {
    let config = Config::builder()
        .add_source(layer)
        .build()
        .map_err(|error| format!("{name} cannot be read: {error}"))?;
    Ok(config.cache)
}

fn add(values: &mut BTreeMap<String, (String, Origin)>, layer: Value, origin: &Origin) {
    let mut waiting = vec![(String::new(), layer)];
    while let Some((key, value)) = waiting.pop() {
        match value.kind {
            ValueKind::Table(table) => {
                let prefix = if key.is_empty() { key } else { format!("{key}.") };
                waiting.extend(
                    table.into_iter().map(|(name, value)| (format!("{prefix}{name}"), value)),
                );
            }
            kind => {
                values.insert(key, (kind.to_string(), origin.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use crate::settings::load;

    fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "[reconcile]\nrate = 3\nconcurrency = 4\n").unwrap();
        let loaded = load(
            Some(file.path()),
            environment(&[("MARKETD__RECONCILE__RATE", "9"), ("MARKETD_URL", "http://elsewhere")]),
        )
        .unwrap();
        let reconcile = &loaded.settings.reconcile;
        assert_eq!((reconcile.rate, reconcile.concurrency), (9, 4));
        assert_eq!(reconcile.sweep_interval.as_secs(), 6 * 3_600);
        let (_, _, origin) = loaded.keys.iter().find(|(key, ..)| key == "reconcile.rate").unwrap();
        assert_eq!(origin.to_string(), "MARKETD__RECONCILE__RATE");
    }

    #[test]
    fn every_fault_is_told_at_once_with_key_origin_and_what_is_allowed() {
        let error = load(
            None,
            environment(&[
                ("MARKETD__RECONCILE__RATE", "0"),
                ("MARKETD__METERING__GRACE", "soon"),
                ("MARKETD__QUEUE__WAIT", "1m"),
                ("MARKETD__HTTP__LISTEN", "0.0.0.0:80"),
                ("MARKETD__RECONCILE__RAET", "1"),
            ]),
        )
        .unwrap_err()
        .to_string();
        for part in [
            "reconcile.rate (from MARKETD__RECONCILE__RATE): \"0\" is not a whole number",
            "metering.grace (from MARKETD__METERING__GRACE): \"soon\" is not a duration",
            "queue.wait (from MARKETD__QUEUE__WAIT): is longer than SQS lets",
            "http.listen (from MARKETD__HTTP__LISTEN): reaches beyond this machine",
            "reconcile.raet (from MARKETD__RECONCILE__RAET): no such setting",
        ] {
            assert!(error.contains(part), "{part:?} is missing from:\n{error}");
        }
    }

    #[test]
    fn a_secret_is_never_shown() {
        let loaded = load(None, environment(&[("MARKETD__HTTP__TOKEN", "s3cret")])).unwrap();
        assert!(!format!("{:?} {:?}", loaded.keys, loaded.settings).contains("s3cret"));
    }
}
