//! The address of a database on a server, and how it is reached.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::super::error::Result;
use super::passfile::Named;
use super::password::Password;
use super::tls::{MODES, Tls, TlsMode};

/// The time that connecting to a host may take, where the address says no other.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// The time for which a server that has gone silent is waited for.
const SILENT_FOR: Duration = Duration::from_secs(10);

/// The silence after which the other end is asked whether it is there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(5);
/// The interval at which it is asked again.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(2);
/// The number of questions without an answer after which it is taken for gone.
const KEEPALIVES: u32 = 3;

/// A database on a server: `postgres://user@host:5432/name`, with the schema in it.
#[derive(Clone)]
pub struct Address {
    /// Without a password.
    pub(super) config: Config,
    /// The schema that holds the tables; the server's own choice where none is named.
    schema: Option<String>,
    pub(super) tls: Tls,
    pub(super) password: Option<Password>,
}

/// The fault of a text that is no address of a database. It never shows the text, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is the address of something else.
    #[error("is not the address of a PostgreSQL database: postgres://user@host:5432/name")]
    Scheme,
    /// It holds a password, which settings and process lists would show.
    #[error(
        "holds a password: put it into a file that database.password_file names, or into PGPASSWORD"
    )]
    Password,
    /// `sslmode` is none that there is.
    #[error("has an sslmode that is not {MODES}")]
    SslMode,
    /// It names no user or no database.
    #[error("names no {0}: postgres://user@host:5432/name")]
    Missing(&'static str),
    /// The driver does not take it.
    #[error("cannot be read: {0}")]
    Unreadable(String),
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Without the password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.config.get_user().unwrap_or_default();
        let ports = self.config.get_ports();
        let port = |place: usize| match ports.get(place).or_else(|| ports.last()) {
            Some(port) => format!(":{port}"),
            None => String::new(),
        };
        let hosts: Vec<String> = self
            .config
            .get_hosts()
            .iter()
            .enumerate()
            .map(|(place, host)| match host {
                Host::Tcp(name) => format!("{name}{}", port(place)),
                Host::Unix(path) => path.display().to_string(),
            })
            .collect();
        let name = self.config.get_dbname().unwrap_or(user);
        write!(f, "postgres://{user}@{}/{name}", hosts.join(","))?;
        self.schema.as_ref().map_or(Ok(()), |schema| write!(f, "?schema={schema}"))
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Err(AddressError::Scheme);
        }
        let (plain, query) = text.split_once('?').unwrap_or((text, ""));
        let (mut tls, mut schema) = (Tls::default(), None);
        let mut of_driver = Vec::new();
        let pairs: Vec<(Cow<'_, str>, Cow<'_, str>)> = serde_urlencoded::from_str(query)
            .map_err(|error| AddressError::Unreadable(error.to_string()))?;
        for (key, value) in pairs {
            match &*key {
                "sslmode" => tls.mode = TlsMode::parse(&value).ok_or(AddressError::SslMode)?,
                "sslrootcert" => tls.roots = Some(PathBuf::from(&*value)),
                "search_path" | "schema" => schema = Some(value.into_owned()),
                "password" => return Err(AddressError::Password),
                _ => of_driver.push((key, value)),
            }
        }
        let rest = serde_urlencoded::to_string(of_driver)
            .map_err(|error| AddressError::Unreadable(error.to_string()))?
            // The driver reads a space only as this.
            .replace('+', "%20");
        let mut config: Config = format!("{plain}?{rest}")
            .parse()
            .map_err(|error| AddressError::Unreadable(cause(&error)))?;
        if config.get_password().is_some() {
            return Err(AddressError::Password);
        }
        if config.get_user().is_none() {
            return Err(AddressError::Missing("user"));
        }
        if config.get_dbname().is_none() {
            return Err(AddressError::Missing("database"));
        }
        if config.get_hosts().is_empty() {
            return Err(AddressError::Missing("host"));
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_WITHIN);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(SILENT_FOR);
        }
        // A machine that is gone while an answer is awaited says nothing, and nothing is left to be sent again.
        if config.get_keepalives() && !query.contains("keepalives") {
            config.keepalives_idle(KEEPALIVE_AFTER);
            config.keepalives_interval(KEEPALIVE_EVERY);
            config.keepalives_retries(KEEPALIVES);
        }
        config.ssl_mode(tls.mode.negotiated());
        config.application_name("marketd");
        Ok(Self { config, schema, tls, password: None })
    }
}

