//! What each setting means, as `config/default.toml` says it: one text for the file, the docs and the console.

use super::layers::DEFAULTS;

/// Returns what a setting means, by its key.
pub fn meaning(key: &str) -> Option<String> {
    let is_place = |part: &&str| !part.bytes().all(|it| it.is_ascii_digit());
    let wanted: Vec<&str> = key.split('.').filter(is_place).collect();
    let (section, name) = (wanted.get(..wanted.len().checked_sub(1)?)?.join("."), wanted.last()?);
    let (mut here, mut around) = (String::new(), String::new());
    let (mut said, mut done) = (String::new(), false);
    for line in DEFAULTS.lines() {
        let text = line.trim_start_matches("# ");
        if let Some(header) = section_of(text) {
            header.clone_into(&mut here);
            // A list that is written out as an example ends with its keys.
            if !line.starts_with('#') {
                header.clone_into(&mut around);
            }
        } else if let Some(found) = key_of(text) {
            done = true;
            if here == section && found == *name {
                return Some(said.trim().to_owned()).filter(|it| !it.is_empty());
            }
            continue;
        } else if line.starts_with('#') {
            // A block of keys shares the words before it.
            if done {
                said.clear();
                around.clone_into(&mut here);
            }
            said.push_str(line.trim_start_matches('#').trim());
            said.push(' ');
            done = false;
            continue;
        }
        // The words before a list of tables are about its keys.
        if !line.starts_with("# [[") {
            said.clear();
        }
    }
    None
}

fn section_of(line: &str) -> Option<&str> {
    let name = line.strip_prefix('[')?.strip_suffix(']')?;
    Some(name.trim_start_matches('[').trim_end_matches(']'))
}

fn key_of(line: &str) -> Option<&str> {
    let (name, _) = line.split_once(" = ")?;
    name.bytes().all(|it| it.is_ascii_lowercase() || it == b'_').then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_has_a_meaning() {
        let rows = [
            ("queue.wait", "How long a receive waits"),
            ("queue.url", "The SQS queue that"),
            ("integration.external_id", "The role in the seller's"),
            ("http.token_file", "The bearer token"),
            ("http.tokens.0.role", "More tokens, each"),
            ("log.filter", "As in RUST_LOG"),
            ("metering.region", "AWS deduplicates"),
        ];
        for (key, beginning) in rows {
            let said = meaning(key).unwrap_or_default();
            assert!(said.starts_with(beginning), "{key}: {said}");
        }
        assert_eq!(meaning("queue.none"), None);
        assert_eq!(meaning(""), None);
    }

    #[test]
    fn no_setting_that_is_shown_lacks_its_meaning() {
        let loaded = crate::settings::load(None, Vec::new()).unwrap();
        let missing: Vec<&String> = loaded
            .settings
            .shown
            .iter()
            .map(|(key, ..)| key)
            .filter(|key| meaning(key).is_none())
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
