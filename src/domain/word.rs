//! Enums as the words of the database and the API.

use serde::{Deserialize, Serialize};

/// The words by which the database and the API write an enum, taken from its serialization.
pub trait Word: Serialize + for<'de> Deserialize<'de> {
    /// Returns the word.
    fn word(&self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(word)) => word,
            _ => String::new(),
        }
    }

    /// Reads the value that a word names.
    fn from_word(word: &str) -> Option<Self> {
        serde_json::from_value(serde_json::Value::String(word.to_owned())).ok()
    }
}
