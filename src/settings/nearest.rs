//! Names that are nearly a setting's: what was meant is said.

/// The beginning of the variables that are settings.
pub(super) const PREFIX: &str = "MARKETD__";
/// The beginning of all variables that speak of this program.
const OURS: &str = "MARKETD_";
/// The variables by which the commands find a daemon.
const OF_COMMANDS: [&str; 2] = ["MARKETD_URL", "MARKETD_TOKEN"];
/// The variables in which Kubernetes, and Docker's links, tell of a service that is called so.
const OF_SERVICES: [&str; 4] = ["MARKETD_SERVICE_", "MARKETD_PORT", "MARKETD_NAME", "MARKETD_ENV_"];
/// The most letters by which a name may be off.
const OFF: usize = 2;

/// Reports whether a variable looks like one of ours, and is neither a setting nor known otherwise.
pub(super) fn is_stray(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    upper.starts_with(OURS)
        && !name.starts_with(PREFIX)
        && !OF_COMMANDS.contains(&name)
        && !OF_SERVICES.iter().any(|of_service| upper.starts_with(of_service))
}

/// Finds the setting that a variable, or a key, most likely means.
pub(super) fn meant_by<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let letters = letters_of(strip(name));
    known
        .map(|key| (strsim::levenshtein(&letters, &letters_of(key)), key))
        .filter(|(off, _)| *off <= OFF)
        .min()
        .map(|(_, key)| key)
}

/// Reports whether a name begins with a section of the settings, as what was meant to be one does.
pub(super) fn names_section<'a>(name: &str, mut known: impl Iterator<Item = &'a str>) -> bool {
    let bare = strip(name).to_ascii_lowercase();
    let first = bare.split(['_', '.']).find(|word| !word.is_empty());
    known.any(|key| key.split('.').next() == first)
}

/// Returns the variable that is a setting.
pub(super) fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "__"))
}

fn strip(name: &str) -> &str {
    match name.get(..OURS.len()) {
        Some(start) if start.eq_ignore_ascii_case(OURS) => &name[OURS.len()..],
        _ => name,
    }
}

fn letters_of(name: &str) -> String {
    let letters = name.chars().filter(char::is_ascii_alphanumeric);
    letters.map(|letter| letter.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 4] = ["database.path", "http.listen", "http.token_file", "log.filter"];

    #[test]
    fn what_is_nearly_a_setting_is_told_from_what_is_none() {
        let rows = [
            ("MARKETD_DATABASE_PATH", Some("database.path")),
            ("MARKETD_DATABSE_PATH", Some("database.path")),
            ("marketd__http__listen", Some("http.listen")),
            ("MARKETD_HTTP__TOKENFILE", Some("http.token_file")),
            ("database_path", Some("database.path")),
            ("MARKETD_VERSION", None),
            ("MARKETD_HTTP_PORT", None),
        ];
        for (name, meant) in rows {
            assert_eq!(meant_by(name, KEYS.into_iter()), meant, "{name}");
        }
        assert!(names_section("MARKETD_HTTP_PORT", KEYS.into_iter()));
        assert!(!names_section("MARKETD_VERSION", KEYS.into_iter()));
    }

    #[test]
    fn what_others_set_is_no_stray() {
        let known = ["MARKETD_URL", "MARKETD_TOKEN", "MARKETD__LOG__FILTER", "PATH"];
        let of_services = ["MARKETD_SERVICE_HOST", "MARKETD_PORT", "MARKETD_PORT_8480_TCP_ADDR"];
        for name in known.into_iter().chain(of_services) {
            assert!(!is_stray(name), "{name}");
        }
        for name in ["MARKETD_DATABASE_PATH", "marketd__log__filter", "MARKETD_URLS"] {
            assert!(is_stray(name), "{name}");
        }
    }
}
