//! The conditions of a list: those that were asked for, and no others.

use crate::store::engine::sql::{self, Value};

/// Conditions and what they compare with. SQLite chooses how to find rows by a statement's text alone; a condition
/// that a parameter may switch off would keep it from every index.
pub(crate) struct Conditions {
    text: String,
    values: Vec<(&'static str, Value)>,
}

impl Conditions {
    /// Begins with the conditions of a page: where it begins and how many rows it has.
    pub(crate) fn of_page(begins: impl Into<String>, after: impl Into<Value>, limit: u32) -> Self {
        let values = vec![(":after", after.into()), (":limit", Value::from(limit))];
        Self { text: begins.into(), values }
    }

    /// Begins with the conditions of a statement that reads no page.
    pub(crate) fn of(always: &str, values: Vec<(&'static str, Value)>) -> Self {
        Self { text: always.to_owned(), values }
    }

    /// Adds a condition, if there is what it compares with.
    pub(crate) fn with(
        mut self,
        parameter: &'static str,
        value: Option<impl Into<Value>>,
        condition: &str,
    ) -> Self {
        if let Some(value) = value {
            self.values.push((parameter, value.into()));
            self = self.that(condition);
        }
        self
    }

    /// Adds a condition that compares with nothing.
    pub(crate) fn that(mut self, condition: &str) -> Self {
        self.text.push_str(" AND ");
        self.text.push_str(condition);
        self
    }

    /// Adds what the conditions compare with that were made a part of these.
    pub(crate) fn and_values_of(mut self, others: Self) -> Self {
        self.values.extend(others.values);
        self
    }

    /// Returns the conditions as they stand in a statement.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the parameters.
    pub(crate) fn values(&self) -> Vec<(&'static str, &dyn sql::ToSql)> {
        self.values.iter().map(|(name, value)| (*name, value as &dyn sql::ToSql)).collect()
    }
}

/// Returns the condition that a column has a text in it, in upper or lower case: the parameter is what [`part`] makes of the
/// text. The database writes both sides in lower case, since no two do so alike.
pub(crate) fn has_part(column: &str, parameter: &str) -> String {
    format!(r"lower(coalesce({column}, '')) LIKE lower(CAST({parameter} AS TEXT)) ESCAPE '\'")
}

/// Returns the pattern of texts that have this one in them.
pub(crate) fn part(text: &str) -> String {
    let mut pattern = String::from("%");
    for letter in text.chars() {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_searched_for_is_taken_word_for_word() {
        assert_eq!(part("api_Calls"), r"%api\_Calls%");
        assert_eq!(part(r"100%\"), r"%100\%\\%");
    }
}
