//! The layers below the settings: which value wins, where it came from, what was never asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use config::{Config, File, FileFormat, Value, ValueKind};
use reqwest::Url;
use secrecy::SecretString;

use super::nearest::{PREFIX, is_stray, meant_by, names_section, variable_of};
use super::value::SettingValue;
use super::{DEFAULT_FILE, SecretFiles, Sources};

/// The defaults, with what each setting means.
pub(super) const DEFAULTS: &str = include_str!("../../config/default.toml");
/// The variable that says where systemd puts the credentials of a service, in a path that a setting names.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// The origin of a value.
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
    asked: BTreeSet<String>,
    faults: Vec<String>,
    notes: Vec<String>,
    /// Variables that look like settings, and are none.
    strays: Vec<String>,
    secret_files: SecretFiles,
    credentials: Option<PathBuf>,
    /// The file that was read.
    pub(super) file: Option<PathBuf>,
    /// libpq's variables: a password, and a file of them.
    postgres_password: Option<SecretString>,
    postgres_passfile: Option<PathBuf>,
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
        let mut credentials = None;
        let (mut postgres_password, mut postgres_passfile) = (None, None);
        let mut strays = Vec::new();
        for (name, value) in sources.environment {
            if name == CREDENTIALS {
                credentials = Some(PathBuf::from(value));
                continue;
            }
            if name == "PGPASSWORD" {
                postgres_password = Some(value).filter(|it| !it.is_empty()).map(SecretString::from);
                continue;
            }
            if name == "PGPASSFILE" {
                postgres_passfile = Some(value).filter(|it| !it.is_empty()).map(PathBuf::from);
                continue;
            }
            let Some(key) = name.strip_prefix(PREFIX) else {
                strays.extend(Some(name).filter(|name| is_stray(name) && !value.is_empty()));
                continue;
            };
            let key = key.to_ascii_lowercase().replace("__", ".");
            // An empty variable is as good as none: compose files leave them behind. But where a secret was to be, what
            // it guards would be open.
            if !value.is_empty() || guards(&key) {
                values.insert(key, (value, Origin::Environment(name)));
            }
        }
        for (key, value) in sources.fixed {
            values.insert(key.to_owned(), (value, Origin::Command));
        }
        Ok(Self {
            values,
            asked: BTreeSet::new(),
            faults: Vec::new(),
            notes: Vec::new(),
            strays,
            secret_files: sources.secret_files,
            credentials,
            file,
            postgres_password,
            postgres_passfile,
        })
    }

    /// Returns a value that the defaults always have.
    pub(super) fn required<T: SettingValue>(&mut self, key: &str) -> Option<T> {
        let value = self.optional(key);
        if value.is_none() && !self.values.contains_key(key) {
            self.faults.push(format!("{key} has no value: it must be {}", T::ALLOWED));
        }
        value
    }

    /// Returns a value that may be left out.
    pub(super) fn optional<T: SettingValue>(&mut self, key: &str) -> Option<T> {
        self.asked.insert(key.to_owned());
        let (text, origin) = self.values.get(key)?;
        let value = T::parse(text);
        if value.is_none() {
            let found = if is_secret(key) { "the value".to_owned() } else { format!("{text:?}") };
            self.faults.push(format!("{key} (from {origin}): {found} is not {}", T::ALLOWED));
        }
        value
    }

    /// Reports whether a key has a value, whatever it is.
    pub(super) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// Returns where the value of a key is from.
    pub(super) fn origin(&self, key: &str) -> Option<&Origin> {
        self.values.get(key).map(|(_, origin)| origin)
    }

    /// Returns the password that `PGPASSWORD` holds.
    pub(super) fn postgres_password(&self) -> Option<SecretString> {
        self.postgres_password.clone()
    }

    /// Returns the file that `PGPASSFILE` names.
    pub(super) fn postgres_passfile(&self) -> Option<&Path> {
        self.postgres_passfile.as_deref()
    }

    /// Lists the tables of a list, each by the key that its own begin with, in their order.
    pub(super) fn tables(&self, list: &str) -> Vec<String> {
        let prefix = format!("{list}.");
        let place = |key: &String| key.strip_prefix(&prefix)?.split('.').next()?.parse().ok();
        let places: BTreeSet<u32> = self.values.keys().filter_map(place).collect();
        places.into_iter().map(|place| format!("{list}.{place}")).collect()
    }

    /// Reads a secret kept in a file that the key names, if this command reads it.
    pub(super) fn secret_file<T: SettingValue>(&mut self, key: &str) -> Option<T> {
        let named: PathBuf = self.optional(key)?;
        if !self.secret_files.reads(key) {
            return None;
        }
        let path = match self.in_credentials(&named) {
            Ok(path) => path,
            Err(unset) => {
                self.unreadable(key, &unset, true);
                return None;
            }
        };
        match std::fs::read_to_string(&path) {
            Ok(text) if text.trim().is_empty() => {
                self.fault(key, &format!("names {}, which is empty", path.display()));
                None
            }
            Ok(text) => {
                let value = T::parse(&text);
                if value.is_none() {
                    self.fault(
                        key,
                        &format!("names {}, whose content is not {}", path.display(), T::ALLOWED),
                    );
                }
                value
            }
            Err(error) => {
                let denied = error.kind() == std::io::ErrorKind::PermissionDenied;
                let what = format!("names {}, which cannot be read: {error}", path.display());
                self.unreadable(key, &what, denied);
                None
            }
        }
    }

    /// Returns the path of a file that holds a secret, which is read again later.
    pub(super) fn secret_path(&mut self, key: &str) -> Option<PathBuf> {
        let named: PathBuf = self.optional(key)?;
        self.in_credentials(&named).ok()
    }

    /// Resolves a path that may begin with the folder of the service's credentials.
    fn in_credentials(&self, path: &Path) -> Result<PathBuf, String> {
        let mut parts = path.components();
        let first = parts.next().map(|part| part.as_os_str().to_string_lossy().into_owned());
        if first
            .is_none_or(|it| it != format!("${CREDENTIALS}") && it != format!("${{{CREDENTIALS}}}"))
        {
            return Ok(path.to_owned());
        }
        let folder = self.credentials.as_ref().ok_or_else(|| {
            format!(
                "names {}, and {CREDENTIALS} is not set: the service manager sets it",
                path.display()
            )
        })?;
        Ok(folder.join(parts.as_path()))
    }

    /// Notes a secret that this process does not get at: a fault, unless it only checks for the one that will.
    fn unreadable(&mut self, key: &str, what: &str, others_may: bool) {
        if self.secret_files == SecretFiles::Readable && others_may {
            self.notes.push(format!("{key} was not checked: it {what}"));
        } else {
            self.fault(key, what);
        }
    }

    /// Notes a fault of a key.
    pub(super) fn fault(&mut self, key: &str, what: &str) {
        let origin =
            self.values.get(key).map_or("nowhere".into(), |(_, origin)| origin.to_string());
        self.faults.push(format!("{key} (from {origin}): {what}"));
    }

    /// Refuses every key that nobody asked for, and every variable that was meant for one: it is a mistake, mostly of
    /// spelling. Of another variable under our name it is only said that it does nothing.
    pub(super) fn refuse_unknown(&mut self) {
        let known = || self.asked.iter().map(String::as_str);
        let mut faults = Vec::new();
        for (key, (_, origin)) in &self.values {
            if !self.asked.contains(key.as_str()) {
                faults.push(format!("{key} (from {origin}): no such setting; {}", self.hint(key)));
            }
        }
        let mut notes = Vec::new();
        for name in &self.strays {
            if meant_by(name, known()).is_some() || names_section(name, known()) {
                faults.push(format!(
                    "{name} (from the environment): no such setting; {}",
                    self.hint(name)
                ));
            } else {
                notes.push(format!(
                    "{name} sets nothing: variables that do begin with {PREFIX}, and `marketd check-config` lists every setting"
                ));
            }
        }
        self.faults.extend(faults);
        self.notes.extend(notes);
    }

    /// Returns what may have been meant by a key or a variable that is none.
    fn hint(&self, name: &str) -> String {
        let known = || self.asked.iter().map(String::as_str);
        if let Some(key) = meant_by(name, known()) {
            return format!("did you mean {key} ({})?", variable_of(key));
        }
        let is_near = |key: &&str| {
            key.rsplit('.').next() == name.rsplit('.').next()
                || names_section(name, std::iter::once(*key))
        };
        let near: Vec<&str> = known().filter(is_near).collect();
        if near.is_empty() {
            "`marketd check-config` lists every setting".to_owned()
        } else {
            format!("near it are {}", near.join(", "))
        }
    }

    /// Returns every key that was asked for, with its value and origin.
    pub(super) fn shown(&self) -> Vec<(String, String, Origin)> {
        self.asked
            .iter()
            .map(|key| match self.values.get(key) {
                Some((value, origin)) => (key.clone(), masked(key, value), origin.clone()),
                None => (key.clone(), String::new(), Origin::Default),
            })
            .collect()
    }

    /// Returns the faults, and what could not be checked.
    pub(super) fn into_faults_and_notes(self) -> (Vec<String>, Vec<String>) {
        (self.faults, self.notes)
    }
}