fn cause(error: &tokio_postgres::Error) -> String {
    use std::error::Error as _;
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

impl Address {
    /// Returns the same database with the tables in another schema.
    #[must_use]
    pub fn in_schema(mut self, schema: &str) -> Self {
        self.schema = Some(schema.to_owned());
        self
    }

    /// Returns the same address with the place of the password that its user has.
    #[must_use]
    pub fn with_password(mut self, password: Password) -> Self {
        self.password = Some(password);
        self
    }

    /// Returns what a password file names: hosts with their ports, the database and the user.
    pub(crate) fn named(&self) -> Named<'_> {
        let ports = self.config.get_ports();
        let port = |place: usize| ports.get(place).or_else(|| ports.last()).copied();
        let host = |(place, host): (usize, &Host)| {
            let name = match host {
                Host::Tcp(name) => name.clone(),
                Host::Unix(_) => "localhost".to_owned(),
            };
            (name, port(place).unwrap_or(5432))
        };
        let hosts = self.config.get_hosts().iter().enumerate().map(host).collect();
        let user = self.config.get_user().unwrap_or_default();
        (hosts, self.config.get_dbname().unwrap_or(user), user)
    }

    /// Returns the schema's name as SQL has it, where one is named.
    pub(crate) fn quoted_schema(&self) -> Option<String> {
        self.schema.as_ref().map(|name| format!("\"{}\"", name.replace('"', "\"\"")))
    }
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::SslMode::{Disable, Prefer, Require};

    use super::*;

    fn read(text: &str) -> Result<Address, AddressError> {
        text.parse()
    }

    #[test]
    fn an_address_is_shown_without_what_only_connecting_needs() {
        for (text, shown) in [
            ("postgres://me@db.example.com/x", "postgres://me@db.example.com:5432/x"),
            ("postgresql://me@db:5433/x?sslmode=verify-full", "postgres://me@db:5433/x"),
            ("postgres://me@a:1,b:2/x?search_path=team", "postgres://me@a:1,b:2/x?schema=team"),
            ("postgres://me@%2Frun%2Fpostgresql/x", "postgres://me@/run/postgresql/x"),
        ] {
            assert_eq!(read(text).unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_without_showing_it() {
        for (text, words) in [
            ("mysql://me@db/x", "postgres://user@host"),
            ("/var/lib/marketd.db", "postgres://user@host"),
            ("postgres://me:hunter2@db/x", "database.password_file"),
            ("postgres://me@db/x?password=hunter2", "database.password_file"),
            ("postgres://me@db/x?sslmode=maybe", "verify-full"),
            ("postgres://db/x", "names no user"),
            ("postgres://me@db", "names no database"),
            ("postgres://me@db/x?sslkey=hunter2", "sslkey"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn tls_is_as_the_address_says() {
        let tls = |query: &str| {
            let address = read(&format!("postgres://me@db/x{query}")).unwrap();
            (address.tls.mode, address.config.get_ssl_mode(), address.tls.roots)
        };
        assert_eq!(tls(""), (TlsMode::Prefer, Prefer, None));
        assert_eq!(tls("?sslmode=disable"), (TlsMode::Disable, Disable, None));
        assert_eq!(tls("?sslmode=require"), (TlsMode::Require, Require, None));
        let roots = Some(PathBuf::from("/etc/ca.pem"));
        let full = tls("?sslrootcert=%2Fetc%2Fca.pem&sslmode=verify-full");
        assert_eq!(full, (TlsMode::VerifyFull, Require, roots));
    }
}
