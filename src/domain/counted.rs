//! Numbers of things in sentences.

/// Returns a noun as it follows a number: in the plural unless that is one.
pub fn plural(count: u64, noun: &str) -> String {
    if count == 1 { noun.to_owned() } else { format!("{noun}s") }
}

/// Returns a number with its noun, as in 1 message and 2 messages.
pub fn counted(count: u64, noun: &str) -> String {
    format!("{count} {}", plural(count, noun))
}

/// Returns the word that agrees with a number: the first with one, the second with any other.
pub const fn agreeing<'a>(count: u64, one: &'a str, others: &'a str) -> &'a str {
    if count == 1 { one } else { others }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular_and_none_is_not() {
        let said =
            |count| format!("{} {}", counted(count, "hour"), agreeing(count, "waits", "wait"));
        assert_eq!([0, 1, 2].map(said), ["0 hours wait", "1 hour waits", "2 hours wait"]);
    }
}
