//! Connecting: to each address of each host by itself, for so long at most, with the password that holds at the time.

use std::net::IpAddr;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::lookup_host;
use tokio::time::timeout;
use tokio_postgres::config::{Host, LoadBalanceHosts};
use tokio_postgres::{Client, Config, NoTls};

use super::super::error::{Error, Result};
use super::address::{Address, CONNECT_WITHIN};
use super::patience::Patience;
use super::tls::TlsMode;

/// How statements are planned: as SQLite does, for which they are written. Each has the index that it needs, and most are
/// prepared while the server has no statistics of a table or takes it for empty: it would read all of it, and go on with
/// that as the table grows. A plan is made once. Compiling one costs more than it saves, and what makes other ways look
/// dear would have it done.
const PLANS: &str =
    "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
    SET jit = off; SET plan_cache_mode = force_generic_plan";

impl Address {
    /// Connects, and has the connection driven by the runtime that this is called on. The first host that takes statements
    /// in time is it: one that says nothing keeps nobody from the next.
    pub(super) async fn connect(&self, patience: Patience) -> Result<Client> {
        let named = self.named();
        let password = self.password.as_ref().map(|kept| kept.read(&named));
        let password = password.transpose()?.flatten();
        let schema = self.quoted_schema().map(|name| format!("SET search_path = {name};"));
        let first = format!("{}{PLANS}; {}", schema.unwrap_or_default(), patience.told());
        let within = self.config.get_connect_timeout().copied().unwrap_or(CONNECT_WITHIN);
        let mut places: Vec<usize> = (0..self.config.get_hosts().len()).collect();
        let is_random = self.config.get_load_balance_hosts() == LoadBalanceHosts::Random;
        if is_random {
            fastrand::shuffle(&mut places);
        }
        let mut failed = None;
        for place in places {
            match self.numbers(place, within).await {
                Ok(mut numbers) => {
                    if is_random {
                        fastrand::shuffle(&mut numbers);
                    }
                    for number in numbers {
                        let config = alone(&self.config, place, number, password.as_ref());
                        let connected = timeout(within, self.connect_to(&config, &first)).await;
                        match connected.unwrap_or(Err(Error::Silent(within))) {
                            Ok(client) => return Ok(client),
                            Err(error) => failed = Some(error),
                        }
                    }
                }
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or(Error::Lost))
    }

    /// Returns the numbers by which a host is reached; none is asked for of one that is a socket's path, or has its number
    /// with it.
    async fn numbers(&self, place: usize, within: Duration) -> Result<Vec<Option<IpAddr>>> {
        let given = self.config.get_hostaddrs().get(place).copied();
        let name = match self.config.get_hosts().get(place) {
            Some(Host::Tcp(name)) if given.is_none() => name,
            _ => return Ok(vec![given]),
        };
        let found = timeout(within, lookup_host((name.as_str(), 0))).await;
        let found = found.map_err(|_elapsed| Error::Silent(within))?;
        let found = found.map_err(|error| Error::Unknown(format!("{name}: {error}")))?;
        Ok(found.map(|number| Some(number.ip())).collect())
    }

    async fn connect_to(&self, config: &Config, first: &str) -> Result<Client> {
        let client = if self.tls.mode == TlsMode::Disable {
            let (client, connection) = config.connect(NoTls).await?;
            drive(connection);
            client
        } else {
            let (client, connection) = config.connect(self.tls.connector()?).await?;
            drive(connection);
            client
        };
        client.batch_execute(first).await?;
        Ok(client)
    }
}

/// Returns what reaches one of the hosts alone. The driver goes through several by itself, and its own limit ends with the
/// handshake of TCP.
fn alone(
    all: &Config,
    place: usize,
    number: Option<IpAddr>,
    password: Option<&SecretString>,
) -> Config {
    let mut one = Config::new();
    for (value, set) in [
        (all.get_user(), Config::user as fn(&mut Config, String) -> &mut Config),
        (all.get_dbname(), Config::dbname),
        (all.get_options(), Config::options),
        (all.get_application_name(), Config::application_name),
    ] {
        if let Some(value) = value {
            set(&mut one, value.to_owned());
        }
    }
    match all.get_hosts().get(place) {
        Some(Host::Tcp(name)) => drop(one.host(name)),
        Some(Host::Unix(path)) => drop(one.host_path(path)),
        None => {}
    }
    if let Some(number) = number {
        one.hostaddr(number);
    }
    if let Some(port) = all.get_ports().get(place).or_else(|| all.get_ports().first()) {
        one.port(*port);
    }
    if let Some(within) = all.get_connect_timeout() {
        one.connect_timeout(*within);
    }
    if let Some(within) = all.get_tcp_user_timeout() {
        one.tcp_user_timeout(*within);
    }
    one.ssl_mode(all.get_ssl_mode());
    one.ssl_negotiation(all.get_ssl_negotiation());
    one.channel_binding(all.get_channel_binding());
    one.target_session_attrs(all.get_target_session_attrs());
    one.keepalives(all.get_keepalives());
    one.keepalives_idle(all.get_keepalives_idle());
    if let Some(every) = all.get_keepalives_interval() {
        one.keepalives_interval(every);
    }
    if let Some(count) = all.get_keepalives_retries() {
        one.keepalives_retries(count);
    }
    if let Some(password) = password {
        one.password(password.expose_secret());
    }
    one
}

fn drive<S, T>(connection: tokio_postgres::Connection<S, T>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        // Whoever uses it next hears of it.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the database was lost");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_is_reached_as_the_address_says_of_all() {
        let query = "options=-c%20work_mem%3D8MB&connect_timeout=3&tcp_user_timeout=4&keepalives_idle=5&keepalives_interval=6\
             &keepalives_retries=7&target_session_attrs=read-write&channel_binding=require&sslmode=require&sslnegotiation=direct";
        let read = |hosts: &str| {
            format!("postgres://me@{hosts}/x?{query}").parse::<Address>().unwrap().config
        };
        let all = read("a:1,%2Frun%2Fpostgresql:2,c:3");
        for (place, host) in ["a:1", "%2Frun%2Fpostgresql:2", "c:3"].into_iter().enumerate() {
            assert!(alone(&all, place, None, None) == read(host), "{host}");
        }
        let number: IpAddr = "10.0.0.1".parse().unwrap();
        let one = alone(&all, 0, Some(number), Some(&SecretString::from("p")));
        assert_eq!((one.get_hostaddrs(), one.get_password()), (&[number][..], Some(&b"p"[..])));
    }
}
