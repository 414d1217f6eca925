//! A look into a test's database, and a hand in it, past the store.

use std::path::Path;
use std::time::Duration;

use rusqlite::OptionalExtension as _;
use rusqlite::types::Value;
use tokio_postgres::SimpleQueryMessage;

use super::database::on_server;

/// Runs statements, and returns the first column of the last row that they find.
pub(crate) fn run(path: &Path, statements: &str) -> Option<String> {
    let Some((url, schema)) = on_server(path) else {
        let connection = rusqlite::Connection::open(path).unwrap();
        connection.busy_timeout(Duration::from_secs(5)).unwrap();
        let (before, last) = statements.rsplit_once(';').unwrap_or(("", statements));
        if !last.trim_start().starts_with("SELECT") {
            connection.execute_batch(statements).unwrap();
            return None;
        }
        connection.execute_batch(before).unwrap();
        let found = connection.query_row(last, [], |row| row.get::<_, Value>(0)).optional();
        return match found.unwrap()? {
            Value::Integer(number) => Some(number.to_string()),
            Value::Text(text) => Some(text),
            _ => None,
        };
    };
    let statements = format!("SET search_path = {schema}; {statements}");
    let asked = async move {
        let (client, connection) =
            tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.simple_query(&statements).await.unwrap()
    };
    // A test is on a runtime's thread, which must not wait.
    let messages = std::thread::spawn(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(asked)
    });
    messages.join().unwrap().into_iter().rev().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}
