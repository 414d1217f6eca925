//! The address of a database on a server, and how it is reached.

use std::fmt;
use std::str::FromStr;

use tokio_postgres::{Client, Config, NoTls};

use super::super::error::Result;

/// A database on a server: `postgres://user@host:5432/name`, with the schema in it.
#[derive(Clone)]
pub struct Address {
    config: Config,
    /// The schema that holds the tables; the server's own choice where none is named.
    schema: Option<String>,
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
        let hosts: Vec<String> = self
            .config
            .get_hosts()
            .iter()
            .map(|host| match host {
                tokio_postgres::config::Host::Tcp(name) => name.clone(),
                tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
            })
            .collect();
        write!(
            f,
            "postgres://{user}@{}/{}",
            hosts.join(","),
            self.config.get_dbname().unwrap_or(user)
        )
    }
}

impl FromStr for Address {
    type Err = tokio_postgres::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut config: Config = text.parse()?;
        config.application_name("marketd");
        Ok(Self { config, schema: None })
    }
}

impl Address {
    /// Returns the same database with the tables in another schema.
    #[must_use]
    pub fn in_schema(mut self, schema: &str) -> Self {
        self.schema = Some(schema.to_owned());
        self
    }

    /// Returns the schema's name as SQL has it, where one is named.
    pub(crate) fn quoted_schema(&self) -> Option<String> {
        self.schema.as_ref().map(|name| format!("\"{}\"", name.replace('"', "\"\"")))
    }

    /// Connects, and has the connection driven by the runtime that this is called on.
    pub(super) async fn connect(&self) -> Result<Client> {
        let (client, connection) = self.config.connect(NoTls).await?;
        tokio::spawn(async move {
            // Whoever uses it next hears of it.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the database was lost");
            }
        });
        if let Some(schema) = self.quoted_schema() {
            client.batch_execute(&format!("SET search_path = {schema}")).await?;
        }
        Ok(client)
    }
}
