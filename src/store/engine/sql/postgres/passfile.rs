//! libpq's password file: a line for each database, `host:port:database:user:password`.

use std::fs;
use std::path::Path;

use secrecy::SecretString;

/// What a line is looked for by: hosts with their ports, the database and the user.
pub(crate) type Named<'a> = (Vec<(String, u16)>, &'a str, &'a str);

/// Finds the password of a database in a file. The error says what is wrong with the file, and nothing of what is in it.
pub(crate) fn find(file: &Path, named: &Named<'_>) -> Result<Option<SecretString>, String> {
    refuse_readable(file)?;
    let text = fs::read_to_string(file).map_err(|error| format!("cannot be read: {error}"))?;
    Ok(find_in(&text, named))
}

/// As libpq does, a file that others may read is not used.
fn refuse_readable(file: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt as _;
    let held = fs::metadata(file).map_err(|error| format!("cannot be read: {error}"))?;
    if held.permissions().mode() & 0o077 != 0 {
        return Err("others may read: `chmod 600` it".to_owned());
    }
    Ok(())
}

fn find_in(text: &str, (hosts, database, user): &Named<'_>) -> Option<SecretString> {
    let is_meant = |field: &str, value: &str| field == "*" || field == value;
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let [host, port, of, who, password] = <[String; 5]>::try_from(fields(line)).ok()?;
        let is_host = hosts
            .iter()
            .any(|(name, at)| is_meant(&host, name) && is_meant(&port, &at.to_string()));
        (is_host && is_meant(&of, database) && is_meant(&who, user))
            .then(|| SecretString::from(password))
    })
}

/// Splits a line at its colons; a backslash takes the next character as it is.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        let last = fields.len() - 1;
        match character {
            '\\' => fields[last].extend(characters.next()),
            ':' if fields.len() < 5 => fields.push(String::new()),
            other => fields[last].push(other),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::super::address::Address;
    use super::*;

    #[test]
    fn the_first_line_that_fits_has_the_password() {
        let address: Address = "postgres://me@db:5433/marketd".parse().unwrap();
        let found = |text: &str| {
            find_in(text, &address.named()).map(|password| password.expose_secret().to_owned())
        };
        let password = |text: &str| Some(text.to_owned());
        assert_eq!(found("db:5433:marketd:me:a:b"), password("a:b"));
        assert_eq!(found("*:*:*:me:x\\:y\\\\\n*:*:*:*:later"), password("x:y\\"));
        assert_eq!(found("# db:5433:marketd:me:no\ndb:*:marketd:*:yes"), password("yes"));
        for other in ["db:5432:marketd:me:p", "db:5433:other:me:p", "db:5433:marketd:you:p", "db"] {
            assert_eq!(found(other), None, "{other}");
        }
    }
}
