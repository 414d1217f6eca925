//! `[database]`: a file, or a server.

use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::Origin;
use super::layers::Layers;
use super::value::Pool;
use crate::store::{Address, Password, Place, ServerPlace, find_in_passfile};

pub(super) fn read(layers: &mut Layers) -> Option<Place> {
    let url: Option<String> = layers.optional("database.url");
    let path: Option<PathBuf> = layers.required("database.path");
    let pool = layers.required("database.pool").map(|Pool(count)| count);
    let password = password_file(layers);
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
    let address = match password {
        Some(password) => address.with_password(password),
        None => address,
    };
    Some(Place::Server(ServerPlace::new(address, pool?)))
}

/// Returns the file that holds the password, if this command reads it and can.
fn password_file(layers: &mut Layers) -> Option<Password> {
    let key = "database.password_file";
    let _now: SecretString = layers.secret_file(key)?;
    layers.secret_path(key).map(Password::File)
}

/// Returns the password that libpq's variables hold or lead to.
fn from_environment(layers: &mut Layers, address: &Address) -> Option<Password> {
    if let Some(password) = layers.postgres_password() {
        return Some(Password::Given(password));
    }
    let file = layers.postgres_passfile()?.to_owned();
    if let Err(fault) = find_in_passfile(&file, &address.named()) {
        layers.fault("database.url", &passfile_fault(&file, &fault));
        return None;
    }
    Some(Password::Passfile(file))
}

fn passfile_fault(file: &Path, fault: &str) -> String {
    format!("takes its password from PGPASSFILE, {}, which {fault}", file.display())
}
