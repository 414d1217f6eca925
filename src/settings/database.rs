//! `[database]`: a file, or a server.

use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::layers::Layers;
use super::value::Pool;
use super::{Origin, pgpass};
use crate::store::{Address, Place, ServerPlace};

pub(super) fn read(layers: &mut Layers) -> Option<Place> {
    let url: Option<String> = layers.optional("database.url");
    let path: Option<PathBuf> = layers.required("database.path");
    let pool = layers.required("database.pool").map(|Pool(count)| count);
    let password: Option<SecretString> = layers.secret_file("database.password_file");
    let Some(url) = url else {
        if layers.has("database.password_file") {
            layers.fault("database.password_file", "is for a server, which database.url names");
        }
        return path.map(|path| Place::from(path.as_path()));
    };
    if let Some(origin) = layers.origin("database.path").filter(|it| **it != Origin::Default) {
        let path = format!(
            "names a server, and database.path (from {origin}) a file: the data is in one of them"
        );
        layers.fault("database.url", &path);
    }
    let address: Address = match url.parse() {
        Ok(address) => address,
        Err(error) => {
            layers.fault("database.url", &format!("{error}"));
            return None;
        }
    };
    let password = match password {
        Some(password) => Some(password),
        None => from_environment(layers, &address),
    };
    let address = match &password {
        Some(password) => address.with_password(password),
        None => address,
    };
    Some(Place::Server(ServerPlace::new(address, pool?)))
}

/// Returns the password that libpq's variables hold or lead to.
fn from_environment(layers: &mut Layers, address: &Address) -> Option<SecretString> {
    if let Some(password) = layers.postgres_password() {
        return Some(password);
    }
    let file = layers.postgres_passfile()?.to_owned();
    match pgpass::find(&file, address) {
        Ok(found) => found,
        Err(fault) => {
            layers.fault("database.url", &passfile_fault(&file, &fault));
            None
        }
    }
}

fn passfile_fault(file: &Path, fault: &str) -> String {
    format!("takes its password from PGPASSFILE, {}, which {fault}", file.display())
}
