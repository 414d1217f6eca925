//! From the statements that all engines share to PostgreSQL's own form.

/// A statement as PostgreSQL takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Translated {
    pub(super) text: String,
    /// The names of the parameters in the order of their numbers; empty where they are numbered already.
    pub(super) names: Vec<String>,
}

/// Translates a statement: parameters become `$1`, and the marks that are only SQLite's are left out.
pub(super) fn translate(sql: &str) -> Translated {
    // Conflicts undo the whole write with either engine, and the order of joins is PostgreSQL's own choice.
    let sql = without_index_names(&sql.replace(" OR FAIL ", " ").replace("CROSS JOIN", "JOIN"));
    let mut text = String::with_capacity(sql.len());
    let mut names: Vec<String> = Vec::new();
    let mut rest = sql.as_str();
    while let Some(at) = rest.find(['\'', '-', '?', ':']) {
        let (before, from) = rest.split_at(at);
        text.push_str(before);
        let taken = match from.as_bytes()[0] {
            b'\'' => from[1..].find('\'').map_or(from.len(), |end| end + 2),
            b'-' if from.starts_with("--") => from.find('\n').unwrap_or(from.len()),
            b'?' => {
                let number = digits(&from[1..]);
                text.push('$');
                text.push_str(number);
                rest = &from[1 + number.len()..];
                continue;
            }
            b':' if from.starts_with("::") => 2,
            b':' if !word(&from[1..]).is_empty() => {
                let name = &from[..=word(&from[1..]).len()];
                let number = names.iter().position(|it| it == name).unwrap_or_else(|| {
                    names.push(name.to_owned());
                    names.len() - 1
                });
                text.push('$');
                text.push_str(&(number + 1).to_string());
                rest = &from[name.len()..];
                continue;
            }
            _ => 1,
        };
        text.push_str(&from[..taken]);
        rest = &from[taken..];
    }
    text.push_str(rest);
    Translated { text, names }
}

/// Leaves out the indexes that a statement names for SQLite.
fn without_index_names(sql: &str) -> String {
    let mut parts = sql.split(" INDEXED BY ");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(&part[word(part).len()..]);
    }
    text
}

fn digits(text: &str) -> &str {
    &text[..text.find(|it: char| !it.is_ascii_digit()).unwrap_or(text.len())]
}

fn word(text: &str) -> &str {
    let end = text.find(|it: char| !it.is_ascii_alphanumeric() && it != '_');
    &text[..end.unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_numbered_and_what_is_sqlites_alone_is_left_out() {
        for (sql, text, names) in [
            ("SELECT ?1, ?2 FROM t WHERE a = ?1", "SELECT $1, $2 FROM t WHERE a = $1", vec![]),
            (
                "UPDATE OR FAIL t SET a = :a, b = :b_2 WHERE c = :a",
                "UPDATE t SET a = $1, b = $2 WHERE c = $1",
                vec![":a", ":b_2"],
            ),
            ("SELECT 'what?1 :a -- no'", "SELECT 'what?1 :a -- no'", vec![]),
            ("SELECT ?1::text, a::int8 FROM t", "SELECT $1::text, a::int8 FROM t", vec![]),
            ("SELECT 'it''s ?1', ?1", "SELECT 'it''s ?1', $1", vec![]),
            ("SELECT a - 1 -- of ?1, :x\nFROM t", "SELECT a - 1 -- of ?1, :x\nFROM t", vec![]),
            (
                "SELECT 1 FROM t INDEXED BY t_by_a WHERE a = 1",
                "SELECT 1 FROM t WHERE a = 1",
                vec![],
            ),
            ("a CROSS JOIN b ON a.x = b.x", "a JOIN b ON a.x = b.x", vec![]),
        ] {
            let names = names.into_iter().map(String::from).collect();
            assert_eq!(translate(sql), Translated { text: text.into(), names }, "{sql}");
        }
    }
}
