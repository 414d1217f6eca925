//! The database of a test: SQLite's file, or a schema on a server.

use std::env;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;

use super::{Address, Place, ServerPlace, Store};

/// The variable that names a PostgreSQL server for tests, as `postgres://postgres@127.0.0.1:5432/marketd`.
const SERVER: &str = "MARKETD_TEST_DATABASE_URL";

/// Returns the server and the schema there that stand for a file; none where tests are to use the file itself.
pub(crate) fn on_server(path: &Path) -> Option<(String, String)> {
    let url = env::var(SERVER).ok()?;
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    Some((url, format!("test_{:016x}", hasher.finish())))
}

/// Returns the place on a server that stands for a file; none where tests are to use the file itself.
pub(crate) fn place_on_server(path: &Path) -> Option<ServerPlace> {
    let (url, schema) = on_server(path)?;
    let address: Address = url.parse().unwrap();
    Some(ServerPlace::new(address.in_schema(&schema), 4))
}

/// Opens the database of a test: the file, or the schema on a server that stands for it.
pub(crate) fn open_store(path: &Path) -> Store {
    match place_on_server(path) {
        Some(server) => Store::open_at(Place::Server(server)).unwrap(),
        None => Store::open(path).unwrap(),
    }
}