/// Reports whether a key's value is not to be seen, a wrong one neither.
fn is_secret(key: &str) -> bool {
    matches!(key, "http.token" | "integration.external_id" | "webhook.url")
        || key
            .strip_prefix("http.tokens.")
            .is_some_and(|it| matches!(it.split('.').nth(1), Some("token" | "token_hash")))
}

/// Reports whether a key guards something; empty, it would guard nothing.
fn guards(key: &str) -> bool {
    matches!(
        key,
        "http.token" | "http.token_file" | "integration.external_id" | "webhook.secret_file"
    ) || key.starts_with("http.tokens.")
}

/// Masks a value as it may be shown. An address shows where it leads, and not what lets in there.
fn masked(key: &str, value: &str) -> String {
    match key {
        "webhook.url" => match Url::parse(value.trim()) {
            Ok(url) if url.query().is_none() => url.to_string(),
            Ok(mut url) => {
                url.set_query(Some("********"));
                url.to_string()
            }
            Err(_) => "********".into(),
        },
        key if is_secret(key) => "********".into(),
        _ => value.to_owned(),
    }
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
            // A list of tables is its tables by their places.
            ValueKind::Array(items)
                if !items.is_empty()
                    && items.iter().all(|item| matches!(item.kind, ValueKind::Table(_))) =>
            {
                let tables = items.into_iter().enumerate();
                waiting.extend(tables.map(|(place, item)| (format!("{key}.{place}"), item)));
            }
            // A list of anything else is the same as its items with commas between.
            ValueKind::Array(items) => {
                let items: Vec<String> =
                    items.into_iter().map(|item| item.kind.to_string()).collect();
                values.insert(key, (items.join(","), origin.clone()));
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
        let (_, _, origin) =
            loaded.settings.shown.iter().find(|(key, ..)| key == "reconcile.rate").unwrap();
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
            "reconcile.raet (from MARKETD__RECONCILE__RAET): no such setting; did you mean reconcile.rate (MARKETD__RECONCILE__RATE)?",
        ] {
            assert!(error.contains(part), "{part:?} is missing from:\n{error}");
        }
    }

    #[test]
    fn a_secret_is_never_shown() {
        let loaded = load(None, environment(&[("MARKETD__HTTP__TOKEN", "s3cret")])).unwrap();
        assert!(!format!("{:?}", loaded.settings).contains("s3cret"));
    }
}
